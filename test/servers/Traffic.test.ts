import { createServer, type Socket } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as HttpBackends from "./HttpBackends.ts"
import * as Traffic from "./Traffic.ts"

/** A server that answers each connection's bytes as `answer` says. */
const rawServer = (answer: (socket: Socket, nth: number) => void) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly port: number; readonly close: () => void }>((resume) => {
      const sockets = new Set<Socket>()
      const server = createServer((socket) => {
        let nth = 0
        sockets.add(socket)
        socket.on("data", () => answer(socket, ++nth)).on("error", () => undefined)
      }).listen(0, "127.0.0.1", () => {
        const close = () => {
          server.close()
          for (const socket of sockets) socket.destroy()
        }
        resume(Effect.succeed({ port: (server.address() as { port: number }).port, close }))
      })
    }),
    ({ close }) => Effect.sync(close)
  )

const ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-served-by: raw\r\n\r\nok"

/** Waits for at least so many requests. */
const until = (traffic: Traffic.Traffic, requests: number) =>
  traffic.report.pipe(
    Effect.delay("5 millis"),
    Effect.repeat({ until: (report) => report.requests >= requests }),
    Effect.timeout("20 seconds")
  )

describe("HttpBackends", () => {
  it.live("answer with their own name, on any loopback address", () =>
    Effect.gen(function* () {
      const backends = yield* HttpBackends.makeAll(
        ["a", "b", "c"],
        (index) => ["127.0.3.4", "127.0.0.1", "::1"][index]!
      )

      const served = yield* Effect.forEach(backends, ({ endpoint: { address, port } }) =>
        Effect.promise(async () => (await fetch(`http://${address === "::1" ? "[::1]" : address}:${port}/x`)).text())
      )

      assert.deepStrictEqual(served, ["a", "b", "c"])
      assert.deepStrictEqual(yield* backends[0]!.counts, { requests: 1, checks: 0, inFlight: 0 })
    })
  )

  it.live("answer health checks as they are told, and other requests all the same", () =>
    Effect.gen(function* () {
      const backend = yield* HttpBackends.make({ name: "a" })
      const url = `http://127.0.0.1:${backend.endpoint.port}`
      const statuses = Effect.promise(async () => [
        (await fetch(`${url}/`)).status,
        (await fetch(`${url}/health`)).status,
        (await fetch(url, { method: "OPTIONS" })).status,
        (await fetch(`${url}/other`)).status
      ])

      const healthy = yield* statuses
      yield* backend.setHealthy(false)
      const sick = yield* statuses

      assert.deepStrictEqual(
        [healthy, sick],
        [
          [200, 200, 200, 200],
          [503, 503, 503, 200]
        ]
      )
      assert.deepStrictEqual(yield* backend.counts, { requests: 2, checks: 6, inFlight: 0 })
    })
  )

  it.live("refuse connections while they are stopped, and come back on the same port", () =>
    Effect.gen(function* () {
      const backend = yield* HttpBackends.make({ name: "a" })
      const traffic = yield* Traffic.start({ port: backend.endpoint.port })
      yield* until(traffic, 20)

      yield* backend.stop
      yield* until(traffic, (yield* traffic.report).requests + 20)
      yield* backend.start
      yield* until(traffic, (yield* traffic.report).requests + 20)

      const report = yield* traffic.stop
      assert.include(
        report.failures.map(({ reason }) => reason),
        "ECONNREFUSED"
      )
      assert.strictEqual(report.answers.at(-1)?.server, "a")
    })
  )
})

describe("Traffic", () => {
  it.live("counts every request once, and nothing but answers from a server that stays", () =>
    Effect.gen(function* () {
      const backend = yield* HttpBackends.make({ name: "a" })
      const traffic = yield* Traffic.start({ port: backend.endpoint.port, closing: 3, keeping: 3 })
      yield* until(traffic, 200)

      const report = yield* traffic.stop

      assert.deepStrictEqual(report.failures, [])
      assert.strictEqual(report.byServer.a, report.requests)
      assert.strictEqual((yield* backend.counts).requests, report.requests + report.idleCloses)
    })
  )

  it.live("sends a request again where a kept connection was closed before the answer, and counts that", () =>
    Effect.gen(function* () {
      // The second request of each connection finds it closed.
      const server = yield* rawServer((socket, nth) => (nth === 1 ? socket.write(ok) : socket.destroy()))
      const traffic = yield* Traffic.start({ port: server.port, closing: 0, keeping: 1 })
      yield* until(traffic, 10)

      const report = yield* traffic.stop

      assert.deepStrictEqual(report.failures, [])
      assert.isAtLeast(report.idleCloses, 9)
    })
  )

  it.live("takes a new connection that is closed without an answer for a failure", () =>
    Effect.gen(function* () {
      const server = yield* rawServer((socket) => socket.destroy())
      const traffic = yield* Traffic.start({ port: server.port, closing: 1, keeping: 1 })
      yield* until(traffic, 10)

      const report = yield* traffic.stop

      assert.strictEqual(report.failures.length, report.requests)
      assert.strictEqual(report.idleCloses, 0)
    })
  )

  it.live("takes an answer that is cut short for a failure, on a kept connection too", () =>
    Effect.gen(function* () {
      const server = yield* rawServer((socket, nth) => (nth === 1 ? socket.write(ok) : socket.end(ok.slice(0, -1))))
      const traffic = yield* Traffic.start({ port: server.port, closing: 0, keeping: 1 })
      yield* until(traffic, 4)

      const report = yield* traffic.stop

      assert.isAtLeast(report.failures.length, 1)
      assert.match(report.failures[0]!.reason, /^cut after 1 bytes$/)
      assert.strictEqual(report.idleCloses, 0)
    })
  )

  it.live("takes a status other than 2xx, and no answer in time, for failures", () =>
    Effect.gen(function* () {
      const backend = yield* HttpBackends.make({ name: "a" })
      yield* backend.setHealthy(false)
      const sick = yield* Traffic.start({
        port: backend.endpoint.port,
        path: "/",
        maxRequests: 1,
        keeping: 0,
        closing: 1
      })
      const slow = yield* Traffic.start({
        port: backend.endpoint.port,
        path: "/x?millis=5000",
        timeoutMillis: 50,
        maxRequests: 1,
        closing: 0,
        keeping: 1
      })

      const [one, two] = [yield* until(sick, 1), yield* until(slow, 1)]

      assert.deepStrictEqual([one.failures[0]?.reason, two.failures[0]?.reason], ["status 503", "no answer in 50 ms"])
    })
  )
})
