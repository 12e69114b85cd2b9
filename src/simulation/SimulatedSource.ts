/**
 * A source on virtual time: what `Fetcher` promises, with answers and failures
 * that a scenario sets.
 *
 * | source | how it says that something changed |
 * | --- | --- |
 * | `watch` (Consul, a file) | at once; a query that waits is asked anew after 60 to 64 s without a change |
 * | `poll` (AWS) | not at all: the next poll is due after 80 to 95 % of the interval |
 *
 * An answer holds what was named when it was asked for, however long it takes. One of
 * AWS is a call for the group and one for each page of instances that are new. Each
 * backend is asked by itself, so backends that share a real AWS account cost more
 * calls here than they do there.
 */
import { Clock, Duration, Effect, Layer, Random } from "effect"
import { type DesiredState, type Endpoint, endpointKey } from "../domain/State.ts"
import { FetchError, Fetcher } from "../orchestrator/Fetcher.ts"
import type * as Edges from "./Edges.ts"
import type { Failure } from "./Event.ts"

/** One backend whose endpoints the source names. */
export interface BackendOptions {
  readonly name: string
  readonly kind: "watch" | "poll"
  /** `sleep_before_next_run`; what a poll waits for. */
  readonly intervalMillis: number
  /** Whose words it fails in: without it those of Consul for a watch, and of AWS for a poll. */
  readonly source?: "Consul" | "Aws" | "File" | undefined
  /** As in a `FetchError`: `Consul service "web" at http://127.0.0.1:8500`. */
  readonly target?: string | undefined
}

/** Nothing is wanted of any backend until `want`. Asking about another backend is a defect. */
export const make = ({ backends }: { readonly backends: ReadonlyArray<BackendOptions> }): Edges.SimulatedSource => {
  const sources = new Map(backends.map((options) => [options.name, makeSource(options)]))
  const of = (backend: string) => {
    const source = sources.get(backend)
    if (source === undefined) throw new Error(`no simulated source for backend ${backend}`)
    return source
  }
  return {
    layer: Layer.succeed(Fetcher, {
      fetch: (backend) => Effect.suspend(() => of(backend).fetch),
      awaitChange: (backend) => Effect.suspend(() => of(backend).awaitChange)
    }),
    want: (backend, endpoints) => of(backend).set({ wanted: endpoints }),
    wanted: (backend) => of(backend).state.wanted,
    fail: (backend, failure) => of(backend).set({ failure }),
    failNext: (backend, count, failure) => of(backend).set({ next: { count, failure } }),
    empty: (backend) => of(backend).set({ isEmpty: true }),
    slow: (backend, millis) => of(backend).set({ slowMillis: millis }),
    answer: (backend) => of(backend).set(asItShouldBe),
    hear: (listener) => {
      for (const [name, source] of sources) source.hear((answer) => listener(name, answer))
    },
    lastAnswer: (backend) => of(backend).lastAnswer(),
    calls: () => [...sources.values()].reduce((sum, source) => sum + source.calls(), 0)
  }
}

/** As the real fetchers have it. */
const timeoutMillis = 10_000
const waitMillis = 60_000
const partOfInterval = [0.8, 0.95] as const

/** Source: EC2 API reference, DescribeInstances, `MaxResults`. */
const instancesPerPage = 1000

/** How long a call takes that nothing slows down. */
const latencyMillis = [1, 6] as const

interface State {
  readonly wanted: ReadonlyArray<Endpoint>
  readonly isEmpty: boolean
  readonly failure: Failure | undefined
  readonly next: { readonly count: number; readonly failure: Failure } | undefined
  readonly slowMillis: number | undefined
}

const nobody: ReadonlyArray<Endpoint> = []

const asItShouldBe = { isEmpty: false, failure: undefined, next: undefined, slowMillis: undefined }

