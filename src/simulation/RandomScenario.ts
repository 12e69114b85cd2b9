/**
 * A scenario by chance: every kind of event, with gaps from none to minutes, and
 * in the end every fault repaired, so that what is wanted has to be served.
 */
import { type Endpoint, endpointKey } from "../domain/State.ts"
import { Event, type Failure, type Timed } from "./Event.ts"
import { type BackendOptions, diceOf, fleet, type Given, type Scenario } from "./Scenario.ts"

const second = 1000
const minute = 60 * second

/** The longest backoff and the slowest confirmations fit into it. */
const longPeaceMillis = 20 * minute

/** For whom a scenario is made, and how it ends. */
export interface Options extends Given {
  /** How many processes HAProxy has. */
  readonly processes: number
  /** How long the world is left in peace in the end: long enough for any settings, unless it is said. */
  readonly peaceMillis?: number | undefined
}

/** The scenario of a seed. The same options give the same one. */
export const make = (given: Options): Scenario => {
  const dice = diceOf(given.seed)
  const upTo = (most: number) => Math.floor(dice() * (most + 1))
  const oneOf = <A>(all: ReadonlyArray<A>): A => all[upTo(all.length - 1)]!
  const stages = given.backends.map((backend, index) => makeStage(backend, index, given.size ?? 1 + upTo(11)))
  const start = new Map(stages.map(({ backend, wanted }) => [backend.name, [...wanted.values()]]))

  const events: Array<Timed> = []
  const dead = new Map<string, Endpoint>()
  const held = new Map<string, { readonly backend: string; readonly server: string }>()
  let isDown = false
  let silentUntil = 0
  let now = 5 * second
  const add = (event: Event) => events.push({ atMillis: now, event })

  const change = (stage: Stage) => {
    const all = [...stage.wanted.entries()]
    const kept = all.filter(() => dice() < oneOf([0, 0.4, 0.7, 0.9, 1, 1]))
    const arriving = Array.from({ length: oneOf([0, 0, 1, 1, 2, 5, 20]) }, () =>
      dice() < 0.3 && all.length > 0 ? oneOf(all)[1] : stage.fresh()
    )
    stage.wanted = new Map([
      ...kept,
      ...arriving.map((endpoint): [string, Endpoint] => [endpointKey(endpoint), endpoint])
    ])
    // The empty answer of a source that works is a change that ep2 need not follow; `Empty` is what tries that.
    if (stage.wanted.size === 0) stage.want(stage.fresh())
    const endpoints = [...stage.wanted.values()]
    add(Event.Want({ backend: stage.backend.name, endpoints }))
    for (const endpoint of arriving) {
      if (all.some(([key]) => key === endpointKey(endpoint))) continue
      // It is named before it runs.
      if (dice() < 0.3) die(endpoint)
    }
  }
  const bringUp = () => {
    isDown = false
    add(Event.Start())
  }
  const die = (endpoint: Endpoint) => {
    dead.set(endpointKey(endpoint), endpoint)
    add(Event.Die({ endpoint }))
  }

  const kinds: ReadonlyArray<readonly [weight: number, happen: (stage: Stage) => void]> = [
    [8, change],
    [
      2,
      // Each is replaced by another one, as by a deployment.
      (stage) => {
        stage.wanted = new Map(
          Array.from(stage.wanted, () => stage.fresh()).map((endpoint) => [endpointKey(endpoint), endpoint])
        )
        add(Event.Want({ backend: stage.backend.name, endpoints: [...stage.wanted.values()] }))
      }
    ],
    [2, ({ wanted }) => die(oneOf([...wanted.values()]))],
    [
      3,
      () => {
        const endpoint = oneOf([...dead.values()])
        if (endpoint === undefined) return
        dead.delete(endpointKey(endpoint))
        add(Event.Live({ endpoint }))
      }
    ],
    [2, ({ backend }) => add(Event.Fail({ backend: backend.name, failure: oneOf(failures) }))],
    [2, ({ backend }) => add(Event.Empty({ backend: backend.name }))],
    [2, ({ backend }) => add(Event.Slow({ backend: backend.name, millis: oneOf([100, 2000, 9000, 30_000]) }))],
    [5, ({ backend }) => add(Event.Answer({ backend: backend.name }))],
    [
      2,
      () => {
        isDown = true
        const process = upTo(given.processes)
        add(process === given.processes ? Event.Kill({}) : Event.Kill({ process }))
      }
    ],
    [8, () => (isDown ? bringUp() : undefined)],
    [2, () => (isDown ? undefined : add(Event.Reload()))],
    [
      2,
      () => {
        const millis = oneOf([300, 3000, 20_000])
        silentUntil = Math.max(silentUntil, now + millis)
        add(Event.Silence({ process: upTo(given.processes - 1), millis }))
      }
    ],
    [1, () => add(Event.CutReply({ process: upTo(given.processes - 1), reply: 1 + upTo(9) }))],
    [1, () => add(Event.RefuseConnections({ process: upTo(given.processes - 1), count: 1 + upTo(2) }))],
    [1, () => add(Event.RefuseReloads({ count: 1 + upTo(2) }))],
    [
      2,
      ({ backend, wanted }) => {
        // Who types into a silence waits for its end.
        if (now < silentUntil) return
        const server = `node${1 + upTo(wanted.size)}`
        held.set(`${backend.name}/${server}`, { backend: backend.name, server })
        add(Event.Operator({ backend: backend.name, server, state: oneOf(["drain", "maint"] as const) }))
      }
    ]
  ]
  const bag = kinds.flatMap(([weight, happen]) => Array.from({ length: weight }, () => happen))

  const count = 4 + upTo(20)
  for (let done = 0; done < count; done++) {
    now += Math.round(oneOf([0, 0.2, 1, 1, 5, 5, 20, 90]) * second * dice())
    oneOf(bag)(oneOf(stages))
  }

  now = Math.max(now, silentUntil) + 10 * second
  if (isDown) bringUp()
  add(Event.RefuseReloads({ count: 0 }))
  for (const { backend } of stages) add(Event.Answer({ backend: backend.name }))
  for (const endpoint of dead.values()) add(Event.Live({ endpoint }))
  for (const { backend, server } of held.values()) add(Event.Operator({ backend, server, state: "ready" }))

  return {
    name: "random",
    description: `what chance makes of seed ${given.seed}`,
    durationMillis: now + (given.peaceMillis ?? longPeaceMillis),
    start,
    events
  }
}

