import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { mkdir, readFile, rm, writeFile } from "node:fs/promises"
import { createServer } from "node:net"
import { join } from "node:path"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe, it } from "@effect/vitest"
import { Context, Duration, Effect, Layer, Schedule } from "effect"
import { Commands } from "../../src/haproxy/Commands.ts"
import { ConfigFile } from "../../src/haproxy/ConfigFile.ts"
import { HaproxySocket } from "../../src/haproxy/HaproxySocket.ts"
import { Reloader } from "../../src/haproxy/Reloader.ts"
import * as Binaries from "../servers/Binaries.ts"
import * as HaproxyServer from "../servers/HaproxyServer.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"
import * as Ports from "../servers/Ports.ts"
import * as Traffic from "../servers/Traffic.ts"

describe.each(Binaries.sampleVersions())("Reloader by binary with HAProxy %s", (version) => {
  it.live("starts HAProxy, which answers with the mark, outlives ep2 and knows none of its secrets", () =>
    Effect.gen(function* () {
      const world = yield* make(version)
      process.env.AWS_SECRET_ACCESS_KEY = "secret"
      yield* Effect.addFinalizer(() => Effect.sync(() => delete process.env.AWS_SECRET_ACCESS_KEY))
      yield* world.install("one")

      const before = yield* world.use(({ state }) => state)
      const { answering } = yield* world.use((reloader) => reloader.start("one"))

      const after = yield* world.use(({ state }) => state)
      assert.isFalse(before.isRunning)
      assert.match(before.silent[0]?.detail ?? "", /ENOENT/)
      assert.deepEqual([after.isRunning, after.silent, after.answering], [true, [], answering])
      assert.equal(answering[0]?.mark, "one")
      const environment = yield* Effect.promise(() => readFile(`/proc/${answering[0]?.pid}/environ`, "utf8"))
      assert.notInclude(environment, "secret")
      assert.include(environment, "PATH=")
    })
  )

  it.live("reloads without a failed request, and returns when the new process answers", () =>
    Effect.gen(function* () {
      const world = yield* running(version)
      const traffic = yield* Traffic.start({ port: world.port, closing: 3, keeping: 0 })
      let last = (yield* world.use(({ state }) => state)).answering[0]?.pid

      for (const mark of ["two", "three", "four", "five"]) {
        yield* world.install(mark)
        const { answering } = yield* world.use((reloader) => reloader.reload(mark))
        assert.equal(answering[0]?.mark, mark)
        assert.notEqual(answering[0]?.pid, last)
        last = answering[0]?.pid
      }

      const { failures, requests } = yield* traffic.stop
      assert.deepEqual(failures, [])
      assert.isAbove(requests, 50)
    })
  )

  it.live("leaves exactly one master after ten reloads back to back", () =>
    Effect.gen(function* () {
      const world = yield* running(version)

      for (let round = 0; round < 10; round++) {
        yield* world.install(`round${round}`)
        yield* world.use((reloader) => reloader.reload(`round${round}`))
      }

      yield* world.oneMaster
    })
  )

  it.live.each([
    ["is empty", () => ""],
    ["is garbage", () => "haproxy\u0000 4x\n"],
    ["names groups of processes", () => "0\n-1\n"],
    ["names a process that is gone", () => "4194303\n"],
    ["has several lines, some of them wrong", (pid: number) => `5000000\n${pid}\n0\n`],
    ["is missing", () => undefined]
  ] as const)("reloads when the pid file %s", ([, content]) =>
    Effect.gen(function* () {
      const world = yield* running(version)
      const pid = Number(yield* Effect.promise(() => readFile(world.pidFile, "utf8")))
      const text = content(pid)
      yield* Effect.promise(() => (text === undefined ? rm(world.pidFile) : writeFile(world.pidFile, text)))
      yield* world.install("two")

      yield* world.use((reloader) => reloader.reload("two"))

      yield* world.oneMaster
      assert.notEqual(Number(yield* Effect.promise(() => readFile(world.pidFile, "utf8"))), pid)
    })
  )

  it.live("signals neither a program nor a HAProxy that is not ours, though the pid file names it", () =>
    Effect.gen(function* () {
      const world = yield* running(version)
      const sleeper = yield* started("sleep", ["60"])
      const others = yield* HaproxyServer.make({ version, config: (paths) => config("other", paths.socket, undefined) })
      yield* others.start
      const othersBefore = yield* others.running
      yield* Effect.promise(() => writeFile(world.pidFile, `${sleeper.pid}\n${othersBefore.masters[0]}\n`))
      yield* world.install("two")

      yield* world.use((reloader) => reloader.reload("two"))

      yield* world.oneMaster
      assert.deepEqual(yield* others.running, othersBefore)
      assert.deepEqual([sleeper.exitCode, sleeper.signalCode], [null, null])
    })
  )

  it.live("starts over a stale pid file and the stale socket of a HAProxy that was killed", () =>
    Effect.gen(function* () {
      const world = yield* running(version)
      yield* world.kill
      assert.isFalse((yield* world.use(({ state }) => state)).isRunning)

      const { answering } = yield* world.use((reloader) => reloader.start("one"))

      assert.equal(answering[0]?.mark, "one")
      yield* world.oneMaster
    })
  )

  it.live("keeps the old process and puts the old config back when HAProxy refuses to load the new one", () =>
    Effect.gen(function* () {
      const world = yield* running(version)
      const good = yield* Effect.promise(() => readFile(world.configFile, "utf8"))
      const before = yield* world.use(({ state }) => state)
      yield* Effect.promise(() => writeFile(world.configFile, `${config("two", world.socket, world.port)}  bogus\n`))

      const error = yield* world.use((reloader) => Effect.flip(reloader.reload("two")))

      assert.equal(error.reason, "Failed")
      assert.match(error.message, /exit code 1: .*unknown keyword 'bogus'/)
      assert.include(error.output, "unknown keyword 'bogus'")
      assert.equal(yield* Effect.promise(() => readFile(world.configFile, "utf8")), good)
      assert.deepEqual(yield* world.use(({ state }) => state), before)
    })
  )

  it.live("refuses a new bind line on a port that another program has, without an outage", () =>
    Effect.gen(function* () {
      const world = yield* running(version)
      const port = yield* Ports.freePort
      const server = createServer().listen(port, "127.0.0.1")
      yield* Effect.promise(() => once(server, "listening"))
      yield* Effect.addFinalizer(() => Effect.sync(() => server.close()))
      const traffic = yield* Traffic.start({ port: world.port, closing: 2, keeping: 0 })
      const good = yield* Effect.promise(() => readFile(world.configFile, "utf8"))
      yield* world.install("two", `bind 127.0.0.1:${port}`)

      const error = yield* world.use((reloader) => Effect.flip(reloader.reload("two")))

      assert.equal(error.reason, "BindConflict")
      assert.include(error.message, `\`bind 127.0.0.1:${port}\``)
      assert.include(error.message, `(pid ${process.pid})`)
      assert.equal(yield* Effect.promise(() => readFile(world.configFile, "utf8")), good)
      assert.deepEqual((yield* traffic.stop).failures, [])
    })
  )

  it.live("says which socket does not answer when the config names another one", () =>
    Effect.gen(function* () {
      const world = yield* make(version)
      const elsewhere = join(world.dir, "elsewhere.sock")
      yield* Effect.promise(() => writeFile(world.configFile, config("one", elsewhere, world.port)))

      const error = yield* world.use((reloader) => Effect.flip(reloader.start("one")), { readyTimeout: "1 second" })

      assert.equal(error.reason, "TimedOut")
      assert.include(error.message, `${world.socket}: `)
      assert.match(error.message, /does a `stats socket` line of the template name this path/)
    })
  )
})

