import { assert, describe, it, layer } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { ConsulServer } from "../servers/ConsulServer.ts"
import * as FaultProxy from "../servers/FaultProxy.ts"
import { noticed, start } from "./ConsulService.ts"

layer(ConsulServer.layer(), { excludeTestServices: true })("ConsulFetcher.awaitChange", (it) => {
  it.effect("returns at once before the first fetch", () =>
    Effect.gen(function* () {
      const { awaitChange } = yield* start(yield* ConsulServer, "first")

      yield* awaitChange.pipe(Effect.timeout("2 seconds"))
    })
  )

  it.effect("returns for each change of who passes, and not before", () =>
    Effect.gen(function* () {
      const consul = yield* ConsulServer
      yield* consul.register({ id: "ch-1", name: "change", address: "10.0.0.1", port: 80 })
      const { awaitChange, fetch, until } = yield* start(consul, "change")
      yield* until("10.0.0.1:80")

      yield* noticed(awaitChange, consul.register({ id: "ch-2", name: "change", address: "10.0.0.2", port: 80 }))
      yield* until("10.0.0.1:80", "10.0.0.2:80")
      yield* noticed(awaitChange, consul.setCheck("ch-1", "critical"))
      assert.deepEqual(yield* fetch, ["10.0.0.2:80"])
      yield* noticed(awaitChange, consul.maintenance(true, "ch-2"))
      assert.deepEqual(yield* fetch, [])
      yield* noticed(awaitChange, consul.maintenance(false, "ch-2"))
      yield* noticed(awaitChange, consul.setCheck("ch-1", "passing"))
      yield* until("10.0.0.1:80", "10.0.0.2:80")
      yield* noticed(awaitChange, consul.deregister("ch-1"))
      assert.deepEqual(yield* fetch, ["10.0.0.2:80"])
    })
  )

  it.effect("has the answer that was the change for the next fetch, and for no other one", () =>
    Effect.gen(function* () {
      const consul = yield* ConsulServer
      const proxy = yield* FaultProxy.make(consul)
      const { awaitChange, fetch } = yield* start(proxy, "taken")
      yield* fetch
      const before = proxy.requests().length

      yield* noticed(awaitChange, consul.register({ id: "t-1", name: "taken", address: "10.0.0.1", port: 80 }))
      const first = yield* fetch
      const asked = proxy.requests().length - before
      yield* fetch

      assert.deepEqual(first, ["10.0.0.1:80"])
      assert.deepEqual([asked, proxy.requests().length - before], [1, 2])
    })
  )

  it.effect("asks anew where the answer that was the change is no longer the newest thing that is known", () =>
    Effect.gen(function* () {
      const consul = yield* ConsulServer
      const { awaitChange, fetch } = yield* start(consul, "older")
      yield* fetch

      yield* noticed(awaitChange, consul.register({ id: "o-1", name: "older", address: "10.0.0.1", port: 80 }))
      yield* consul.register({ id: "o-2", name: "older", address: "10.0.0.2", port: 80 })
      yield* Effect.sleep("200 millis")

      assert.deepEqual(yield* fetch, ["10.0.0.1:80", "10.0.0.2:80"])
    })
  )

  it.effect("returns for a change that came between the fetch and the wait", () =>
    Effect.gen(function* () {
      const consul = yield* ConsulServer
      const { awaitChange, fetch, until } = yield* start(consul, "between")
      assert.deepEqual(yield* fetch, [])
      yield* consul.register({ id: "bt-1", name: "between", address: "10.0.0.1", port: 80 })

      yield* awaitChange.pipe(Effect.timeout("2 seconds"))

      yield* until("10.0.0.1:80")
    })
  )

  it.effect("goes on waiting when its query was answered before the last fetch, which saw the change itself", () =>
    Effect.gen(function* () {
      const consul = yield* ConsulServer
      const { awaitChange, fetch, until } = yield* start(consul, "old")
      yield* fetch
      yield* awaitChange.pipe(Effect.timeoutOption("100 millis"))
      yield* consul.register({ id: "old-1", name: "old", address: "10.0.0.1", port: 80, status: "critical" })
      yield* Effect.sleep("100 millis")
      yield* fetch
      yield* awaitChange.pipe(Effect.timeoutOption("100 millis"))
      yield* consul.setCheck("old-1", "passing")
      yield* Effect.sleep("100 millis")
      yield* consul.setCheck("old-1", "critical")
      yield* until()

      const waiting = yield* Effect.forkChild(awaitChange, { startImmediately: true })
      yield* Effect.sleep("200 millis")

      assert.isUndefined(waiting.pollUnsafe())
      yield* consul.setCheck("old-1", "passing")
      yield* Fiber.join(waiting).pipe(Effect.timeout("2 seconds"))
    })
  )

  it.effect("goes on waiting when Consul wakes it for an instance with another tag, and then sees its own", () =>
    Effect.gen(function* () {
      const consul = yield* ConsulServer
      const blue = { name: "wake", port: 80, tags: ["blue"] }
      yield* consul.register({ ...blue, id: "wk-1", address: "10.0.0.1" })
      const { awaitChange, until } = yield* start(consul, "wake", { tags: ["blue"] })
      yield* until("10.0.0.1:80")
      const waiting = yield* Effect.forkChild(awaitChange, { startImmediately: true })

      for (const last of [2, 3, 4, 5]) {
        yield* Effect.sleep("50 millis")
        yield* consul.register({ ...blue, id: `wk-${last}`, address: `10.0.0.${last}`, tags: ["green"] })
      }
      yield* Effect.sleep("200 millis")
      const before = waiting.pollUnsafe()
      yield* consul.register({ ...blue, id: "wk-6", address: "10.0.0.6" })
      yield* Fiber.join(waiting).pipe(Effect.timeout("3 seconds"))

      assert.isUndefined(before)
      yield* until("10.0.0.1:80", "10.0.0.6:80")
    })
  )

  it.effect("follows a burst of changes to its end", () =>
    Effect.gen(function* () {
      const consul = yield* ConsulServer
      const { awaitChange, fetch } = yield* start(consul, "burst")
      yield* fetch
      const numbers = Array.from({ length: 30 }, (_, i) => i + 1)
      const burst = Effect.forEach(numbers, (n) =>
        consul.register({ id: `bu-${n}`, name: "burst", address: `10.0.3.${n}`, port: 80 })
      )

      const following = awaitChange.pipe(
        Effect.andThen(fetch),
        Effect.repeat({ until: (found) => found.length === numbers.length }),
        Effect.timeout("10 seconds")
      )
      const [found] = yield* Effect.all([following, burst], { concurrency: 2 })

      assert.sameMembers(
        found,
        numbers.map((n) => `10.0.3.${n}:80`)
      )
    })
  )
})

