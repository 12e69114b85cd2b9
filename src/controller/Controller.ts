/**
 * The loop: a fiber per backend makes passes, for as long as ep2 runs. A pass
 * runs when the source says that something may have changed, when a process
 * appeared or was replaced, while something is moving, after a failure, and at
 * the latest after the backend's interval.
 */
import { Clock, Duration, Effect, Latch, Match, Option, Pull, Queue, Schedule } from "effect"
import { Fetcher } from "../orchestrator/Fetcher.ts"
import { ConfigWriter } from "./ConfigWriter.ts"
import { type Outcome, type PassError, Reconciler } from "./Reconciler.ts"
import * as Report from "./Report.ts"
import * as Supervisor from "./Supervisor.ts"

/**
 * Whether waiting can help. The one place that decides it: every error of a pass
 * is listed, so a new one does not compile until someone has thought about it.
 */
export const isTransient = Match.type<PassError>().pipe(
  Match.tag("SocketError", () => true),
  Match.tag("CommandRejected", () => false),
  Match.tag("FetchError", ({ reason }) => reason === "Unavailable" || reason === "Throttled"),
  Match.exhaustive
)

export interface BackendOptions {
  readonly name: string
  /** `sleep_before_next_run`: the longest time between two passes. */
  readonly interval: Duration.Duration
}

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

/**
 * Keeps every backend level until interrupted. Never fails: a pass that went
 * wrong is logged, HAProxy keeps what it serves, and the next one tries again.
 * Backends do not wait for one another.
 */
export const run = Effect.fn("Controller.run")(function* (backends: ReadonlyArray<BackendOptions>) {
  const writer = yield* ConfigWriter
  const wakes = new Map<string, Queue.Queue<Wake>>()
  for (const { name } of backends) wakes.set(name, yield* Queue.sliding<Wake>(16))
  const wakeAll = () => Effect.forEach(wakes.values(), (wake) => Queue.offer(wake, "process"), { discard: true })

  return yield* Effect.all(
    [
      writer.run(wakeAll()),
      Supervisor.watch(wakeAll),
      ...backends.map((options) => keepLevel(options, wakes.get(options.name)!))
    ],
    { concurrency: "unbounded", discard: true }
  ).pipe(Effect.andThen(Effect.never))
})

/** Why a pass runs before its time. */
type Wake = "source" | "process"

const keepLevel = Effect.fnUntraced(function* ({ interval, name }: BackendOptions, wake: Queue.Queue<Wake>) {
  const reconciler = yield* Reconciler
  const standing = yield* Report.makeStanding
  const hasAsked = yield* Latch.make(false)

  const passes = Effect.gen(function* () {
    let retries = yield* Schedule.toStep(backoff)
    let followUps = 0
    let nextFetch = 0
    while (true) {
      const before = yield* Clock.currentTimeMillis
      const fetch = before >= nextFetch
      const outcome = yield* reconciler.pass(name, { fetch })
      yield* standing.say(errorFacts(outcome.errors), over)
      if (outcome.hasFetched) nextFetch = before + Duration.toMillis(interval)
      if (fetch) yield* hasAsked.open
      followUps = outcome.hasActed && outcome.errors.length === 0 ? followUps + 1 : 0

      const now = yield* Clock.currentTimeMillis
      let pause = Duration.millis(Math.max(0, nextFetch - now))
      if (outcome.errors.some(isTransient)) {
        const [, wait] = yield* retries(now, undefined).pipe(
          Pull.catchDone(() => Effect.succeed([0, interval] as const))
        )
        pause = wait
      } else {
        retries = yield* Schedule.toStep(backoff)
        if (outcome.errors.length > 0) pause = interval
        else if (followUps > 0 && followUps <= maxFollowUps) pause = Duration.zero
        else if (outcome.plan.isMoving) pause = Duration.min(pause, movingInterval)
      }
      // However often it is woken, what just went wrong is not tried again at once.
      if (outcome.errors.length > 0) yield* Effect.sleep(leastPause)
      const woken = yield* Queue.take(wake).pipe(Effect.timeoutOption(pause))
      if (Option.contains(woken, "source")) nextFetch = 0
    }
  })

  return yield* Effect.all([passes, watchSource(name, interval, hasAsked, wake)], {
    concurrency: "unbounded",
    discard: true
  }).pipe(Effect.annotateLogs({ backend: name }))
})

/** Wakes the passes when the source may have changed since they last asked it. */
const watchSource = Effect.fnUntraced(function* (
  backend: string,
  interval: Duration.Duration,
  hasAsked: Latch.Latch,
  wake: Queue.Queue<Wake>
) {
  const fetcher = yield* Fetcher
  return yield* Effect.gen(function* () {
    yield* hasAsked.await
    yield* fetcher.awaitChange(backend)
    yield* hasAsked.close
    yield* Queue.offer(wake, "source")
  }).pipe(
    // A watch that breaks costs nothing but its speed: the passes ask the source each interval all the same.
    Effect.catch((error) =>
      Effect.logDebug(`watch broke: ${error.message}`).pipe(Effect.andThen(Effect.sleep(interval)))
    ),
    Effect.forever
  )
})

const errorFacts = (errors: Outcome["errors"]): ReadonlyMap<string, string> =>
  new Map(errors.map((error) => [factKey(error), error.message]))

const factKey = Match.type<PassError>().pipe(
  Match.tag("FetchError", ({ target }) => `source ${target}`),
  Match.tag("SocketError", ({ socket }) => `socket ${socket}`),
  Match.tag("CommandRejected", ({ command, socket }) => `command ${socket} ${command}`),
  Match.exhaustive
)

const over = (key: string): string => {
  const [kind, ...what] = key.split(" ")
  if (kind === "source") return `the source answers again: ${what.join(" ")}`
  if (kind === "socket") return `process answers again: ${what.join(" ")}`
  return `no longer refused: ${what.join(" ")}`
}
