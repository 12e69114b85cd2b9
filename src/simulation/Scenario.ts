/**
 * What a simulation plays: who runs at the start, and what happens when. Those
 * that ep2 brings along are here; `RandomScenario` and `ScenarioFile` make more.
 *
 * Each ends with every fault repaired, and lasts long enough after that for
 * everything wanted to be served.
 */
import { Effect, Random } from "effect"
import { type Endpoint, endpointKey } from "../domain/State.ts"
import { Event, type Timed } from "./Event.ts"

/** What is played. Times are milliseconds from the start. */
export interface Scenario {
  /** As `--scenario` takes it, or the file that it was read from. */
  readonly name: string
  /** One sentence without a full stop. */
  readonly description: string
  /** What it needs of the settings, so that it means anything. */
  readonly needs?: { readonly processes: number } | undefined
  /** How long it is played unless the operator says otherwise. */
  readonly durationMillis: number
  /** What the source names at the start, and what runs, by backend. */
  readonly start: ReadonlyMap<string, ReadonlyArray<Endpoint>>
  /** In the order of their times; those of one time in the order in which they happen. */
  readonly events: ReadonlyArray<Timed>
}

/** A backend, as far as a scenario has to know it. */
export interface BackendOptions {
  readonly name: string
  /** `node_slots`. */
  readonly slots: number
  /** `backend_port`, or what to use where the source says it. */
  readonly port?: number | undefined
}

/** For whom a scenario is made. */
export interface Given {
  readonly backends: ReadonlyArray<BackendOptions>
  /** Endpoints of each backend at the start; each scenario has a number of its own. */
  readonly size?: number | undefined
  /** What chance decides, it decides the same with the same seed. */
  readonly seed: number
}

/** A scenario that can be had for any settings. */
export interface BuiltIn {
  readonly name: string
  readonly description: string
  readonly needs?: { readonly processes: number } | undefined
  readonly make: (given: Given) => Scenario
}

/**
 * The endpoints of a backend with these numbers, from 1: 10.0.0.1 to 10.0.0.250, then
 * 10.0.1.1 and so on; 10.1.… for the second backend. At most 64,000 of each.
 */
export const fleet = (
  { index, port = 8080 }: { readonly index: number; readonly port?: number | undefined },
  first: number,
  last: number
): ReadonlyArray<Endpoint> =>
  Array.from({ length: Math.max(0, last - first + 1) }, (_, offset) => {
    const n = first + offset - 1
    return { address: `10.${index}.${Math.floor(n / 250)}.${(n % 250) + 1}`, port }
  })

/** The longest that a `fleet` can be. */
export const longestFleet = 64_000

/** Numbers from 0 to less than 1, the same for the same seed. */
export const diceOf = (seed: number): (() => number) => {
  const random = Effect.runSync(Effect.service(Random.Random).pipe(Random.withSeed(seed)))
  return () => random.nextDoubleUnsafe()
}

/** In the order of their times, those of one time as they came. */
export const inOrder = (events: ReadonlyArray<Timed>): ReadonlyArray<Timed> =>
  events.toSorted((a, b) => a.atMillis - b.atMillis)

const second = 1000
const minute = 60 * second

/** One backend while its scenario is written. */
interface Stage {
  readonly backend: BackendOptions
  readonly size: number
  /** Its endpoints by number. */
  readonly endpoints: (first: number, last: number) => ReadonlyArray<Endpoint>
  readonly dice: () => number
}