const makeSource = (options: BackendOptions) => {
  let state: State = { wanted: [], ...asItShouldBe }
  let calls = 0
  /** What the last successful fetch saw. */
  let seen: string | undefined
  let last: Edges.Answer | undefined
  const listeners: Array<(answer: Edges.Answer) => void> = []
  /** When the query that waits ends by itself; `undefined` where none waits. */
  let queryEndsAt: number | undefined
  let pollDueAt = 0
  const waiters = new Set<() => void>()
  /** Endpoints whose addresses have been answered. */
  const known = new Set<string>()

  const fingerprint = remembering((endpoints) => endpoints.map(endpointKey).sort().join(" "))
  const desired = remembering((endpoints) => desiredOf(options.name, endpoints))

  const named = () => (state.isEmpty ? nobody : state.wanted)
  const set = (change: Partial<State>) => {
    state = { ...state, ...change }
    for (const wake of waiters) wake()
  }

  /** One call: it takes its time, and fails with what was to fail when it began or fails now. */
  const call = Effect.fnUntraced(function* (limitMillis: number) {
    const answer = named()
    yield* page(limitMillis)
    if (options.kind === "watch") return answer
    // The addresses of instances that are new are asked for, so many at a time; an answer that lacks a page is none.
    const fresh = answer.filter((endpoint) => !known.has(endpointKey(endpoint)))
    for (let at = 0; at < fresh.length; at += instancesPerPage) yield* page(limitMillis)
    for (const endpoint of fresh) known.add(endpointKey(endpoint))
    return answer
  })

  const page = Effect.fnUntraced(function* (limitMillis: number) {
    calls += 1
    const { next } = state
    if (next !== undefined) state = { ...state, next: next.count > 1 ? { ...next, count: next.count - 1 } : undefined }
    const latency = state.slowMillis ?? (yield* Random.nextBetween(...latencyMillis))
    yield* Effect.sleep(Duration.millis(Math.min(latency, limitMillis)))
    const failure = next?.failure ?? state.failure
    if (failure !== undefined) return yield* failWith(options, failure)
    if (latency >= limitMillis) return yield* tooSlow(options, limitMillis)
  })

  const fetch = Effect.gen(function* () {
    pollDueAt = Number.POSITIVE_INFINITY
    const startedAt = yield* Clock.currentTimeMillis
    const endpoints = yield* call(timeoutMillis)
    const part = yield* Random.nextBetween(...partOfInterval)
    seen = fingerprint(endpoints)
    pollDueAt = startedAt + Math.ceil(options.intervalMillis * part)
    const answer = { atMillis: yield* Clock.currentTimeMillis, endpoints }
    last = answer
    for (const listener of listeners) listener(answer)
    return desired(endpoints)
  }).pipe(Effect.withSpan("SimulatedSource.fetch"))

  // Looks once after it is registered, so that nothing is missed in between.
  const touched = Effect.callback<void>((resume) => {
    const look = () => {
      if (state.failure === undefined && fingerprint(named()) === seen) return
      waiters.delete(look)
      resume(Effect.void)
    }
    waiters.add(look)
    look()
    return Effect.sync(() => waiters.delete(look))
  })

  const watch = Effect.gen(function* () {
    while (true) {
      // A query outlives the call that began it, as in `ConsulFetcher`.
      const startedAt = yield* Clock.currentTimeMillis
      const endsAt = queryEndsAt ?? startedAt + Math.ceil(waitMillis * (yield* Random.nextBetween(1, 17 / 16)))
      queryEndsAt = endsAt
      yield* Effect.timeoutOption(touched, Duration.millis(Math.max(0, endsAt - startedAt)))
      queryEndsAt = undefined
      if (fingerprint(yield* call(waitMillis + timeoutMillis)) !== seen) return
    }
  })

  const poll = Effect.gen(function* () {
    const wait = pollDueAt - (yield* Clock.currentTimeMillis)
    if (wait > 0) yield* Number.isFinite(wait) ? Effect.sleep(Duration.millis(wait)) : Effect.never
  })

  return {
    fetch,
    awaitChange: options.kind === "watch" ? watch : poll,
    set,
    get state() {
      return state
    },
    hear: (listener: (answer: Edges.Answer) => void) => void listeners.push(listener),
    lastAnswer: () => last,
    calls: () => calls
  }
}

/** Remembers what it made of the last list: most answers are the one before once more. */
const remembering = <A>(make: (endpoints: ReadonlyArray<Endpoint>) => A) => {
  let last: { readonly of: ReadonlyArray<Endpoint>; readonly made: A } | undefined
  return (endpoints: ReadonlyArray<Endpoint>): A => {
    if (last?.of !== endpoints) last = { of: endpoints, made: make(endpoints) }
    return last.made
  }
}

const desiredOf = (backend: string, endpoints: ReadonlyArray<Endpoint>): DesiredState => ({
  backend,
  wanted: [...new Map(endpoints.map((endpoint) => [endpointKey(endpoint), endpoint])).values()].map((endpoint) => ({
    endpoint,
    origin: `${backend} on ${endpoint.address}`
  })),
  refused: [],
  pending: [],
  leaving: []
})

const speakerOf = ({ kind, source }: BackendOptions) => source ?? (kind === "watch" ? "Consul" : "Aws")
const targetOf = ({ name, target }: BackendOptions) => target ?? `the simulated source of ${name}`

const failWith = (options: BackendOptions, reason: Failure) =>
  new FetchError({ target: targetOf(options), reason, detail: words[speakerOf(options)][reason] })

const tooSlow = (options: BackendOptions, limitMillis: number) =>
  new FetchError({
    target: targetOf(options),
    reason: "Unavailable",
    detail: {
      Aws: "no answer from AWS in time: see routes, firewalls and VPC endpoints",
      File: "cannot be read (ETIMEDOUT)",
      Consul: `no whole answer within ${limitMillis / 1000} s: see whether the agent is overloaded or the network drops packets`
    }[speakerOf(options)]
  })

/** In the words of the real fetchers. */
const words: Record<NonNullable<BackendOptions["source"]>, Record<Failure, string>> = {
  Consul: {
    Unavailable: "connection refused: see whether the agent runs, and consul_ip and consul_port",
    Throttled: 'Consul answered 429 "rate limit exceeded": it is asked too often, ep2 waits longer',
    Unauthorized: `Consul answered 403 "Permission denied": give the token's policy with service:read and node:read`,
    TargetMissing: 'Consul answered 500 "No path to datacenter": see `consul catalog datacenters`',
    BadResponse: "the answer was cut short (ECONNRESET): ep2 asks again"
  },
  Aws: {
    Unavailable: "AWS answers ServiceUnavailable: ep2 asks again",
    Throttled:
      "autoscaling:DescribeAutoScalingGroups is asked too often in this account, by whomever (Throttling): ep2 slows down by itself; if it stays so, raise sleep_before_next_run",
    Unauthorized: "the credentials have expired (ExpiredToken): renew them",
    TargetMissing: "there is no such group: see asg_name, region_name and the account of the credentials",
    BadResponse:
      "what came is not AWS's answer to autoscaling:DescribeAutoScalingGroups: is there a proxy or a captive portal in between?"
  },
  File: {
    Unavailable: "cannot be read (EIO)",
    Throttled: "cannot be read (EMFILE)",
    Unauthorized: "cannot be read (EACCES): give the user of ep2 read permission on it and its folders",
    TargetMissing: "there is no such file: ep2 waits for it",
    BadResponse: "is empty: write [] to say that nobody is to be served"
  }
}
