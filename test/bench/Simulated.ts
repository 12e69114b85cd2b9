/** How fast virtual time goes by. */
import { Effect } from "effect"
import * as Play from "../../src/cli/Simulated.ts"
import * as Scenario from "../../src/simulation/Scenario.ts"
import * as Cases from "../simulation/Cases.ts"
import { inTurn, median, timed } from "./Measure.ts"
import { atMost, count, duration, type Effort, type Section } from "./Section.ts"

const dayMillis = 24 * 60 * 60 * 1000

export const run = Effect.fnUntraced(function* (effort: Effort) {
  const size = effort.level === "smoke" ? 3 : 300
  const playedMillis = { full: dayMillis, quick: dayMillis / 8, smoke: dayMillis / 1440 }[effort.level]
  yield* Effect.logInfo(`simulation: ${count(size)} endpoints`)
  const variant = {
    version: "3.2",
    processes: 1,
    backends: 1,
    balance: "roundrobin",
    source: "consul",
    lines: [`node_slots = ${size}`]
  } as const
  const { quietMillis: _, ...given } = Cases.caseOf(variant, 1, ({ backends }) => ({
    name: "calm",
    description: "nothing happens",
    durationMillis: playedMillis,
    start: new Map(backends.map(({ name, port }, index) => [name, Scenario.fleet({ index, port }, 1, size)])),
    events: []
  }))
  const play = Effect.gen(function* () {
    const { broken, summary } = yield* Play.play({ ...given, untilMillis: playedMillis })
    if (broken.length > 0 || summary.unserved > 0) return yield* Effect.die(new Error("the simulation went wrong"))
  })
  const [took] = yield* inTurn([timed(play)], effort.level === "full" ? 3 : 1)
  const millis = median(took!)
  const dayTakes = (millis * dayMillis) / playedMillis
  return {
    title: "Simulation",
    how: `\`ep2 simulate\`'s engine on ${count(size)} endpoints of Consul, in a pool of as many slots, with nothing happening: every pass, look and request of ${duration(playedMillis)} of virtual time.`,
    columns: ["virtual time", "took", "virtual per real second", "a day takes", "goal"],
    rows: [
      [
        ...[`${count(playedMillis / 3_600_000)} h`, duration(millis), `${count(Math.round(playedMillis / millis))} s`],
        ...[duration(dayTakes), atMost(10, dayTakes / 1000, " s")]
      ]
    ]
  } satisfies Section
})
