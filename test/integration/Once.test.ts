/** `ep2 start --once`: one level pass, and the end. */
import { createServer, type Socket as NodeSocket } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { HttpBackend } from "../servers/HttpBackends.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"
import { fileOf, sourceOf, startServing, want } from "./FileWorld.ts"
import { run } from "./Looks.ts"
import * as World from "./World.ts"

const { eventually, serves } = World

const isAll = process.env.EP2_TEST_ALL === "1"

const makeWorld = (settings: Readonly<Record<string, string>> = {}) =>
  World.make({
    version: World.newest,
    source: sourceOf,
    settings: {
      orchestrator: "file",
      new_servers: "trusted",
      sleep_before_next_run: "0.5",
      drain_timeout: "1",
      ...settings
    }
  })

const once = (world: World.World) => run(world, "start", "--once")

/** What ep2 says when it ends with something else than 0, on a line of its own. */
const fatalOf = (output: string) => output.split("\n").filter((line) => / fatal /.test(line))

/** Takes connections and requests, and answers nothing. */
const makeSilent = Effect.gen(function* () {
  const open = new Set<NodeSocket>()
  const server = createServer((socket) => {
    open.add(socket.on("error", () => {}))
  })
  yield* Effect.promise(() => new Promise<void>((done) => server.listen(0, "127.0.0.1", done)))
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      for (const socket of open) socket.destroy()
      server.close()
    })
  )
  const address = server.address()
  const port = typeof address === "object" && address !== null ? address.port : 0
  return { backend: { name: "silent", endpoint: { address: "127.0.0.1", port } }, open }
})

describe("ep2 start --once", () => {
  it.live("starts a HAProxy that does not run, brings it level, and ends; a second one finds nothing to do", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld()
      const all = yield* HttpBackends.makeAll(["a", "b"])
      yield* want(world, all)

      const first = yield* once(world)
      yield* serves(world, all)
      const pids = yield* world.haproxyPids
      const second = yield* once(world)
      yield* want(world, all.slice(1))
      const third = yield* once(world)
      const served = yield* world.served()

      assert.deepStrictEqual([first.exitCode, second.exitCode, third.exitCode], [0, 0, 0])
      assert.match(first.output, /HAProxy does not run: starting it/)
      assert.match(second.output, /no reload/)
      assert.notMatch(second.output, /arrives|drains|reloading/)
      // What left has left when it ends, and its slot is free.
      assert.match(third.output, /left, its slot is free/)
      assert.lengthOf(Object.keys(served), 1)
      assert.deepStrictEqual(yield* world.haproxyPids, pids)
    })
  )

  if (isAll) {
    it.live("waits until new servers have proven themselves, before what they replace goes", () =>
      Effect.gen(function* () {
        const world = yield* makeWorld({ new_servers: "checked" })
        const all = yield* HttpBackends.makeAll(["a", "b", "c", "d"])
        yield* want(world, all.slice(0, 2))
        yield* once(world)
        yield* want(world, all.slice(2))

        const { exitCode, output } = yield* once(world)
        const served = yield* world.served()

        assert.strictEqual(exitCode, 0, output)
        assert.match(output, /passes its checks/)
        assert.sameMembers(
          Object.values(served),
          all.slice(2).map(({ endpoint }) => `${endpoint.address}:${endpoint.port}`)
        )
      })
    )
  }

  it.live("leaves sessions that outlive drain_timeout in maintenance, and the next run frees their server", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld()
      const [a] = yield* HttpBackends.makeAll(["a"])
      const { backend, open } = yield* makeSilent
      yield* want(world, [backend as HttpBackend])
      yield* once(world)
      const request = fetch(`http://127.0.0.1:${world.port}/`).catch(() => undefined)
      yield* eventually(
        "the request is there",
        Effect.sync(() => open.size > 0)
      )
      yield* want(world, [a!])

      const began = Date.now()
      const first = yield* once(world)
      const took = Date.now() - began
      const left = (yield* world.servers()).find(({ endpoint }) => endpoint?.port === backend.endpoint.port)
      for (const socket of open) socket.destroy()
      yield* Effect.promise(() => request)
      const second = yield* once(world)

      assert.deepStrictEqual([first.exitCode, second.exitCode], [0, 0], first.output)
      assert.isAbove(took, 1000)
      assert.deepStrictEqual([left?.admin, left?.isMarked], ["maint", true])
      assert.match(second.output, /left, its slot is free/)
    })
  )

  it.live("ends at once and in one line where another ep2 has the lock", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld()
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
      yield* startServing(world, [a!])
      yield* want(world, [a!, b!])

      const { exitCode, output } = yield* once(world)

      assert.strictEqual(exitCode, 3)
      assert.lengthOf(fatalOf(output), 1)
      assert.match(output, /another ep2 \(pid \d+\) looks after .*haproxy\.cfg/)
      assert.notMatch(output, /standing by/)
    })
  )

  it.live("says which source does not answer, and starts HAProxy with what the last run left", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld()
      const [a] = yield* HttpBackends.makeAll(["a"])

      const nothing = yield* once(world)
      const started = yield* world.haproxyPids
      yield* want(world, [a!])
      yield* once(world)
      yield* world.killHaproxy
      yield* World.replaceFile(fileOf(world.dir), "[{")
      const again = yield* once(world)

      assert.deepStrictEqual([nothing.exitCode, again.exitCode], [6, 6])
      assert.deepStrictEqual(started, [])
      assert.match(fatalOf(nothing.output).join(), /the source of web has not answered.*targets\.json/)
      yield* serves(world, [a!])
    })
  )

  it.live("waits for the guard's confirmations, and says what no wait releases", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld()
      const all = yield* HttpBackends.makeAll(["a", "b", "c", "d"])
      yield* want(world, all)
      yield* once(world)

      yield* want(world, all.slice(0, 1))
      const few = yield* once(world)
      const served = Object.keys(yield* world.served()).length
      yield* want(world, [])
      const empty = yield* once(world)
      yield* serves(world, all.slice(0, 1))
      yield* run(world, "release")
      const released = yield* once(world)

      assert.deepStrictEqual([few.exitCode, served], [0, 1], few.output)
      assert.match(few.output, /until 3 answers in a row/)
      assert.strictEqual(empty.exitCode, 7)
      assert.match(fatalOf(empty.output).join(), /HAProxy is not level: .*nothing is wanted/)
      assert.strictEqual(released.exitCode, 0, released.output)
      assert.deepStrictEqual(yield* world.served(), {})
    })
  )

  if (isAll) {
    it.live("changes nothing while ep2 is paused, and says so", () =>
      Effect.gen(function* () {
        const world = yield* makeWorld()
        const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
        yield* want(world, [a!])
        yield* once(world)
        yield* run(world, "pause")
        yield* want(world, [a!, b!])

        const { exitCode, output } = yield* once(world)

        assert.strictEqual(exitCode, 7)
        assert.match(fatalOf(output).join(), /paused/)
        yield* serves(world, [a!])
      })
    )
  }
})
