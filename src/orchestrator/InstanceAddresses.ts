/**
 * The addresses of instances, remembered by instance id, and which of them have
 * to be asked for now.
 *
 * | instance | is asked for |
 * | --- | --- |
 * | new in a group | at once |
 * | EC2 does not know it, it does not run, or it has no address of the kind that is wanted | after 1 s, 2 s, 4 s … up to a minute |
 * | served at a public or IPv6 address, which can move | each 3 minutes |
 * | served at a private address, which is its own for life | never again |
 * | to be served again after it was leaving, at an address that can move | at once |
 * | leaving | once, for the log |
 * | in no group any more | forgotten |
 *
 * EC2's answers are eventually consistent: an instance that it leaves out of an
 * answer keeps what was known of it, and so does, for one answer, a running one
 * whose address it leaves out.
 *
 * Pure. Source: Amazon EC2 user guide, "Amazon EC2 instance IP addressing", and
 * EC2 API reference, "Eventual consistency".
 */
import { Result } from "effect"
import { oneLine } from "./Fetcher.ts"

/** `ip_type`: which address of an instance is served. */
export type IpType = "public" | "private" | "ipv6"

/** What EC2 says of an instance. */
export interface Instance {
  readonly id: string
  /** `running`, `stopping` … */
  readonly state: string
  readonly private: string | undefined
  readonly public: string | undefined
  readonly ipv6: string | undefined
}

/** What a group wants of an instance. */
export interface Need {
  readonly types: ReadonlySet<IpType>
  readonly isServed: boolean
}

interface Known {
  readonly instance: Instance | undefined
  readonly wasServed: boolean
  /** How often in a row something was lacking. */
  readonly misses: number
  /** Unix milliseconds. */
  readonly askAgainAt: number
}

/** What is known of each instance, by id. */
export type InstanceAddresses = ReadonlyMap<string, Known>

/** Of none. */
export const empty: InstanceAddresses = new Map()

const refreshMillis = 180_000
const firstRetryMillis = 1000
const lastRetryMillis = 60_000

/** The ids to ask for now. */
export const due = (
  known: InstanceAddresses,
  needs: ReadonlyMap<string, Need>,
  nowMillis: number
): ReadonlyArray<string> => {
  const ids: Array<string> = []
  for (const [id, need] of needs) {
    const one = known.get(id)
    if (one === undefined || (need.isServed && isDue(one, need, nowMillis))) ids.push(id)
  }
  return ids
}

/** When the first of those that lack something is to be asked for again, in Unix milliseconds; `undefined`: none lacks anything. */
export const nextRetry = (known: InstanceAddresses, needs: ReadonlyMap<string, Need>): number | undefined => {
  let soonest: number | undefined
  for (const [id, need] of needs) {
    const one = known.get(id)
    if (one === undefined || !need.isServed || (one.misses === 0 && !isLacking(one.instance, need))) continue
    soonest = Math.min(soonest ?? Number.POSITIVE_INFINITY, one.askAgainAt)
  }
  return soonest
}

/** Takes in one whole answer to a question for `asked`, and forgets what no group has any more. */
export const learn = (
  known: InstanceAddresses,
  needs: ReadonlyMap<string, Need>,
  answer: {
    readonly asked: ReadonlyArray<string>
    readonly instances: ReadonlyArray<Instance>
    readonly nowMillis: number
  }
): InstanceAddresses => {
  const found = new Map(answer.instances.map((instance) => [instance.id, instance]))
  const asked = new Set(answer.asked)
  const next = new Map<string, Known>()
  for (const [id, need] of needs) {
    const before = known.get(id)
    if (!asked.has(id)) {
      if (before !== undefined) next.set(id, { ...before, wasServed: need.isServed })
      continue
    }
    const misses = isLacking(found.get(id) ?? before?.instance, need) ? (before?.misses ?? 0) + 1 : 0
    const instance = misses === 1 ? withKnown(found.get(id), before?.instance) : (found.get(id) ?? before?.instance)
    const wait = misses === 0 ? refreshMillis : Math.min(firstRetryMillis * 2 ** (misses - 1), lastRetryMillis)
    next.set(id, { instance, misses, askAgainAt: answer.nowMillis + wait, wasServed: need.isServed })
  }
  return next
}

/** Why an instance has no address to serve. */
export interface Lack {
  /** Worded to follow its name. */
  readonly reason: string
  /** EC2 said nothing of it, so that it may well have one and be served at it. */
  readonly isUnknown: boolean
}

/** The address of an instance, or why it has none yet. */
export const addressOf = (known: InstanceAddresses, id: string, type: IpType): Result.Result<string, Lack> => {
  const lack = (reason: string, isUnknown = false) => Result.fail({ reason, isUnknown })
  const instance = known.get(id)?.instance
  if (instance === undefined) return lack("is not known to EC2 yet", true)
  if (instance.state !== "running") return lack(`is ${oneLine(instance.state)}, as EC2 says`)
  const address = instance[type]
  return address === undefined ? lack(lacks[type]) : Result.succeed(address)
}

/** The address that an instance has or had, whatever became of it; `undefined` where it was never known. */
export const lastAddressOf = (known: InstanceAddresses, id: string, type: IpType): string | undefined =>
  known.get(id)?.instance?.[type]

const lacks: Readonly<Record<IpType, string>> = {
  private: "has no private address yet",
  public: "has no public address yet; if its subnet gives none, set ip_type = private",
  ipv6: "has no IPv6 address yet; if its subnet gives none, set ip_type = private"
}

/** What was just found, with the addresses of before where it has none and runs all the same. */
const withKnown = (found: Instance | undefined, before: Instance | undefined): Instance | undefined => {
  if (found === undefined || before === undefined) return found ?? before
  if (found.state !== "running") return found
  return {
    ...found,
    private: found.private ?? before.private,
    public: found.public ?? before.public,
    ipv6: found.ipv6 ?? before.ipv6
  }
}

const isLacking = (instance: Instance | undefined, { types }: Need): boolean =>
  instance?.state !== "running" || [...types].some((type) => instance[type] === undefined)

const isDue = ({ askAgainAt, instance, misses, wasServed }: Known, need: Need, nowMillis: number): boolean => {
  const isTime = askAgainAt <= nowMillis
  if (misses > 0 || isLacking(instance, need)) return isTime
  const canMove = need.types.has("public") || need.types.has("ipv6")
  return canMove && (isTime || !wasServed)
}
