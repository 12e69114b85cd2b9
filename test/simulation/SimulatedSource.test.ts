import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { type Endpoint, endpointKey } from "../../src/domain/State.ts"
import { Fetcher } from "../../src/orchestrator/Fetcher.ts"
import { fleet } from "../../src/simulation/Scenario.ts"
import * as SimulatedSource from "../../src/simulation/SimulatedSource.ts"

const one: Endpoint = { address: "10.0.0.1", port: 80 }
const two: Endpoint = { address: "10.0.0.2", port: 80 }

/** A source that has been asked once and named `one`. */
const asked = Effect.fnUntraced(function* (kind: "watch" | "poll" = "watch") {
  const source = SimulatedSource.make({
    backends: [{ name: "web", kind, target: "the target", intervalMillis: 30_000 }]
  })
  const fetcher = yield* Fetcher.pipe(Effect.provide(source.layer))
  const fetch = Effect.gen(function* () {
    const fiber = yield* Effect.forkChild(fetcher.fetch("web"))
    yield* TestClock.adjust("10 seconds")
    return yield* Fiber.join(fiber)
  })
  source.want("web", [one])
  yield* fetch
  return { source, fetcher, fetch }
})

const isDone = (fiber: Fiber.Fiber<unknown, unknown>) => fiber.pollUnsafe() !== undefined
const keysOf = (state: { readonly wanted: ReadonlyArray<{ readonly endpoint: Endpoint }> }) =>
  state.wanted.map(({ endpoint }) => endpointKey(endpoint))

