/**
 * Whether ep2's own loops come round: what systemd's watchdog is fed by. Each
 * long-lived loop registers and says at every round how long it may rest; one
 * that is not back long after that hangs, and so does ep2.
 *
 * A `Reference`: whoever does not ask to watch (tests, the simulation) gets one
 * that remembers nothing.
 */
import { Clock, Context, Duration, Effect, Layer, type Scope } from "effect"

/**
 * Says that a loop has come round, and that it rests for at most `rest` before it
 * works again. `Duration.infinity`: it waits for something that may never come.
 */
export type Beat = (rest: Duration.Duration) => Effect.Effect<void>

/** The loops of ep2, and which of them are late. Names need not differ. */
export interface Progress {
  /** A loop that begins. Nothing is asked of it before its first beat, and it is forgotten when the scope ends. */
  readonly register: (name: string) => Effect.Effect<Beat, never, Scope.Scope>
  /** The names of the loops that should have come round and have not. */
  readonly overdue: Effect.Effect<ReadonlyArray<string>>
  /** No loop is overdue. */
  readonly isAlive: Effect.Effect<boolean>
}

/**
 * How long the work between two rests may take. Far above what the bounds of the
 * work add up to (30 s for `haproxy -c`, 30 s for the command and 15 s for the new
 * process of a reload, 45 s for a call of AWS, 5 s for a reply of HAProxy): HAProxy
 * serves all the while, so to be late costs little, and to end an ep2 that is
 * merely slow, again and again, would cost more.
 */
export const longestRound = Duration.minutes(10)

const inert: Progress = {
  register: () => Effect.succeed(() => Effect.void),
  overdue: Effect.succeed([]),
  isAlive: Effect.succeed(true)
}

export const Progress = Context.Reference<Progress>("ep2/controller/Progress", { defaultValue: () => inert })

/** `Progress.register` of whoever watches here. */
export const register = (name: string) => Effect.flatMap(Progress, (progress) => progress.register(name))

/** Remembers the loops that register. Time is the monotonic clock's: setting the machine's clock makes nobody late. */
export const make: Effect.Effect<Progress> = Effect.sync(() => {
  /** When each loop is overdue. By identity: two loops may have one name. */
  const deadlines = new Map<{ readonly name: string }, number>()

  const register = Effect.fnUntraced(function* (name: string) {
    const loop = { name }
    yield* Effect.addFinalizer(() => Effect.sync(() => deadlines.delete(loop)))
    const beat: Beat = (rest) =>
      Effect.map(nowMillis, (now) => {
        deadlines.set(loop, now + Duration.toMillis(rest) + Duration.toMillis(longestRound))
      })
    return beat
  })

  const overdue = Effect.map(nowMillis, (now) =>
    [...deadlines].flatMap(([{ name }, deadline]) => (now > deadline ? [name] : []))
  )
  return { register, overdue, isAlive: Effect.map(overdue, (names) => names.length === 0) }
})

/** Begins without a loop, and so alive. */
export const layer = Layer.effect(Progress, make)

const nowMillis = Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos / 1_000_000n))
