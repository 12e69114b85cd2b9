/**
 * What ep2 is at, in one line: standing by, waiting for a source, or how much of
 * what is wanted takes traffic. `systemctl status` shows it.
 *
 * A `Reference`: whoever does not ask to see it (tests, the simulation) gets one
 * that remembers nothing.
 */
import { Clock, Context, Effect, Layer, Stream, SubscriptionRef } from "effect"
import { type DesiredState, endpointKey, type ObservedState } from "../domain/State.ts"

/** Takes what others know of ep2, and puts it into one line. */
export interface Status {
  /** These backends are followed from now on; what is known of others is forgotten. */
  readonly follow: (backends: ReadonlyArray<string>) => Effect.Effect<void>
  /** Whether the operator has paused ep2. */
  readonly pause: (isPaused: boolean) => Effect.Effect<void>
  /** Another ep2 has the lock, in these words; `undefined` once it is ours. */
  readonly standBy: (why: string | undefined) => Effect.Effect<void>
  /**
   * The source of a backend failed, in these words, or answered (`undefined`). Until
   * the first pass they are what ep2 waits for; later only since when counts.
   */
  readonly source: (backend: string, trouble: string | undefined) => Effect.Effect<void>
  /** What a pass saw. */
  readonly pass: (desired: DesiredState, observed: ObservedState) => Effect.Effect<void>
  /** The line, now and whenever it changes. Whoever is slow to read it gets the last one. */
  readonly changes: Stream.Stream<string>
}

const inert: Status = {
  follow: () => Effect.void,
  pause: () => Effect.void,
  standBy: () => Effect.void,
  source: () => Effect.void,
  pass: () => Effect.void,
  changes: Stream.empty
}

export const Status = Context.Reference<Status>("ep2/controller/Status", { defaultValue: () => inert })

/** `Status.follow` of whoever looks on. */
export const follow: Status["follow"] = (backends) => Effect.flatMap(Status, (status) => status.follow(backends))
/** `Status.pause` of whoever looks on. */
export const pause: Status["pause"] = (isPaused) => Effect.flatMap(Status, (status) => status.pause(isPaused))
/** `Status.standBy` of whoever looks on. */
export const standBy: Status["standBy"] = (why) => Effect.flatMap(Status, (status) => status.standBy(why))
/** `Status.source` of whoever looks on. */
export const source: Status["source"] = (backend, trouble) =>
  Effect.flatMap(Status, (status) => status.source(backend, trouble))
/** `Status.pass` of whoever looks on. */
export const pass: Status["pass"] = (desired, observed) =>
  Effect.flatMap(Status, (status) => status.pass(desired, observed))

/** What is known of one backend. */
interface Backend {
  /** What a pass saw last; `undefined` before the first one. */
  readonly seen?: { readonly wanted: number; readonly served: number; readonly isObserved: boolean }
  readonly trouble?: { readonly words: string; readonly sinceMillis: number } | undefined
}

interface Known {
  readonly standBy: string | undefined
  readonly isPaused: boolean
  /** In the order of `follow`. */
  readonly backends: ReadonlyMap<string, Backend>
}

/** Begins with no backend, neither standing by nor paused. */
export const make: Effect.Effect<Status> = Effect.gen(function* () {
  const known = yield* SubscriptionRef.make<Known>({ standBy: undefined, isPaused: false, backends: new Map() })

  const change = (backend: string, to: (before: Backend) => Backend) =>
    SubscriptionRef.update(known, (now) => ({
      ...now,
      backends: new Map([...now.backends, [backend, to(now.backends.get(backend) ?? {})]])
    }))

  return {
    follow: (names) =>
      SubscriptionRef.update(known, (now) => ({
        ...now,
        backends: new Map(names.map((name) => [name, now.backends.get(name) ?? {}]))
      })),
    pause: (isPaused) => SubscriptionRef.update(known, (now) => ({ ...now, isPaused })),
    standBy: (why) => SubscriptionRef.update(known, (now) => ({ ...now, standBy: why })),
    source: (backend, words) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) =>
        change(backend, ({ trouble, ...rest }) =>
          words === undefined ? rest : { ...rest, trouble: { words, sinceMillis: trouble?.sinceMillis ?? now } }
        )
      ),
    pass: (desired, observed) =>
      change(desired.backend, (before) => ({
        ...before,
        seen: {
          wanted: desired.wanted.length,
          served: servedOf(desired, observed),
          isObserved: observed.processes.length > 0
        }
      })),
    changes: SubscriptionRef.changes(known).pipe(
      Stream.buffer({ capacity: 1, strategy: "sliding" }),
      Stream.map(lineOf),
      Stream.changes
    )
  }
})

/** One for the life of the process. */
export const layer = Layer.effect(Status, make)

/** How many of the wanted endpoints take traffic in every process that can be observed. */
const servedOf = ({ wanted }: DesiredState, { processes }: ObservedState): number => {
  const [first, ...others] = processes.map(
    ({ servers }) =>
      new Set(
        servers.flatMap(({ admin, endpoint, health, isMarked }) =>
          endpoint === undefined || admin !== "ready" || isMarked || health === "down" ? [] : [endpointKey(endpoint)]
        )
      )
  )
  const keys = new Set(wanted.map(({ endpoint }) => endpointKey(endpoint)))
  return [...keys].filter((key) => first?.has(key) === true && others.every((other) => other.has(key))).length
}

const lineOf = ({ backends, isPaused, standBy }: Known): string =>
  standBy === undefined
    ? [...partsOf(backends), ...(isPaused ? ["paused until `ep2 resume`"] : [])].join("; ")
    : `standing by: ${standBy}`

const partsOf = (backends: Known["backends"]): ReadonlyArray<string> => {
  const all = [...backends]
  const running = all.flatMap(([name, { seen }]) => (seen === undefined ? [] : [{ name, ...seen }]))
  const waiting = all.flatMap(([name, { seen, trouble }]) =>
    seen === undefined && trouble !== undefined ? [`waiting for the source of ${name}: ${trouble.words}`] : []
  )
  if (running.length === 0) return waiting.length === 0 ? ["starting"] : waiting
  const sum = (of: (one: (typeof running)[number]) => number) => running.reduce((total, one) => total + of(one), 0)
  const each = running.map(
    ({ name, served, wanted }) => `${name} ${served === wanted ? served : `${served} of ${wanted}`}`
  )
  const serves = `serves ${sum(({ served }) => served)} of ${sum(({ wanted }) => wanted)} endpoints (${each.join(", ")})`
  const silent = running.flatMap(({ isObserved, name }) => (isObserved ? [] : [name]))
  const gone = silent.length === 0 ? [] : [`HAProxy does not answer (${silent.join(", ")})`]
  const stale = all.flatMap(([name, { seen, trouble }]) =>
    seen === undefined || trouble === undefined
      ? []
      : [`the source of ${name} has not answered since ${new Date(trouble.sinceMillis).toISOString()}`]
  )
  return [serves, ...gone, ...stale, ...waiting]
}
