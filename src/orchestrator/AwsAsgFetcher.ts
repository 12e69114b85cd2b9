/**
 * AWS Auto Scaling groups as desired state: the instances that are in service
 * and healthy, at their addresses.
 *
 * All backends of one account and region share their calls (`AwsAccount`).
 */

import { createHash } from "node:crypto"
import { Duration, Effect, Layer, Option, Redacted, Result, type Scope } from "effect"
import { distance } from "fastest-levenshtein"
import type { Leaving, Pending } from "../domain/State.ts"
import * as AsgMembership from "./AsgMembership.ts"
import { type AwsAccess, nameOf } from "./AwsAccess.ts"
import * as AwsAccount from "./AwsAccount.ts"
import type { AwsApi } from "./AwsApi.ts"
import * as AwsError from "./AwsError.ts"
import { type Candidate, type Named, vet } from "./Candidate.ts"
import { FetchError, Fetcher, oneLine } from "./Fetcher.ts"
import * as HostNames from "./HostNames.ts"
import * as InstanceAddresses from "./InstanceAddresses.ts"

/** The groups of one backend: what `[AWS]` says for it. */
export interface AwsTarget extends AwsAccess, AwsAccount.Asked {
  /** The port of every endpoint. */
  readonly port: number
  /** Longest time between two polls; of the backends of one account and region the shortest counts. */
  readonly interval: Duration.Duration
}

/** For tests and for unusual networks. */
export interface Options {
  /** How AWS is asked: by the SDK, which is loaded only then. */
  readonly api?: ((access: AwsAccess) => Effect.Effect<AwsApi, never, Scope.Scope>) | undefined
  /** How a host name in place of an address is looked up. The system's resolver. */
  readonly lookup?: HostNames.Lookup | undefined
}

/** A `Fetcher` for these backends. Asking for another one is a defect. */
export const layer = (targets: ReadonlyMap<string, AwsTarget>, options: Options = {}) =>
  Layer.effect(Fetcher, make(targets, options))

/** The service behind `layer`, for where several sources are joined. Nothing is asked before the first call. */
export const make = Effect.fnUntraced(function* (targets: ReadonlyMap<string, AwsTarget>, options: Options = {}) {
  const hostNames = yield* HostNames.make({ lookup: options.lookup })
  const follows = new Map<string, Follow>()
  for (const [, backends] of Map.groupBy(targets, ([, target]) => accountOf(target))) {
    const [, access] = backends[0]!
    const api = yield* options.api?.(access) ?? load(access)
    const account = yield* AwsAccount.make({
      api,
      asked: backends.map(([, target]) => target),
      interval: Duration.millis(Math.min(...backends.map(([, { interval }]) => Duration.toMillis(interval))))
    })
    for (const [backend, target] of backends) {
      follows.set(backend, makeFollow({ backend, target, api, account, hostNames }))
    }
  }
  const followOf = (backend: string) => {
    const follow = follows.get(backend)
    return follow === undefined
      ? Effect.die(new Error(`no Auto Scaling group for backend ${backend}`))
      : Effect.succeed(follow)
  }
  return Fetcher.of({
    fetch: (backend) => Effect.flatMap(followOf(backend), ({ fetch }) => fetch),
    awaitChange: (backend) => Effect.flatMap(followOf(backend), ({ awaitChange }) => awaitChange)
  })
})

/** Backends with the same of these are asked for together. Of the key there is no more here than tells it from others. */
export const accountOf = ({ accessKey, endpointUrl, externalId, profile, region, roleArn }: AwsAccess): string => {
  const key = accessKey && [accessKey.id, accessKey.secret].map(Redacted.value).join("\n")
  const digest = key && createHash("sha256").update(key).digest("hex")
  return JSON.stringify([digest, endpointUrl, externalId, profile, region, roleArn])
}

/**
 * What keeps ep2 from asking AWS, each call tried by itself: while a group is
 * empty, nobody would find out that EC2 may not be asked. None where all is well.
 */
export const obstacles = Effect.fnUntraced(function* (access: AwsAccess) {
  const api = yield* load(access)
  const calls: ReadonlyArray<Effect.Effect<unknown, FetchError>> = [api.someNames, api.instances([nobody])]
  const tried = yield* Effect.forEach(calls, Effect.result, { concurrency: 2 })
  const errors = tried.flatMap((one) => (Result.isFailure(one) ? [one.failure] : []))
  return [...new Map(errors.map((error) => [error.message, error])).values()]
}, Effect.scoped)

/** An instance that there is not, which an account that may ask answers with none. */
const nobody = "i-00000000000000000"

const load = (access: AwsAccess) =>
  Effect.promise(() => import("./AwsApi.ts")).pipe(Effect.flatMap((AwsApi) => AwsApi.make(access)))