const builtIn = (
  name: string,
  description: string,
  options: {
    readonly size: number
    readonly durationMillis: number
    readonly needs?: BuiltIn["needs"]
    /** What happens to each backend; those after the first a little later. */
    readonly each: (stage: Stage) => ReadonlyArray<Timed>
    /** What happens to HAProxy. */
    readonly haproxy?: ReadonlyArray<Timed>
  }
): BuiltIn => ({
  name,
  description,
  needs: options.needs,
  make: ({ backends, seed, size = options.size }) => {
    const stages = backends.map((backend, index): Stage => {
      const endpoints = (first: number, last: number) => fleet({ index, port: backend.port }, first, last)
      return { backend, size, endpoints, dice: diceOf(seed + index) }
    })
    const events = stages.flatMap((stage, index) =>
      options.each(stage).map(({ atMillis, event }) => ({ atMillis: atMillis + index * 5 * second, event }))
    )
    return {
      name,
      description,
      needs: options.needs,
      durationMillis: options.durationMillis,
      start: new Map(stages.map(({ backend, endpoints }) => [backend.name, endpoints(1, size)])),
      events: inOrder([...events, ...(options.haproxy ?? [])])
    }
  }
})

const at = (atMillis: number, event: Event): Timed => ({ atMillis, event })
const want = (atMillis: number, { backend }: Stage, endpoints: ReadonlyArray<Endpoint>) =>
  at(atMillis, Event.Want({ backend: backend.name, endpoints }))
const diesAt = (atMillis: number, endpoints: ReadonlyArray<Endpoint>) =>
  endpoints.map((endpoint) => at(atMillis, Event.Die({ endpoint })))
const answers = (atMillis: number, { backend }: Stage) => at(atMillis, Event.Answer({ backend: backend.name }))

const scaleOut = builtIn("scale-out", "from 3 endpoints to 300 at once", {
  size: 3,
  durationMillis: 15 * minute,
  each: (stage) => [want(minute, stage, stage.endpoints(1, stage.size * 100))]
})

const scaleIn = builtIn("scale-in", "half of the endpoints go at once, and end ten minutes later", {
  size: 40,
  durationMillis: 30 * minute,
  each: (stage) => {
    const kept = Math.ceil(stage.size / 2)
    return [
      want(minute, stage, stage.endpoints(1, kept)),
      ...diesAt(11 * minute, stage.endpoints(kept + 1, stage.size))
    ]
  }
})

const rollingReplacement = builtIn(
  "rolling-replacement",
  "each endpoint is replaced by a new one that takes 15 s to come up, one a minute",
  {
    size: 12,
    durationMillis: 30 * minute,
    each: (stage) =>
      stage.endpoints(stage.size + 1, 2 * stage.size).flatMap((arriving, done) => {
        const begins = (done + 1) * minute
        const [leaving] = stage.endpoints(done + 1, done + 1)
        const others = [...stage.endpoints(done + 2, stage.size), ...stage.endpoints(stage.size + 1, stage.size + done)]
        return [
          want(begins, stage, [leaving!, ...others, arriving]),
          at(begins, Event.Die({ endpoint: arriving })),
          at(begins + 15 * second, Event.Live({ endpoint: arriving })),
          want(begins + 30 * second, stage, [...others, arriving]),
          at(begins + 10 * minute, Event.Die({ endpoint: leaving! }))
        ]
      })
  }
)

const flapping = builtIn(
  "flapping",
  "for 20 minutes a third of the endpoints come and go in the source, each for some seconds",
  {
    size: 12,
    durationMillis: 35 * minute,
    each: (stage) => {
      const all = stage.endpoints(1, stage.size)
      const restless = all.slice(0, Math.max(1, Math.floor(all.length / 3)))
      const turns = restless.flatMap((endpoint) => {
        const own: Array<{ readonly atMillis: number; readonly endpoint: Endpoint; readonly isThere: boolean }> = []
        let now = minute
        while (now < 21 * minute) {
          now += Math.round(second * (20 + 20 * stage.dice()))
          own.push({ atMillis: now, endpoint, isThere: false })
          now += Math.round(second * (5 + 10 * stage.dice()))
          own.push({ atMillis: now, endpoint, isThere: true })
        }
        return own
      })
      const gone = new Set<string>()
      return turns
        .sort((a, b) => a.atMillis - b.atMillis)
        .map(({ atMillis, endpoint, isThere }) => {
          if (isThere) gone.delete(endpointKey(endpoint))
          else gone.add(endpointKey(endpoint))
          return want(
            atMillis,
            stage,
            all.filter((one) => !gone.has(endpointKey(one)))
          )
        })
    }
  }
)

