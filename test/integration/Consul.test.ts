/** ep2 between a real Consul and a real HAProxy, with requests going through all the while. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { ConsulServer } from "../servers/ConsulServer.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"
import * as Traffic from "../servers/Traffic.ts"
import * as World from "./World.ts"

const service = "web"

/** A world that follows Consul's service, and its Consul. */
const makeWorld = Effect.fnUntraced(function* (options: Omit<World.Options, "source">) {
  const consul = yield* ConsulServer
  const world = yield* World.make({
    ...options,
    source: () => `[CONSUL]\nservice_name = ${service}\nconsul_ip = ${consul.host}\nconsul_port = ${consul.port}`,
    settings: { orchestrator: "consul", ...options.settings }
  })
  return { consul, world }
})

const register = (backend: HttpBackends.HttpBackend) =>
  Effect.gen(function* () {
    const consul = yield* ConsulServer
    const { address, port } = backend.endpoint
    yield* consul.register({ id: backend.name, name: service, address, port })
  })

const { logs, serves } = World

describe.each(World.versions)("Consul to HAProxy %s", (version) => {
  it.live("serves what is registered and passes, and loses no request to any change", () =>
    Effect.gen(function* () {
      const { consul, world } = yield* makeWorld({ version })
      const [a, b, c, d] = yield* HttpBackends.makeAll(["a", "b", "c", "d"])
      yield* register(a!)
      yield* register(b!)
      yield* world.start()
      yield* serves(world, [a!, b!])
      const traffic = yield* Traffic.start({ port: world.port })

      yield* register(c!)
      yield* serves(world, [a!, b!, c!])
      yield* consul.setCheck("b", "critical")
      yield* serves(world, [a!, c!])
      yield* consul.setCheck("b", "passing")
      yield* serves(world, [a!, b!, c!])
      yield* consul.maintenance(true, "c")
      yield* serves(world, [a!, b!])
      yield* consul.maintenance(false, "c")
      yield* register(d!)
      yield* consul.deregister("a")
      yield* serves(world, [b!, c!, d!])
      yield* World.eventually(
        "each has answered",
        Effect.map(traffic.report, ({ byServer }) => Object.keys(byServer).length === 4)
      )

      const report = yield* traffic.stop
      assert.deepStrictEqual(report.failures, [])
      assert.sameMembers(Object.keys(report.byServer), ["a", "b", "c", "d"])
      assert.isFalse(World.servesPlaceholder(yield* world.servers()))
    }).pipe(Effect.provide(ConsulServer.layer()))
  )

  it.live("keeps serving while Consul is gone and when it returns without its data", () =>
    Effect.gen(function* () {
      const { consul, world } = yield* makeWorld({ version })
      const [a, b, c] = yield* HttpBackends.makeAll(["a", "b", "c"])
      yield* register(a!)
      yield* register(b!)
      const ep2 = yield* world.start()
      yield* serves(world, [a!, b!])
      const traffic = yield* Traffic.start({ port: world.port })

      yield* consul.stop()
      yield* logs(ep2, /warning.*Consul/)
      // A development agent forgets everything: its index goes back, and it answers 200 and [].
      yield* consul.start
      yield* logs(ep2, /allow_empty/)
      yield* serves(world, [a!, b!])
      yield* register(c!)
      yield* serves(world, [c!])

      const report = yield* traffic.stop
      assert.deepStrictEqual(report.failures, [])
      assert.isAbove(report.byServer.c ?? 0, 0)
    }).pipe(Effect.provide(ConsulServer.layer()))
  )

  it.live("serves IPv6 endpoints", () =>
    Effect.gen(function* () {
      const { world } = yield* makeWorld({ version })
      const a = yield* HttpBackends.make({ name: "a" })
      const b = yield* HttpBackends.make({ name: "b", address: "::1" })
      yield* register(a!)
      yield* world.start()
      yield* serves(world, [a!])
      yield* register(b!)
      yield* serves(world, [a!, b!])
      const traffic = yield* Traffic.start({ port: world.port, maxRequests: 50 })

      yield* World.eventually(
        "b answers",
        Effect.map(traffic.report, ({ byServer }) => (byServer.b ?? 0) > 0)
      )

      assert.deepStrictEqual((yield* traffic.stop).failures, [])
    }).pipe(Effect.provide(ConsulServer.layer()))
  )

  it.live("is level again within seconds of a HAProxy that was killed and started again", () =>
    Effect.gen(function* () {
      const { consul, world } = yield* makeWorld({ version })
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
      yield* register(a!)
      const ep2 = yield* world.start()
      yield* serves(world, [a!])

      yield* logs(ep2, /following the source/)
      yield* world.killHaproxy
      yield* logs(ep2, /HAProxy cannot be observed/)
      yield* register(b!)
      yield* consul.deregister("a")
      yield* World.startHaproxy(world, version)
      yield* serves(world, [b!])

      const traffic = yield* Traffic.start({ port: world.port, maxRequests: 100 })
      yield* World.eventually(
        "b answers",
        Effect.map(traffic.report, ({ byServer }) => (byServer.b ?? 0) > 20)
      )
      assert.deepStrictEqual((yield* traffic.stop).failures, [])
      yield* logs(ep2, /HAProxy: pid|HAProxy is there: pid/)
    }).pipe(Effect.provide(ConsulServer.layer()))
  )
})

describe("Consul to two processes of HAProxy 2.2", () => {
  it.live("keeps both level, under the same names", () =>
    Effect.gen(function* () {
      const { world } = yield* makeWorld({ version: "2.2", processes: 2 })
      const [a, b, c] = yield* HttpBackends.makeAll(["a", "b", "c"])
      yield* register(a!)
      yield* world.start()
      const level = (backends: ReadonlyArray<HttpBackends.HttpBackend>) =>
        Effect.forEach(world.sockets, (socket) => serves(world, backends, socket), { discard: true })
      yield* level([a!])
      const traffic = yield* Traffic.start({ port: world.port })

      yield* register(b!)
      yield* level([a!, b!])
      assert.deepStrictEqual(yield* world.served(world.sockets[0]), yield* world.served(world.sockets[1]))

      assert.deepStrictEqual((yield* traffic.stop).failures, [])
      yield* register(c!)
      yield* level([a!, b!, c!])
      assert.deepStrictEqual(yield* world.served(world.sockets[0]), yield* world.served(world.sockets[1]))
    }).pipe(Effect.provide(ConsulServer.layer()))
  )
})
