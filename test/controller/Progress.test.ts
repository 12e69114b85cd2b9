import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Scope } from "effect"
import { TestClock } from "effect/testing"
import * as Progress from "../../src/controller/Progress.ts"

const { longestRound } = Progress
const rest = Duration.seconds(30)
const patience = Duration.sum(rest, longestRound)

describe("Progress", () => {
  it.effect("takes a loop for alive until it is late by more than its rest and the longest round", () =>
    Effect.gen(function* () {
      const progress = yield* Progress.make
      const beat = yield* progress.register("the passes of web")
      yield* beat(rest)

      yield* TestClock.adjust(patience)
      const inTime = yield* progress.overdue
      yield* TestClock.adjust("1 millis")
      const late = yield* progress.overdue

      assert.deepStrictEqual([inTime, late], [[], ["the passes of web"]])
      assert.isFalse(yield* progress.isAlive)
    })
  )

  it.effect("names just the loops that are late, and takes them back when they come round after all", () =>
    Effect.gen(function* () {
      const progress = yield* Progress.make
      const one = yield* progress.register("one")
      const other = yield* progress.register("other")
      yield* one(rest)
      yield* other(Duration.hours(1))

      yield* TestClock.adjust(Duration.sum(patience, Duration.seconds(1)))
      const late = yield* progress.overdue
      yield* one(rest)

      assert.deepStrictEqual(late, ["one"])
      assert.isTrue(yield* progress.isAlive)
    })
  )

  it.effect(
    "asks nothing of a loop before its first beat, nor of one that waits for something that may never come",
    () =>
      Effect.gen(function* () {
        const progress = yield* Progress.make
        yield* progress.register("the bootstrap")
        const beat = yield* progress.register("the writer")
        yield* beat(rest)
        yield* beat(Duration.infinity)

        yield* TestClock.adjust("365 days")

        assert.isTrue(yield* progress.isAlive)
      })
  )

  it.effect.each(["ends", "is interrupted", "fails"] as const)("forgets a loop that %s", (how) =>
    Effect.gen(function* () {
      const progress = yield* Progress.make
      const end = { ends: Effect.void, "is interrupted": Effect.never, fails: Effect.die("defect") }[how]
      const loop = yield* Effect.gen(function* () {
        const beat = yield* progress.register("a loop")
        yield* beat(Duration.zero)
        yield* end
      }).pipe(Effect.scoped, Effect.forkChild({ startImmediately: true }))

      yield* how === "is interrupted" ? Fiber.interrupt(loop) : Fiber.await(loop)
      yield* TestClock.adjust(patience)

      assert.deepStrictEqual(yield* progress.overdue, [])
    })
  )

  it.effect("keeps two loops of one name apart", () =>
    Effect.gen(function* () {
      const progress = yield* Progress.make
      const scope = yield* Scope.make()
      const ended = yield* progress.register("web").pipe(Scope.provide(scope))
      const hung = yield* progress.register("web")
      yield* ended(Duration.zero)
      yield* hung(Duration.zero)

      yield* Scope.close(scope, Exit.void)
      yield* TestClock.adjust(patience)

      assert.deepStrictEqual(yield* progress.overdue, ["web"])
    })
  )

  it.effect("finds a loop that is late also on a machine whose clock is set back", () =>
    Effect.gen(function* () {
      const progress = yield* Progress.make
      const beat = yield* progress.register("a loop")
      yield* TestClock.setTime(Date.UTC(2038, 0, 19))
      yield* beat(rest)

      yield* TestClock.setTime(0)
      const inTime = yield* progress.overdue
      yield* TestClock.adjust(Duration.sum(patience, Duration.millis(1)))

      assert.deepStrictEqual([inTime, yield* progress.overdue], [[], ["a loop"]])
    })
  )

  it.effect("remembers nothing where nobody asked for it", () =>
    Effect.gen(function* () {
      const beat = yield* Progress.register("a loop")
      yield* beat(Duration.zero)

      yield* TestClock.adjust("1 day")

      assert.isTrue(yield* (yield* Progress.Progress).isAlive)
    })
  )
})
