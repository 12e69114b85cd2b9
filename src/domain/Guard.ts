/**
 * Decides which of the served endpoints an answer of the source may take away now.
 *
 * An orchestrator that lost its data, or half of it, answers in good faith (a
 * restarted Consul does), so what an answer leaves out is not gone by that alone.
 *
 *   the answer                                        what it would take away
 *   ------------------------------------------------  -------------------------------------
 *   lacks addresses of what it names                  stays, but for what it names as leaving
 *   is empty, with `allowEmpty` false                 stays until the operator releases it
 *   leaves more than `maxRemovalPercent` out of the   what it names as leaving goes; the rest
 *   most that was served, or leaves fewer than        goes endpoint by endpoint, once
 *   `minServers`                                      `confirmations` answers in a row left it out
 *   any other                                         goes
 *   any, and the operator has released it             goes
 *
 * What is added is never held. "The most that was served" looks back as far as
 * `windowMillis`, so that servers which go one by one are seen as what they are
 * together. What is wanted and may still come up counts as there, since nothing is
 * taken away before it is up (`Retirement`): a replacement is no loss. What did not
 * come up in its time counts no more. "Names as leaving" is a statement of the source
 * (an instance in standby); what it merely no longer names is left out.
 *
 * Pure and deterministic.
 */
import {
  type DesiredState,
  type Endpoint,
  endpointKey,
  isPlaceholder,
  type ObservedState,
  slotNumber,
  type Wanted
} from "./State.ts"

/** How much an answer may take away at once, and what makes it believed. */
export interface Options {
  /** Take an empty answer at its word, once it is confirmed. */
  readonly allowEmpty: boolean
  readonly minServers: number
  /** 0–100. */
  readonly maxRemovalPercent: number
  /** 1 or more. */
  readonly confirmations: number
  readonly windowMillis: number
  /** Answers that come closer together than this count as one. */
  readonly confirmEveryMillis: number
}

/** What has to be known over time. It goes into `judge` and the next one comes out. */
export interface Memory {
  /** How many were served, and when: the largest numbers within the window, the newest last. */
  readonly most: ReadonlyArray<{ readonly atMillis: number; readonly count: number }>
  /** Served endpoints that answers leave out, by key. */
  readonly missing: ReadonlyMap<string, Missing>
  /** What was to be served after the last look, by key; `undefined` before the first one. */
  readonly meant: ReadonlySet<string> | undefined
  /** The number of the last answer that was judged. */
  readonly answer: number
}

interface Missing {
  /** How many answers in a row left it out; `Infinity` where the operator released it. */
  readonly times: number
  /** When that was last counted. */
  readonly atMillis: number
}

/** What is known when ep2 starts: nothing. */
export const emptyMemory: Memory = { most: [], missing: new Map(), meant: undefined, answer: 0 }

/** One answer, and what it is judged by. */
export interface Input {
  readonly answer: DesiredState
  /** Counts up from 1 with each answer: one answer is counted once, however often it is judged. */
  readonly number: number
  /** What HAProxy serves, or what the file on disk has when it is down. */
  readonly served: ReadonlyArray<Endpoint>
  /** Endpoints, by key, whose time to come up is over. */
  readonly overdue: ReadonlySet<string>
  /** The operator lets go of what is held now. */
  readonly isReleased: boolean
  readonly nowMillis: number
}

/** Endpoints that an answer would take away and that stay. */
export interface Hold {
  readonly reason: "unknown" | "empty" | "removal"
  /** Never empty. */
  readonly endpoints: ReadonlyArray<Endpoint>
  /** How many the source wants. */
  readonly wanted: number
  /** How many of those have not come up in their time. */
  readonly overdue: number
  /** The most that was served within the window. */
  readonly most: number
  /** With `removal`: which of the two limits is passed. */
  readonly limit: "minServers" | "maxRemovalPercent"
}

/** What is to be planned for, and what the next answer is judged with. */
export interface Verdict {
  /** The desired state to plan for: the answer, with what is held added. */
  readonly desired: DesiredState
  readonly held: Hold | undefined
  readonly memory: Memory
}

