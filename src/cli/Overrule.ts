/**
 * `ep2 pause`, `ep2 resume` and `ep2 release`: the operator overrules an ep2 that
 * runs, or one that will. They leave files beside its lock and talk to nobody.
 */
import { userInfo } from "node:os"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { Console, Effect } from "effect"
import { Command, Flag } from "effect/cli"
import * as Lock from "../controller/Lock.ts"
import * as Overrides from "../controller/Overrides.ts"
import * as Settings from "../settings/Settings.ts"
import * as ConfFlag from "./ConfFlag.ts"
import { exitCodes } from "./exitCodes.ts"
import { badInput, Stop, stopWith } from "./Stop.ts"

const pause = Command.make("pause", { conf: ConfFlag.conf }, ({ conf }) =>
  overrule(conf, ({ lock }) =>
    Effect.map(Overrides.pause({ ...lock, who: whoAmI() }), (path) => [
      `paused: ep2 goes on watching and changes nothing until \`ep2 resume\` (${path})`
    ])
  )
).pipe(
  Command.withDescription("Let ep2 watch and say what it would do, and change nothing; a restart does not end it"),
  Command.withExamples([
    { command: "ep2 pause --conf /etc/ep2/ep2.conf", description: "Keep ep2's hands off HAProxy during maintenance" }
  ])
)

const resume = Command.make("resume", { conf: ConfFlag.conf }, ({ conf }) =>
  overrule(conf, ({ lock }) =>
    Effect.map(Overrides.resume(lock), (wasPaused) => [
      wasPaused ? "resumed: ep2 brings HAProxy level again" : "ep2 was not paused"
    ])
  )
).pipe(
  Command.withDescription("End a pause: ep2 brings HAProxy level again"),
  Command.withExamples([{ command: "ep2 resume --conf /etc/ep2/ep2.conf", description: "After `ep2 pause`" }])
)

const backend = Flag.String("backend").pipe(
  Flag.withAlias("b"),
  Flag.withDescription("Only this backend; may be given several times (default: all)"),
  Flag.atLeast(0)
)

const release = Command.make("release", { conf: ConfFlag.conf, backend }, ({ backend: names, conf }) =>
  overrule(conf, ({ backends: known, lock }) =>
    Effect.gen(function* () {
      const unknown = names.filter((name) => !known.includes(name))
      if (unknown.length > 0) {
        return yield* new Stop({
          message: `${conf} has no backend ${unknown.join(", ")}, it has ${known.join(", ")}`,
          exitCode: exitCodes.unexpected
        })
      }
      yield* Overrides.release({ ...lock, backends: names })
      return [`what the guard holds of ${names.length === 0 ? "all backends" : names.join(", ")} is let go once`]
    })
  )
).pipe(
  Command.withDescription("Let go once of the servers that the guard holds against the source"),
  Command.withExamples([
    { command: "ep2 release", description: "The source is right: those servers are gone" },
    { command: "ep2 release --backend web", description: "Only of one backend" }
  ])
)

/** The commands, for the root. */
export const commands = [pause, resume, release] as const

/** Only what tells which ep2 is meant is read: the rest of the file may be in the middle of an edit. */
const overrule = <E extends { readonly message: string }>(
  conf: string,
  body: (identity: Settings.Identity) => Effect.Effect<ReadonlyArray<string>, E>
) =>
  Effect.gen(function* () {
    const identity = yield* Settings.loadIdentity(conf).pipe(
      Effect.provide(NodeFileSystem.layer),
      Effect.mapError(badInput)
    )
    const lines = yield* body(identity).pipe(
      Effect.mapError((error) => (error instanceof Stop ? error : stopWith(exitCodes.lock)(error)))
    )
    const holder = yield* Lock.holderOf(identity.lock).pipe(Effect.orElseSucceed(() => undefined))
    const who =
      holder === undefined
        ? `no ep2 runs on ${identity.lock.configFile}: it counts for the next one that does`
        : `for the ep2 with pid ${holder}, which sees it within a second`
    for (const line of [...lines, who]) yield* Console.log(line)
  }).pipe(Effect.tapError((stop) => Console.error(`ep2: ${stop.message}`)))

const whoAmI = (): string => {
  if (process.env.SUDO_USER !== undefined) return process.env.SUDO_USER
  try {
    return userInfo().username
  } catch {
    // A user without a name, as in a container.
    return `user ${process.getuid?.() ?? "unknown"}`
  }
}
