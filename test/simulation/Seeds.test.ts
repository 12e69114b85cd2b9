/**
 * Whatever comes: settings, HAProxy and scenario by chance, and every rule of ep2
 * held against each change of what HAProxy serves.
 *
 * `npm run simulate:soak -- --seed N` shows one of them, and `-- --minutes N` plays more.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Simulated from "../../src/cli/Simulated.ts"
import * as Seeds from "./Seeds.ts"

const count = process.env.EP2_TEST_ALL === undefined ? 1000 : 4000
const inOneTest = 50

describe("the stack on simulated edges, whatever comes,", () => {
  it.live.each(Array.from({ length: count / inOneTest }, (_, index) => index * inOneTest + 1))(
    "keeps every rule, seeds from %d on",
    (first) =>
      Effect.gen(function* () {
        for (let seed = first; seed < first + inOneTest; seed++) {
          const failure = yield* Seeds.tryOne(seed, Simulated.play)
          assert.isUndefined(failure, failure?.text)
        }
      })
  )
})
