/**
 * A real HAProxy for tests, in a temporary folder of its own: config, pid file
 * and sockets. Whatever runs that config ends with the scope.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect, Schedule, type Scope } from "effect"
import { HaproxySocket, type SocketError } from "../../src/haproxy/HaproxySocket.ts"
import * as Binaries from "./Binaries.ts"

/** What a config of the test has to name. All of it lies in `dir`. */
export interface Paths {
  readonly dir: string
  readonly configFile: string
  readonly pidFile: string
  /** One per process; the first one is `socket`. */
  readonly sockets: ReadonlyArray<string>
  readonly socket: string
}

export interface Options {
  readonly version: Binaries.HaproxyVersion
  /** The text of the config file, which is written before `make` returns. Left out: there is no file. */
  readonly config?: (paths: Paths) => string
  /** How many sockets are named; 1. */
  readonly sockets?: number
}

/** A HAProxy that runs one config file, one line per process. */
export interface Running {
  /** Masters, and processes that were started without one. */
  readonly masters: ReadonlyArray<number>
  readonly workers: ReadonlyArray<number>
}

export interface HaproxyServer extends Paths {
  readonly version: Binaries.HaproxyVersion
  readonly binary: string
  /** Runs it as a daemon (`-W -D`) and waits until every socket answers. Dies of what HAProxy says if it does not start. */
  readonly start: Effect.Effect<void>
  /** SIGKILL to masters and workers: no time for anything. Returns when they are gone. */
  readonly kill: Effect.Effect<void>
  /** SIGTERM to the masters. Returns when they are gone. */
  readonly stop: Effect.Effect<void>
  /** What runs the config file now, whoever started it, and those that only finish their sessions. */
  readonly running: Effect.Effect<Running>
  /** One reply per command, from the first socket unless another one is named. */
  readonly ask: (commands: ReadonlyArray<string>, socket?: string) => Effect.Effect<ReadonlyArray<string>, SocketError>
}

/** A `defaults` section for configs of tests: with time-outs, and without their effect on what is tested. */
export const defaults = `defaults
  mode http
  timeout connect 1s
  timeout client 5s
  timeout server 5s`

/** Makes the folder and the config file, and starts nothing yet. */
export const make = Effect.fnUntraced(function* (options: Options) {
  const binary = Binaries.haproxy(options.version)
  const dir = yield* Effect.promise(() => mkdtemp(join(tmpdir(), "ep2-h-")))
  const sockets = Array.from({ length: options.sockets ?? 1 }, (_, index) => join(dir, `s${index + 1}.sock`))
  const paths: Paths = {
    dir,
    configFile: join(dir, "haproxy.cfg"),
    pidFile: join(dir, "haproxy.pid"),
    sockets,
    socket: sockets[0]!
  }
  const running = Effect.promise(() => find(paths.configFile))
  const end = (signal: "SIGKILL" | "SIGTERM") =>
    Effect.gen(function* () {
      const { masters, workers } = yield* running
      const all = [...masters, ...workers]
      for (const pid of signal === "SIGKILL" ? all : masters) signalTo(pid, signal)
      yield* Effect.promise(() => Promise.all(all.map(hasEnded))).pipe(
        Effect.repeat({ until: (ended) => ended.every(Boolean), schedule: moments }),
        Effect.timeout("20 seconds"),
        Effect.orDie
      )
    })
  yield* Effect.addFinalizer(() =>
    end("SIGKILL").pipe(Effect.andThen(Effect.promise(() => rm(dir, { recursive: true, force: true }))))
  )
  const { config } = options
  if (config !== undefined) yield* Effect.promise(() => writeFile(paths.configFile, config(paths)))

  const ask = (commands: ReadonlyArray<string>, socket = paths.socket) =>
    Effect.gen(function* () {
      const { session } = yield* HaproxySocket
      return yield* Effect.scoped(Effect.flatMap(session(socket), (opened) => opened.ask(commands)))
    }).pipe(Effect.provide(HaproxySocket.layer({ sockets })))

  const start = Effect.gen(function* () {
    yield* Effect.promise(() => run(binary, ["-W", "-D", "-f", paths.configFile, "-p", paths.pidFile]))
    yield* Effect.forEach(sockets, (socket) => ask(["show info"], socket)).pipe(
      Effect.retry(moments),
      Effect.timeout("20 seconds"),
      Effect.orDie
    )
  })

  const server: HaproxyServer = {
    ...paths,
    version: options.version,
    binary,
    start,
    kill: end("SIGKILL"),
    stop: end("SIGTERM"),
    running,
    ask
  }
  return server
}) satisfies (options: Options) => Effect.Effect<HaproxyServer, never, Scope.Scope>

const moments = Schedule.spaced("10 millis")

const run = async (binary: string, args: ReadonlyArray<string>) => {
  const child = spawn(binary, args, { stdio: ["ignore", "pipe", "pipe"] })
  let said = ""
  child.stdout.on("data", (chunk) => {
    said += String(chunk)
  })
  child.stderr.on("data", (chunk) => {
    said += String(chunk)
  })
  const [exitCode] = await once(child, "close")
  if (exitCode !== 0) throw new Error(`haproxy ${args.join(" ")}: exit code ${exitCode}\n${said}`)
}

/** All processes that were started with `-f configFile`. The folder is ours alone, so they are too. */
const find = async (configFile: string): Promise<Running> => {
  const parents = new Map<number, number>()
  for (const name of await readdir("/proc")) {
    const pid = Number(name)
    if (!Number.isInteger(pid)) continue
    const args = (await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")).split("\0")
    if (!args.some((arg, index) => arg === configFile && args[index - 1] === "-f")) continue
    const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "")
    // Source: proc_pid_stat(5): pid, name in parentheses, state, parent.
    const [, comm, state, parent] = /^\d+ \((.*)\) (\S) (\d+)/s.exec(stat) ?? []
    if (comm === "haproxy" && state !== "Z") parents.set(pid, Number(parent))
  }
  const masters = [...parents].filter(([, parent]) => !parents.has(parent)).map(([pid]) => pid)
  return { masters, workers: [...parents.keys()].filter((pid) => !masters.includes(pid)) }
}

// Its command line is empty some time before its sockets are closed; what nobody has waited for yet has none open,
// once the last of its threads is gone.
const hasEnded = async (pid: number): Promise<boolean> => {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "")
  if (stat === "") return true
  const threads = await readdir(`/proc/${pid}/task`).catch(() => [])
  return /^[ZX]/.test(stat.split(") ").at(-1) ?? "") && threads.length <= 1
}

const signalTo = (pid: number, signal: NodeJS.Signals) => {
  try {
    process.kill(pid, signal)
  } catch {
    // It has just ended.
  }
}
