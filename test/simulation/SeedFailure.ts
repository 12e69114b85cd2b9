/** Plays seeds, and says of one that breaks a rule how to see it again, and what of it is needed for that. */
import { Effect } from "effect"
import type { Timed } from "../../src/simulation/Event.ts"
import * as Timeline from "../../src/simulation/Timeline.ts"
import * as Cases from "./Cases.ts"

/** A seed that broke a rule. */
export interface Failure {
  readonly seed: number
  /** What broke when, the command that plays it again, and the events that are left of it, a line each. */
  readonly text: string
}

/** Plays one seed; `undefined` where every rule held. */
export const tryOne = Effect.fnUntraced(function* (seed: number, play: Cases.Player) {
  const given = Cases.ofSeed(seed)
  const [first] = (yield* play(given)).broken
  if (first === undefined) return undefined
  const { broken, given: smallest } = yield* Cases.shrink(given, first, play)
  const { events } = smallest.scenario
  const lines = [
    `seed ${seed} breaks a rule at ${Timeline.clock(first.atMillis)} (${first.rule}): ${first.detail}`,
    `to see it: npm run simulate:soak -- --seed ${seed}`,
    `HAProxy ${given.version}, ${JSON.stringify(Cases.variantOf(seed))}`,
    `it also breaks at ${Timeline.clock(broken.atMillis)} with ${events.length} of its ${given.scenario.events.length} events:`,
    ...events.map(lineOf)
  ]
  return { seed, text: lines.join("\n") } satisfies Failure
})

const lineOf = ({ atMillis, event }: Timed): string => {
  const { _tag, ...rest } = event
  return `  ${Timeline.clock(atMillis)} ${_tag} ${JSON.stringify(rest)}`
}
