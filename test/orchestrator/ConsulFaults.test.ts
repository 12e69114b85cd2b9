/** What can go wrong between ep2 and Consul, done to the answers of a real one. */
import { createServer } from "node:net"
import { assert, layer } from "@effect/vitest"
import { Context, Duration, Effect, Fiber, Layer } from "effect"
import { ConsulServer } from "../servers/ConsulServer.ts"
import * as FaultProxy from "../servers/FaultProxy.ts"
import { noticed, start } from "./ConsulService.ts"

/** A Consul that knows one instance of `web`. */
class Web extends Context.Service<Web, ConsulServer["Service"]>()("test/Web") {
  static readonly layer = Layer.effect(
    Web,
    Effect.gen(function* () {
      const consul = yield* ConsulServer.make()
      yield* consul.register({ id: "web-1", name: "web", address: "10.0.0.1", port: 80, tags: ["blue"] })
      yield* (yield* start(consul, "web")).until("10.0.0.1:80")
      return consul
    })
  )
}

const behindProxy = Effect.fnUntraced(function* (
  service = "web",
  target: Parameters<typeof start>[2] = {},
  options: Parameters<typeof start>[3] = {}
) {
  const consul = yield* Web
  const proxy = yield* FaultProxy.make(consul)
  const source = yield* start(proxy, service, target, options)
  return { ...source, consul, proxy }
})

/** Requests that wait for a change, as opposed to those that ask once. */
const waits = (requests: ReadonlyArray<string>) => requests.filter((path) => path.includes("index="))

