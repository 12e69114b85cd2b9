/**
 * Decides which of the served endpoints may be taken away now.
 *
 *   answer    served   allowEmpty   outcome
 *   --------  -------  -----------  -------------------------------------------
 *   some      any      any          the answer stands
 *   empty     none     any          the answer stands
 *   empty     some     true         the answer stands
 *   empty     some     false        what is served is held, as if still wanted
 *   lacking   some     any          what is served and may be what it lacks is held
 *
 * "Lacking" is an answer that names something whose endpoint it does not know
 * (`pending`, `isUnknown`). What it says to be leaving is not held.
 *
 * An orchestrator that lost its data answers "none" in good faith (a restarted
 * Consul does), so an empty answer never takes the last servers away by itself.
 */
import {
  type DesiredState,
  type Endpoint,
  endpointKey,
  isPlaceholder,
  type ObservedState,
  slotNumber
} from "./State.ts"

export interface Options {
  /** Take an empty answer at its word. */
  readonly allowEmpty: boolean
}

export interface Verdict {
  /** The desired state to plan for: the answer, with what is held added. */
  readonly desired: DesiredState
  /** Endpoints that the answer would take away and that stay. */
  readonly held: ReadonlyArray<Endpoint>
}

/** Judges one answer against what is served. Pure and deterministic. */
export const judge = (answer: DesiredState, served: ReadonlyArray<Endpoint>, options: Options): Verdict => {
  if (answer.pending.some(({ isUnknown }) => isUnknown)) {
    const known = new Set([...answer.wanted, ...answer.leaving].map(({ endpoint }) => endpointKey(endpoint)))
    const doubtful = served.filter((endpoint) => !known.has(endpointKey(endpoint)))
    if (doubtful.length > 0) return hold(answer, doubtful, "held: it may be one whose address is not known yet")
  }
  if (answer.wanted.length > 0 || options.allowEmpty || served.length === 0) return { desired: answer, held: [] }
  return hold(answer, served, "held: the source answers none")
}

const hold = (answer: DesiredState, held: ReadonlyArray<Endpoint>, origin: string): Verdict => ({
  desired: { ...answer, wanted: [...answer.wanted, ...held.map((endpoint) => ({ endpoint, origin }))] },
  held
})

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
