/**
 * What happens in a simulation, apart from ep2: to the source, to the servers
 * behind HAProxy, and to HAProxy itself. A scenario is a list of these, each with
 * its time. Plain data; `Simulation` makes them happen.
 */
import { Data } from "effect"
import type { Endpoint } from "../domain/State.ts"

/** Why the source gives no answer. */
export type Failure = "Unavailable" | "Throttled" | "Unauthorized" | "TargetMissing" | "BadResponse"

/** An event that needs no more words. */
type Nothing = Readonly<Record<never, never>>

/** One thing that happens, by `_tag`. Times are milliseconds of virtual time. */
export type Event = Data.TaggedEnum<{
  /** The source names just these for a backend from now on. Those that are new run, unless `Die` says otherwise. */
  readonly Want: { readonly backend: string; readonly endpoints: ReadonlyArray<Endpoint> }
  /** A server stops answering requests and health checks. */
  readonly Die: { readonly endpoint: Endpoint }
  /** It answers again. */
  readonly Live: { readonly endpoint: Endpoint }
  /** The source of a backend fails each time that it is asked, until `Answer`. */
  readonly Fail: { readonly backend: string; readonly failure: Failure }
  /** The source answers that nothing is wanted, until `Answer`. */
  readonly Empty: { readonly backend: string }
  /** The source takes so long for each answer, until `Answer`. */
  readonly Slow: { readonly backend: string; readonly millis: number }
  /** The source of a backend is as it should be again. */
  readonly Answer: { readonly backend: string }
  /** HAProxy is ended, all processes or one by its index, and stays down until `Start`. */
  readonly Kill: { readonly process?: number }
  /** Whoever owns HAProxy starts it from the file on disk. */
  readonly Start: Nothing
  /** Somebody reloads HAProxy from the file on disk. */
  readonly Reload: Nothing
  /** A socket answers nothing for so long. */
  readonly Silence: { readonly process: number; readonly millis: number }
  /** The n-th next reply of a process (from 1) is cut short, and its connection closed. */
  readonly CutReply: { readonly process: number; readonly reply: number }
  /** The next so many connections to a process are refused. */
  readonly RefuseConnections: { readonly process: number; readonly count: number }
  /** The next so many reloads that ep2 asks for fail. */
  readonly RefuseReloads: { readonly count: number }
  /** The operator sets the state of a server of a backend, in all processes. */
  readonly Operator: { readonly backend: string; readonly server: string; readonly state: "ready" | "drain" | "maint" }
}>
export const Event = Data.taggedEnum<Event>()

/** An event at a time from the start of the simulation. */
export interface Timed {
  readonly atMillis: number
  readonly event: Event
}