/** Judges one answer against what is served. */
export const judge = (input: Input, before: Memory, options: Options): Verdict => {
  const { answer, served } = input
  const wanted = new Set(answer.wanted.map(keyOf))
  // What is left out is not named, though it is known by what it was called.
  const leaving = new Set(answer.leaving.filter(({ isMissing }) => isMissing !== true).map(keyOf))
  const isUnknown = answer.pending.some((one) => one.isUnknown)
  const going = served.filter((endpoint) => !wanted.has(endpointKey(endpoint)))
  const unnamed = going.filter((endpoint) => !leaving.has(endpointKey(endpoint)))
  const missing = nextMissing({ ...input, going, unnamed, isUnknown }, before, options)
  const samples = nextMost(input, before, options)
  const most = samples[0]?.count ?? 0
  const left = answer.wanted.filter((one) => !input.overdue.has(keyOf(one))).length
  const limit = left < options.minServers ? "minServers" : "maxRemovalPercent"
  const conclude = (kept: ReadonlyArray<Wanted>, held: Hold | undefined): Verdict => {
    const desired = { ...answer, wanted: [...answer.wanted, ...kept] }
    const meant = new Set(desired.wanted.map(keyOf))
    return { desired, held, memory: { most: samples, missing, meant, answer: input.number } }
  }
  const timesOf = (endpoint: Endpoint) => missing.get(endpointKey(endpoint))?.times ?? 0

  const verdict = (reason: Hold["reason"], among: ReadonlyArray<Endpoint>, enough: number): Verdict => {
    const endpoints = among.filter((endpoint) => timesOf(endpoint) < enough)
    if (endpoints.length === 0) return conclude([], undefined)
    const held: Hold = { reason, endpoints, wanted: wanted.size, overdue: wanted.size - left, most, limit }
    return conclude(
      endpoints.map((endpoint) => ({ endpoint, origin: origins[reason] })),
      held
    )
  }

  if (isUnknown && unnamed.length > 0) return verdict("unknown", unnamed, Number.POSITIVE_INFINITY)
  if (wanted.size === 0 && !options.allowEmpty) return verdict("empty", going, Number.POSITIVE_INFINITY)
  const isMuch = (most - left) * 100 > most * options.maxRemovalPercent
  return isMuch || limit === "minServers" ? verdict("removal", unnamed, options.confirmations) : conclude([], undefined)
}

/** What is remembered after nothing has changed since the last judgement, nor before it, and nothing is missing. */
export const unchanged = (before: Memory, { nowMillis, number }: Pick<Input, "nowMillis" | "number">): Memory => {
  const now = before.most.at(-1)
  const most = now === undefined ? before.most : before.most.with(-1, { ...now, atMillis: nowMillis })
  return { ...before, most, answer: number }
}

const origins: Readonly<Record<Hold["reason"], string>> = {
  unknown: "held: it may be one whose address is not known yet",
  empty: "held: the source answers none",
  removal: "held: the source left it out, not confirmed yet"
}

const keyOf = ({ endpoint }: { readonly endpoint: Endpoint }): string => endpointKey(endpoint)

/**
 * What is served and was meant to be counts. What is served while its replacement
 * comes up does not: both together were never wanted. Falls from the first to the
 * last, so that the first is the most, and each is there only as long as none above
 * it came later.
 */
const nextMost = (input: Input, { meant, most }: Memory, { windowMillis }: Options): Memory["most"] => {
  const { nowMillis, overdue, served } = input
  const keys = served.map(endpointKey).filter((key) => !overdue.has(key) && meant?.has(key) !== false)
  const within = most.filter((one) => one.count > keys.length && nowMillis - one.atMillis <= windowMillis)
  return [...within, { atMillis: nowMillis, count: keys.length }]
}

const nextMissing = (
  input: Input & {
    readonly going: ReadonlyArray<Endpoint>
    readonly unnamed: ReadonlyArray<Endpoint>
    /** The answer does not say what it leaves out. */
    readonly isUnknown: boolean
  },
  before: Memory,
  { confirmEveryMillis }: Options
): Memory["missing"] => {
  const { going, isReleased, isUnknown, nowMillis, number, unnamed } = input
  const isNew = number !== before.answer && !isUnknown
  const missing = new Map<string, Missing>()
  const names = new Set(unnamed.map(endpointKey))
  for (const key of going.map(endpointKey)) {
    const known = before.missing.get(key)
    if (isReleased || known?.times === Number.POSITIVE_INFINITY) {
      missing.set(key, { times: Number.POSITIVE_INFINITY, atMillis: nowMillis })
    } else if (!names.has(key)) {
    } else if (isNew && (known === undefined || nowMillis - known.atMillis >= confirmEveryMillis)) {
      missing.set(key, { times: (known?.times ?? 0) + 1, atMillis: nowMillis })
    } else if (known !== undefined) {
      missing.set(key, known)
    }
  }
  return missing
}

/**
 * The endpoints that count as served: those at full weight, the operator's
 * holds included, in any process; where no process was ever seen, none.
 */
export const served = ({ processes, unobserved }: ObservedState): ReadonlyArray<Endpoint> => {
  const views = [...processes, ...unobserved.flatMap(({ lastSeen }) => (lastSeen === undefined ? [] : [lastSeen]))]
  const found = new Map<string, Endpoint>()
  for (const { servers } of views) {
    for (const { endpoint, isMarked, name } of servers) {
      if (endpoint === undefined || isMarked || slotNumber(name) === undefined || isPlaceholder(endpoint)) continue
      found.set(endpointKey(endpoint), endpoint)
    }
  }
  return [...found.values()]
}
