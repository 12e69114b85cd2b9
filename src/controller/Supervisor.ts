/**
 * Watches the HAProxy processes: a fiber per socket looks each second whether
 * one is there and the same, so that a restart is noticed within a second.
 */
import { Duration, Effect, Result, Schedule } from "effect"
import { Haproxy } from "../haproxy/Haproxy.ts"
import * as Progress from "./Progress.ts"

/** How often each process is looked at. */
const lookEvery = Duration.seconds(1)

/**
 * Calls `onChange` whenever a process appeared, or another one took its place,
 * by itself or by a reload. Runs until interrupted, and never fails: that a
 * process is silent is said by the pass that this wakes.
 */
export const watch = Effect.fn("Supervisor.watch")(function* (onChange: (socket: string) => Effect.Effect<void>) {
  const haproxy = yield* Haproxy

  const watchOne = Effect.fnUntraced(function* (socket: string) {
    // "unknown" is the first look: what is there then is what the bootstrap left.
    let last: number | "silent" | "unknown" = "unknown"
    const beat = yield* Progress.register(`the look at ${socket}`)
    const look = Effect.gen(function* () {
      yield* beat(lookEvery)
      const seen = yield* Effect.result(haproxy.pidOf(socket))
      const now = Result.isSuccess(seen) ? seen.success : "silent"
      const before = last
      last = now
      if (now === before || before === "unknown") return
      if (now !== "silent") {
        yield* Effect.logInfo(
          before === "silent" ? `HAProxy is there: pid ${now}` : `another HAProxy: pid ${now}, was ${before}`
        )
      }
      yield* onChange(socket)
    })
    yield* look.pipe(Effect.repeat(Schedule.spaced(lookEvery)), Effect.annotateLogs({ socket }))
  }, Effect.scoped)

  return yield* Effect.forEach(haproxy.sockets, watchOne, { concurrency: "unbounded", discard: true }).pipe(
    Effect.andThen(Effect.never)
  )
})
