/**
 * `ep2 pause`, `ep2 resume` and `ep2 release`: the operator overrules an ep2 that
 * runs, or one that will. They leave files beside its lock and talk to nobody.
 */
import { userInfo } from "node:os"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { Console, Effect } from "effect"
import { Command, Flag } from "effect/cli"
import type * as Lock from "../controller/Lock.ts"
import * as Overrides from "../controller/Overrides.ts"
import * as Settings from "../settings/Settings.ts"
import * as ConfFlag from "./ConfFlag.ts"
import { exitCodes } from "./exitCodes.ts"
import { Stop } from "./Stop.ts"

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
  overrule(conf, ({ lock, settings }) =>
    Effect.gen(function* () {
      const known = settings.backends.map(({ name }) => name)
      const unknown = names.filter((name) => !known.includes(name))
      if (unknown.length > 0) {
        return yield* new Stop({
          message: `${settings.file} has no backend ${unknown.join(", ")}, it has ${known.join(", ")}`,
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

const overrule = <E extends { readonly message: string }>(
  conf: string,
  body: (given: {
    readonly settings: Settings.Settings
    readonly lock: Lock.Options
  }) => Effect.Effect<ReadonlyArray<string>, E>
) =>
  Effect.gen(function* () {
    const { settings } = yield* Settings.load(conf).pipe(
      Effect.provide(NodeFileSystem.layer),
      Effect.mapError(({ message }) => new Stop({ message, exitCode: exitCodes.badConfig }))
    )
    const lock = { dir: settings.lock.dir, configFile: settings.haproxy.configFile }
    const lines = yield* body({ settings, lock }).pipe(
      Effect.mapError((error) =>
        error instanceof Stop ? error : new Stop({ message: error.message, exitCode: exitCodes.lock })
      )
    )
    for (const line of lines) yield* Console.log(line)
  }).pipe(Effect.tapError((stop) => Console.error(`ep2: ${stop.message}`)))

const whoAmI = (): string => process.env.SUDO_USER ?? userInfo().username
