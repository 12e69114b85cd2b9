import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Option } from "effect"
import { TestClock } from "effect/testing"
import { Sources } from "../../src/cli/Sources.ts"
import * as CustomFetcher from "../../src/orchestrator/CustomFetcher.ts"
import { FetchError, Fetcher } from "../../src/orchestrator/Fetcher.ts"
import * as Conf from "../settings/Conf.ts"

const fetchBy = (options: CustomFetcher.Options) =>
  Fetcher.use(({ fetch }) => fetch("web")).pipe(Effect.provide(CustomFetcher.layer(options)))

describe("a source of one's own", () => {
  it.effect("wants what can be served of what it names, and refuses the rest one by one", () =>
    Effect.gen(function* () {
      const answer = yield* fetchBy({
        ask: () =>
          Effect.succeed([
            { origin: "a", address: "10.0.0.1", port: 80 },
            { origin: "b", address: "10.0.0.2", port: 70_000 }
          ])
      })

      assert.deepStrictEqual(answer.wanted, [{ endpoint: { address: "10.0.0.1", port: 80 }, origin: "a" }])
      assert.deepStrictEqual(
        answer.refused.map(({ origin }) => origin),
        ["b"]
      )
    })
  )

  it.effect("is not believed to name nothing where it fails or takes too long", () =>
    Effect.gen(function* () {
      const error = new FetchError({ target: "inventory", reason: "Unauthorized", detail: "no" })
      const silent = yield* Effect.forkChild(Effect.flip(fetchBy({ ask: () => Effect.never })))
      yield* TestClock.adjust("10 seconds")

      const failed = yield* Effect.flip(fetchBy({ ask: () => Effect.fail(error) }))
      const late = yield* Fiber.join(silent)

      assert.strictEqual(failed, error)
      assert.deepStrictEqual([late.reason, late.message], ["Unavailable", "the source of web: no answer within 10 s"])
    })
  )

  it.effect("is asked by the clock alone where it does not say when", () =>
    Effect.gen(function* () {
      const silent = CustomFetcher.layer({ ask: () => Effect.succeed([]) })
      const telling = CustomFetcher.layer({ ask: () => Effect.succeed([]), awaitChange: () => Effect.void })
      const change = Fetcher.use(({ awaitChange }) => awaitChange("web"))

      const waiting = yield* Effect.forkChild(
        Effect.timeoutOption(change, "1 hour").pipe(Effect.provide(silent), Effect.map(Option.isNone))
      )
      yield* TestClock.adjust("1 hour")
      yield* Effect.provide(change, telling)

      assert.isTrue(yield* Fiber.join(waiting))
    })
  )

  it.effect("is asked for orchestrator = custom, and where there is none, that is said", () =>
    Effect.gen(function* () {
      const { backends } = Conf.settings("[haproxy]\norchestrator = custom\nbackend_name = web\n")
      const ask = Effect.gen(function* () {
        const { fetcherOf } = yield* Sources
        return yield* (yield* fetcherOf(backends)).fetch("web")
      }).pipe(Effect.provide(Layer.fresh(Sources.layer)), Effect.scoped)
      const mine = CustomFetcher.layer({ ask: () => Effect.succeed([{ origin: "a", address: "10.0.0.1", port: 80 }]) })

      const answer = yield* Effect.provide(ask, mine)
      const error = yield* Effect.flip(ask)

      assert.deepStrictEqual(
        answer.wanted.map(({ origin }) => origin),
        ["a"]
      )
      assert.strictEqual(error.reason, "TargetMissing")
      assert.match(
        error.message,
        /^the source of web: orchestrator = custom is for a program that brings its own source/
      )
    })
  )
})
