/** The stack that `ep2 start` runs, on simulated edges: every rule holds in every scenario, and the same plays the same. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Simulated from "../../src/cli/Simulated.ts"
import * as Scenario from "../../src/simulation/Scenario.ts"
import * as Cases from "./Cases.ts"

const variant: Cases.Variant = {
  version: "3.2",
  processes: 1,
  backends: 1,
  balance: "roundrobin",
  source: "consul",
  lines: ["node_slots = 8", "drain_timeout = 10", "reload_interval = 2"]
}

const fourProcesses: Cases.Variant = {
  ...variant,
  version: "2.2",
  processes: 4,
  lines: ["node_slots = 20", "new_servers = checked", "drain_timeout = 10"]
}

/** As long as the scenario is. */
const whole = (given: ReturnType<typeof Cases.caseOf>) =>
  Simulated.play({ ...given, quietMillis: Number.MAX_SAFE_INTEGER })

describe("the stack on simulated edges", () => {
  for (const { make, name, needs } of Scenario.builtIns) {
    it.live(`keeps every rule in the scenario ${name}`, () =>
      Effect.gen(function* () {
        const outcome = yield* whole(Cases.caseOf(needs === undefined ? variant : fourProcesses, 1, make))

        assert.deepStrictEqual(outcome.broken, [])
        assert.strictEqual(outcome.summary.unserved, 0)
        assert.isAbove(outcome.summary.commands, 0)
      })
    )
  }

  it.live("plays the same for the same seed", () =>
    Effect.gen(function* () {
      const [one, other] = [yield* Simulated.play(Cases.ofSeed(7)), yield* Simulated.play(Cases.ofSeed(7))]

      assert.deepStrictEqual(one, other)
    })
  )
})