const faults: ReadonlyArray<{
  readonly name: string
  readonly fault: FaultProxy.Fault
  readonly reason: string
  readonly says: RegExp
  /** Shorter than what a query may take. */
  readonly timeout?: Duration.Duration
}> = [
  { name: "refuses", fault: { kind: "refuse" }, reason: "Unavailable", says: /^connection refused: / },
  {
    name: "resets",
    fault: { kind: "reset" },
    reason: "Unavailable",
    says: /^the connection was reset before an answer/
  },
  {
    name: "is slow",
    fault: { kind: "delay", millis: 3000 },
    reason: "Unavailable",
    says: /^no whole answer within 0.5 s: /,
    timeout: Duration.millis(500)
  },
  {
    name: "stops in the middle of its answer",
    fault: { kind: "stall" },
    reason: "Unavailable",
    says: /^no whole answer within 0.5 s: /,
    timeout: Duration.millis(500)
  },
  {
    name: "answers 500",
    fault: { kind: "answer", status: 500, body: "No cluster leader" },
    reason: "Unavailable",
    says: /^Consul answered 500 "No cluster leader": see the agent's log$/
  },
  {
    name: "answers 503 with a page of HTML",
    fault: { kind: "answer", status: 503, body: `<html>\r\n${"<p>sorry</p>\n".repeat(500)}` },
    reason: "Unavailable",
    says: /^Consul answered 503 "<html> <p>sorry<\/p> .{170,200}…": see/
  },
  {
    name: "answers 429",
    fault: { kind: "answer", status: 429, body: "" },
    reason: "Throttled",
    says: /^Consul answered 429: it is asked too often/
  },
  {
    name: "limits the rate of its own calls",
    fault: { kind: "answer", status: 500, body: "rpc error: rate limit exceeded, try again later" },
    reason: "Throttled",
    says: /^Consul answered 500 "rpc error: rate limit exceeded/
  },
  {
    name: "asks for a token",
    fault: { kind: "answer", status: 401, body: "" },
    reason: "Unauthorized",
    says: /^Consul answered 401: set a token with service:read on "web" and node:read on its nodes$/
  },
  {
    name: "denies within a 500",
    fault: { kind: "answer", status: 500, body: "rpc error making call: Permission denied" },
    reason: "Unauthorized",
    says: /service:read/
  },
  {
    name: "filters the answer by ACL",
    fault: { kind: "headers", headers: { "x-consul-results-filtered-by-acls": "true" } },
    reason: "Unauthorized",
    says: /^Consul left out what the token may not see: set a token with service:read on "web"/
  },
  {
    name: "has no leader",
    fault: { kind: "headers", headers: { "x-consul-knownleader": "false" } },
    reason: "Unavailable",
    says: /^the servers have no leader/
  },
  {
    name: "answers malformed JSON",
    fault: { kind: "answer", status: 200, body: '[{"Node": {"Node": "n1", ' },
    reason: "BadResponse",
    says: /^not the answer of Consul's health endpoint: .*, in 25 characters that begin "\[\{\\"Node\\"/
  },
  {
    name: "answers nothing",
    fault: { kind: "answer", status: 200, body: "" },
    reason: "BadResponse",
    says: /^not the answer/
  },
  {
    name: "answers null",
    fault: { kind: "answer", status: 200, body: "null" },
    reason: "BadResponse",
    says: /: Expected array, in 4 characters that begin "null"$/
  },
  {
    name: "answers another shape",
    fault: {
      kind: "answer",
      status: 200,
      body: JSON.stringify([
        { Node: { Node: "n", Address: "10.0.0.1" }, Service: { ID: "a", Address: "", Port: "80" } }
      ])
    },
    reason: "BadResponse",
    says: /: Expected number at \[0\]\["Service"\]\["Port"\], in /
  },
  {
    name: "cuts the answer short",
    fault: { kind: "truncate" },
    reason: "BadResponse",
    says: /^the answer was cut short/
  },
  {
    name: "cuts its chunks short",
    fault: { kind: "truncate", isChunked: true },
    reason: "BadResponse",
    says: /^the answer was cut short/
  },
  {
    name: "sends half as if it were all",
    fault: { kind: "rewrite", change: (body) => body.slice(0, body.length / 2) },
    reason: "BadResponse",
    says: /^not the answer of Consul's health endpoint/
  },
  {
    name: "sends more than it says",
    fault: { kind: "answer", status: 200, body: "[] and more", headers: { "content-length": "1" } },
    reason: "BadResponse",
    // What comes too much is seen with the answer, or after it.
    says: /^(?:what answers does not speak HTTP|not the answer of .*, in 1 characters that begin "\["$)/
  },
  {
    name: "answers more than 64 MiB",
    fault: { kind: "answer", status: 200, body: " ".repeat(65 * 1024 * 1024) },
    reason: "BadResponse",
    says: /^the answer is larger than 64 MiB: /
  },
  {
    name: "sends elsewhere",
    fault: { kind: "answer", status: 301, body: "", headers: { location: "/ui/" } },
    reason: "BadResponse",
    says: /^expected 200 and a list of instances, got 301: is this a Consul agent\?$/
  },
  {
    name: "is something else",
    fault: { kind: "answer", status: 404, body: "not found" },
    reason: "BadResponse",
    says: /got 404 "not found": is this a Consul agent\?$/
  }
]

