/**
 * Time that goes by only when it is told to: a clock, and a scheduler that runs
 * everything on it at once and in one order.
 *
 * `TestClock` does the same for tests. This one needs no turn of Node's event loop
 * for a fiber that wakes, which is what lets a day of passes go by in seconds; for
 * that, nothing that runs on it may wait for anything but time.
 */
import { Clock, Context, Duration, Effect, Scheduler } from "effect"

/** A time of its own, in milliseconds from 0. */
export interface VirtualTime {
  /** The clock and the scheduler, for whatever is to live in this time. */
  readonly services: Context.Context<never>
  readonly now: () => number
  /** When the next sleeper wakes; infinite where nobody sleeps. */
  readonly nextMillis: () => number
  /** Lets time go by until then: wakes whoever is due, one after the other, and each runs until it waits again. */
  readonly advance: (toMillis: number) => void
}

/** A sleeper, and when it wakes. */
interface Sleeper {
  readonly atMillis: number
  readonly wake: () => void
}

const nanosPerMilli = 1_000_000

/** It begins at 0. */
export const make = (): VirtualTime => {
  let nowMillis = 0
  let tasks: Array<() => void> = []
  /** The first one to wake is the last one here. */
  const sleepers: Array<Sleeper> = []

  const runTasks = () => {
    while (tasks.length > 0) {
      const due = tasks
      tasks = []
      for (const task of due) task()
    }
  }

  const scheduler: Scheduler.Scheduler = {
    executionMode: "async",
    // Nobody else waits for a turn.
    shouldYield: () => false,
    makeDispatcher: () => ({ scheduleTask: (task) => void tasks.push(task), flush: runTasks })
  }

  const add = (sleeper: Sleeper) => {
    // Before those that wake at the same time, so that who came first wakes first.
    let [low, high] = [0, sleepers.length]
    while (low < high) {
      const middle = (low + high) >>> 1
      if (sleepers[middle]!.atMillis > sleeper.atMillis) low = middle + 1
      else high = middle
    }
    sleepers.splice(low, 0, sleeper)
  }

  const sleep = (millis: number) =>
    Effect.callback<void>((resume) => {
      const sleeper = { atMillis: nowMillis + millis, wake: () => resume(Effect.void) }
      add(sleeper)
      return Effect.sync(() => {
        const at = sleepers.indexOf(sleeper)
        if (at !== -1) sleepers.splice(at, 1)
      })
    })

  const millis = () => nowMillis
  const nanos = () => BigInt(Math.round(nowMillis * nanosPerMilli))
  const clock: Clock.Clock = {
    currentTimeMillisUnsafe: millis,
    currentTimeMillis: Effect.sync(millis),
    currentTimeNanosUnsafe: nanos,
    currentTimeNanos: Effect.sync(nanos),
    monotonicTimeNanosUnsafe: nanos,
    monotonicTimeNanos: Effect.sync(nanos),
    sleep: (duration) => {
      const long = Duration.toMillis(duration)
      return long > 0 ? sleep(long) : Effect.yieldNow
    }
  }

  const advance = (toMillis: number) => {
    runTasks()
    for (let next = sleepers.at(-1); next !== undefined && next.atMillis <= toMillis; next = sleepers.at(-1)) {
      sleepers.pop()
      nowMillis = next.atMillis
      next.wake()
      runTasks()
    }
    if (toMillis > nowMillis) nowMillis = toMillis
  }

  return {
    services: Context.make(Clock.Clock, clock).pipe(Context.add(Scheduler.Scheduler, scheduler)),
    now: millis,
    nextMillis: () => (tasks.length > 0 ? nowMillis : (sleepers.at(-1)?.atMillis ?? Number.POSITIVE_INFINITY)),
    advance
  }
}