describe("Reloader", () => {
  it.live("reloads one at a time and `reloadInterval` apart, the first at once", () =>
    Effect.gen(function* () {
      const world = yield* running("2.6")
      yield* world.install("two")

      const took = yield* world.use(
        (reloader) =>
          Effect.gen(function* () {
            const began = performance.now()
            yield* reloader.reload("two")
            const first = performance.now() - began
            yield* Effect.all([reloader.reload("two"), reloader.reload("two")], { concurrency: "unbounded" })
            return [first, performance.now() - began] as const
          }),
        { reloadInterval: "3 seconds" }
      )

      assert.isBelow(took[0], 3000)
      assert.isAtLeast(took[1], 6000)
      yield* world.oneMaster
    })
  )

  it.live("does not put a second HAProxy beside one that it cannot tell to leave", () =>
    Effect.gen(function* () {
      const world = yield* make("2.6")
      const stranger = yield* HaproxyServer.make({
        version: "2.6",
        config: () => config("strange", world.socket, world.port)
      })
      yield* Effect.promise(() =>
        once(spawn(stranger.binary, ["-W", "-D", "-f", stranger.configFile], { stdio: "ignore" }), "exit")
      )
      yield* world.ask(["show info"]).pipe(Effect.retry(moments), Effect.timeout("10 seconds"))
      yield* world.install("one")

      const error = yield* world.use((reloader) => Effect.flip(reloader.reload("one")))

      assert.equal(error.reason, "NotOurs")
      assert.include(error.message, `was started neither with -f ${world.configFile} nor with -p ${world.pidFile}`)
      assert.deepEqual((yield* world.running).masters, [])
    })
  )

  it.live("starts and reloads by systemctl, never signalling a master that reloads itself", () =>
    Effect.gen(function* () {
      const world = yield* make("2.6")
      yield* systemctlOf(
        world,
        `${world.binary} -c -f ${world.configFile} >/dev/null && kill -USR2 $(cat ${world.pidFile})`
      )
      yield* world.install("one")
      yield* world.use((reloader) => reloader.start("one"), { service: "haproxy" })
      const { masters } = yield* world.running
      yield* world.install("two")

      const { answering } = yield* world.use((reloader) => reloader.reload("two"), { service: "haproxy" })

      yield* Effect.sleep("1200 millis")
      assert.equal(answering[0]?.mark, "two")
      assert.deepEqual((yield* world.running).masters, masters)
      assert.match((yield* world.ask(["show env EP2_CONFIG"]))[0]!, /two/)
    })
  )

  it.live("tells systemctl once more when a signal got lost", () =>
    Effect.gen(function* () {
      const world = yield* make("2.6")
      yield* systemctlOf(
        world,
        `[ -e ${world.dir}/told ] || { touch ${world.dir}/told; exit 0; }; kill -USR2 $(cat ${world.pidFile})`
      )
      yield* world.install("one")
      yield* world.use((reloader) => reloader.start("one"), { service: "haproxy" })
      yield* world.install("two")

      const { answering } = yield* world.use((reloader) => reloader.reload("two"), { service: "haproxy" })

      assert.equal(answering[0]?.mark, "two")
    })
  )

  it.live("carries what systemctl says when it fails", () =>
    Effect.gen(function* () {
      const world = yield* make("2.6")
      yield* systemctl(world.dir, 'echo "Failed to $1 $2.service: Unit $2.service not found." >&2; exit 5')
      yield* world.install("one")

      const error = yield* world.use((reloader) => Effect.flip(reloader.start("one")), { service: "haproxy" })

      assert.equal(error.reason, "Failed")
      assert.match(error.message, /systemctl start haproxy ended with exit code 5: Failed to start haproxy\.service/)
    })
  )
})

