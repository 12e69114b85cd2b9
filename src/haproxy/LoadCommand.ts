/**
 * The command that makes HAProxy run the config file, in the three ways that
 * `start_by` names. Waiting for what comes of it is `Reloader`'s.
 */
import { Duration, Effect } from "effect"
import { Commands } from "./Commands.ts"
import { ConfigFile, ReloadError } from "./ConfigFile.ts"
import * as MasterCli from "./MasterCli.ts"
import * as MasterProcess from "./MasterProcess.ts"

/** HAProxy as it is before the command; all empty when it does not run. */
export interface Running {
  readonly masters: ReadonlyArray<MasterProcess.Process>
  /** Who answers on the sockets. */
  readonly answering: ReadonlyArray<{ readonly socket: string; readonly pid: number }>
}

/** One of the three ways to make HAProxy run the config file. */
export interface LoadCommand {
  /** Brings up a HAProxy, or lets a new one take over from `from`. Succeeds when the command does. */
  readonly load: (from: Running) => Effect.Effect<void, ReloadError>
  /** Whether a new master comes up with each load and writes its pid to `pid_file`. */
  readonly hasNewMaster: boolean
}

/** How long `haproxy` or `systemctl` itself may take. */
const timeout = Duration.seconds(30)

/** What `haproxy -D` itself does: the new master takes the listeners over and tells the old ones to finish. */
export const byBinary = Effect.fnUntraced(function* (ours: MasterProcess.Ours) {
  const commands = yield* Commands
  const load = Effect.fnUntraced(function* (from: Running) {
    yield* refuseForeign(ours, from)
    const [first] = from.answering
    const takeOver = first === undefined ? [] : ["-x", first.socket]
    const masters = from.masters.map(({ pid }) => String(pid))
    // Without -q: from 2.6 on it silences the errors too. Not to be interrupted:
    // half a start would leave a HAProxy that nobody waits for.
    const args = ["-W", "-D", "-f", ours.configFile, "-p", ours.pidFile, ...takeOver]
    yield* runIt(commands, ours, ours.binary, masters.length === 0 ? args : [...args, "-sf", ...masters])
  })
  return { load, hasNewMaster: true } satisfies LoadCommand
})

/**
 * Fails where HAProxy is not ours to load anew by its binary (`NotOurs`): a second
 * one beside one that we cannot tell to leave would share its ports with it, and
 * half of the requests would go to each (tried on 2.6).
 */
export const refuseForeign = Effect.fnUntraced(function* (ours: MasterProcess.Ours, { answering, masters }: Running) {
  const refuse = (detail: string) =>
    new ReloadError({ configFile: ours.configFile, reason: "NotOurs", detail, output: "" })
  for (const { pid } of masters) {
    const service = yield* MasterProcess.foreignService(pid)
    if (service === undefined) continue
    return yield* refuse(
      `HAProxy (pid ${pid}) belongs to the systemd service ${service}, which would start a second one on the same ` +
        `ports: write start_by = systemd and service_name = ${service.replace(/\.service$/, "")}`
    )
  }
  for (const { pid, socket } of answering) {
    const family = [pid, yield* MasterProcess.parentOf(pid)]
    if (masters.some((master) => family.includes(master.pid))) continue
    return yield* refuse(
      `the HAProxy that answers on ${socket} (pid ${pid}) was started neither with -f ${ours.configFile} nor with ` +
        `-p ${ours.pidFile}, so it cannot be told to leave: stop it, or name its files in ep2.conf`
    )
  }
})

/** The unit does the rest; it is the one that knows how its HAProxy was started. */
export const bySystemd = Effect.fnUntraced(function* (service: string) {
  const commands = yield* Commands
  const { path } = yield* ConfigFile
  const load = ({ answering, masters }: Running) => {
    const verb = answering.length + masters.length > 0 ? "reload" : "start"
    return runIt(commands, { configFile: path }, "systemctl", [verb, service])
  }
  return { load, hasNewMaster: false } satisfies LoadCommand
})

/** The master loads it by itself; it was started with `-S`, and is so by us where it does not run. */
export const byMaster = Effect.fnUntraced(function* (ours: MasterProcess.Ours, socket: string) {
  const commands = yield* Commands
  const load = Effect.fnUntraced(function* ({ answering, masters }: Running) {
    if (answering.length + masters.length === 0) {
      const args = ["-W", "-D", "-S", `${socket},mode,600`, "-f", ours.configFile, "-p", ours.pidFile]
      return yield* runIt(commands, ours, ours.binary, args)
    }
    yield* MasterCli.reload(socket).pipe(
      Effect.uninterruptible,
      Effect.mapError(
        ({ detail, output }) =>
          new ReloadError({
            configFile: ours.configFile,
            reason: /cannot bind socket/.test(output) ? "BindConflict" : "Failed",
            detail: `haproxy_master_socket ${socket}: ${detail}`,
            output
          })
      )
    )
  })
  return { load, hasNewMaster: false } satisfies LoadCommand
})

const runIt = Effect.fnUntraced(function* (
  commands: Commands["Service"],
  { configFile }: { readonly configFile: string },
  program: string,
  args: ReadonlyArray<string>
) {
  const ended = yield* commands.run(program, args, timeout).pipe(
    Effect.uninterruptible,
    Effect.mapError(
      ({ detail, output, reason }) =>
        new ReloadError({ configFile, reason: reason === "Killed" ? "Failed" : reason, detail, output })
    )
  )
  if (ended.exitCode === 0) return
  const isTaken = /cannot bind socket/.test(ended.output)
  return yield* new ReloadError({
    configFile,
    reason: isTaken ? "BindConflict" : "Failed",
    detail: `${[program, ...args].join(" ")} ended with exit code ${ended.exitCode}: ${lastWords(ended.output)}`,
    output: ended.output
  })
})

/** The alert that says most: the first one, and else the last line. */
const lastWords = (output: string): string => {
  const lines = output
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "")
  const alert = lines.find((line) => line.startsWith("[ALERT]")) ?? lines.at(-1)
  return alert?.replace(/^\[ALERT\]\s+(?:\S+\s+)?\(\d+\) : /, "") ?? "it said nothing"
}
