/** HAProxy 3.2 shows a new address a moment after it has said that it has it: what is observed behind a change of ep2's has it all the same. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer } from "effect"
import { TestClock } from "effect/testing"
import * as Plan from "../../src/domain/Plan.ts"
import { type Endpoint, endpointKey, type ObservedState } from "../../src/domain/State.ts"
import { Haproxy } from "../../src/haproxy/Haproxy.ts"
import { HaproxySocket } from "../../src/haproxy/HaproxySocket.ts"
import * as Binaries from "../servers/Binaries.ts"
import * as HaproxyServer from "../servers/HaproxyServer.ts"
import * as Processes from "../simulation/Processes.ts"

const placeholder: Endpoint = { address: "127.0.0.1", port: 1 }

/** The plan of one action on the only process. */
const planOf = (action: Plan.Action): Plan.Plan => ({ ...Plan.none("web"), actions: [action] })

const endpointOf = ({ processes }: ObservedState, server: string) => {
  const endpoint = processes[0]?.servers.find(({ name }) => name === server)?.endpoint
  return endpoint === undefined ? undefined : endpointKey(endpoint)
}

/** A simulated HAProxy that shows the table of before an address changed for so many more times. */
const makeSlow = (times: number) => {
  const { haproxy } = Processes.make()
  let [last, left, asked] = ["", 0, 0]
  const layer = Layer.effect(
    HaproxySocket,
    Effect.map(HaproxySocket, (real) =>
      HaproxySocket.of({
        ...real,
        session: (socket, options) =>
          Effect.map(real.session(socket, options), (session) => ({
            ...session,
            ask: (commands) =>
              Effect.map(session.ask(commands), (replies) => {
                if (commands.some((command) => command.includes(" addr "))) left = times
                return replies.map((reply, index) => {
                  if (commands[index] !== "show servers state web") return reply
                  asked++
                  if (left-- > 0) return last
                  last = reply
                  return reply
                })
              })
          }))
      })
    )
  ).pipe(Layer.provide(haproxy.sockets))
  return { layer: Haproxy.layer({ placeholder }).pipe(Layer.provide(layer)), asked: () => asked }
}

const arrive = (socket: string, port: number) =>
  Plan.Action.Arrive({ socket, server: "node4", endpoint: { address: "10.0.0.9", port }, prove: false })

describe("Haproxy.observe, behind a change of an address", () => {
  it.effect("asks again until HAProxy shows it", () => {
    const { asked, layer } = makeSlow(3)
    return Effect.gen(function* () {
      const haproxy = yield* Haproxy
      const before = yield* haproxy.observe("web")
      yield* haproxy.apply(planOf(arrive("/one.sock", 80)), before)

      const after = yield* Effect.forkChild(haproxy.observe("web"))
      yield* TestClock.adjust("20 millis")

      assert.strictEqual(endpointOf(yield* Fiber.join(after), "node4"), "10.0.0.9:80")
      assert.strictEqual(asked(), 5)
    }).pipe(Effect.provide(layer))
  })

  it.effect("believes what somebody else has made of it, after half a second", () => {
    const { layer } = makeSlow(1000)
    return Effect.gen(function* () {
      const haproxy = yield* Haproxy
      const before = yield* haproxy.observe("web")
      yield* haproxy.apply(planOf(arrive("/one.sock", 80)), before)

      const after = yield* Effect.forkChild(haproxy.observe("web"))
      yield* TestClock.adjust("600 millis")

      assert.strictEqual(endpointOf(yield* Fiber.join(after), "node4"), "127.0.0.1:1")
    }).pipe(Effect.provide(layer))
  })

  it.live.each(Binaries.haproxyVersions())("has it each of 200 times, on HAProxy %s", (version) =>
    Effect.gen(function* () {
      const server = yield* HaproxyServer.make({
        version,
        config: ({ socket }) => `
global
  stats socket ${socket} level admin
${HaproxyServer.defaults}
backend web
  server node4 127.0.0.1:1 disabled check inter 1h
`
      })
      yield* server.start
      const seen = yield* Effect.gen(function* () {
        const haproxy = yield* Haproxy
        const found: Array<string | undefined> = []
        let observed = yield* haproxy.observe("web")
        for (let round = 0; round < 200; round++) {
          yield* haproxy.apply(planOf(arrive(server.socket, 1000 + round)), observed)
          observed = yield* haproxy.observe("web")
          found.push(endpointOf(observed, "node4"))
        }
        return found
      }).pipe(
        Effect.provide(
          Haproxy.layer({ placeholder }).pipe(Layer.provide(HaproxySocket.layer({ sockets: server.sockets })))
        )
      )

      assert.deepStrictEqual(
        seen,
        Array.from({ length: 200 }, (_, round) => `10.0.0.9:${1000 + round}`)
      )
    })
  )
})
