/** The connection that one session leaves for the next: whoever was replaced behind it is never asked for the one that is there now. */
import type { Socket } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import { Context, Duration, Effect, Exit, Layer } from "effect"
import * as Plan from "../../src/domain/Plan.ts"
import { Haproxy } from "../../src/haproxy/Haproxy.ts"
import { HaproxySocket } from "../../src/haproxy/HaproxySocket.ts"
import { recorded } from "../fixtures/runtimeApi.ts"
import { eventually } from "../integration/World.ts"
import * as Binaries from "../servers/Binaries.ts"
import * as HaproxyServer from "../servers/HaproxyServer.ts"
import * as UnixProxy from "../servers/UnixProxy.ts"
import { listen } from "./MisbehavingServer.ts"

const placeholder = { address: "127.0.0.1", port: 1 }

const config = (more: string) => (paths: HaproxyServer.Paths) =>
  `
global
  stats socket ${paths.socket} level admin
  ${more}
${HaproxyServer.defaults}
listen web
  bind ${paths.socket}.web
  server node1 127.0.0.1:1 disabled
`

const make = Effect.fnUntraced(function* (version: Binaries.HaproxyVersion, more = "") {
  const server = yield* HaproxyServer.make({ version, config: config(more) })
  yield* server.start
  const sockets = HaproxySocket.layer({ sockets: [server.socket] })
  const context = yield* Layer.build(Haproxy.layer({ placeholder }).pipe(Layer.provideMerge(sockets)))
  const haproxy = Context.get(context, Haproxy)
  return { server, haproxy, socket: server.socket, ...Context.get(context, HaproxySocket) }
})

const workerOf = ({ running }: HaproxyServer.HaproxyServer) => Effect.map(running, ({ workers }) => workers)

for (const version of Binaries.haproxyVersions()) {
  describe(`a connection to HAProxy ${version} that is kept`, () => {
    it.live("is gone on with by the next session that may, and closed by one that may not", () =>
      Effect.gen(function* () {
        const { session, socket } = yield* make(version)
        const once = (keep: boolean) =>
          Effect.gen(function* () {
            const { ask, connection } = yield* session(socket, { keep })
            const [isOld, [reply]] = [connection?.isOld(), yield* ask(["show env EP2_CONFIG"])]
            assert.strictEqual(reply, "Variable not found")
            return [isOld, connection?.number()]
          }).pipe(Effect.scoped)

        const seen = [yield* once(true), yield* once(true), yield* once(false), yield* once(true)]

        assert.deepStrictEqual(seen, [
          [false, 1],
          [true, 1],
          [false, 2],
          [false, 3]
        ])
      })
    )

    it.live("is asked nothing anew by a change that follows what was observed", () =>
      Effect.gen(function* () {
        const { haproxy, socket } = yield* make(version)
        const { lines } = yield* UnixProxy.takeOver(socket)
        const observed = yield* haproxy.observe("web")
        const before = lines()
        const action = Plan.Action.Drain({ socket, server: "node1", endpoint: placeholder })

        const failures = yield* haproxy.apply({ ...Plan.none("web"), actions: [action] }, observed)

        assert.deepStrictEqual([before, lines() - before, failures], [3, 1, []])
      })
    )

    it.live("is left for the process that a reload has put in its place, and lets the old one go", () =>
      Effect.gen(function* () {
        const { haproxy, server, socket } = yield* make(version)
        const old = yield* haproxy.pidOf(socket)
        const { masters } = yield* server.running
        const isReloaded = Effect.map(workerOf(server), (workers) => workers.some((pid) => pid !== old))
        // A master that was just born may lose its signal: it is sent again each second.
        for (let tries = 0; tries < 5 && !(yield* isReloaded); tries++) {
          process.kill(masters[0]!, "SIGUSR2")
          for (let looks = 0; looks < 50 && !(yield* isReloaded); looks++) yield* Effect.sleep("20 millis")
        }

        yield* eventually(
          "another process is asked",
          Effect.map(haproxy.pidOf(socket), (pid) => pid !== old)
        )
        const observed = yield* haproxy.observe("web")

        yield* eventually(
          "the old one is gone",
          Effect.map(workerOf(server), (workers) => !workers.includes(old))
        )
        assert.deepStrictEqual(
          observed.processes.map(({ pid }) => pid),
          yield* workerOf(server)
        )
      })
    )

    it.live("is left for the process that was started after that one was killed", () =>
      Effect.gen(function* () {
        const { haproxy, server, socket } = yield* make(version)
        const old = yield* haproxy.pidOf(socket)
        yield* server.kill
        const gone = yield* Effect.flip(haproxy.pidOf(socket))
        yield* server.start

        const { processes } = yield* haproxy.observe("web")

        assert.include(gone.message, "cannot connect")
        const pids = processes.map(({ pid }) => pid)
        assert.notInclude(pids, old)
        assert.deepStrictEqual(pids, yield* workerOf(server))
      })
    )

    it.live("is made anew where HAProxy has closed it", () =>
      Effect.gen(function* () {
        const { haproxy, socket } = yield* make(version, "stats timeout 100ms")
        const first = yield* haproxy.pidOf(socket)
        yield* Effect.sleep("300 millis")

        assert.strictEqual(yield* haproxy.pidOf(socket), first)
      })
    )
  })
}