const sourceOutage = builtIn(
  "source-outage",
  "the source does not answer for an hour; meanwhile a server dies and others replace it",
  {
    size: 12,
    durationMillis: 80 * minute,
    each: (stage) => [
      at(2 * minute, Event.Fail({ backend: stage.backend.name, failure: "Unavailable" })),
      ...diesAt(20 * minute, stage.endpoints(1, 1)),
      want(30 * minute, stage, stage.endpoints(2, stage.size + 2)),
      answers(62 * minute, stage)
    ]
  }
)

const emptyAnswers = builtIn("empty-answers", "the source says for ten minutes, and later for 5 s, that nothing runs", {
  size: 12,
  durationMillis: 30 * minute,
  each: (stage) => [
    at(2 * minute, Event.Empty({ backend: stage.backend.name })),
    answers(12 * minute, stage),
    at(15 * minute, Event.Empty({ backend: stage.backend.name })),
    answers(15 * minute + 5 * second, stage)
  ]
})

const slowSource = builtIn(
  "slow-source",
  "answers take 4 s, then 15 s, which is longer than ep2 waits, while endpoints come and go",
  {
    size: 12,
    durationMillis: 35 * minute,
    each: (stage) => [
      at(minute, Event.Slow({ backend: stage.backend.name, millis: 4 * second })),
      want(3 * minute, stage, stage.endpoints(1, stage.size + 4)),
      want(6 * minute, stage, stage.endpoints(3, stage.size + 4)),
      at(10 * minute, Event.Slow({ backend: stage.backend.name, millis: 15 * second })),
      want(12 * minute, stage, stage.endpoints(3, stage.size + 6)),
      answers(20 * minute, stage)
    ]
  }
)

const haproxyRestarts = builtIn(
  "haproxy-restarts",
  "HAProxy is reloaded by somebody, restarted, and down for a minute while endpoints change",
  {
    size: 12,
    durationMillis: 25 * minute,
    each: (stage) => [
      want(3 * minute, stage, stage.endpoints(1, stage.size + 2)),
      want(10 * minute + 20 * second, stage, stage.endpoints(2, stage.size + 4))
    ],
    haproxy: [
      at(2 * minute, Event.Reload()),
      at(5 * minute, Event.Kill({})),
      at(5 * minute + 3 * second, Event.Start()),
      at(10 * minute, Event.Kill({})),
      at(11 * minute, Event.Start())
    ]
  }
)

const deadProcess = builtIn(
  "dead-process",
  "the last of four processes is down for 13 minutes while endpoints change",
  {
    size: 12,
    durationMillis: 30 * minute,
    needs: { processes: 4 },
    each: (stage) => [
      want(4 * minute, stage, stage.endpoints(3, stage.size + 4)),
      want(8 * minute, stage, stage.endpoints(3, stage.size + 6))
    ],
    haproxy: [at(2 * minute, Event.Kill({ process: 3 })), at(15 * minute, Event.Start())]
  }
)

const poolTooSmall = builtIn(
  "pool-too-small",
  "twice as many endpoints as the pool has slots, then half of them again",
  {
    size: 4,
    durationMillis: 30 * minute,
    each: (stage) => {
      const most = Math.max(2 * stage.backend.slots, stage.size + 1)
      return [
        want(minute, stage, stage.endpoints(1, most)),
        want(15 * minute, stage, stage.endpoints(1, Math.ceil(most / 2)))
      ]
    }
  }
)

/** In the order in which they are listed. */
export const builtIns: ReadonlyArray<BuiltIn> = [
  scaleOut,
  scaleIn,
  rollingReplacement,
  flapping,
  sourceOutage,
  emptyAnswers,
  slowSource,
  haproxyRestarts,
  deadProcess,
  poolTooSmall
]
