/**
 * Consul services as desired state: the instances of a service that pass, and
 * their changes as they happen.
 *
 * A change is waited for with blocking queries. What Consul promises of them is
 * less than it seems, hence the rules here:
 *
 * | Consul | ep2 |
 * | --- | --- |
 * | wakes without a visible change (another tag, an unrelated service) | compares what is named, not the index |
 * | wakes without end, or does not block at all | waits between queries, 20 ms at first and up to 1 s |
 * | an index that goes backwards (restored or restarted) | asks once without waiting, then from the new index |
 * | an index that is 0 or missing | waits from index 1, which blocks where it can and never skips a change |
 * | any error | asks once without waiting the next time |
 *
 * Source: Consul HTTP API, "Blocking Queries"; the wakes as tried on Consul 1.8.
 */
import { Clock, Duration, Effect, Fiber, Layer } from "effect"
import { fingerprint, vet } from "./Candidate.ts"
import * as ConsulHealth from "./ConsulHealth.ts"
import type { ConsulHttp } from "./ConsulHttp.ts"
import { type FetchError, Fetcher } from "./Fetcher.ts"
import * as HostNames from "./HostNames.ts"

/** Bounds, for tests and for unusual networks. */
export interface Options {
  /** For one query that does not wait, and on top of the wait for one that does. 10 s. */
  readonly timeout?: Duration.Duration | undefined
  /** How long Consul may hold a query back when nothing happens; it adds up to a sixteenth. 60 s. */
  readonly wait?: Duration.Duration | undefined
  /** How a host name in place of an address is looked up. The system's resolver. */
  readonly lookup?: HostNames.Lookup | undefined
}

/** A `Fetcher` for these backends. Asking for another one is a defect. */
export const layer = (targets: ReadonlyMap<string, ConsulHealth.ConsulTarget>, options: Options = {}) =>
  Layer.effect(Fetcher, make(targets, options))

/**
 * The service behind `layer`, for where several sources are joined. Nothing is
 * asked before the first call; connections and queries end with the scope.
 *
 * Backends with the same agent and the same TLS files share their connections.
 */
export const make = Effect.fnUntraced(function* (
  targets: ReadonlyMap<string, ConsulHealth.ConsulTarget>,
  options: Options = {}
) {
  const hostNames = yield* HostNames.make({ lookup: options.lookup })
  const agents = new Map<string, ConsulHttp>()
  const watches = new Map<string, Watch>()
  for (const [backend, target] of targets) {
    const { address, caFile, certFile, keyFile, port, scheme } = target
    const key = JSON.stringify([scheme, address, port, caFile, certFile, keyFile])
    const http = agents.get(key) ?? (yield* connect(target))
    agents.set(key, http)
    watches.set(backend, yield* makeWatch({ backend, target, http, hostNames, options }))
  }
  const watchOf = (backend: string) => {
    const watch = watches.get(backend)
    return watch === undefined
      ? Effect.die(new Error(`no Consul service for backend ${backend}`))
      : Effect.succeed(watch)
  }
  return Fetcher.of({
    fetch: (backend) => Effect.flatMap(watchOf(backend), ({ fetch }) => fetch),
    awaitChange: (backend) => Effect.flatMap(watchOf(backend), ({ awaitChange }) => awaitChange)
  })
})

/**
 * How many instances of a service are registered, whatever their checks and tags:
 * what tells a service that is down from one that is spelled wrong, or that the
 * token may not see, which Consul before 1.11 does not say.
 */
export const registered = Effect.fnUntraced(function* (target: ConsulHealth.ConsulTarget, options: Options = {}) {
  const http = yield* connect(target)
  const all = { ...target, onlyPassing: false, tags: [] }
  const { named } = yield* ConsulHealth.ask(http, all, { timeout: options.timeout ?? Duration.seconds(10) })
  return named.candidates.length + named.refused.length
}, Effect.scoped)

/** Node's HTTP is loaded only where it is used. */
const connect = (target: ConsulHealth.ConsulTarget) =>
  Effect.promise(() => import("./ConsulHttp.ts")).pipe(Effect.flatMap((ConsulHttp) => ConsulHttp.make(target)))

interface Watch {
  readonly fetch: ReturnType<Fetcher["Service"]["fetch"]>
  readonly awaitChange: Effect.Effect<void, FetchError>
}

/** A blocking query that is under way, or its answer that nobody has taken yet. */
interface Query {
  readonly from: number
  readonly fiber: Fiber.Fiber<ConsulHealth.Health, FetchError>
}

