/** How the cost of a pass and of a change grows with the number of servers and of backends. */
import { Effect } from "effect"
import * as Plan from "../../src/domain/Plan.ts"
import type { DesiredState, ObservedState, Server } from "../../src/domain/State.ts"
import * as EndState from "../../src/haproxy/EndState.ts"
import * as BareClient from "./BareClient.ts"
import * as Course from "./Course.ts"
import * as Level from "./Level.ts"
import { exponent, median, type Sample, timed, timedCpu } from "./Measure.ts"
import * as PooledHaproxy from "./PooledHaproxy.ts"
import { count, duration, type Effort, type Section, threeFigures } from "./Section.ts"

const sizesOf = ({ level }: Effort): ReadonlyArray<number> =>
  ({ full: [10, 100, 1000, 10_000], quick: [10, 1000], smoke: [2, 4] })[level]

const backendsOf = ({ level }: Effort): ReadonlyArray<number> =>
  ({ full: [1, 10, 100], quick: [1, 10], smoke: [1, 2] })[level]

/** One thing that grows: what it costs at each size. */
interface Growing {
  readonly what: string
  readonly of: "servers" | "backends"
  readonly samples: ReadonlyArray<Sample>
}

const medianOf = Effect.fnUntraced(function* <E, R>(one: Effect.Effect<number, E, R>, rounds: number) {
  yield* one
  const all: Array<number> = []
  for (let round = 0; round < rounds; round++) all.push(yield* one)
  return median(all)
})

/** Passes with nothing to do. */
const idle = Effect.fnUntraced(function* (options: Omit<Level.Options, "version">, effort: Effort) {
  const { firstCpu, passes, untilRowsDiffer } = yield* Level.make({ ...options, version: "3.2" })
  const cpu = yield* medianOf(Effect.andThen(untilRowsDiffer, timedCpu(passes)), effort.level === "full" ? 4 : 1)
  return { cpu, firstCpu }
}, Effect.scoped)

/** All endpoints into an empty pool: ep2's own processor time, and how long HAProxy takes for the bare commands. */
const allIn = Effect.fnUntraced(function* (size: number, effort: Effort) {
  const course = yield* Course.make({ version: "3.2", kind: "slots", processes: 1, size })
  const [cpu, floor]: [Array<number>, Array<number>] = [[], []]
  for (let round = 0; round <= effort.rounds; round++) {
    const took = yield* course.ep2("all in")
    yield* BareClient.pipelined(course.reset)
    const bare = yield* timed(BareClient.pipelined(course.batches("all in")))
    yield* BareClient.pipelined(course.reset)
    if (round > 0) [cpu, floor].forEach((all, index) => all.push(index === 0 ? took.cpu : bare))
  }
  return { cpu: median(cpu), floor: median(floor) }
}, Effect.scoped)

const serverOf = (index: number, isFree: boolean): Server => ({
  name: `node${index + 1}`,
  endpoint: isFree ? EndState.placeholder : PooledHaproxy.endpoints(index + 1, 1)[0],
  admin: isFree ? "maint" : "ready",
  isMarked: false,
  hasCheck: true,
  health: "up",
  sessions: undefined
})

/** A plan that replaces every server, and the end state that goes into the file. */
const planned = (size: number, effort: Effort) => {
  const desired: DesiredState = {
    backend: "web",
    wanted: PooledHaproxy.endpoints(size + 1, size).map((endpoint) => ({ endpoint, origin: "bench" })),
    refused: [],
    pending: [],
    leaving: []
  }
  const servers = Array.from({ length: 2 * size }, (_, index) => serverOf(index, index >= size))
  const observed: ObservedState = {
    backend: "web",
    processes: [{ socket: "/bench.sock", pid: 1, canAdd: true, servers }],
    unobserved: []
  }
  const options = {
    prove: true,
    drainTimeoutMillis: 30_000,
    drainTimeoutAction: "wait",
    proveTimeoutMillis: 30_000,
    growth: { by: "add", keep: size },
    nowMillis: 0
  } as const
  const plan = Effect.sync(() => {
    const made = Plan.make(desired, observed, Plan.emptyMemory, options)
    const end = EndState.make(made, observed, { size, isElastic: true })
    return EndState.forLoad(end, made, observed, { prove: true })
  })
  return Effect.all({
    cpu: medianOf(timedCpu(plan), effort.rounds),
    time: medianOf(timed(plan), effort.rounds)
  })
}

export const run = Effect.fnUntraced(function* (effort: Effort) {
  const sizes = sizesOf(effort)
  const each = <A>(of: (size: number) => Effect.Effect<A>) => Effect.forEach(sizes, of)
  yield* Effect.logInfo("growth: servers")
  const passes = yield* each((servers) => idle({ backends: 1, servers }, effort))
  const changes = yield* each((size) => allIn(size, effort))
  const plans = yield* each((size) => planned(size, effort))
  yield* Effect.logInfo("growth: backends")
  const many = yield* Effect.forEach(backendsOf(effort), (backends) => idle({ backends, servers: 10 }, effort))
  const over = (all: ReadonlyArray<number>, costs: ReadonlyArray<number>) =>
    all.map((size, index): Sample => ({ size, cost: costs[index]! }))
  const all: ReadonlyArray<Growing> = [
    ...[
      { what: "a pass with nothing to do", costs: passes.map(({ cpu }) => cpu) },
      { what: "planning that all are replaced", costs: plans.map(({ cpu }) => cpu) },
      { what: "time for that, without V8's helpers beside it", costs: plans.map(({ time }) => time) },
      { what: "all in, with all of its passes", costs: changes.map(({ cpu }) => cpu) },
      { what: "HAProxy's time for the bare commands of that", costs: changes.map(({ floor }) => floor) }
    ].map(({ costs, what }) => ({ what, of: "servers" as const, samples: over(sizes, costs) })),
    ...[
      { what: "a pass of each with nothing to do", costs: many.map(({ cpu }) => cpu) },
      { what: "the first passes of each, 10 servers all in", costs: many.map(({ firstCpu }) => firstCpu) }
    ].map(({ costs, what }) => ({ what, of: "backends" as const, samples: over(backendsOf(effort), costs) }))
  ]
  return {
    title: "Growth",
    how: "ep2's own processor time on HAProxy 3.2 (where it says so, time), with the exponent that fits: 1 is linear, 2 is four times as much for twice the size. Small sizes pull it down, as each pass has a cost of its own; the last step alone shows what it tends to.",
    columns: ["what", "over", "cost", "exponent", "of the last step"],
    rows: all.map(({ of, samples, what }) => [
      what,
      `${count(samples[0]!.size)} to ${count(samples.at(-1)!.size)} ${of}`,
      samples.map(({ cost }) => duration(cost)).join(", "),
      threeFigures(exponent(samples)),
      threeFigures(exponent(samples.slice(-2)))
    ]),
    notes: [
      "What is above linear is V8's collector: a plan for 10,000 servers outlives several of its rounds, each of which copies what there is so far."
    ]
  } satisfies Section
})
