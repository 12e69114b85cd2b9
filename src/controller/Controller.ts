/**
 * The loop: for each backend a fiber that asks the source and one that makes
 * passes, for as long as ep2 runs.
 *
 * The source is asked when it says that something may have changed, at the latest
 * after the backend's interval, and ever less often while it fails. A pass runs
 * after each answer, when a process appeared or was replaced, while something is
 * moving, after a failure, and at the latest a little after the interval.
 */
import { Clock, Duration, Effect, Match, Pull, Queue, Result, Schedule } from "effect"
import { type FetchError, Fetcher } from "../orchestrator/Fetcher.ts"
import { ConfigWriter } from "./ConfigWriter.ts"
import { Overrides } from "./Overrides.ts"
import * as Progress from "./Progress.ts"
import { type Outcome, type PassError, Reconciler } from "./Reconciler.ts"
import * as Report from "./Report.ts"
import { SourceReport } from "./SourceReport.ts"
import * as Status from "./Status.ts"
import * as Supervisor from "./Supervisor.ts"

/**
 * Whether waiting can help. The one place that decides it: every error of a pass
 * and of a source is listed, so a new one does not compile until someone has
 * thought about it.
 */
export const isTransient = Match.type<PassError | FetchError>().pipe(
  Match.tag("SocketError", () => true),
  Match.tag("CommandRejected", () => false),
  Match.tag("FetchError", ({ reason }) => reason === "Unavailable" || reason === "Throttled"),
  Match.exhaustive
)

/** A backend that the loop keeps level. */
export interface BackendOptions {
  readonly name: string
  /** `sleep_before_next_run`: the longest time between two passes. */
  readonly interval: Duration.Duration
}

/** Passes that nothing wakes come so long after the interval: an answer of the source, which wakes them, comes first. */
const answerSlack = Duration.millis(250)

/** How often a server that is on its way in or out is looked at. */
const movingInterval = Duration.millis(250)

/** After something went wrong, a wake is not answered before this. */
const leastPause = Duration.millis(100)

/** Passes in a row that may follow each other at once, each looking at what the one before did. */
const maxFollowUps = 8

/**
 * Waits after a failed pass: 250 ms, 500 ms, … up to a minute, with jitter so
 * that a fleet of ep2 does not retry in step. Each wait is cut short by a wake.
 */
const backoff = Schedule.min([Schedule.exponential("250 millis"), Schedule.spaced("1 minute")]).pipe(Schedule.jittered)

/** No wait of `backoff` is longer: jitter adds a fifth at most. */
const longestBackoff = Duration.seconds(72)

/**
 * Keeps every backend level until interrupted, or until the operator ends a pause:
 * then a bootstrap has to look first whether HAProxy runs what it should. Never
 * fails: a pass that went wrong is logged, HAProxy keeps what it serves, and the
 * next one tries again. Backends do not wait for one another.
 */
export const run = Effect.fn("Controller.run")(function* (backends: ReadonlyArray<BackendOptions>) {
  const writer = yield* ConfigWriter
  const { pass } = yield* Reconciler
  const wakes = new Map<string, Queue.Queue<void>>()
  for (const { name } of backends) wakes.set(name, yield* Queue.sliding<void>(1))
  const wakeAll = () => Effect.forEach(wakes.values(), (wake) => Queue.offer(wake, undefined), { discard: true })

  const overrides = yield* Overrides
  const untilResumed = Effect.gen(function* () {
    while ((yield* overrides.awaitChange) !== "resumed") yield* wakeAll()
  })

  const loops = Effect.all(
    [
      writer.run({
        refresh: Effect.forEach(backends, ({ name }) => passBeforeLoad(pass(name), wakes.get(name)!), {
          concurrency: "unbounded",
          discard: true
        }),
        onLoaded: wakeAll()
      }),
      Supervisor.watch(wakeAll),
      ...backends.map((options) => keepLevel(options, wakes.get(options.name)!))
    ],
    { concurrency: "unbounded", discard: true }
  )
  return yield* Effect.raceFirst(Effect.andThen(loops, Effect.never), untilResumed)
})

/** What it did or could not do is followed up by the backend's own passes. */
const passBeforeLoad = Effect.fnUntraced(function* (pass: Effect.Effect<Outcome>, wake: Queue.Queue<void>) {
  const { errors, hasActed, plan } = yield* pass
  if (hasActed || plan.isMoving || errors.length > 0) yield* Queue.offer(wake, undefined)
})