describe("a connection that is kept", () => {
  const info = (pid: number, stopping = 0) => `Name: HAProxy\nPid: ${pid}\nStopping: ${stopping}\n\n> `

  /** A server whose clients, one after the other, get these answers to what they ask; after the last one it closes. */
  const script = Effect.fnUntraced(function* (...clients: ReadonlyArray<ReadonlyArray<string>>) {
    let count = 0
    const said: Array<string> = []
    const server = yield* listen((client: Socket) => {
      const answers = [...(clients[count++] ?? [])]
      client.on("data", (text) => {
        said.push(String(text))
        const answer = answers.shift()
        if (answer === undefined) client.destroy()
        else client.write(answer)
      })
    })
    const sockets = HaproxySocket.layer({ sockets: [server.path], replyTimeout: Duration.millis(300) })
    const context = yield* Layer.build(Haproxy.layer({ placeholder }).pipe(Layer.provideMerge(sockets)))
    return {
      ...server,
      said: () => said,
      haproxy: Context.get(context, Haproxy),
      ...Context.get(context, HaproxySocket)
    }
  })

  it.live("is made anew where it ends as it is asked", () =>
    Effect.gen(function* () {
      const { clients, haproxy, path } = yield* script([`\n> ${info(7)}`], [`\n> ${info(8)}`])

      const pids = [yield* haproxy.pidOf(path), yield* haproxy.pidOf(path)]

      assert.deepStrictEqual([pids, clients.size], [[7, 8], 2])
    })
  )

  it.live("is left once its process is about to end, and a process that is the only one is taken as it is", () =>
    Effect.gen(function* () {
      const { clients, haproxy, path } = yield* script(
        [`\n> ${info(7)}`, info(7, 1)],
        [`\n> ${info(7, 1)}`, info(7, 1)],
        [`\n> ${info(8)}`]
      )

      const pids = [yield* haproxy.pidOf(path), yield* haproxy.pidOf(path), yield* haproxy.pidOf(path)]

      assert.deepStrictEqual([pids, clients.size], [[7, 7, 8], 3])
    })
  )

  it.live(
    "that was renewed since HAProxy was observed is asked who is there, and another process is told nothing",
    () =>
      Effect.gen(function* () {
        const { reply } = recorded("2.6", "show-servers-empty")
        const { clients, haproxy, path, said } = yield* script(
          [`\n> ${info(7)}${reply}\n\n> `, info(7, 1)],
          [`\n> ${info(8)}`, info(8)]
        )
        const observed = yield* haproxy.observe("web")
        const pid = yield* haproxy.pidOf(path)
        const action = Plan.Action.Drain({ socket: path, server: "node1", endpoint: placeholder })

        const failures = yield* haproxy.apply({ ...Plan.none("web"), actions: [action] }, observed)

        assert.deepStrictEqual([observed.processes[0]?.pid, pid, failures, clients.size], [7, 8, [], 2])
        assert.deepStrictEqual(said().slice(-2), ["prompt\nshow info\n", "show info\n"])
      })
  )

  it.live("is not one that was silent, nor one that said more than it was asked", () =>
    Effect.gen(function* () {
      const { haproxy, path } = yield* script(
        [`\n> ${info(7)}`, ""],
        [`\n> ${info(8)}${info(8)}`],
        [`\n> ${info(9)}something`],
        [`\n> ${info(10)}`]
      )

      const first = yield* haproxy.pidOf(path)
      const silent = yield* Effect.flip(haproxy.pidOf(path))
      const pids = [yield* haproxy.pidOf(path), yield* haproxy.pidOf(path), yield* haproxy.pidOf(path)]

      assert.include(silent.message, "was silent for 0.3 s")
      assert.deepStrictEqual([first, ...pids], [7, 8, 9, 10])
    })
  )

  it.live("is not one on which an exchange was interrupted", () =>
    Effect.gen(function* () {
      const { clients, haproxy, path } = yield* script([`\n> ${info(7)}`, ""], [`\n> ${info(8)}`])
      yield* haproxy.pidOf(path)

      const late = yield* Effect.exit(Effect.timeout(haproxy.pidOf(path), "50 millis"))

      assert.isTrue(Exit.isFailure(late))
      assert.strictEqual(yield* haproxy.pidOf(path), 8)
      assert.strictEqual(clients.size, 2)
    })
  )

  it.live("is closed after two seconds in which nobody used it, and with the service", () =>
    Effect.gen(function* () {
      const { clients, path } = yield* listen((client) => {
        client.on("data", () => client.write(`\n> ${info(7)}`))
      })
      const layer = Haproxy.layer({ placeholder }).pipe(Layer.provide(HaproxySocket.layer({ sockets: [path] })))
      const areClosed = Effect.sync(() => [...clients].map(({ readableEnded }) => readableEnded))
      yield* Effect.gen(function* () {
        const haproxy = yield* Haproxy
        yield* haproxy.pidOf(path)
        yield* Effect.sleep("1 second")
        const [isClosedEarly] = yield* areClosed
        yield* Effect.sleep("1500 millis")
        assert.deepStrictEqual([isClosedEarly, yield* areClosed], [false, [true]])
        yield* haproxy.pidOf(path)
      }).pipe(Effect.provide(layer))

      yield* eventually(
        "all are closed",
        Effect.map(areClosed, (all) => all.every(Boolean))
      )
      assert.strictEqual(clients.size, 2)
    })
  )
})
