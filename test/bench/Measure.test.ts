import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { exponent, inTurn, median, quantile, ratio } from "./Measure.ts"

it("the median of an even number of values is between the two in the middle, in whatever order they come", () => {
  const found = [median([4, 1, 3, 2]), median([5]), quantile([10, 20, 30, 40, 50], 0.9)]

  assert.deepStrictEqual(found, [2.5, 5, 46])
})

it("a ratio compares each round with itself, so that a round that was slow for both changes nothing", () => {
  const found = ratio([2, 200, 2], [1, 100, 1])

  assert.strictEqual(found, 2)
})

it("the exponent of what grows with the square is 2, and of what is the same for every size 0", () => {
  const sizes = [10, 100, 1000]
  const found = [
    exponent(sizes.map((size) => ({ size, cost: 3 * size ** 2 }))),
    exponent(sizes.map((size) => ({ size, cost: 7 })))
  ]

  assert.closeTo(found[0]!, 2, 1e-9)
  assert.closeTo(found[1]!, 0, 1e-9)
})

it.effect("sides run in turn, and the first time of each does not count", () =>
  Effect.gen(function* () {
    const ran: Array<string> = []
    const side = (name: string, took: number) =>
      Effect.as(
        Effect.sync(() => ran.push(name)),
        took
      )

    const times = yield* inTurn([side("a", 1), side("b", 2)], 2)

    assert.strictEqual(ran.join(" "), "a b a b a b")
    assert.deepStrictEqual(times, [
      [1, 1],
      [2, 2]
    ])
  })
)
