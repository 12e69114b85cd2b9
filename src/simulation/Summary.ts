/**
 * The numbers of a simulation: what an operator asks of settings before they go
 * into production.
 */
import { clock } from "./Timeline.ts"

/** Counts and times of one whole simulation, over all backends and processes. */
export interface Summary {
  /** How much virtual time was played. */
  readonly playedMillis: number
  /** From when the source first named an endpoint until every process that runs served it; one for each endpoint that came and was served. */
  readonly serveMillis: ReadonlyArray<number>
  /** Endpoints that are wanted at the end and not served. */
  readonly unserved: number
  /** The modelled load, and how many of its requests would have failed. */
  readonly requests: { readonly sent: number; readonly failed: number }
  /** Calls to the source. */
  readonly apiCalls: number
  /** Commands to HAProxy's sockets. */
  readonly commands: number
  readonly reloads: number
  /** Passes of which the guard held something back. */
  readonly heldPasses: number
  /** Drains that were ended by `drain_timeout` with sessions left. */
  readonly cutDrains: number
  readonly brokenRules: number
}

/** A summary as JSON has it: what a script or a dashboard reads. */
export interface Numbers extends Omit<Summary, "serveMillis"> {
  readonly timeToServe: {
    readonly endpoints: number
    /** Absent where nothing arrived. */
    readonly p50Millis?: number
    readonly p95Millis?: number
    readonly maxMillis?: number
  }
}

/** The times to serve become three of them. */
export const numbers = ({ serveMillis, ...rest }: Summary): Numbers => {
  const sorted = serveMillis.toSorted((a, b) => a - b)
  const timeToServe = {
    endpoints: sorted.length,
    ...(sorted.length > 0 && {
      p50Millis: percentile(sorted, 50),
      p95Millis: percentile(sorted, 95),
      maxMillis: sorted.at(-1)!
    })
  }
  return { ...rest, timeToServe }
}

/** A line per number, its name first. */
export const lines = (summary: Summary): ReadonlyArray<string> => {
  const { brokenRules, requests, timeToServe, unserved } = numbers(summary)
  const { maxMillis = 0, p50Millis = 0, p95Millis = 0 } = timeToServe
  const times = `p50 ${seconds(p50Millis)}, p95 ${seconds(p95Millis)}, longest ${seconds(maxMillis)} (${counted(timeToServe.endpoints, "endpoint")})`
  const rows: ReadonlyArray<readonly [name: string, value: string]> = [
    ["virtual time", clock(summary.playedMillis)],
    ["time to serve", timeToServe.endpoints === 0 ? "nothing arrived" : times],
    ["wanted and not served at the end", unserved === 0 ? "none" : counted(unserved, "endpoint")],
    ["requests that would have failed", `${grouped(requests.failed)} of ${grouped(requests.sent)}${share(requests)}`],
    ["calls to the source", `${grouped(summary.apiCalls)} (${perHour(summary.apiCalls, summary.playedMillis)})`],
    ["commands to HAProxy", grouped(summary.commands)],
    ["reloads", grouped(summary.reloads)],
    ["passes held by the guard", grouped(summary.heldPasses)],
    ["drains cut by drain_timeout", grouped(summary.cutDrains)],
    ["rules broken", brokenRules === 0 ? "none" : grouped(brokenRules)]
  ]
  const width = Math.max(...rows.map(([name]) => name.length))
  return rows.map(([name, value]) => `${name.padEnd(width)}  ${value}`)
}

/** The smallest value that so much of all are not above: nearest rank. */
const percentile = (sorted: ReadonlyArray<number>, percent: number): number =>
  sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)]!

const seconds = (millis: number): string => `${(millis / 1000).toFixed(millis < 100_000 ? 2 : 0)} s`

const grouped = (n: number): string => n.toLocaleString("en-US")

const counted = (n: number, what: string): string => `${grouped(n)} ${what}${n === 1 ? "" : "s"}`

const share = ({ failed, sent }: Summary["requests"]): string =>
  failed === 0 || sent === 0 ? "" : ` (${((failed / sent) * 100).toPrecision(2)} %)`

const perHour = (n: number, millis: number): string =>
  millis === 0 ? "none an hour" : `${grouped(Math.round((n * 3_600_000) / millis))} an hour`
