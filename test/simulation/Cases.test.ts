import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Timed } from "../../src/simulation/Event.ts"
import type { Outcome } from "../../src/simulation/Outcome.ts"
import * as Cases from "./Cases.ts"

const nothing: Outcome = {
  entries: [],
  samples: [],
  broken: [],
  summary: {
    playedMillis: 0,
    serveMillis: [],
    unserved: 0,
    requests: { sent: 0, failed: 0 },
    apiCalls: 0,
    commands: 0,
    reloads: 0,
    heldPasses: 0,
    cutDrains: 0,
    brokenRules: 0
  }
}

/** A player for whom a rule breaks with the last of these events, once all of them have happened in time. */
const breaksWith = (needed: ReadonlyArray<Timed>): Cases.Player => {
  const last = needed.at(-1)!
  return ({ scenario, untilMillis }) =>
    Effect.succeed(
      last.atMillis < untilMillis && needed.every((one) => scenario.events.includes(one))
        ? { ...nothing, broken: [{ atMillis: last.atMillis, rule: "gone", detail: "web" }] }
        : nothing
    )
}

describe("Cases.shrink", () => {
  it.effect("leaves the events without which the rule does not break, and no time after that", () =>
    Effect.gen(function* () {
      const given = Cases.ofSeed(1)
      const { events } = given.scenario
      const needed = [events[1]!, events[4]!, events[5]!]
      const play = breaksWith(needed)
      const [first] = (yield* play(given)).broken

      const { broken, given: smallest } = yield* Cases.shrink(given, first!, play)

      assert.isAbove(events.length, 6)
      assert.deepStrictEqual(smallest.scenario.events, needed)
      assert.strictEqual(smallest.untilMillis, events[5]!.atMillis + 1)
      assert.strictEqual(broken.rule, "gone")
    })
  )

  it.effect("does not take another rule that breaks for the same", () =>
    Effect.gen(function* () {
      const given = Cases.ofSeed(1)
      const [event] = given.scenario.events
      const other = { atMillis: 0, rule: "served", detail: "web" } as const
      const play: Cases.Player = (one) =>
        Effect.map(breaksWith([event!])(one), (outcome) => ({ ...outcome, broken: [other, ...outcome.broken] }))

      const { given: smallest } = yield* Cases.shrink(
        given,
        { ...other, rule: "gone", atMillis: event!.atMillis },
        play
      )

      assert.deepStrictEqual(smallest.scenario.events, [event!])
    })
  )
})

describe("Cases.ofSeed", () => {
  it("chooses every HAProxy, source and way to update, and several backends and processes", () => {
    const variants = Array.from({ length: 200 }, (_, seed) => Cases.variantOf(seed + 1))
    const lines = variants.flatMap((one) => one.lines)

    assert.sameMembers([...new Set(variants.map(({ version }) => version))], ["2.2", "2.6", "3.0", "3.2"])
    assert.sameMembers([...new Set(variants.map(({ source }) => source))], ["consul", "aws", "file"])
    assert.sameMembers([...new Set(variants.map(({ processes }) => processes))], [1, 2, 4])
    assert.sameMembers([...new Set(variants.map(({ backends }) => backends))], [1, 2, 3])
    assert.includeMembers(lines, ["update_type = update_by_config", "node_slots = 0", "allow_empty = True"])
  })
})
