/**
 * From what a source names to what may be served. Sources that report addresses
 * as text hand their candidates in here, so that all refuse the same things in
 * the same words.
 *
 * | candidate | becomes |
 * | --- | --- |
 * | an address and a port that HAProxy can serve | wanted |
 * | a host name that has such an address | wanted, at its first one |
 * | a host name without one | refused |
 * | a host name that cannot be looked up now | the whole answer fails as `Unavailable` |
 * | any other text, a port out of range, an address that cannot be served | refused |
 * | an endpoint that another candidate has too | wanted once, under the first origin by alphabet |
 * | one that leaves, at an address that HAProxy can serve and that none has that stays | leaving |
 * | one that leaves, at any other | left out: there is nothing to take away |
 */
import { Effect, Result } from "effect"
import {
  type DesiredState,
  endpoint,
  endpointKey,
  isPort,
  type Leaving,
  type Pending,
  type Refused,
  type Wanted
} from "../domain/State.ts"
import { FetchError, oneLine } from "./Fetcher.ts"
import { type HostNames, isHostName } from "./HostNames.ts"

/** What a source named, before anything of it is believed. */
export interface Candidate {
  /** The source's own name for it. May hold anything; `vet` makes it fit for logs. */
  readonly origin: string
  /** An address or a host name, as the source spells it. */
  readonly address: string
  readonly port: number
}

/** One answer of a source, in no particular order. */
export interface Named {
  readonly candidates: ReadonlyArray<Candidate>
  /** What the source's own rules refuse. */
  readonly refused: ReadonlyArray<Refused>
  /** What the source will vouch for once it has what it lacks. */
  readonly pending?: ReadonlyArray<Pending>
  /** What the source no longer vouches for, whether it names it still or not; addresses only, no host names. */
  readonly leaving?: ReadonlyArray<Candidate & Pick<Leaving, "reason" | "isMissing">>
}

const fingerprints = new WeakMap<Named, string>()

/** Text that is equal for two answers that name the same, in whatever order. */
export const fingerprint = (named: Named): string => {
  const text = fingerprints.get(named) ?? fingerprintOf(named)
  fingerprints.set(named, text)
  return text
}

const fingerprintOf = ({ candidates, leaving = [], pending = [], refused }: Named): string =>
  JSON.stringify([
    candidates.map(({ address, origin, port }) => JSON.stringify([origin, address, port])).sort(),
    ...[refused, pending, leaving].map((all) =>
      all.map(({ origin, reason }) => JSON.stringify([origin, reason])).sort()
    )
  ])

/** States that no host name had a part in, so that the same answer means the same for ever. */
const vetted = new WeakMap<Named, DesiredState>()

/**
 * Decides what of an answer may be served, by the table above. Equal answers give
 * equal states, whatever their order, and the very same answer the very same state.
 *
 * - `FetchError` `Unavailable`: a host name could not be looked up, so whether its
 *   endpoint is wanted is not known.
 */
export const vet = Effect.fnUntraced(function* (
  named: Named,
  options: { readonly backend: string; readonly target: string; readonly hostNames: HostNames }
) {
  const known = vetted.get(named)
  if (known?.backend === options.backend) return known
  const judged = [...named.candidates].sort(byOrigin).map(judge)
  const isFinal = judged.every(isVerdict)
  // A fiber for each is for those that have something to wait for.
  const verdicts = yield* Effect.forEach(
    judged,
    (one) => (isVerdict(one) ? Effect.succeed(one) : resolve(one, options.hostNames)),
    { concurrency: isFinal ? 1 : "unbounded" }
  ).pipe(
    Effect.mapError(
      ({ detail, name }) =>
        new FetchError({
          target: options.target,
          reason: "Unavailable",
          detail: `the host name ${name} cannot be looked up (${detail}): see to the resolver of this host, or give addresses in place of names`
        })
    )
  )
  const wanted = new Map<string, Wanted>()
  const refused: Array<Refused> = named.refused.map(({ origin, reason }) => ({ origin: oneLine(origin), reason }))
  for (const verdict of verdicts) {
    if (Result.isFailure(verdict)) refused.push(verdict.failure)
    else {
      const key = endpointKey(verdict.success.endpoint)
      if (!wanted.has(key)) wanted.set(key, verdict.success)
    }
  }
  const leaving = new Map<string, Leaving>()
  for (const { address, isMissing, origin, port, reason } of [...(named.leaving ?? [])].sort(byOrigin)) {
    const one = endpoint(address, port)
    if (Result.isFailure(one) || wanted.has(endpointKey(one.success))) continue
    const missing = isMissing === true ? { isMissing } : {}
    leaving.set(endpointKey(one.success), { endpoint: one.success, origin: oneLine(origin), reason, ...missing })
  }
  const state: DesiredState = {
    backend: options.backend,
    wanted: [...wanted.values()],
    refused: refused.sort(byOrigin),
    pending: (named.pending ?? []).map((one) => ({ ...one, origin: oneLine(one.origin) })).sort(byOrigin),
    leaving: [...leaving.values()]
  }
  if (isFinal) vetted.set(named, state)
  return state
})

type Verdict = Result.Result<Wanted, Refused>

const isVerdict = (one: Verdict | Candidate): one is Verdict => Result.isResult(one)

const refuse = (origin: string, reason: string): Verdict => Result.fail({ origin: oneLine(origin), reason })

const serve = ({ origin, port }: Candidate, address: string) =>
  Result.map(endpoint(address, port), (one): Wanted => ({ endpoint: one, origin: oneLine(origin) }))

const shownOf = ({ address }: Candidate): string => JSON.stringify(oneLine(address))

/** What can be said of a candidate at once; one with a host name comes back as it is. */
const judge = (candidate: Candidate): Verdict | Candidate => {
  const { address, origin, port } = candidate
  if (!isPort(port)) return refuse(origin, `port ${port} is not a port from 1 to 65535`)
  if (address === "") return refuse(origin, "has no address")
  const served = serve(candidate, address)
  if (Result.isSuccess(served)) return Result.succeed(served.success)
  return isHostName(address) ? candidate : refuse(origin, `address ${shownOf(candidate)} ${served.failure}`)
}

const resolve = Effect.fnUntraced(function* (candidate: Candidate, hostNames: HostNames) {
  const { address, origin } = candidate
  const shown = shownOf(candidate)
  const addresses = yield* hostNames.resolve(address)
  if (Result.isFailure(addresses)) return refuse(origin, `host name ${shown} ${addresses.failure}`)
  const servable = addresses.success.map((one) => serve(candidate, one))
  const first = servable.find(Result.isSuccess) ?? servable[0]!
  return Result.mapError(first, (why): Refused => {
    return { origin: oneLine(origin), reason: `host name ${shown} is ${addresses.success[0]}, which ${why}` }
  })
})

const byOrigin = (a: { readonly origin: string }, b: { readonly origin: string }): number =>
  a.origin < b.origin ? -1 : a.origin > b.origin ? 1 : 0
