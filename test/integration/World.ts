/**
 * A whole installation in a temporary folder: ep2.conf, template, and ep2 itself
 * as a child process that starts a real HAProxy. Everything ends with the scope.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { Clock, Duration, Effect, type Scope } from "effect"
import { endpointKey, isPlaceholder, type Server } from "../../src/domain/State.ts"
import { HaproxySocket } from "../../src/haproxy/HaproxySocket.ts"
import * as Binaries from "../servers/Binaries.ts"
import type { HttpBackend } from "../servers/HttpBackends.ts"
import * as Ports from "../servers/Ports.ts"
import { parseServers } from "../servers/parseServers.ts"

const root = resolve(import.meta.dirname, "../..")

/** ep2: what `test/buildProgram.ts` has made of the sources. */
export const program = process.env.EP2_TEST_PROGRAM ?? join(root, "src/main.ts")

/** HAProxy versions of this run: a sample in `npm test`, all in `npm run test:all`. */
export const versions = Binaries.haproxyVersions()

/** One of them in `npm test`, all in `npm run test:all`: for what is much the same on each. */
export const sampleVersions = Binaries.sampleVersions()

/** The newest of them: for what has nothing to do with the version. */
export const newest = versions.at(-1)!

export interface Options {
  /** HAProxy's, as `npm run servers` has it: `2.6`. */
  readonly version: Binaries.HaproxyVersion
  /** Lines for [haproxy]; what they set goes before what stands there by itself. */
  readonly settings?: Readonly<Record<string, string>> | ((dir: string) => Readonly<Record<string, string>>)
  /** The section of the source, with its header; given the folder of the world. */
  readonly source: (dir: string) => string
  /** Lines of the backend, before `{{nodes}}`; given the folder of the world. */
  readonly backend?: string | ((dir: string) => string)
  /** Processes, by `nbproc` (HAProxy 2.2). Default 1. */
  readonly processes?: number
  /** What is run as ep2, in place of `program`. */
  readonly program?: string
  /** What stands before the command that runs ep2, as it is when ep2 is started. */
  readonly inside?: () => ReadonlyArray<string>
  /** Set for ep2, besides what it inherits. */
  readonly env?: Readonly<Record<string, string>>
  /** What is made of the template before it is written. */
  readonly template?: string | ((usual: string) => string)
}

export interface Ep2 {
  /** Everything that it wrote to standard output (its log) and standard error. */
  readonly output: () => string
  readonly signal: (signal: NodeJS.Signals) => void
  /** The exit code, once it has ended; `null` after a SIGKILL. */
  readonly ended: Effect.Effect<number | null>
}

export interface World {
  readonly dir: string
  readonly conf: string
  readonly template: string
  readonly configFile: string
  readonly pidFile: string
  /** Where HAProxy listens for requests, on 127.0.0.1. */
  readonly port: number
  readonly sockets: ReadonlyArray<string>
  /** Starts ep2. Arguments are `start --conf FILE` unless others are given. */
  readonly start: (args?: ReadonlyArray<string>) => Effect.Effect<Ep2, never, Scope.Scope>
  /** ep2's servers of a backend (`web`), as one process has them now; dies when it does not answer. */
  readonly servers: (socket?: string, backend?: string) => Effect.Effect<ReadonlyArray<Server>>
  /** Name → endpoint of what takes traffic: ready, at full weight, not down. */
  readonly served: (socket?: string, backend?: string) => Effect.Effect<Readonly<Record<string, string>>>
  readonly ask: (command: string, socket?: string) => Effect.Effect<string>
  /** Pids of all HAProxy processes of this world, masters first. */
  readonly haproxyPids: Effect.Effect<ReadonlyArray<number>>
  /** SIGKILL to all of them; one that ends by itself meanwhile is gone as well. */
  readonly killHaproxy: Effect.Effect<void>
}

/** Waits until something is so, looking each 20 ms, and dies with its name when it is not in time (20 s). */
export const eventually = <E>(what: string, is: Effect.Effect<boolean, E>, within = Duration.seconds(20)) =>
  Effect.gen(function* () {
    const began = yield* Clock.currentTimeMillis
    while (true) {
      // What cannot be looked at yet is not so yet.
      if (yield* is.pipe(Effect.catchCause(() => Effect.succeed(false)))) return
      const took = (yield* Clock.currentTimeMillis) - began
      if (took > Duration.toMillis(within)) return yield* Effect.die(new Error(`not in ${took} ms: ${what}`))
      yield* Effect.sleep("20 millis")
    }
  })