describe("ConsulFetcher when Consul itself goes", () => {
  it.live("fails while the agent is away, and follows it when it is back with an index that begins anew", () =>
    Effect.gen(function* () {
      const consul = yield* ConsulServer.make()
      const register = (last: number) =>
        consul.register({ id: `web-${last}`, name: "web", address: `10.0.0.${last}`, port: 80 })
      for (const last of [1, 2, 3, 4, 5]) yield* register(last)
      const { awaitChange, fetch, until } = yield* start(consul, "web")
      yield* until("10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80", "10.0.0.5:80")
      const waiting = yield* Effect.forkChild(Effect.flip(awaitChange), { startImmediately: true })
      yield* Effect.sleep("100 millis")

      yield* consul.stop()
      const broken = yield* Fiber.join(waiting).pipe(Effect.timeout("2 seconds"))
      const refused = yield* Effect.flip(fetch)
      yield* consul.start
      yield* awaitChange.pipe(Effect.timeout("2 seconds"))
      const forgotten = yield* fetch
      yield* noticed(awaitChange, register(6))
      yield* until("10.0.0.6:80")

      assert.deepEqual([broken.reason, refused.reason], ["Unavailable", "Unavailable"])
      const where = `Consul service "web" at ${consul.url}`
      assert.equal(
        refused.message,
        `${where}: connection refused: see whether the agent runs, and consul_ip and consul_port`
      )
      assert.deepEqual(forgotten, [])
    })
  )

  it.live("does not take an agent that leaves in order for a change", () =>
    Effect.gen(function* () {
      const consul = yield* ConsulServer.make()
      yield* consul.register({ id: "web-1", name: "web", address: "10.0.0.1", port: 80 })
      const { awaitChange, until } = yield* start(consul, "web")
      yield* until("10.0.0.1:80")
      const waiting = yield* Effect.forkChild(Effect.flip(awaitChange), { startImmediately: true })
      yield* Effect.sleep("100 millis")

      yield* consul.stop("SIGTERM")

      const error = yield* Fiber.join(waiting).pipe(Effect.timeout("5 seconds"))
      assert.equal(error.reason, "Unavailable")
    })
  )
})
