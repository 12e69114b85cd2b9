/** How close to the wire a change is carried out: ep2 against the very same commands without it, and against EP2 1.0's way. */
import { Effect } from "effect"
import * as Binaries from "../servers/Binaries.ts"
import * as BareClient from "./BareClient.ts"
import * as Course from "./Course.ts"
import { median, ratio, timed } from "./Measure.ts"
import { atLeast, atMost, count, duration, type Effort, type Section, times } from "./Section.ts"

interface Case extends Course.Options {
  /** Whether EP2 1.0's way is measured too: a round of it takes longer than all else, and minutes for 10,000. */
  readonly isOldWayToo: boolean
}

/** The steps that are shown. The last one only leads back to an empty pool. */
const shown = Course.steps.slice(0, 3)

const casesOf = ({ level }: Effort): ReadonlyArray<Case> => {
  const newest = Binaries.haproxyVersions().at(-1)!
  const one = (kind: Course.Options["kind"], version: Binaries.HaproxyVersion, size: number): Case => ({
    ...{ kind, version, size, processes: version === "2.2" ? 2 : 1 },
    isOldWayToo: kind === "slots" && version !== "2.2" && size <= (level === "quick" ? 100 : 1000)
  })
  if (level === "smoke") return [one("slots", newest, 4), one("dynamic", newest, 4), one("slots", "2.2", 4)]
  if (level === "quick") {
    return [
      ...[100, 1000].map((size) => one("slots", "3.2", size)),
      ...[one("dynamic", "3.2", 100), one("slots", "2.2", 100)]
    ]
  }
  const sizes = [100, 1000, 10_000]
  const versions = ["2.6", "3.0", "3.2"] as const
  return [
    ...versions.flatMap((version) => sizes.map((size) => one("slots", version, size))),
    ...sizes.map((size) => one("slots", "2.2", size)),
    // HAProxy itself takes minutes for the largest of these, one by one: the newest version stands for the others.
    ...versions.flatMap((version) =>
      sizes.filter((size) => size <= 1000 || version === "3.2").map((size) => one("dynamic", version, size))
    )
  ]
}

/** One round of a course: what each step took, each way. */
interface Round {
  readonly ep2: ReadonlyMap<Course.Step, Course.Took>
  readonly floor: ReadonlyMap<Course.Step, number>
  /** All in, with the same commands and with the two per server that EP2 1.0 sent. */
  readonly old: { readonly same: number; readonly own: number } | undefined
}

const ep2Round = Effect.fnUntraced(function* (course: Course.Course) {
  const took = new Map<Course.Step, Course.Took>()
  for (const step of Course.steps) if (course.has(step)) took.set(step, yield* course.ep2(step))
  return took
})

const floorRound = Effect.fnUntraced(function* (course: Course.Course) {
  const took = new Map<Course.Step, number>()
  for (const step of Course.steps) {
    if (course.has(step)) took.set(step, yield* timed(BareClient.pipelined(course.batches(step))))
  }
  return took
})

const oldRound = Effect.fnUntraced(function* (course: Course.Course) {
  const batches = course.batches("all in")
  const own = batches.map(({ commands, socket }) =>
    BareClient.batch(
      socket,
      commands.filter((command) => / addr | state ready$/.test(command))
    )
  )
  const took = { same: yield* timed(BareClient.oneByOne(batches)), own: 0 }
  yield* BareClient.pipelined(course.reset)
  took.own = yield* timed(BareClient.oneByOne(own))
  yield* BareClient.pipelined(course.reset)
  return took
})

const measure = Effect.fnUntraced(function* (given: Case, rounds: number) {
  const course = yield* Course.make(given)
  const all: Array<Round> = []
  for (let round = 0; round <= rounds; round++) {
    const ep2 = yield* ep2Round(course)
    const floor = yield* floorRound(course)
    // The first round only warms up.
    if (round > 0) all.push({ ep2, floor, old: given.isOldWayToo ? yield* oldRound(course) : undefined })
  }
  return all
}, Effect.scoped)

