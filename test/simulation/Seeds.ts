/** The seeds as tests. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Simulated from "../../src/cli/Simulated.ts"
import * as SeedFailure from "./SeedFailure.ts"

/** How many seeds one file plays. The matrix plays others than `npm test`. */
const half = 500
const firstOfAll = process.env.EP2_TEST_ALL === undefined ? 1 : 1001

const inOneTest = 50

/** Plays the first or the second half of the seeds. */
export const test = (which: "first" | "second") => {
  const from = which === "first" ? firstOfAll : firstOfAll + half
  describe("the stack on simulated edges, whatever comes,", () => {
    it.live.each(Array.from({ length: half / inOneTest }, (_, index) => from + index * inOneTest))(
      "keeps every rule, seeds from %d on",
      (first) =>
        Effect.gen(function* () {
          for (let seed = first; seed < first + inOneTest; seed++) {
            const failure = yield* SeedFailure.tryOne(seed, Simulated.play)
            assert.isUndefined(failure, failure?.text)
          }
        })
    )
  })
}
