import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Layer, Logger, Queue, Ref } from "effect"
import { TestClock } from "effect/testing"
import { ConfigWriter } from "../../src/controller/ConfigWriter.ts"
import * as Controller from "../../src/controller/Controller.ts"
import { Overrides } from "../../src/controller/Overrides.ts"
import { type Outcome, Reconciler } from "../../src/controller/Reconciler.ts"
import { SourceReport } from "../../src/controller/SourceReport.ts"
import * as Plan from "../../src/domain/Plan.ts"
import { Haproxy } from "../../src/haproxy/Haproxy.ts"
import { SocketError } from "../../src/haproxy/HaproxySocket.ts"
import { CommandRejected } from "../../src/haproxy/RuntimeApi.ts"
import { FetchError, Fetcher } from "../../src/orchestrator/Fetcher.ts"

const unavailable = new FetchError({ target: "source", reason: "Unavailable", detail: "refused" })
const malformed = new FetchError({ target: "source", reason: "BadResponse", detail: "no JSON" })
const rejected = new CommandRejected({ socket: "/s", command: "set server web/node1 weight 0%", reply: "No." })
const closed = new SocketError({ socket: "/s", reason: "Closed", detail: "closed" })

type Answer = Partial<Omit<Outcome, "plan">> & { readonly isMoving?: boolean }

/** The loop with passes and a source that answer as they are told; what is asked of them is counted. */
const makeLoop = Effect.fnUntraced(function* (
  options: {
    readonly pass?: (pass: number) => Answer
    /** What an ask of the source fails with. */
    readonly source?: (ask: number) => FetchError | undefined
    /** How long each ask takes. */
    readonly askMillis?: number
  } = {}
) {
  const passes = yield* Ref.make(0)
  const asks = yield* Ref.make(0)
  const changes = yield* Queue.unbounded<void>()
  const pid = yield* Ref.make(1)
  const lines: Array<string> = []
  const reconciler = Layer.mock(Reconciler, {
    fetch: () =>
      Effect.gen(function* () {
        yield* Effect.sleep(options.askMillis ?? 0)
        const ask = yield* Ref.updateAndGet(asks, (before) => before + 1)
        const error = options.source?.(ask)
        if (error !== undefined) return yield* error
      }),
    pass: (backend) =>
      Ref.updateAndGet(passes, (before) => before + 1).pipe(
        Effect.map((count) => {
          const { errors = [], hasActed = false, isMoving = false } = options.pass?.(count) ?? {}
          return { plan: { ...Plan.none(backend), isMoving }, hasActed, errors }
        })
      )
  })
  const edges = Layer.mergeAll(
    Layer.mock(Fetcher, { awaitChange: () => Queue.take(changes) }),
    Layer.mock(ConfigWriter, { run: () => Effect.never }),
    Layer.mock(Overrides, { awaitChange: Effect.never }),
    Layer.mock(Haproxy, {
      sockets: ["/s"],
      pidOf: () => Ref.get(pid)
    })
  )
  const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
    if (logLevel !== "Debug") lines.push(`${logLevel} ${message}`)
  })
  yield* Controller.run([{ name: "web", interval: Duration.seconds(5) }]).pipe(
    Effect.provide(Layer.mergeAll(reconciler, edges, SourceReport.layer, Logger.layer([logger]))),
    Effect.forkChild
  )
  return {
    passes: Ref.get(passes),
    asks: Ref.get(asks),
    lines,
    change: Queue.offer(changes, undefined),
    restartAs: (next: number) => Ref.set(pid, next)
  }
})