const makeWatch = Effect.fnUntraced(function* (given: {
  readonly backend: string
  readonly target: ConsulHealth.ConsulTarget
  readonly http: ConsulHttp
  readonly hostNames: HostNames.HostNames
  readonly options: Options
}) {
  const { backend, hostNames, http, options, target } = given
  const timeout = options.timeout ?? Duration.seconds(10)
  const wait = options.wait ?? Duration.seconds(60)
  const patience = Duration.sum(Duration.times(wait, 17 / 16), timeout)
  const scope = yield* Effect.scope
  const name = ConsulHealth.nameOf(target, http.url)

  /** What the last successful fetch saw. */
  let seen: string | undefined
  /** The last answer, change or not. */
  let known: ConsulHealth.Health | undefined
  /** Where the next query waits from; 0 does not wait. */
  let index = 0
  let query: Query | undefined
  /** The answer that was a change, until it is fetched: to ask for it again would cost as much as all that follows. */
  let change: { readonly health: ConsulHealth.Health; readonly atMillis: number } | undefined
  /** The last wait ended with a change. */
  let hasTold = false

  const askConsul = Effect.fnUntraced(function* (how: {
    timeout: Duration.Duration
    block?: ConsulHealth.Block | undefined
  }) {
    const answer = yield* ConsulHealth.ask(http, target, { ...how, known })
    known = answer
    return answer
  })

  const ask = Effect.gen(function* () {
    const last = change
    change = undefined
    const isFresh = last !== undefined && (yield* Clock.currentTimeMillis) - last.atMillis <= freshMillis
    return isFresh ? last.health : yield* askConsul({ timeout })
  })

  const fetch = Effect.gen(function* () {
    const { index: current, named } = yield* ask
    const desired = yield* vet(named, { backend, target: name, hostNames })
    seen = fingerprint(named)
    index = current ?? 1
    // An answer that came before this one would look like a change.
    if (query?.fiber.pollUnsafe() !== undefined) query = undefined
    return desired
  }).pipe(
    Effect.tapError(() =>
      Effect.sync(() => {
        index = 0
      })
    ),
    Effect.withSpan("ConsulFetcher.fetch")
  )

  // The query outlives the call that began it: a caller that looks at something else each few seconds would otherwise
  // leave a waiting query behind in Consul each time, which does not notice that nobody listens any more.
  const start = Effect.fnUntraced(function* (from: number) {
    const block = from === 0 ? undefined : { index: from, wait }
    const fiber = yield* askConsul({ timeout: from === 0 ? timeout : patience, block }).pipe(Effect.forkIn(scope))
    return { from, fiber } satisfies Query
  })

  const awaitChange = Effect.gen(function* () {
    let pause = 0
    // HAProxy is told of the last change meanwhile, and this would hold that up: the next query waits from that index.
    if (hasTold) yield* Effect.sleep(afterChange)
    hasTold = false
    // Before the first success nothing is seen, and any answer is a change; an error is none, or an agent that is in
    // trouble when ep2 starts would be asked without pause.
    while (true) {
      const before = yield* Clock.currentTimeMillis
      const current = query ?? (yield* start(index))
      query = current
      const answer = yield* Fiber.join(current.fiber).pipe(
        Effect.tapError(() =>
          Effect.sync(() => {
            index = 0
            query = undefined
          })
        )
      )
      query = undefined
      index = nextIndex(current.from, answer.index)
      if (fingerprint(answer.named) !== seen) {
        hasTold = true
        // After an index that went back, what was answered may be older than what was asked for.
        change = index === 0 ? undefined : { health: answer, atMillis: yield* Clock.currentTimeMillis }
        return
      }
      const blocked = (yield* Clock.currentTimeMillis) - before
      pause = blocked >= maxPauseMillis ? 0 : Math.min(Math.max(pause * 2, minPauseMillis), maxPauseMillis)
      yield* Effect.sleep(Duration.millis(pause))
    }
  }).pipe(Effect.withSpan("ConsulFetcher.awaitChange"))

  return { fetch, awaitChange } satisfies Watch
})

/** An answer that was a change counts for so long: whoever waited for it fetches at once. */
const freshMillis = 100
/** About as long as a pass. */
const afterChange = Duration.millis(10)
const minPauseMillis = 20
const maxPauseMillis = 1000

const nextIndex = (from: number, answered: number | undefined): number =>
  answered === undefined ? 1 : answered < from ? 0 : answered