interface Follow {
  readonly fetch: ReturnType<Fetcher["Service"]["fetch"]>
  readonly awaitChange: Effect.Effect<void>
}

const makeFollow = (given: {
  readonly backend: string
  readonly target: AwsTarget
  readonly api: AwsApi
  readonly account: AwsAccount.AwsAccount
  readonly hostNames: HostNames.HostNames
}): Follow => {
  const { account, api, backend, hostNames, target } = given
  const missingFrom = makeMissing(target, api)
  /** The number of the last poll whose answer was taken. */
  let seen = 0
  /** What the last snapshot named. */
  let last: { readonly snapshot: AwsAccount.Snapshot; readonly named: Named } | undefined

  const fetch = Effect.gen(function* () {
    const poll = yield* account.after(seen)
    seen = poll.number
    const snapshot = yield* Effect.fromResult(poll.result)
    const missing = target.groups.filter((name) => !snapshot.groups.has(name))
    if (missing.length > 0) return yield* missingFrom(missing)
    if (last?.snapshot !== snapshot) last = { snapshot, named: namedOf(target, snapshot) }
    return yield* vet(last.named, { backend, target: AwsError.targetOf(target), hostNames })
  }).pipe(Effect.withSpan("AwsAsgFetcher.fetch"))

  return { fetch, awaitChange: Effect.suspend(() => account.awaitDue(seen)) }
}

const namedOf = ({ groups, ipType, port }: AwsTarget, snapshot: AwsAccount.Snapshot): Named => {
  const candidates: Array<Candidate> = []
  const pending: Array<Pending> = []
  const leaving: Array<NonNullable<Named["leaving"]>[number]> = []
  const leave = (origin: string, { id }: AsgMembership.Member, why: Pick<Leaving, "reason" | "isMissing">) => {
    const address = InstanceAddresses.lastAddressOf(snapshot.addresses, id, ipType)
    if (address !== undefined) leaving.push({ origin, address, port, ...why })
  }
  for (const group of groups.flatMap((name) => snapshot.groups.get(name) ?? [])) {
    for (const member of group.members) {
      const origin = AsgMembership.originOf(group, member)
      const membership = AsgMembership.of(member)
      if (membership === "served") {
        Result.match(InstanceAddresses.addressOf(snapshot.addresses, member.id, ipType), {
          onSuccess: (address) => candidates.push({ origin, address, port }),
          onFailure: (lack) => pending.push({ origin, ...lack })
        })
      } else if (membership === "leaving") {
        leave(origin, member, { reason: AsgMembership.reasonOf(member) })
      }
    }
  }
  for (const { group: name, member } of snapshot.departed) {
    const why = { reason: "is no longer in the group", isMissing: true } as const
    if (groups.includes(name)) leave(AsgMembership.originOf({ name }, member), member, why)
  }
  return { candidates, refused: [], pending, leaving }
}

/** The error that names the groups that do not exist. What they may have been meant to be is asked once. */
const makeMissing = (target: AwsTarget, api: AwsApi) => {
  const hints = new Map<string, string>()
  return Effect.fnUntraced(function* (missing: ReadonlyArray<string>) {
    const names = missing.map((name) => JSON.stringify(oneLine(name))).join(", ")
    const asked = hints.has(names)
      ? Option.none()
      : yield* api.someNames.pipe(Effect.timeout(hintTimeout), Effect.option)
    if (Option.isSome(asked)) hints.set(names, hintOf(missing, asked.value))
    const hint = hints.get(names) ?? "which ones there are could not be found out"
    return yield* new FetchError({
      target: `Auto Scaling group ${names} in ${nameOf(target)}`,
      reason: "TargetMissing",
      detail: `there is no such group; ${hint}: see asg_name, region_name and the account of the credentials`
    })
  })
}

const hintTimeout = Duration.seconds(5)

const hintOf = (missing: ReadonlyArray<string>, present: ReadonlyArray<string>): string => {
  if (present.length === 0) return "this region of the account has none at all"
  const shown = (name: string) => JSON.stringify(oneLine(name))
  const close = missing.flatMap((name) => {
    const [best] = present
      .map((one) => ({ one, steps: distance(name.toLowerCase(), one.toLowerCase()) }))
      .sort((a, b) => a.steps - b.steps)
    return best !== undefined && best.steps <= Math.max(2, name.length / 4) ? [shown(best.one)] : []
  })
  if (close.length > 0) return `did you mean ${close.join(", ")}?`
  const some = present.slice(0, 5).map(shown).join(", ")
  return present.length > 5 ? `there are ${some} and others` : `there are ${some}`
}
