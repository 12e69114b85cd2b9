/**
 * `ep2 start`: waits for its turn, brings HAProxy to where the source wants it,
 * and keeps it there until a signal.
 */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { Cause, Console, Effect, Layer, Stream } from "effect"
import { Command, Flag } from "effect/cli"
import * as Progress from "../controller/Progress.ts"
import * as Status from "../controller/Status.ts"
import { Commands } from "../haproxy/Commands.ts"
import * as Settings from "../settings/Settings.ts"
import * as ConfFlag from "./ConfFlag.ts"
import * as Daemon from "./Daemon.ts"
import * as DryRun from "./DryRun.ts"
import { exitCodes } from "./exitCodes.ts"
import * as Log from "./Log.ts"
import * as Once from "./Once.ts"
import { badInput, Stop, stopWith } from "./Stop.ts"
import { SystemdNotify } from "./SystemdNotify.ts"
import { version } from "./version.ts"

/**
 * - `loop`: until it is interrupted.
 * - `once`: until HAProxy is level.
 * - `dry-run`: as `loop`, and nothing is changed.
 */
export type How = "loop" | "once" | "dry-run"

/** Runs to its end, or until it is interrupted. What keeps it from that is said in the log, and on standard error if that is elsewhere. */
export const run = Effect.fn("Start.run")(function* (conf: string, how: How = "loop") {
  const { log, settings, warnings } = yield* prepare(conf, how).pipe(
    Effect.tapError((stop) => sayOnStandardError(stop.message))
  )
  const logsToFile = how !== "dry-run" && settings.log.file !== "-"
  return yield* supervised(bodyOf(how, settings, warnings, log)).pipe(
    Effect.onInterrupt(() => Effect.logInfo("stopped; HAProxy goes on serving")),
    Effect.tapCause((cause) => {
      if (Cause.hasInterruptsOnly(cause)) return Effect.void
      const why = words(cause)
      return Effect.andThen(Effect.logFatal(why), logsToFile ? sayOnStandardError(why) : Effect.void)
    }),
    Effect.provide(Layer.provideMerge(supervision, log.layer))
  )
}, Effect.scoped)

/** What tells systemd how ep2 is, and what it is told. */
const supervision = Layer.mergeAll(
  Progress.layer,
  Status.layer,
  SystemdNotify.layer(process.env).pipe(Layer.provide(Commands.layer))
)

/** The line of `systemctl status` changes no more often than this. */
const statusEvery = "1 second"

/**
 * Runs the daemon with systemd looking on. READY is said at once, and neither after
 * the first answer nor once the lock is ours: systemd would end an ep2 that does
 * what it is for while it stands by or its source is out.
 */
const supervised = Effect.fnUntraced(function* <A, E, R>(body: Effect.Effect<A, E, R>) {
  const systemd = yield* SystemdNotify
  const { changes } = yield* Status.Status
  const { overdue } = yield* Progress.Progress
  yield* systemd.ready
  // What comes within the pause is said once, as it is then.
  const tellStatus = changes.pipe(
    Stream.runForEach((line) => Effect.andThen(systemd.status(line), Effect.sleep(statusEvery)))
  )
  const besides = [
    tellStatus,
    systemd.feedWatchdog(overdue),
    // Interrupted together with the body, so that it is said while the step in hand ends.
    Effect.onInterrupt(Effect.never, () => systemd.stopping)
  ]
  const toldForEver = Effect.all(besides, { concurrency: "unbounded" }).pipe(
    Effect.catchDefect((defect) => Effect.logError("systemd is told nothing any more", defect)),
    Effect.andThen(Effect.never)
  )
  return yield* Effect.raceFirst(body, toldForEver)
})

const sayOnStandardError = (why: string) => Console.error(`ep2: ${why}`)

/** The settings, and the log that they name; of what changes nothing, that is not written either. */
const prepare = Effect.fnUntraced(function* (conf: string, how: How) {
  const { settings, warnings } = yield* Settings.load(conf).pipe(Effect.provide(NodeFileSystem.layer))
  const file = how === "dry-run" ? "-" : settings.log.file
  const log = yield* Log.make({ ...settings.log, file })
  return { settings, warnings, log }
}, Effect.mapError(badInput))

/** An error that we know says what there is to say; anything else is a defect of ep2, whose trace is needed. */
const words = (cause: Cause.Cause<Stop>): string => {
  const error = Cause.squash(cause)
  return error instanceof Stop ? error.message : `defect: ${Cause.pretty(cause)}`
}

const bodyOf = Effect.fnUntraced(function* (
  how: How,
  settings: Settings.Settings,
  warnings: ReadonlyArray<string>,
  log: Log.Log
) {
  yield* Effect.logInfo(`ep2 ${version} starts: ${settings.file}, pid ${process.pid}, Node ${process.versions.node}`)
  for (const warning of warnings) yield* Effect.logWarning(warning)
  switch (how) {
    case "once":
      return yield* Once.run(settings)
    case "dry-run":
      return yield* DryRun.run(settings)
    case "loop":
      return yield* Daemon.run(settings, log).pipe(
        Effect.mapError((error) => stopWith(error._tag === "LockError" ? exitCodes.lock : exitCodes.bootstrap)(error))
      )
  }
})

const flags = {
  conf: ConfFlag.conf,
  once: Flag.Boolean("once").pipe(
    Flag.withDescription("Bring HAProxy level and end; ends at once with exit code 3 where another ep2 runs"),
    Flag.withDefault(false)
  ),
  dryRun: Flag.Boolean("dry-run").pipe(
    Flag.withDescription("Only say on standard output what would be done, as it comes up, and change nothing"),
    Flag.withDefault(false)
  )
}

/** The command: `run` with what its flags say. `--once` and `--dry-run` together are refused. */
export const command = Command.make("start", flags, ({ conf, dryRun, once }) => {
  if (!dryRun || !once) return run(conf, dryRun ? "dry-run" : once ? "once" : "loop")
  const message = "--once and --dry-run together are `ep2 plan`"
  return Effect.andThen(sayOnStandardError(message), new Stop({ message, exitCode: exitCodes.unexpected }))
}).pipe(
  Command.withDescription("Keep HAProxy in step with the source until TERM or INT; HAProxy then goes on serving"),
  Command.withExamples([
    { command: "ep2 start --conf /etc/ep2/ep2.conf", description: "Run in the foreground, as systemd wants it" },
    { command: "ep2 start --once --conf /etc/ep2/ep2.conf", description: "From cron, or as an image is built" },
    {
      command: "ep2 start --dry-run --conf /etc/ep2/ep2.conf",
      description: "Watch what it would do, also beside one that runs"
    }
  ])
)
