/**
 * One AWS account in one region, asked for all backends at once: whoever asks
 * first causes a poll, and all the others have its answer too.
 *
 * A poll is one question for the groups and, where instances are new or may have
 * moved, one for their addresses. It counts as a whole or not at all. The next
 * one is due after the interval, with jitter so that a fleet of ep2 does not ask
 * in step, and sooner while an instance lacks what it needs.
 */
import { Clock, Deferred, Duration, Effect, Random, Result } from "effect"
import * as AsgMembership from "./AsgMembership.ts"
import type { AwsApi } from "./AwsApi.ts"
import type { FetchError } from "./Fetcher.ts"
import * as InstanceAddresses from "./InstanceAddresses.ts"

/** What is asked for one backend. */
export interface Asked {
  readonly groups: ReadonlyArray<string>
  readonly ipType: InstanceAddresses.IpType
}

/** What a poll found. */
export interface Snapshot {
  /** Those that exist, by name. */
  readonly groups: ReadonlyMap<string, AsgMembership.Group>
  /** Members that were named by an earlier poll and are no longer, for as long as they may still be served. */
  readonly departed: ReadonlyArray<Departed>
  readonly addresses: InstanceAddresses.InstanceAddresses
}

/** A member that its group has no more. */
export interface Departed {
  readonly group: string
  readonly member: AsgMembership.Member
  /** When that was first seen, in Unix milliseconds. */
  readonly sinceMillis: number
}

/** One poll that has ended. */
export interface Poll {
  /** Counts up from 1. */
  readonly number: number
  readonly result: Result.Result<Snapshot, FetchError>
}

/** The polls of one account in one region. */
export interface AwsAccount {
  /**
   * A poll with a number above `seen`: one that has ended less than an interval
   * ago, the one that is under way, or a new one. Interrupting it does not end
   * the poll, which others may wait for. Ends in a minute or so whatever happens,
   * since each call does.
   */
  readonly after: (seen: number) => Effect.Effect<Poll>
  /**
   * Waits until a poll is due, or one with a number above `seen` has ended.
   * After a poll that failed none is due by itself: who asks decides when.
   */
  readonly awaitDue: (seen: number) => Effect.Effect<void>
}

/**
 * The next poll is due after a part of the interval between these, drawn anew each
 * time. Less than the whole, so that who asks each interval does not come first.
 */
const partOfInterval = [0.8, 0.95] as const

/** How long a member that is gone is remembered. Its server drains meanwhile. */
const departedMillis = 600_000

/** A host's clock that is off by more is said once. AWS refuses signatures that are off by five minutes. */
const clockTolerance = Duration.minutes(1)