const keepLevel = (options: BackendOptions, wake: Queue.Queue<void>) =>
  Effect.all([makePasses(options, wake), followSource(options, wake)], {
    concurrency: "unbounded",
    discard: true
  }).pipe(Effect.annotateLogs({ backend: options.name }))

const makePasses = Effect.fnUntraced(function* ({ interval, name }: BackendOptions, wake: Queue.Queue<void>) {
  const reconciler = yield* Reconciler
  const standing = yield* Report.makeStanding
  const idle = Duration.sum(interval, answerSlack)
  const retries = yield* makeBackoff
  const beat = yield* Progress.register(`the passes of ${name}`)
  let followUps = 0
  while (true) {
    yield* beat(Duration.max(idle, longestBackoff))
    const outcome = yield* reconciler.pass(name)
    yield* standing.say(errorFacts(outcome.errors), over)
    followUps = outcome.hasActed && outcome.errors.length === 0 ? followUps + 1 : 0

    let pause = idle
    if (outcome.errors.some(isTransient)) pause = yield* retries.next
    else {
      yield* retries.reset
      if (outcome.errors.length > 0) pause = interval
      else if (followUps > 0 && followUps <= maxFollowUps) pause = Duration.zero
      else if (outcome.plan.isMoving) pause = movingInterval
    }
    // However often it is woken, what just went wrong is not tried again at once.
    if (outcome.errors.length > 0) yield* Effect.sleep(leastPause)
    yield* Queue.take(wake).pipe(Effect.timeoutOption(pause))
  }
}, Effect.scoped)

/** Asks the source, for ever, and wakes the passes after each of its answers. */
const followSource = Effect.fnUntraced(function* ({ interval, name }: BackendOptions, wake: Queue.Queue<void>) {
  const reconciler = yield* Reconciler
  const fetcher = yield* Fetcher
  const report = yield* SourceReport
  const retries = yield* makeBackoff

  // A watch that breaks costs nothing but its speed: the source is asked each interval all the same.
  const change = fetcher.awaitChange(name).pipe(
    Effect.tapError((error) => Effect.logDebug(`watch broke: ${error.message}`)),
    Effect.retry(Schedule.spaced(interval)),
    Effect.orDie
  )
  const beat = yield* Progress.register(`the source of ${name}`)
  while (true) {
    yield* beat(Duration.max(interval, longestBackoff))
    const fetched = yield* Effect.result(reconciler.fetch(name))
    yield* report.heard(name, Result.isFailure(fetched) ? troubleOf(fetched.failure) : undefined)
    yield* Status.source(name, Result.isFailure(fetched) ? fetched.failure.message : undefined)
    yield* Queue.offer(wake, undefined)
    let wait = interval
    if (Result.isFailure(fetched) && isTransient(fetched.failure)) wait = yield* retries.next
    else yield* retries.reset
    if (Result.isFailure(fetched)) yield* Effect.sleep(leastPause)
    yield* Effect.timeoutOption(change, wait)
  }
}, Effect.scoped)

/** What `SourceReport` is told of a source that gave no answer. */
export const troubleOf = (error: FetchError) => ({ error, isTransient: isTransient(error) })

/** The waits of `backoff`, one after the other, from the first one again after a `reset`. */
const makeBackoff = Effect.gen(function* () {
  let step = yield* Schedule.toStep(backoff)
  const next = Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    // The schedule has no end.
    const [, wait] = yield* step(now, undefined).pipe(Pull.catchDone(() => Effect.succeed([0, leastPause] as const)))
    return wait
  })
  const reset = Effect.map(Schedule.toStep(backoff), (first) => {
    step = first
  })
  return { next, reset }
})

const errorFacts = (errors: Outcome["errors"]): ReadonlyMap<string, string> =>
  new Map(errors.map((error) => [factKey(error), error.message]))

const factKey = Match.type<PassError>().pipe(
  Match.tag("SocketError", ({ socket }) => `socket ${socket}`),
  Match.tag("CommandRejected", ({ command, socket }) => `command ${socket} ${command}`),
  Match.exhaustive
)

const over = (key: string): string => {
  const [kind, ...what] = key.split(" ")
  if (kind === "socket") return `process answers again: ${what.join(" ")}`
  return `no longer refused: ${what.join(" ")}`
}