/** Waits until the endpoints that take traffic in a process are just those of these servers. */
export const serves = (world: World, backends: ReadonlyArray<HttpBackend>, socket?: string, backend = "web") =>
  eventually(
    `served by ${backend}: ${backends.map(({ name }) => name).join(", ")}`,
    Effect.map(world.served(socket, backend), (served) => {
      const wanted = backends.map(({ endpoint }) => endpointKey(endpoint))
      return Object.values(served).sort().join() === wanted.sort().join()
    })
  ).pipe(
    // What is there instead is what one wants to know first.
    Effect.tapCause(() =>
      Effect.flatMap(world.ask(`show servers state ${backend}`, socket), (reply) =>
        Effect.logError(`instead:\n${reply}`)
      ).pipe(Effect.ignore)
    )
  )

/** Waits until ep2 has said something. */
export const logs = (ep2: Ep2, pattern: RegExp) =>
  eventually(
    `the log has ${pattern}`,
    Effect.sync(() => pattern.test(ep2.output()))
  ).pipe(Effect.tapCause(() => Effect.logError(`instead:\n${ep2.output().slice(-5000)}`)))

/** Replaces a file in one step, as whoever feeds a file source should. */
export const replaceFile = (path: string, text: string) =>
  Effect.promise(async () => {
    await writeFile(`${path}.new`, text)
    await rename(`${path}.new`, path)
  })

export const make = Effect.fnUntraced(function* (options: Options): Effect.fn.Return<World, never, Scope.Scope> {
  const dir = yield* Effect.acquireRelease(
    Effect.promise(() => mkdtemp(join(tmpdir(), "ep2-test-"))),
    (made) => Effect.promise(() => rm(made, { recursive: true, force: true }))
  )
  const haproxyPids = Effect.promise(() => pidsOf(dir))
  const killHaproxy = Effect.map(haproxyPids, (pids) => pids.forEach((pid) => kill(pid, "SIGKILL")))
  // After ep2, which is in a scope of its own: nobody is left to start another HAProxy.
  yield* Effect.addFinalizer(() => killHaproxy)
  const port = yield* Ports.freePort
  const count = options.processes ?? 1
  const sockets = Array.from({ length: count }, (_, index) => join(dir, `admin-${index + 1}.sock`))
  const paths = {
    conf: join(dir, "ep2.conf"),
    template: join(dir, "haproxy.cfg.template"),
    configFile: join(dir, "haproxy.cfg"),
    pidFile: join(dir, "haproxy.pid")
  }
  const settings = {
    haproxy_config_file: paths.configFile,
    template_file: paths.template,
    haproxy_binary: Binaries.haproxy(options.version),
    haproxy_socket_file: sockets.join(", "),
    pid_file: paths.pidFile,
    backend_name: "web",
    backend_port: "service",
    node_slots: "8",
    start_by: "binary",
    lock_dir: dir,
    log_file: "-",
    log_level: "debug",
    sleep_before_next_run: "1",
    sleep_before_next_lock_attempt: "0.2",
    drain_timeout: "5",
    check_interval: "200ms",
    ...(typeof options.settings === "function" ? options.settings(dir) : options.settings)
  }
  const lines = Object.entries(settings).map(([key, value]) => `${key} = ${value}`)
  const conf = `[haproxy]\n${lines.join("\n")}\n\n${options.source(dir)}\n`
  yield* Effect.promise(() => writeFile(paths.conf, conf))
  const { backend = "" } = options
  const usual = templateFor({ port, sockets, backend: typeof backend === "string" ? backend : backend(dir) })
  const { template = usual } = options
  yield* Effect.promise(() => writeFile(paths.template, typeof template === "string" ? template : template(usual)))

  const start = (args?: ReadonlyArray<string>) =>
    Effect.acquireRelease(
      Effect.sync(() => spawnEp2(options, args ?? ["start", "--conf", paths.conf])),
      (ep2) => Effect.sync(() => ep2.signal("SIGKILL")).pipe(Effect.andThen(ep2.ended))
    )
  const ask = (command: string, socket = sockets[0]!) =>
    Effect.gen(function* () {
      const session = yield* (yield* HaproxySocket).session(socket)
      return (yield* session.ask([command]))[0] ?? ""
    }).pipe(Effect.scoped, Effect.provide(HaproxySocket.layer({ sockets: [socket] })), Effect.orDie)
  const servers = (socket?: string, backend = "web") =>
    ask(`show servers state ${backend}`, socket).pipe(Effect.map((reply) => parseServers(reply, new Map(), backend)))
  const served = (socket?: string, backend?: string) => servers(socket, backend).pipe(Effect.map(takingTraffic))
  return { dir, ...paths, port, sockets, start, ask, servers, served, haproxyPids, killHaproxy }
})