describe("SimulatedSource", () => {
  it.effect("answers after some milliseconds with what is wanted", () =>
    Effect.gen(function* () {
      const { fetcher, source } = yield* asked()
      const fiber = yield* Effect.forkChild(fetcher.fetch("web"), { startImmediately: true })

      const isAtOnce = isDone(fiber)
      yield* TestClock.adjust("6 millis")

      assert.isFalse(isAtOnce)
      assert.deepEqual(keysOf(yield* Fiber.join(fiber)), ["10.0.0.1:80"])
      assert.equal(source.calls(), 2)
      assert.deepEqual(source.lastAnswer("web")?.endpoints, [one])
    })
  )

  it.effect("gives the answer of when it was asked, however slow it is, and wakes for what came meanwhile", () =>
    Effect.gen(function* () {
      const { fetcher, source } = yield* asked()
      source.slow("web", 5000)
      const slow = yield* Effect.forkChild(fetcher.fetch("web"), { startImmediately: true })
      yield* TestClock.adjust("1 second")
      source.want("web", [two])
      yield* TestClock.adjust("4 seconds")
      source.answer("web")

      const answer = yield* Fiber.join(slow)
      const change = yield* Effect.forkChild(fetcher.awaitChange("web"))
      yield* TestClock.adjust("10 millis")

      assert.deepEqual(keysOf(answer), ["10.0.0.1:80"])
      assert.isTrue(isDone(change))
    })
  )

  it.effect("fails as Unavailable after ten seconds where it is slower than that", () =>
    Effect.gen(function* () {
      const { fetcher, source } = yield* asked()
      source.slow("web", 60_000)
      const fiber = yield* Effect.forkChild(Effect.flip(fetcher.fetch("web")))

      yield* TestClock.adjust("9999 millis")
      const isEarly = isDone(fiber)
      yield* TestClock.adjust("1 millis")

      const error = yield* Fiber.join(fiber)
      assert.isFalse(isEarly)
      assert.equal(error.reason, "Unavailable")
      assert.match(error.message, /^the target: no whole answer within 10 s: /)
    })
  )

  it.effect.each(["Unavailable", "Throttled", "Unauthorized", "TargetMissing", "BadResponse"] as const)(
    "fails as %s each time until it answers again, and never with an empty list",
    (failure) =>
      Effect.gen(function* () {
        const { fetch, source } = yield* asked()
        source.fail("web", failure)

        const errors = [yield* Effect.flip(fetch), yield* Effect.flip(fetch)]
        source.answer("web")
        const answer = yield* fetch

        assert.deepEqual(
          errors.map(({ reason }) => reason),
          [failure, failure]
        )
        assert.deepEqual(keysOf(answer), ["10.0.0.1:80"])
      })
  )

  it.effect("fails just as often as it was told to", () =>
    Effect.gen(function* () {
      const { fetch, source } = yield* asked()
      source.failNext("web", 2, "Throttled")

      const results = yield* Effect.forEach([1, 2, 3], () => Effect.result(fetch))

      assert.deepEqual(
        results.map(({ _tag }) => _tag),
        ["Failure", "Failure", "Success"]
      )
    })
  )

  it.effect("says none where it is told to, which is an answer and a change", () =>
    Effect.gen(function* () {
      const { fetch, fetcher, source } = yield* asked()
      const change = yield* Effect.forkChild(fetcher.awaitChange("web"), { startImmediately: true })

      source.empty("web")
      yield* TestClock.adjust("10 millis")

      assert.isTrue(isDone(change))
      assert.deepEqual(keysOf(yield* fetch), [])
      assert.deepEqual(source.lastAnswer("web")?.endpoints, [])
      assert.deepEqual(source.wanted("web"), [one])
    })
  )

  it.effect("a watch waits as long as nothing changes, at about one call a minute, and wakes at a change", () =>
    Effect.gen(function* () {
      const { fetcher, source } = yield* asked()
      const before = source.calls()
      const change = yield* Effect.forkChild(fetcher.awaitChange("web"))

      yield* TestClock.adjust("1 hour")
      const isEarly = isDone(change)
      const calls = source.calls() - before
      source.want("web", [one, two])
      yield* TestClock.adjust("10 millis")

      assert.isFalse(isEarly)
      assert.isTrue(isDone(change))
      assert.isAtLeast(calls, 56)
      assert.isAtMost(calls, 60)
    })
  )

  it.effect("a watch does not wake for an answer that names the same in another order", () =>
    Effect.gen(function* () {
      const { fetch, fetcher, source } = yield* asked()
      source.want("web", [one, two])
      yield* fetch
      const change = yield* Effect.forkChild(fetcher.awaitChange("web"))

      source.want("web", [two, one])
      yield* TestClock.adjust("10 seconds")

      assert.isFalse(isDone(change))
    })
  )

  it.effect("a watch breaks when the source fails", () =>
    Effect.gen(function* () {
      const { fetcher, source } = yield* asked()
      const change = yield* Effect.forkChild(Effect.flip(fetcher.awaitChange("web")), { startImmediately: true })

      source.fail("web", "Unavailable")
      yield* TestClock.adjust("10 millis")

      assert.equal((yield* Fiber.join(change)).reason, "Unavailable")
    })
  )

  it.effect("a watch that has never seen an answer fails with the source, and returns once it answers", () =>
    Effect.gen(function* () {
      const source = SimulatedSource.make({ backends: [{ name: "web", kind: "watch", intervalMillis: 30_000 }] })
      const { awaitChange } = yield* Fetcher.pipe(Effect.provide(source.layer))
      source.fail("web", "Unavailable")
      const broken = yield* Effect.forkChild(Effect.flip(awaitChange("web")))
      yield* TestClock.adjust("10 millis")

      source.answer("web")
      const change = yield* Effect.forkChild(awaitChange("web"))
      yield* TestClock.adjust("10 millis")

      assert.equal((yield* Fiber.join(broken)).message.split(":")[0], "the simulated source of web")
      assert.isTrue(isDone(change))
    })
  )

  it.effect("a poll is due within the interval, whatever changes", () =>
    Effect.gen(function* () {
      const { fetcher, source } = yield* asked("poll")
      const change = yield* Effect.forkChild(fetcher.awaitChange("web"))
      source.want("web", [two])

      // Ten seconds went by with the first answer.
      yield* TestClock.adjust("13 seconds")
      const isEarly = isDone(change)
      yield* TestClock.adjust("6 seconds")

      assert.isFalse(isEarly)
      assert.isTrue(isDone(change))
      // The group, and its instances, whose addresses are known from then on.
      assert.equal(source.calls(), 2)
    })
  )

  it.effect(
    "asks AWS page by page for the instances that are new, and takes an answer that lacks a page for none",
    () =>
      Effect.gen(function* () {
        const { fetcher, source } = yield* asked("poll")
        const before = source.calls()
        source.want("web", fleet({ index: 0 }, 1, 1500))
        source.slow("web", 100)

        const broken = yield* Effect.forkChild(Effect.flip(fetcher.fetch("web")))
        yield* TestClock.adjust("150 millis")
        source.failNext("web", 1, "Unavailable")
        yield* TestClock.adjust("150 millis")
        const error = yield* Fiber.join(broken)
        const during = source.calls() - before
        const whole = yield* Effect.forkChild(fetcher.fetch("web"))
        yield* TestClock.adjust("300 millis")
        const answer = yield* Fiber.join(whole)
        const again = yield* Effect.forkChild(fetcher.fetch("web"))
        yield* TestClock.adjust("100 millis")
        yield* Fiber.join(again)

        assert.equal(error.reason, "Unavailable")
        assert.equal(keysOf(answer).length, 1500)
        assert.deepEqual([during, source.calls() - before], [3, 7])
      })
  )
})