layer(Web.layer, { excludeTestServices: true })("ConsulFetcher when Consul misbehaves", (it) => {
  it.effect.each(faults)(
    "fails when it $name, in one line, and reads on when it is over",
    ({ fault, reason, says, timeout }) =>
      Effect.gen(function* () {
        const { fetch, proxy } = yield* behindProxy("web", {}, { timeout })
        yield* proxy.set(fault)

        const error = yield* Effect.flip(fetch)
        yield* proxy.set({ kind: "none" })
        const after = yield* fetch

        assert.equal(error.reason, reason)
        assert.match(error.detail, says)
        assert.equal(error.message, `Consul service "web" at http://127.0.0.1:${proxy.port}: ${error.detail}`)
        assert.notMatch(error.message, /[\r\n]/)
        assert.isAtMost(error.message.length, 500)
        assert.deepEqual(after, ["10.0.0.1:80"])
      })
  )

  it.effect("fails when what listens there does not speak HTTP", () =>
    Effect.gen(function* () {
      const port = yield* Effect.acquireRelease(
        Effect.promise(
          () =>
            new Promise<ReturnType<typeof createServer>>((done) => {
              const server = createServer((socket) => {
                socket.on("error", () => undefined).resume()
                socket.end("220 mail ready\r\n")
              })
              server.listen(0, "127.0.0.1", () => done(server))
            })
        ),
        (server) => Effect.promise(() => new Promise((done) => server.close(done)))
      ).pipe(Effect.map((server) => (server.address() as { port: number }).port))
      const { fetch } = yield* start({ host: "127.0.0.1", port }, "web")

      const error = yield* Effect.flip(fetch)

      assert.equal(error.reason, "BadResponse")
      assert.match(error.detail, /^what answers does not speak HTTP \(HPE_\w+\): see consul_port and scheme$/)
    })
  )

  it.effect("asks again on a new connection when a kept one has died", () =>
    Effect.gen(function* () {
      const { fetch, proxy } = yield* behindProxy()
      yield* proxy.set({ kind: "resetKept" })
      yield* fetch
      // A connection is given back a moment after its answer.
      yield* Effect.sleep("50 millis")

      assert.deepEqual(yield* fetch, ["10.0.0.1:80"])

      assert.lengthOf(proxy.requests(), 3)
    })
  )

  it.effect("fails a wait that an error ends, and then begins with a query that does not wait", () =>
    Effect.gen(function* () {
      const { awaitChange, fetch, proxy } = yield* behindProxy()
      yield* fetch
      yield* proxy.set({ kind: "answer", status: 500, body: "No cluster leader" })
      const error = yield* Effect.flip(awaitChange)
      yield* proxy.set({ kind: "none" })
      const before = proxy.requests().length

      const waiting = yield* Effect.forkChild(awaitChange, { startImmediately: true })
      yield* Effect.sleep("300 millis")

      const [first, second, ...more] = proxy.requests().slice(before)
      assert.equal(error.reason, "Unavailable")
      assert.isUndefined(waiting.pollUnsafe())
      assert.deepEqual([waits([first!]).length, waits([second!]).length, more.length], [0, 1, 0])
    })
  )

  it.effect("fails a wait before the first success while Consul is in trouble, and returns once it is not", () =>
    Effect.gen(function* () {
      const { awaitChange, fetch, proxy } = yield* behindProxy()
      yield* proxy.set({ kind: "answer", status: 500, body: "No cluster leader" })
      yield* Effect.flip(fetch)

      const error = yield* Effect.flip(awaitChange)
      yield* proxy.set({ kind: "none" })
      yield* awaitChange.pipe(Effect.timeout("2 seconds"))

      assert.equal(error.reason, "Unavailable")
      assert.deepEqual(waits(proxy.requests()), [])
    })
  )

  it.effect("asks once without waiting when the index goes backwards", () =>
    Effect.gen(function* () {
      const { awaitChange, consul, fetch, proxy } = yield* behindProxy("web", { tags: ["blue"] })
      yield* fetch
      const before = proxy.requests().length
      yield* proxy.set({ kind: "headers", headers: { "x-consul-index": "3" } })
      const waiting = yield* Effect.forkChild(awaitChange, { startImmediately: true })
      yield* Effect.sleep("100 millis")

      // Wakes the query without changing what it sees.
      yield* consul.register({ id: "green", name: "web", address: "10.0.0.2", port: 80, tags: ["green"] })
      yield* Effect.sleep("50 millis")
      yield* proxy.set({ kind: "none" })
      yield* Effect.sleep("400 millis")
      yield* consul.deregister("green")

      const asked = proxy.requests().slice(before)
      assert.isUndefined(waiting.pollUnsafe())
      assert.equal(waits([asked[0]!]).length, 1)
      assert.equal(waits([asked[1]!]).length, 0)
      assert.isAbove(waits(asked.slice(2)).length, 0)
    })
  )

  it.effect.each([{ index: undefined }, { index: "0" }, { index: "-5" }, { index: "soon" }])(
    "sees changes where the index is $index, and asks no more than some times a second",
    ({ index }) =>
      Effect.gen(function* () {
        const service = `index-${index}`
        const { awaitChange, consul, fetch, proxy, until } = yield* behindProxy(service)
        yield* proxy.set({ kind: "headers", headers: { "x-consul-index": index } })
        yield* fetch

        yield* noticed(awaitChange, consul.register({ id: service, name: service, address: "10.0.0.1", port: 80 }))
        yield* until("10.0.0.1:80")
        const before = proxy.requests().length
        const waiting = yield* Effect.forkChild(awaitChange, { startImmediately: true })
        yield* Effect.sleep("1500 millis")

        assert.isUndefined(waiting.pollUnsafe())
        assert.isTrue(waits(proxy.requests()).every((path) => path.includes("index=1&")))
        assert.isAtMost(proxy.requests().length - before, 12)
      })
  )

  it.effect("sees changes where the index is always the same, and asks no more than some times a second", () =>
    Effect.gen(function* () {
      const { awaitChange, consul, fetch, proxy, until } = yield* behindProxy("constant")
      yield* proxy.set({ kind: "headers", headers: { "x-consul-index": "2" } })
      yield* fetch

      yield* noticed(awaitChange, consul.register({ id: "co-1", name: "constant", address: "10.0.0.1", port: 80 }))
      yield* until("10.0.0.1:80")
      const before = proxy.requests().length
      const waiting = yield* Effect.forkChild(awaitChange, { startImmediately: true })
      yield* Effect.sleep("1500 millis")

      assert.isUndefined(waiting.pollUnsafe())
      assert.isAtMost(proxy.requests().length - before, 12)
    })
  )

  it.effect("spaces its queries when they come back at once without a change", () =>
    Effect.gen(function* () {
      const { awaitChange, fetch, proxy } = yield* behindProxy()
      yield* proxy.set({ kind: "answer", status: 200, body: "[]", headers: { "x-consul-index": "7" } })
      yield* fetch

      const waiting = yield* Effect.forkChild(awaitChange, { startImmediately: true })
      yield* Effect.sleep("2 seconds")

      assert.isUndefined(waiting.pollUnsafe())
      assert.isAtLeast(waits(proxy.requests()).length, 3)
      assert.isAtMost(waits(proxy.requests()).length, 12)
    })
  )

  it.effect("leaves one query waiting when it is interrupted and called again, and loses no change", () =>
    Effect.gen(function* () {
      const { awaitChange, consul, fetch, proxy } = yield* behindProxy("again")
      yield* fetch

      for (const _ of Array.from({ length: 10 })) {
        yield* awaitChange.pipe(Effect.timeoutOption("20 millis"))
        yield* fetch
      }
      const before = waits(proxy.requests()).length
      yield* consul.register({ id: "again", name: "again", address: "10.0.0.1", port: 80 })
      yield* awaitChange.pipe(Effect.timeout("2 seconds"))

      assert.equal(before, 1)
      assert.deepEqual(yield* fetch, ["10.0.0.1:80"])
    })
  )

  it.effect("does not give up a query that Consul holds for longer than a plain one may take", () =>
    Effect.gen(function* () {
      const { awaitChange, fetch } = yield* behindProxy("quiet", {}, { timeout: Duration.millis(500) })
      yield* fetch

      const waiting = yield* Effect.forkChild(awaitChange, { startImmediately: true })
      yield* Effect.sleep("1500 millis")

      assert.isUndefined(waiting.pollUnsafe())
      yield* Fiber.interrupt(waiting)
    })
  )

  it.effect("gives up a query that Consul holds for longer than it was asked to", () =>
    Effect.gen(function* () {
      const { awaitChange, fetch, proxy } = yield* behindProxy(
        "quiet",
        {},
        { wait: Duration.millis(160), timeout: Duration.millis(500) }
      )
      yield* fetch
      yield* proxy.set({ kind: "delay", millis: 5000 })

      const error = yield* Effect.flip(awaitChange).pipe(Effect.timeout("3 seconds"))

      assert.equal(error.reason, "Unavailable")
      assert.match(error.detail, /^no whole answer within 0.67 s: /)
    })
  )

  it.effect("closes its connections with its scope, also while a query waits", () =>
    Effect.gen(function* () {
      const proxy = yield* FaultProxy.make(yield* Web)
      const within = yield* Effect.scoped(
        Effect.gen(function* () {
          const { awaitChange, fetch } = yield* start(proxy, "quiet")
          yield* fetch
          yield* awaitChange.pipe(Effect.timeoutOption("100 millis"))
          return yield* proxy.connections
        })
      )
      const after = yield* FaultProxy.untilClosed(proxy)

      assert.isAbove(within, 0)
      assert.equal(after, 0)
    })
  )
})