/** Name → endpoint of the servers that new requests go to. */
const takingTraffic = (servers: ReadonlyArray<Server>) =>
  Object.fromEntries(
    servers.flatMap(({ admin, endpoint, health, isMarked, name }) =>
      endpoint === undefined || admin !== "ready" || isMarked || health === "down"
        ? []
        : [[name, endpointKey(endpoint)]]
    )
  )

/** Whether a placeholder takes traffic: it never may. */
export const servesPlaceholder = (servers: ReadonlyArray<Server>) =>
  servers.some(({ admin, endpoint }) => admin === "ready" && endpoint !== undefined && isPlaceholder(endpoint))

const templateFor = (options: {
  readonly port: number
  readonly sockets: ReadonlyArray<string>
  readonly backend: string
}) => {
  const { backend, port, sockets } = options
  const isMany = sockets.length > 1
  const stats = sockets.map(
    (socket, index) =>
      `    stats socket ${socket} mode 600 level admin expose-fd listeners${isMany ? ` process ${index + 1}` : ""}`
  )
  return `global
${isMany ? `    nbproc ${sockets.length}\n` : ""}${stats.join("\n")}
    stats timeout 30s

defaults
    mode http
    timeout connect 2s
    timeout client 10s
    timeout server 10s
    timeout queue 5s
    option redispatch
    retries 3

listen web
    bind 127.0.0.1:${port}
    balance roundrobin
${backend}    {{nodes}}
`
}

const spawnEp2 = (options: Options, args: ReadonlyArray<string>): Ep2 => {
  const { env, inside = () => [] } = options
  const [file, ...rest] = [...inside(), process.execPath, options.program ?? program, ...args]
  const child: ChildProcess = spawn(file!, rest, {
    stdio: ["ignore", "pipe", "pipe"],
    cwd: root,
    env: { ...process.env, ...env }
  })
  let output = ""
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding("utf8").on("data", (chunk: string) => {
      output += chunk
    })
  }
  const exit = new Promise<number | null>((done) => {
    // `exit` and not `close`: HAProxy may not, but could, hold the pipes.
    child.once("exit", (code) => setTimeout(() => done(code), 20))
  })
  return {
    output: () => output,
    signal: (signal) => void child.kill(signal),
    ended: Effect.promise(() => exit)
  }
}

/** Every HAProxy whose command line names this folder, masters first. */
const pidsOf = async (dir: string): Promise<ReadonlyArray<number>> => {
  const found: Array<{ pid: number; parent: number }> = []
  for (const entry of await readdir("/proc")) {
    if (!/^\d+$/.test(entry)) continue
    const [comm, cmdline, stat] = await Promise.all(
      ["comm", "cmdline", "stat"].map((file) => readFile(`/proc/${entry}/${file}`, "utf8").catch(() => ""))
    )
    if (comm?.trim() !== "haproxy" || cmdline?.includes(dir) !== true) continue
    found.push({ pid: Number(entry), parent: Number(stat?.split(") ").at(-1)?.split(" ")[1]) })
  }
  const pids = new Set(found.map(({ pid }) => pid))
  return found
    .toSorted((one, other) => Number(pids.has(one.parent)) - Number(pids.has(other.parent)))
    .map(({ pid }) => pid)
}

const kill = (pid: number, signal: NodeJS.Signals) => {
  try {
    process.kill(pid, signal)
  } catch {
    // It ended by itself.
  }
}

/** Starts HAProxy from the config file as it is, the way its owner would. */
export const startHaproxy = (world: World, version: Binaries.HaproxyVersion) =>
  Effect.promise(async () => {
    await rm(world.pidFile, { force: true })
    const child = spawn(Binaries.haproxy(version), ["-W", "-q", "-D", "-f", world.configFile, "-p", world.pidFile], {
      stdio: "ignore"
    })
    await new Promise((done) => child.once("exit", done))
  })