describe.each(Binaries.sampleVersions())("Reloader by the master of HAProxy %s", (version) => {
  it.live("starts it with its CLI, and lets it reload without a failed request under the same master", () =>
    Effect.gen(function* () {
      const world = yield* make(version)
      const way = { masterSocket: join(world.dir, "master.sock") }
      yield* world.install("one")
      yield* world.use((reloader) => reloader.start("one"), way)
      const { masters } = yield* world.running
      const traffic = yield* Traffic.start({ port: world.port, closing: 3, keeping: 0 })

      for (const mark of ["two", "three", "four"]) {
        yield* world.install(mark)
        const { answering } = yield* world.use((reloader) => reloader.reload(mark), way)
        assert.equal(answering[0]?.mark, mark)
      }

      assert.deepEqual((yield* traffic.stop).failures, [])
      assert.deepEqual((yield* world.running).masters, masters)
    })
  )

  it.live("puts the old config back when the master cannot load the new one, and says why", () =>
    Effect.gen(function* () {
      const world = yield* make(version)
      const way = { masterSocket: join(world.dir, "master.sock"), readyTimeout: "4 seconds" } as const
      yield* world.install("one")
      yield* world.use((reloader) => reloader.start("one"), way)
      const before = yield* Effect.promise(() => readFile(world.configFile, "utf8"))
      yield* world.install("two")
      // What `haproxy -c` took is spoiled before the master reads it.
      yield* Effect.promise(() => writeFile(world.configFile, "nosuch keyword\n"))

      const error = yield* world.use((reloader) => Effect.flip(reloader.reload("two")), way)

      // 2.2 and 2.6 say nothing of what comes of it.
      assert.equal(error.reason, ["2.2", "2.6"].includes(version) ? "TimedOut" : "Failed")
      if (error.reason === "Failed") assert.match(error.message, /HAProxy did not load it: .*nosuch/)
      assert.match((yield* world.ask(["show env EP2_CONFIG"]))[0]!, /one/)
      assert.equal(yield* Effect.promise(() => readFile(world.configFile, "utf8")), before)
    })
  )

  it.live("says what to do where the master has no CLI there", () =>
    Effect.gen(function* () {
      const world = yield* running(version)
      yield* world.install("two")

      const error = yield* world.use((reloader) => Effect.flip(reloader.reload("two")), {
        masterSocket: join(world.dir, "absent.sock")
      })

      assert.equal(error.reason, "Failed")
      assert.match(
        error.message,
        /haproxy_master_socket .*absent\.sock: cannot connect \(ENOENT\): HAProxy has to be started with -S/
      )
      assert.match((yield* world.ask(["show env EP2_CONFIG"]))[0]!, /one/)
    })
  )

  it.live("does not take the socket of a worker for that of the master", () =>
    Effect.gen(function* () {
      const world = yield* running(version)
      yield* world.install("two")

      const error = yield* world.use((reloader) => Effect.flip(reloader.reload("two")), {
        masterSocket: world.socket,
        readyTimeout: "4 seconds"
      })

      assert.equal(error.reason, "Failed")
      assert.match(error.message, /`reload` was answered with .*: is this the socket of the master/)
    })
  )
})

