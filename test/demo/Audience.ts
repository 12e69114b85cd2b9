/**
 * The clients of the demo, for as long as it runs: some that keep their
 * connection, some that open one per request, and some whose requests take long,
 * so that every change finds requests on their way.
 */
import { Effect, type Scope, Semaphore } from "effect"
import * as Traffic from "../servers/Traffic.ts"

/** Clients that run at a time. */
export const clients = 8

/** What a slow request takes. */
export const slowMillis = 300

/** An answer of a server; times are of `performance.now()`. */
export interface Answer {
  readonly server: string
  readonly at: number
}

export interface Totals {
  readonly requests: number
  /** Time and reason of each failed request, at most `maxFailures` of them. */
  readonly failures: ReadonlyArray<{ readonly at: number; readonly reason: string }>
  readonly failed: number
  /** Good answers of each server. */
  readonly byServer: ReadonlyMap<string, number>
}

export interface Audience {
  readonly totals: Effect.Effect<Totals>
  /** The good answers that were complete after a time; it reaches back at least ten seconds. */
  readonly since: (at: number) => Effect.Effect<ReadonlyArray<Answer>>
  /** Lets the requests on their way end. */
  readonly stop: Effect.Effect<Totals>
}

const maxFailures = 100
const shiftMillis = 10_000

interface Shift {
  readonly began: number
  readonly traffic: Traffic.Traffic
}

/** Starts the clients; they end with the scope at the latest. */
export const start = (port: number): Effect.Effect<Audience, never, Scope.Scope> =>
  Effect.gen(function* () {
    // Clients keep every answer that they got, so that they work in shifts, and the demo may run for hours.
    let working: ReadonlyArray<Shift> = []
    let recent: ReadonlyArray<Answer> = []
    let past: Totals = { requests: 0, failures: [], failed: 0, byServer: new Map() }

    const begin = Effect.gen(function* () {
      const common = { port, maxSeconds: 600 }
      const begun = [
        yield* begunNow(Traffic.start({ ...common, closing: 2, keeping: 2, pauseMillis: 15 })),
        yield* begunNow(
          Traffic.start({ ...common, path: `/slow?millis=${slowMillis}`, closing: 2, keeping: 2, pauseMillis: 50 })
        )
      ]
      working = [...working, ...begun]
    })
    const end = Effect.fnUntraced(function* (shifts: ReadonlyArray<Shift>) {
      const done = yield* Effect.forEach(
        shifts,
        (shift) => Effect.map(shift.traffic.stop, (report) => [shift, report] as const),
        { concurrency: "unbounded" }
      )
      working = working.filter((shift) => !shifts.includes(shift))
      recent = done.flatMap(([shift, report]) => answersOf(shift, report))
      past = done.reduce((totals, [shift, report]) => add(totals, shift, report), past)
    })
    const reports = Effect.suspend(() =>
      Effect.forEach(working, (shift) => Effect.map(shift.traffic.report, (report) => [shift, report] as const))
    )
    const totals = Effect.map(reports, (all) => all.reduce((sum, [shift, report]) => add(sum, shift, report), past))

    const turn = yield* Semaphore.make(1)
    yield* begin
    yield* Effect.gen(function* () {
      const before = working
      yield* begin
      yield* end(before)
    }).pipe(turn.withPermits(1), Effect.delay(shiftMillis), Effect.forever, Effect.forkScoped)

    return {
      totals,
      since: (at) =>
        Effect.map(reports, (all) =>
          [...recent, ...all.flatMap(([shift, report]) => answersOf(shift, report))].filter((one) => one.at > at)
        ),
      // The turn is not given back: nobody begins after the end.
      stop: turn.take(1).pipe(Effect.andThen(Effect.suspend(() => end(working))), Effect.andThen(totals))
    }
  })

const begunNow = Effect.fnUntraced(function* (starting: Effect.Effect<Traffic.Traffic, never, Scope.Scope>) {
  const began = performance.now()
  return { began, traffic: yield* starting }
})

const answersOf = ({ began }: Shift, { answers }: Traffic.Report): ReadonlyArray<Answer> =>
  answers.flatMap(({ atMillis, server, status }) =>
    status === 200 && server !== undefined ? [{ server, at: began + atMillis }] : []
  )

const add = (totals: Totals, { began }: Shift, report: Traffic.Report): Totals => {
  const failures = report.failures.map(({ atMillis, isKeepAlive, reason }) => ({
    at: began + atMillis,
    reason: `${reason} (${isKeepAlive ? "kept connection" : "connection of its own"})`
  }))
  const byServer = new Map(totals.byServer)
  for (const [name, count] of Object.entries(report.byServer)) byServer.set(name, (byServer.get(name) ?? 0) + count)
  return {
    requests: totals.requests + report.requests,
    failures: [...totals.failures, ...failures].slice(0, maxFailures),
    failed: totals.failed + failures.length,
    byServer
  }
}
