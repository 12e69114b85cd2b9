/**
 * Whether the user that runs `ep2 check` may do with files and folders what ep2
 * does with them, and who has the lock. Nothing is opened for writing.
 */
import { access, constants, realpath, stat } from "node:fs/promises"
import { dirname } from "node:path"
import { Effect, Result } from "effect"
import * as Lock from "../controller/Lock.ts"
import * as Overrides from "../controller/Overrides.ts"
import type { Settings } from "../settings/Settings.ts"
import { type Finding, ok, placed, problem, warning } from "./CheckReport.ts"

/** What does not hang on a backend. */
type Shared = Omit<Settings, "backends">

/** The config file and its folder, the pid file, and the log. */
export const files = ({ haproxy, log }: Shared): Effect.Effect<ReadonlyArray<Finding>> =>
  Effect.promise(async () => [
    ...(await configFile(haproxy.configFile)),
    ...(haproxy.startBy === "systemd" ? [] : await pidFile(haproxy)),
    ...(log.file === "-" ? [ok("log_file", "standard output")] : await writable("log_file", log.file))
  ])

/** Written by a HAProxy that ep2 starts. A master of somebody else's has written it already, and reloads by itself. */
const pidFile = async ({ pidFile, startBy }: Shared["haproxy"]): Promise<ReadonlyArray<Finding>> => {
  const found = await writable("pid_file", pidFile)
  const rest = "; ep2 could not start HAProxy, if that stops"
  const isThere = startBy === "master" && (await refusal(pidFile, constants.R_OK)) === undefined
  return found.map((one) => (one.level === "problem" && isThere ? warning(one.place, `${one.text}${rest}`) : one))
}

/** The lock, and whether the operator has paused ep2. */
export const lock = Effect.fnUntraced(function* (options: Lock.Options) {
  const path = yield* Effect.result(Lock.pathOf(options))
  if (Result.isFailure(path)) return [placed("problem", path.failure.message)]
  const foreign = yield* Effect.promise(() => refusal(path.success, constants.W_OK | constants.R_OK))
  if (foreign !== undefined && foreign !== "ENOENT") {
    const why = `cannot be written (${foreign}): it belongs to another user; run ep2 as one user for each lock_dir, or as root`
    return [problem(path.success, why)]
  }
  const holder = yield* Lock.holderOf(options).pipe(Effect.orElseSucceed(() => undefined))
  const paused = yield* Overrides.pausedBy(options).pipe(Effect.orElseSucceed(() => undefined))
  const held =
    holder === undefined
      ? "nobody has it"
      : `an ep2 that runs has it (pid ${holder}); one that is started besides stands by`
  return [
    ok(path.success, held),
    ...(paused === undefined
      ? []
      : [warning(path.success, `ep2 is paused ${paused}, and changes nothing until \`ep2 resume\``)])
  ]
})

const configFile = async (path: string): Promise<ReadonlyArray<Finding>> => {
  const target = await realpath(path).catch(() => path)
  const folder = dirname(target)
  const closed = await refusal(folder, constants.W_OK | constants.X_OK)
  const found: Array<Finding> = []
  if (closed !== undefined) {
    found.push(
      problem(
        folder,
        `ep2 puts the config file there whole, by a new file beside the old one, and ${wordsOf(closed)}: ${remedyOf(closed)}`
      )
    )
  }
  const info = await stat(target).catch(() => undefined)
  if (info === undefined)
    return [...found, ...(closed === undefined ? [ok(path, "is not there yet; ep2 writes it")] : [])]
  if (!info.isFile()) return [...found, problem(path, "is not a regular file: correct haproxy_config_file")]
  const unreadable = await refusal(target, constants.R_OK)
  if (unreadable !== undefined) {
    found.push(problem(path, `ep2 reads its servers back from it, and ${wordsOf(unreadable)}: let ep2 read it`))
  }
  const groups = [process.getegid?.(), ...(process.getgroups?.() ?? [])]
  const isOurs = info.uid === process.geteuid?.() && groups.includes(info.gid)
  if (process.geteuid?.() !== 0 && !isOurs) {
    const owner = `${info.uid}:${info.gid}`
    found.push(
      problem(path, `belongs to ${owner}, and only root can keep that owner: run ep2 as root, or give it the file`)
    )
  }
  return found.length > 0 ? found : [ok(path, "can be read and replaced")]
}

/** A file that is there, or one that can be made. */
const writable = async (key: string, path: string): Promise<ReadonlyArray<Finding>> => {
  const refused = await refusal(path, constants.W_OK)
  const info = await stat(path).catch(() => undefined)
  if (info?.isDirectory() === true) return [problem(path, `is a folder, expected a file: correct ${key}`)]
  if (refused === undefined) return [ok(path, `${key} can be written`)]
  if (refused !== "ENOENT")
    return [problem(path, `${key} cannot be written: ${wordsOf(refused)}: ${remedyOf(refused)}`)]
  const closed = await refusal(dirname(path), constants.W_OK | constants.X_OK)
  if (closed === undefined) return [ok(path, `${key} can be made`)]
  return [problem(path, `${key} cannot be made there: ${wordsOf(closed)}: ${remedyOf(closed)}`)]
}

/** The system's code for why not. */
const refusal = async (path: string, mode: number): Promise<string | undefined> => {
  try {
    await access(path, mode)
    return undefined
  } catch (cause) {
    return (cause as NodeJS.ErrnoException).code ?? String(cause)
  }
}

const wordsOf = (code: string): string =>
  ({
    ENOENT: "there is no such folder",
    ENOTDIR: "a part of the path is not a folder",
    EACCES: "this user may not",
    EPERM: "this user may not",
    EROFS: "the file system is read-only"
  })[code] ?? code

const remedyOf = (code: string): string =>
  code === "ENOENT" || code === "ENOTDIR"
    ? "make the folder, or correct the path"
    : code === "EROFS"
      ? "mount it writable, or see ReadWritePaths of ep2's unit"
      : `give user ${process.geteuid?.() ?? "?"} the right, or run ep2 as one who has it`