if (Binaries.haproxyVersions().includes("2.2")) {
  describe("Reloader with several processes of HAProxy 2.2", () => {
    it.live("is done when every socket answers from a new process", () =>
      Effect.gen(function* () {
        const world = yield* make("2.2", 2)
        yield* world.install("one", "", processes)
        const first = yield* world.use((reloader) => reloader.start("one"))
        const traffic = yield* Traffic.start({ port: world.port, closing: 3, keeping: 0 })
        yield* world.install("two", "", processes)

        const second = yield* world.use((reloader) => reloader.reload("two"))

        assert.deepEqual(
          second.answering.map(({ mark, socket }) => [socket, mark]),
          world.sockets.map((socket) => [socket, "two"])
        )
        assert.equal(new Set([...first.answering, ...second.answering].map(({ pid }) => pid)).size, 4)
        assert.deepEqual((yield* traffic.stop).failures, [])
        yield* world.oneMaster
      })
    )
  })
}

/** The `global` section for a process per socket. */
const processes = (sockets: ReadonlyArray<string>) =>
  `  nbproc ${sockets.length}\n${sockets
    .map((socket, index) => `  stats socket ${socket} mode 600 level admin process ${index + 1} expose-fd listeners\n`)
    .join("")}`

const moments = Schedule.spaced("10 millis")

/** A config with one backend behind `port`, if one is given. */
const config = (mark: string, socket: string, port: number | undefined, more = "", backend = "127.0.0.1:1") => `global
  stats socket ${socket} mode 600 level admin expose-fd listeners
${HaproxyServer.defaults}
listen web
  bind ${port === undefined ? `${socket}.web` : `127.0.0.1:${port}`}
  ${more}
  server node1 ${backend}
global
  setenv EP2_CONFIG ${mark}
`

interface Timing {
  readonly reloadInterval?: Duration.Input
  readonly readyTimeout?: Duration.Input
  /** By systemd. */
  readonly service?: string
  /** By the master's CLI. */
  readonly masterSocket?: string
}

