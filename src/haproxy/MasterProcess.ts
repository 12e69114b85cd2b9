/**
 * Which running processes are the HAProxy of our config file, and who owns them:
 * read from the pid file and `/proc`. Nothing is ever signalled here, and nothing
 * that is not known to be ours is ever named.
 *
 * A pid file cannot be trusted alone: it is empty for some milliseconds after a
 * reload and for good after a failed one on 2.2, has a line per process without
 * `-W`, and may name a program that took the pid over (tried on 2.2 to 3.2).
 */
import { readFile, readlink, realpath } from "node:fs/promises"
import { basename, dirname, isAbsolute, join } from "node:path"
import { Effect } from "effect"

/** What tells our HAProxy from any other program. */
export interface Ours {
  readonly configFile: string
  readonly pidFile: string
  /** A HAProxy may be called otherwise than `haproxy`; then it is called as this file. */
  readonly binary: string
}

/** One process. A pid is used again by others; a pid with a start time is not. */
export interface Process {
  readonly pid: number
  /** In clock ticks since the machine's start. */
  readonly startTime: string
}

/** The pids of a pid file. Only what can be one process: 0 and negative numbers would mean whole groups to `kill`. */
export const parsePids = (text: string): ReadonlyArray<number> => [
  ...new Set(
    text
      .split(/\s+/)
      .filter((word) => /^[1-9]\d{0,9}$/.test(word))
      .map(Number)
  )
]

/**
 * The processes that were started as our HAProxy: with our pid file, or else the
 * parents of the workers that answer on our sockets. Masters where there are
 * masters, and else (started without `-W`) the processes themselves.
 */
export const find = Effect.fn("MasterProcess.find")(function* (ours: Ours, workers: ReadonlyArray<number>) {
  const parents = yield* Effect.forEach(workers, (pid) => parentOf(pid).pipe(Effect.map((parent) => [pid, parent])))
  const listed = yield* readPids(ours.pidFile)
  const found = new Map<number, Process>()
  for (const pid of listed) {
    const process = yield* identify(pid, ours)
    if (process !== undefined) found.set(pid, process)
  }
  for (const [worker, parent] of parents) {
    const process = (yield* identify(parent, ours)) ?? (yield* identify(worker, ours))
    if (process !== undefined) found.set(process.pid, process)
  }
  return [...found.values()]
})

/** The processes of the pid file that are our HAProxy now. */
export const listed = Effect.fnUntraced(function* (ours: Ours) {
  const all = yield* Effect.forEach(yield* readPids(ours.pidFile), (pid) => identify(pid, ours))
  return all.filter((process) => process !== undefined)
})

/** Whether it still runs, and is no other program that took its pid over. */
export const isAlive = ({ pid, startTime }: Process): Effect.Effect<boolean> =>
  Effect.map(readStat(pid), (stat) => stat !== undefined && stat.startTime === startTime && !stat.isZombie)

/** The parent's pid; `undefined` when the process is gone. */
export const parentOf = (pid: number | undefined): Effect.Effect<number | undefined> =>
  pid === undefined ? Effect.undefined : Effect.map(readStat(pid), (stat) => stat?.parent)

/**
 * The systemd service that a process belongs to, e.g. `haproxy.service`, where it
 * is another one than ep2's. `undefined` for login sessions and containers.
 *
 * HAProxy that an earlier ep2 started lives in the service that ep2 had then.
 */
export const foreignService = Effect.fnUntraced(function* (pid: number) {
  const [theirs, mine] = yield* Effect.all([readProc(`/proc/${pid}/cgroup`), readProc("/proc/self/cgroup")])
  const service = serviceOf(theirs ?? "")
  if (service === undefined || service === serviceOf(mine ?? "") || /^ep2(@.*)?\.service$/.test(service))
    return undefined
  return service
})

/**
 * The service that `/proc/PID/cgroup` names.
 *
 * Source: cgroups(7), "/proc/pid/cgroup"; systemd keeps its units in the unified
 * hierarchy (`0::`), and on older systems in the named one (`name=systemd`).
 */
export const serviceOf = (cgroup: string): string | undefined => {
  const paths = cgroup.split("\n").flatMap((line) => /^(?:0:|\d+:name=systemd):(.*)$/.exec(line)?.[1] ?? [])
  const units = paths.map((path) => path.split("/").findLast((part) => /\.(service|scope)$/.test(part)))
  return units.find((unit) => unit?.endsWith(".service") && !/^user@\d+\.service$/.test(unit))
}

const readPids = (pidFile: string) => Effect.map(readProc(pidFile), (text) => parsePids(text ?? ""))

/** The process, if it is HAProxy and was started with our config file or our pid file. */
const identify = Effect.fnUntraced(function* (pid: number | undefined, ours: Ours) {
  if (pid === undefined) return undefined
  const stat = yield* readStat(pid)
  if (stat === undefined || stat.isZombie) return undefined
  const binary = (yield* real(ours.binary)) ?? ours.binary
  const names = ["haproxy", ours.binary, binary].map((path) => basename(path).slice(0, commLength))
  if (!names.includes(stat.comm)) return undefined
  const args = ((yield* readProc(`/proc/${pid}/cmdline`)) ?? "").split("\0")
  const folder = yield* link(`/proc/${pid}/cwd`)
  for (const [option, ourFile] of [
    ["-f", ours.configFile],
    ["-p", ours.pidFile]
  ] as const) {
    const mine = yield* realOrNot(ourFile)
    for (const given of valuesOf(option, args)) {
      const theirs = isAbsolute(given) ? given : folder === undefined ? undefined : join(folder, given)
      if (theirs === undefined) continue
      const found = yield* realOrNot(theirs)
      // HAProxy reads every file of a folder that it is given.
      if (found === mine || (option === "-f" && found === dirname(mine))) return { pid, startTime: stat.startTime }
    }
  }
  return undefined
})

/** The kernel cuts a process's name there. Source: proc_pid_comm(5). */
const commLength = 15

const valuesOf = (option: string, args: ReadonlyArray<string>): ReadonlyArray<string> =>
  args.flatMap((arg, index) => (arg === option ? (args[index + 1] ?? []) : []))

interface Stat {
  readonly comm: string
  readonly parent: number
  readonly startTime: string
  readonly isZombie: boolean
}

/** Source: proc_pid_stat(5). The name stands in parentheses and may hold some itself. */
const readStat = (pid: number): Effect.Effect<Stat | undefined> =>
  Effect.map(readProc(`/proc/${pid}/stat`), (text) => {
    const match = /^\d+ \((.*)\) (.*)$/s.exec(text ?? "")
    if (match === null) return undefined
    const fields = match[2]!.split(" ")
    const [state, parent] = fields
    return {
      comm: match[1]!,
      parent: Number(parent),
      startTime: fields[19] ?? "",
      isZombie: state === "Z" || state === "X"
    }
  })

/** What cannot be read is not known to be ours. */
const orUndefined = <A>(body: () => Promise<A>): Effect.Effect<A | undefined> =>
  Effect.promise(() => body().catch(() => undefined))

const readProc = (path: string) => orUndefined(() => readFile(path, "utf8"))
const link = (path: string) => orUndefined(() => readlink(path))
const real = (path: string) => orUndefined(() => realpath(path))
const realOrNot = (path: string) => Effect.map(real(path), (found) => found ?? path)
