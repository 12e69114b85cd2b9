import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Layer, Queue, Ref } from "effect"
import { TestClock } from "effect/testing"
import { ConfigWriter } from "../../src/controller/ConfigWriter.ts"
import * as Controller from "../../src/controller/Controller.ts"
import { type Outcome, type PassError, Reconciler } from "../../src/controller/Reconciler.ts"
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

/** The loop with passes that answer as they are told; what is asked of them is recorded. */
const makeLoop = Effect.fnUntraced(function* (answer: (pass: number) => Answer) {
  const passes = yield* Ref.make<ReadonlyArray<{ readonly fetch: boolean }>>([])
  const changes = yield* Queue.unbounded<void>()
  const pid = yield* Ref.make(1)
  const reconciler = Layer.mock(Reconciler, {
    pass: (backend, how) =>
      Ref.updateAndGet(passes, (before) => [...before, how]).pipe(
        Effect.map(({ length }) => {
          const {
            errors = [],
            hasActed = false,
            hasFetched = how.fetch && errors.length === 0,
            isMoving = false
          } = answer(length)
          return { plan: { ...Plan.none(backend), isMoving }, hasActed, hasFetched, errors }
        })
      )
  })
  const edges = Layer.mergeAll(
    Layer.mock(Fetcher, { awaitChange: () => Queue.take(changes) }),
    Layer.mock(ConfigWriter, { run: () => Effect.never }),
    Layer.mock(Haproxy, {
      sockets: ["/s"],
      identify: (socket) => Effect.map(Ref.get(pid), (now) => ({ socket, pid: now, mark: undefined }))
    })
  )
  yield* Controller.run([{ name: "web", interval: Duration.seconds(5) }]).pipe(
    Effect.provide(Layer.merge(reconciler, edges)),
    Effect.forkChild
  )
  const count = Effect.map(Ref.get(passes), ({ length }) => length)
  return {
    passes: Ref.get(passes),
    count,
    change: Queue.offer(changes, undefined),
    restartAs: (next: number) => Ref.set(pid, next)
  }
})

describe("Controller.run", () => {
  it.effect("makes a pass at once and then one per interval, asking the source each time", () =>
    Effect.gen(function* () {
      const loop = yield* makeLoop(() => ({}))

      yield* TestClock.adjust("14 seconds")

      assert.deepStrictEqual(yield* loop.passes, [{ fetch: true }, { fetch: true }, { fetch: true }])
    })
  )

  it.effect("asks the source again as soon as it says that something changed", () =>
    Effect.gen(function* () {
      const loop = yield* makeLoop(() => ({}))
      yield* TestClock.adjust("1 second")

      yield* loop.change
      yield* TestClock.adjust("1 millis")

      assert.deepStrictEqual(yield* loop.passes, [{ fetch: true }, { fetch: true }])
    })
  )

  it.effect("watches the source also after an answer that was useless, so that its mend is noticed at once", () =>
    Effect.gen(function* () {
      const loop = yield* makeLoop((pass) => (pass === 1 ? { errors: [malformed] } : {}))
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* loop.count, 1)

      yield* loop.change
      yield* TestClock.adjust("1 millis")

      assert.strictEqual(yield* loop.count, 2)
    })
  )

  it.effect("makes a pass within a second of a HAProxy that took another's place, without asking the source", () =>
    Effect.gen(function* () {
      const loop = yield* makeLoop(() => ({}))
      yield* TestClock.adjust("1500 millis")

      yield* loop.restartAs(2)
      yield* TestClock.adjust("1 second")

      assert.deepStrictEqual(yield* loop.passes, [{ fetch: true }, { fetch: false }])
    })
  )

  it.effect("looks four times a second while something is moving, without asking the source", () =>
    Effect.gen(function* () {
      const loop = yield* makeLoop((pass) => ({ isMoving: pass < 5 }))

      yield* TestClock.adjust("3 seconds")

      assert.deepStrictEqual(
        (yield* loop.passes).map(({ fetch }) => fetch),
        [true, false, false, false, false]
      )
    })
  )

  it.effect("looks at once at what a pass did, but not for ever", () =>
    Effect.gen(function* () {
      const loop = yield* makeLoop(() => ({ hasActed: true, isMoving: true }))

      yield* TestClock.adjust("200 millis")

      assert.strictEqual(yield* loop.count, 9)
    })
  )

  it.effect.each([
    { what: "a source that does not answer", errors: [unavailable] },
    { what: "a socket that broke", errors: [closed] }
  ])("tries $what again soon, then ever later, up to a minute", ({ errors }) =>
    Effect.gen(function* () {
      const loop = yield* makeLoop(() => ({ errors }))
      yield* TestClock.adjust("3 seconds")
      const early = yield* loop.count
      assert.isTrue(early >= 3 && early <= 6, `${early} passes in the first 3 s`)

      yield* TestClock.adjust("10 minutes")
      const before = yield* loop.count
      yield* TestClock.adjust("10 minutes")
      const later = (yield* loop.count) - before

      assert.isTrue(later >= 8 && later <= 14, `${later} passes in 10 minutes`)
    })
  )

  it.effect.each([
    { what: "a refused command", errors: [rejected] },
    { what: "an answer that is no answer", errors: [malformed] }
  ])("waits its interval after $what", ({ errors }) =>
    Effect.gen(function* () {
      const loop = yield* makeLoop(() => ({ errors, isMoving: true, hasActed: true }))

      yield* TestClock.adjust("14 seconds")

      assert.strictEqual(yield* loop.count, 3)
    })
  )

  it.effect("is not driven into a busy loop by a source that keeps saying that it changed and then fails", () =>
    Effect.gen(function* () {
      const errors: ReadonlyArray<PassError> = [malformed]
      const loop = yield* makeLoop(() => ({ errors }))
      for (let change = 0; change < 100; change++) yield* loop.change

      yield* TestClock.adjust("1 second")

      assert.isAtMost(yield* loop.count, 11)
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