/** A HAProxy that does not run yet, with one HTTP server behind it. */
const make = Effect.fnUntraced(function* (version: Binaries.HaproxyVersion, count = 1) {
  const server = yield* HaproxyServer.make({ version, sockets: count })
  const backend = yield* HttpBackends.make({ name: "backend" })
  const port = yield* Ports.freePort
  const { binary, configFile, pidFile, sockets } = server
  const edges = Layer.merge(ConfigFile.layer({ configFile, binary }), HaproxySocket.layer({ sockets })).pipe(
    Layer.provideMerge(Commands.layer),
    Layer.provide(NodeFileSystem.layer)
  )
  const built = yield* Layer.build(edges)
  const reloaders = new Map<string, Reloader["Service"]>()
  /** Calls with equal options go to one reloader, as in one ep2. */
  const use = <A, E>(body: (reloader: Reloader["Service"]) => Effect.Effect<A, E>, timing: Timing = {}) =>
    Effect.gen(function* () {
      const key = JSON.stringify(timing)
      const options = {
        binary,
        pidFile,
        reloadInterval: Duration.fromInputUnsafe(timing.reloadInterval ?? 0),
        readyTimeout: Duration.fromInputUnsafe(timing.readyTimeout ?? "15 seconds")
      }
      const layer =
        timing.service !== undefined
          ? Reloader.layerSystemd({ ...options, service: timing.service })
          : timing.masterSocket !== undefined
            ? Reloader.layerMaster({ ...options, masterSocket: timing.masterSocket })
            : Reloader.layerBinary(options)
      const known = reloaders.get(key)
      const reloader =
        known ?? Context.get(yield* Layer.build(layer.pipe(Layer.provide(Layer.succeedContext(built)))), Reloader)
      reloaders.set(key, reloader)
      return yield* body(reloader)
    })
  const install = (mark: string, more = "", global: (sockets: ReadonlyArray<string>) => string = () => "") =>
    ConfigFile.use((file) => {
      const text = config(mark, server.socket, port, more, `127.0.0.1:${backend.endpoint.port}`)
      const given = global(sockets)
      return file.install({ text: given === "" ? text : text.replace(/^ {2}stats socket .*\n/m, given) })
    }).pipe(Effect.provide(built))
  /** Exactly one master is left, and it is the one of the pid file; those before it have gone by themselves. */
  const oneMaster = Effect.gen(function* () {
    const { masters } = yield* server.running.pipe(
      Effect.repeat({ until: ({ masters }) => masters.length <= 1, schedule: moments }),
      Effect.timeout("10 seconds")
    )
    assert.deepEqual(masters.map(String), [(yield* Effect.promise(() => readFile(pidFile, "utf8"))).trim()])
  })
  return { ...server, port, use, install, oneMaster }
})

/** The same, running with the mark `one`. */
const running = Effect.fnUntraced(function* (version: Binaries.HaproxyVersion) {
  const world = yield* make(version)
  yield* world.install("one")
  yield* world.use((reloader) => reloader.start("one"))
  return world
})

const started = (program: string, args: ReadonlyArray<string>) =>
  Effect.acquireRelease(
    Effect.sync((): ChildProcess => spawn(program, args, { stdio: "ignore" })),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )

/** One that starts the world's HAProxy, and reloads it by this line of shell. */
const systemctlOf = ({ binary, configFile, dir, pidFile }: HaproxyServer.HaproxyServer, reload: string) =>
  systemctl(
    dir,
    `case "$1" in
      start) exec ${binary} -W -D -f ${configFile} -p ${pidFile};;
      reload) ${reload};;
    esac`
  )

/** A `systemctl` of the test's own, first on the PATH. */
const systemctl = Effect.fnUntraced(function* (dir: string, script: string) {
  const folder = join(dir, "bin")
  const before = process.env.PATH
  yield* Effect.promise(async () => {
    await mkdir(folder)
    await writeFile(join(folder, "systemctl"), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
  })
  process.env.PATH = `${folder}:${before}`
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      process.env.PATH = before
    })
  )
})