const failures: ReadonlyArray<Failure> = ["Unavailable", "Throttled", "Unauthorized", "TargetMissing", "BadResponse"]

interface Stage {
  readonly backend: BackendOptions
  wanted: ReadonlyMap<string, Endpoint>
  readonly want: (endpoint: Endpoint) => void
  /** One that was not there before. */
  readonly fresh: () => Endpoint
}

/** The n-th endpoint of a backend: some of them have IPv6, so that both are in one pool. */
const endpointOf = (backend: BackendOptions, index: number, n: number): Endpoint => {
  const [one] = fleet({ index, port: backend.port }, n, n)
  return n % 4 === 0 ? { ...one!, address: `fd00:${index + 1}::${n.toString(16)}` } : one!
}

const makeStage = (backend: BackendOptions, index: number, size: number): Stage => {
  let last = size
  const keyed = (endpoints: ReadonlyArray<Endpoint>) => new Map(endpoints.map((one) => [endpointKey(one), one]))
  const stage: Stage = {
    backend,
    wanted: keyed(Array.from({ length: size }, (_, before) => endpointOf(backend, index, before + 1))),
    want: (endpoint) => {
      stage.wanted = keyed([...stage.wanted.values(), endpoint])
    },
    fresh: () => {
      last += 1
      return endpointOf(backend, index, last)
    }
  }
  return stage
}
