/**
 * What the state of an instance in its Auto Scaling group means for traffic.
 *
 * | lifecycle | health | the instance is |
 * | --- | --- | --- |
 * | InService | Healthy | served |
 * | InService | anything else | leaving |
 * | Pending and Warmed, with all that may follow behind a colon | any | ignored: not in service yet |
 * | Detached, Terminated | any | ignored: no longer of the group |
 * | Terminating (Wait, Proceed, Retained), Standby, EnteringStandby, Detaching, a state that is not known here | any | leaving |
 *
 * Source: Amazon EC2 Auto Scaling user guide, "Amazon EC2 Auto Scaling instance
 * lifecycle", and `LifecycleState` of its API.
 */
import { oneLine } from "./Fetcher.ts"

/** An Auto Scaling group, as far as it matters here. */
export interface Group {
  readonly name: string
  readonly members: ReadonlyArray<Member>
}

/** One instance of a group. */
export interface Member {
  /** `i-0123456789abcdef0`. */
  readonly id: string
  /** Availability zone: `eu-central-1a`. */
  readonly zone: string
  /** `InService`, `Terminating:Wait` … */
  readonly lifecycle: string
  /** `Healthy` or `Unhealthy`. */
  readonly health: string
}

/** - `leaving`: gets no new request, and ends those that it has. - `ignored`: as if it were not named. */
export type Membership = "served" | "leaving" | "ignored"

/** What a member is, by the table above. */
export const of = ({ health, lifecycle }: Pick<Member, "health" | "lifecycle">): Membership => {
  if (lifecycle === "InService") return health.toLowerCase() === "healthy" ? "served" : "leaving"
  const [state] = lifecycle.split(":")
  return state !== undefined && ignored.has(state) ? "ignored" : "leaving"
}

const ignored: ReadonlySet<string> = new Set(["Pending", "Warmed", "Detached", "Terminated"])

/** Why a member is leaving, worded to follow its name: `is in Standby`. */
export const reasonOf = ({ health, lifecycle }: Member): string =>
  oneLine(lifecycle === "InService" ? `is ${health}` : `is in ${lifecycle}`)

/** The name of a member in logs and in `plan`: `i-0abc in web-blue (eu-central-1a)`. */
export const originOf = ({ name }: Pick<Group, "name">, { id, zone }: Member): string => `${id} in ${name} (${zone})`
