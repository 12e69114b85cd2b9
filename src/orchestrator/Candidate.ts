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

/** Text that is equal for two answers that name the same, in whatever order. */
export const fingerprint = ({ candidates, leaving = [], pending = [], refused }: Named): string =>
  JSON.stringify([
    candidates.map(({ address, origin, port }) => JSON.stringify([origin, address, port])).sort(),
    ...[refused, pending, leaving].map((all) =>
      all.map(({ origin, reason }) => JSON.stringify([origin, reason])).sort()
    )
  ])

/**
 * Decides what of an answer may be served, by the table above. Equal answers give
 * equal states, whatever their order.
 *
 * - `FetchError` `Unavailable`: a host name could not be looked up, so whether its
 *   endpoint is wanted is not known.
 */
export const vet = Effect.fnUntraced(function* (
  named: Named,
  options: { readonly backend: string; readonly target: string; readonly hostNames: HostNames }
) {
  const verdicts = yield* Effect.forEach(
    [...named.candidates].sort(byOrigin),
    (candidate) => judge(candidate, options.hostNames),
    { concurrency: "unbounded" }
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
  return {
    backend: options.backend,
    wanted: [...wanted.values()],
    refused: refused.sort(byOrigin),
    pending: (named.pending ?? []).map((one) => ({ ...one, origin: oneLine(one.origin) })).sort(byOrigin),
    leaving: [...leaving.values()]
  } satisfies DesiredState
})

const judge = Effect.fnUntraced(function* ({ address, origin, port }: Candidate, hostNames: HostNames) {
  const name = oneLine(origin)
  const shown = JSON.stringify(oneLine(address))
  const refuse = (reason: string): Result.Result<Wanted, Refused> => Result.fail({ origin: name, reason })
  const serve = (text: string) => Result.map(endpoint(text, port), (one): Wanted => ({ endpoint: one, origin: name }))

  if (!isPort(port)) return refuse(`port ${port} is not a port from 1 to 65535`)
  if (address === "") return refuse("has no address")
  const served = serve(address)
  if (Result.isSuccess(served)) return Result.succeed(served.success)
  if (!isHostName(address)) return refuse(`address ${shown} ${served.failure}`)

  const addresses = yield* hostNames.resolve(address)
  if (Result.isFailure(addresses)) return refuse(`host name ${shown} ${addresses.failure}`)
  const servable = addresses.success.map(serve)
  const first = servable.find(Result.isSuccess) ?? servable[0]!
  return Result.mapError(first, (why): Refused => {
    return { origin: name, reason: `host name ${shown} is ${addresses.success[0]}, which ${why}` }
  })
})

const byOrigin = (a: { readonly origin: string }, b: { readonly origin: string }): number =>
  a.origin < b.origin ? -1 : a.origin > b.origin ? 1 : 0