const rowsOf = (given: Case, rounds: ReadonlyArray<Round>): ReadonlyArray<ReadonlyArray<string>> =>
  shown.flatMap((step) => {
    if (rounds[0]?.ep2.has(step) !== true) return []
    const of = (take: (round: Round) => number) => rounds.map(take)
    const floor = of((round) => round.floor.get(step)!)
    const apply = of((round) => round.ep2.get(step)!.apply)
    const passes = of((round) => round.ep2.get(step)!.passes)
    const toFloor = ratio(apply, floor)
    const isOld = step === "all in" && given.isOldWayToo
    const old = (which: "same" | "own", to: ReadonlyArray<number>) =>
      isOld
        ? ratio(
            of((round) => round.old![which]),
            to
          )
        : Number.NaN
    const same = old("same", apply)
    return [
      [
        `${given.version}${given.processes > 1 ? ` × ${given.processes}` : ""}`,
        given.kind,
        count(given.size),
        step,
        duration(median(floor)),
        duration(median(apply)),
        times(toFloor),
        given.size >= 1000 && given.processes === 1 ? atMost(1.5, toFloor) : "",
        times(ratio(passes, floor)),
        isOld ? times(same) : "",
        isOld ? atLeast(20, same) : "",
        isOld ? times(old("same", floor)) : "",
        isOld ? times(old("own", apply)) : ""
      ]
    ]
  })

/** Four processes against one, of the same HAProxy. */
const processes = Effect.fnUntraced(function* ({ level, rounds }: Effort) {
  const size = level === "smoke" ? 4 : level === "quick" ? 100 : 1000
  const options = { version: "2.2", kind: "slots", size } as const
  const [one, four] = [
    yield* Course.make({ ...options, processes: 1 }),
    yield* Course.make({ ...options, processes: 4 })
  ]
  const took: Record<"ep2" | "floor", [Array<number>, Array<number>]> = { ep2: [[], []], floor: [[], []] }
  for (let round = 0; round <= rounds; round++) {
    for (const [index, course] of [one, four].entries()) {
      const ep2 = (yield* ep2Round(course)).get("all in")!.apply
      const floor = (yield* floorRound(course)).get("all in")!
      if (round === 0) continue
      took.ep2[index]!.push(ep2)
      took.floor[index]!.push(floor)
    }
  }
  const [ep2, floor] = [ratio(took.ep2[1], took.ep2[0]), ratio(took.floor[1], took.floor[0])]
  return `Four processes against one (HAProxy 2.2, ${count(size)} endpoints, all in): ${times(ep2)} the time (${atMost(1.3, ep2)}); the bare client, with the same commands: ${times(floor)}.`
}, Effect.scoped)

export const run = Effect.fnUntraced(function* (effort: Effort) {
  const rows: Array<ReadonlyArray<string>> = []
  for (const given of casesOf(effort)) {
    yield* Effect.logInfo(`apply: HAProxy ${given.version}, ${given.kind}, ${count(given.size)}`)
    rows.push(...rowsOf(given, yield* measure(given, effort.rounds)))
  }
  return {
    title: "Apply: how close to the wire",
    how: `What \`Haproxy.apply\` takes for all passes of a change, against a bare client that writes the very same commands, prepared beforehand, through one pipelined connection (the floor). "All in" brings so many endpoints into an empty pool, "all replaced" exchanges each of them, "half out" lets half of them leave. "Passes" is all of it: observing HAProxy after each step, planning and applying, against the same floor. EP2 1.0's way is a connection per command, one after the other, after a \`show stat\` that is read in pieces: with the very same commands, and with the two per server that EP2 1.0 sent (address and ready, nothing that keeps a request from a server that is not ready for it). Against the floor it shows what no client can pass that sends these commands.`,
    columns: [
      ...["HAProxy", "servers", "endpoints", "change", "floor", "apply", "apply/floor", "goal", "passes/floor"],
      ...["1.0's way/apply", "goal", "1.0's way/floor", "1.0's commands/apply"]
    ],
    rows,
    notes: [yield* processes(effort)]
  } satisfies Section
})