/** Polls nothing yet. A poll that is under way ends with the scope. */
export const make = Effect.fnUntraced(function* (given: {
  readonly api: AwsApi
  readonly asked: ReadonlyArray<Asked>
  readonly interval: Duration.Duration
}) {
  const { api, asked, interval } = given
  const scope = yield* Effect.scope
  const names = [...new Set(asked.flatMap(({ groups }) => groups))]
  const typesOf = new Map(
    names.map((name) => [name, asked.filter(({ groups }) => groups.includes(name)).map(({ ipType }) => ipType)])
  )

  let addresses = InstanceAddresses.empty
  let groupsBefore: ReadonlyMap<string, AsgMembership.Group> = new Map()
  let departed: ReadonlyArray<Departed> = []
  let last: (Poll & { readonly endedAt: number }) | undefined
  let dueAt = 0
  let running: Deferred.Deferred<Poll> | undefined
  let ended = Deferred.makeUnsafe<void>()
  let isClockOff = false

  /** The last poll that was taken in. */
  let before: Taken | undefined

  const isStill = ({ needs, snapshot }: Taken, found: Snapshot["groups"], nowMillis: number) =>
    departed.length === 0 &&
    isSameGroups(snapshot.groups, found) &&
    InstanceAddresses.due(addresses, needs, nowMillis).length === 0

  const ask = Effect.fn("AwsAccount.poll")(function* (startedAt: number) {
    const found = new Map((yield* api.groups(names)).map((group) => [group.name, group]))
    // The very same groups need the same of the same instances, and where none of them is due, that is all.
    const taken = before !== undefined && isStill(before, found, startedAt) ? before : yield* takeIn(found, startedAt)
    before = taken
    const part = yield* Random.nextBetween(...partOfInterval)
    dueAt = Math.min(
      startedAt + Math.ceil(Duration.toMillis(interval) * part),
      InstanceAddresses.nextRetry(addresses, taken.needs) ?? Number.POSITIVE_INFINITY
    )
    yield* sayClock
    return taken.snapshot
  })

  const takeIn = Effect.fnUntraced(function* (found: ReadonlyMap<string, AsgMembership.Group>, startedAt: number) {
    // A group that is missing from an answer is an error to who asks for it; its members are not forgotten for that.
    const groups = new Map([...groupsBefore, ...found])
    const gone = departedFrom(groupsBefore, groups, departed, startedAt)
    const needs = needsOf([...groups.values()], gone, typesOf)
    const due = InstanceAddresses.due(addresses, needs, startedAt)
    const instances = due.length === 0 ? [] : yield* api.instances(due)
    addresses = InstanceAddresses.learn(addresses, needs, { asked: due, instances, nowMillis: startedAt })
    groupsBefore = groups
    departed = gone
    return { snapshot: { groups: found, departed, addresses }, needs }
  })

  const sayClock = Effect.gen(function* () {
    const off = yield* api.clockOffMillis
    const isOff = Math.abs(off) > Duration.toMillis(clockTolerance)
    if (isOff === isClockOff) return
    isClockOff = isOff
    yield* isOff
      ? Effect.logWarning(
          `the clock of this host is ${Math.round(Math.abs(off) / 1000)} s ${off > 0 ? "ahead of" : "behind"} AWS's; requests are signed with AWS's time: set the clock, and see to NTP`
        )
      : Effect.logInfo("the clock of this host agrees with AWS's again")
  })

  const poll = Effect.gen(function* () {
    const startedAt = yield* Clock.currentTimeMillis
    const result = yield* Effect.result(ask(startedAt))
    if (Result.isFailure(result)) dueAt = Number.POSITIVE_INFINITY
    last = { number: (last?.number ?? 0) + 1, result, endedAt: yield* Clock.currentTimeMillis }
    running = undefined
    Deferred.doneUnsafe(ended, Effect.void)
    ended = Deferred.makeUnsafe<void>()
    return last
  })

  const after = Effect.fnUntraced(function* (seen: number) {
    const now = yield* Clock.currentTimeMillis
    if (running === undefined && last !== undefined && last.number > seen) {
      if (now - last.endedAt < Duration.toMillis(interval)) return last
    }
    if (running !== undefined) return yield* Deferred.await(running)
    // Taken before anything else can run, so that there is never a second one.
    const mine = Deferred.makeUnsafe<Poll>()
    running = mine
    yield* Effect.forkIn(Deferred.into(poll, mine), scope)
    return yield* Deferred.await(mine)
  })

  const awaitDue = Effect.fnUntraced(function* (seen: number) {
    while ((last?.number ?? 0) <= seen) {
      const wait = dueAt - (yield* Clock.currentTimeMillis)
      if (wait <= 0) return
      const next = Deferred.await(ended)
      yield* Number.isFinite(wait) ? Effect.timeoutOption(next, Duration.millis(wait)) : next
    }
  })

  return { after, awaitDue } satisfies AwsAccount
})

/** A poll that was taken in, and what its instances are needed for. */
interface Taken {
  readonly snapshot: Snapshot
  readonly needs: ReadonlyMap<string, InstanceAddresses.Need>
}

const isSameGroups = (one: Snapshot["groups"], other: Snapshot["groups"]): boolean =>
  one.size === other.size && [...one].every(([name, group]) => other.get(name) === group)

/** What each instance that is named is needed for. Those that are ignored are not; those that are gone are for the log. */
const needsOf = (
  groups: ReadonlyArray<AsgMembership.Group>,
  departed: ReadonlyArray<Departed>,
  typesOf: ReadonlyMap<string, ReadonlyArray<InstanceAddresses.IpType>>
): ReadonlyMap<string, InstanceAddresses.Need> => {
  const leaving = departed.map(({ group, member }): readonly [string, InstanceAddresses.Need] => [
    member.id,
    { types: new Set(typesOf.get(group)), isServed: false }
  ])
  const named = groups.flatMap(({ members, name }) =>
    members.flatMap((member): ReadonlyArray<readonly [string, InstanceAddresses.Need]> => {
      const membership = AsgMembership.of(member)
      if (membership === "ignored") return []
      return [[member.id, { types: new Set(typesOf.get(name)), isServed: membership === "served" }]]
    })
  )
  return new Map([...leaving, ...named])
}

/** The members that no group names any more, those of before included as long as they count. */
const departedFrom = (
  before: ReadonlyMap<string, AsgMembership.Group>,
  now: ReadonlyMap<string, AsgMembership.Group>,
  known: ReadonlyArray<Departed>,
  nowMillis: number
): ReadonlyArray<Departed> => {
  const named = new Set([...now.values()].flatMap(({ members }) => members.map(({ id }) => id)))
  const fresh = [...before.values()].flatMap(({ members, name }) =>
    members
      .filter((member) => AsgMembership.of(member) !== "ignored")
      .map((member): Departed => ({ group: name, member, sinceMillis: nowMillis }))
  )
  return [...known.filter(({ sinceMillis }) => nowMillis - sinceMillis < departedMillis), ...fresh].filter(
    ({ member }) => !named.has(member.id)
  )
}