describe("Controller.run", () => {
  it.effect("asks the source at once and then each interval, with a pass after each answer and no other", () =>
    Effect.gen(function* () {
      const loop = yield* makeLoop()

      yield* TestClock.adjust("14 seconds")

      // The first pass does not wait for the source.
      assert.deepStrictEqual([yield* loop.asks, yield* loop.passes], [3, 4])
    })
  )

  it.effect("asks the source again as soon as it says that something changed", () =>
    Effect.gen(function* () {
      const loop = yield* makeLoop()
      yield* TestClock.adjust("1 second")
      const before = yield* loop.passes

      yield* loop.change
      yield* TestClock.adjust("1 millis")

      assert.deepStrictEqual([yield* loop.asks, (yield* loop.passes) - before], [2, 1])
    })
  )

  it.effect("watches the source also after an answer that was useless, so that its mend is noticed at once", () =>
    Effect.gen(function* () {
      const loop = yield* makeLoop({ source: (ask) => (ask === 1 ? malformed : undefined) })
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* loop.asks, 1)

      yield* loop.change
      yield* TestClock.adjust("1 millis")

      assert.strictEqual(yield* loop.asks, 2)
    })
  )

  it.effect("makes passes beside a source that takes its time", () =>
    Effect.gen(function* () {
      const loop = yield* makeLoop({ askMillis: 3_600_000, pass: (pass) => ({ isMoving: pass < 5 }) })

      yield* TestClock.adjust("30 seconds")

      assert.isAtLeast(yield* loop.passes, 9)
      assert.strictEqual(yield* loop.asks, 0)
    })
  )

  it.effect("makes a pass within a second of a HAProxy that took another's place, without asking the source", () =>
    Effect.gen(function* () {
      const loop = yield* makeLoop()
      yield* TestClock.adjust("1500 millis")
      const before = yield* loop.passes

      yield* loop.restartAs(2)
      yield* TestClock.adjust("1 second")

      assert.deepStrictEqual([yield* loop.asks, (yield* loop.passes) - before], [1, 1])
    })
  )

  it.effect("looks four times a second while something is moving, without asking the source", () =>
    Effect.gen(function* () {
      const loop = yield* makeLoop({ pass: (pass) => ({ isMoving: pass < 6 }) })

      yield* TestClock.adjust("3 seconds")

      assert.deepStrictEqual([yield* loop.asks, yield* loop.passes], [1, 6])
    })
  )

  it.effect("looks at once at what a pass did, but not for ever", () =>
    Effect.gen(function* () {
      const loop = yield* makeLoop({ pass: () => ({ hasActed: true, isMoving: true }) })

      yield* TestClock.adjust("200 millis")

      assert.isAtMost(yield* loop.passes, 10)
      assert.isAtLeast(yield* loop.passes, 9)
    })
  )

  it.effect("asks a source that does not answer again soon, then ever less often, up to a minute", () =>
    Effect.gen(function* () {
      const loop = yield* makeLoop({ source: () => unavailable })
      yield* TestClock.adjust("3 seconds")
      const early = yield* loop.asks
      assert.isTrue(early >= 3 && early <= 6, `${early} asks in the first 3 s`)

      yield* TestClock.adjust("10 minutes")
      const before = yield* loop.asks
      yield* TestClock.adjust("10 minutes")
      const later = (yield* loop.asks) - before

      assert.isTrue(later >= 8 && later <= 14, `${later} asks in 10 minutes`)
      assert.isAtLeast(yield* loop.passes, 200)
    })
  )

  it.effect("tries a socket that broke again soon, then ever later, up to a minute", () =>
    Effect.gen(function* () {
      // Answers wake the passes too, so there are none here.
      const loop = yield* makeLoop({ askMillis: 100_000_000, pass: () => ({ errors: [closed] }) })
      yield* TestClock.adjust("3 seconds")
      const early = yield* loop.passes
      assert.isTrue(early >= 3 && early <= 6, `${early} passes in the first 3 s`)

      yield* TestClock.adjust("10 minutes")
      const before = yield* loop.passes
      yield* TestClock.adjust("10 minutes")
      const later = (yield* loop.passes) - before

      assert.isTrue(later >= 8 && later <= 14, `${later} passes in 10 minutes`)
    })
  )

  it.effect("waits its interval after a refused command, and after an answer that is no answer", () =>
    Effect.gen(function* () {
      const refused = yield* makeLoop({
        askMillis: 100_000_000,
        pass: () => ({ errors: [rejected], isMoving: true, hasActed: true })
      })
      const useless = yield* makeLoop({ source: () => malformed })

      yield* TestClock.adjust("14 seconds")

      assert.deepStrictEqual([yield* refused.passes, yield* useless.asks], [3, 3])
    })
  )

  it.effect("is not driven into a busy loop by a source that keeps saying that it changed and then fails", () =>
    Effect.gen(function* () {
      const loop = yield* makeLoop({ source: () => malformed })
      for (let change = 0; change < 100; change++) yield* loop.change

      yield* TestClock.adjust("1 second")

      assert.isAtMost(yield* loop.asks, 11)
      assert.isAtMost(yield* loop.passes, 12)
    })
  )

  it.effect(
    "says once that the source fails in a way that waiting can help, whatever its words, and when it is over",
    () =>
      Effect.gen(function* () {
        const slow = (ask: number) =>
          new FetchError({ target: "source", reason: "Unavailable", detail: `no answer in ${ask} s` })
        const loop = yield* makeLoop({ source: (ask) => (ask > 1 && ask < 5 ? slow(ask) : undefined) })

        yield* TestClock.adjust("1 minute")

        assert.deepStrictEqual(loop.lines, [
          "Warn source: no answer in 2 s",
          "Info the source answers again after 7 s (3 tries): source"
        ])
      })
  )
})

describe("isTransient", () => {
  it("says where waiting can help", () => {
    assert.deepStrictEqual([unavailable, closed, rejected, malformed].map(Controller.isTransient), [
      true,
      true,
      false,
      false
    ])
  })
})
