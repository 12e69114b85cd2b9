import { assert, describe, it } from "@effect/vitest"
import { Clock, Deferred, Effect, Fiber, Queue } from "effect"
import * as VirtualTime from "../../src/simulation/VirtualTime.ts"

/** A time, and what is said in it and when. */
const make = () => {
  const time = VirtualTime.make()
  const said: Array<string> = []
  const say = (what: string) =>
    Effect.map(Clock.currentTimeMillis, (millis) => {
      said.push(`${millis} ${what}`)
    })
  const run = Effect.runForkWith(time.services)
  return { time, said, say, run }
}

describe("VirtualTime", () => {
  it("wakes sleepers at their times, and those of one time in the order in which they went to sleep", () => {
    const { run, said, say, time } = make()
    for (const [name, millis] of [
      ["late", 30],
      ["early", 10],
      ["late too", 30]
    ] as const) {
      run(Effect.andThen(Effect.sleep(millis), say(name)))
    }

    time.advance(20)
    const first = [...said]
    time.advance(40)

    assert.deepStrictEqual(first, ["10 early"])
    assert.deepStrictEqual(said, ["10 early", "30 late", "30 late too"])
    assert.strictEqual(time.now(), 40)
  })

  it("lets whoever wakes run on, and whomever that wakes, before the next one does", () => {
    const { run, said, say, time } = make()
    run(
      Effect.gen(function* () {
        const queue = yield* Queue.unbounded<string>()
        yield* Effect.forkDetach(Effect.flatMap(Queue.take(queue), say))
        yield* Effect.sleep(10)
        yield* Queue.offer(queue, "handed over")
        yield* say("slept")
      })
    )
    run(Effect.andThen(Effect.sleep(11), say("later")))

    time.advance(100)

    assert.sameMembers(said.slice(0, 2), ["10 slept", "10 handed over"])
    assert.deepStrictEqual(said.slice(2), ["11 later"])
  })

  it("says when the next one wakes, and forgets who is interrupted", () => {
    const { run, time } = make()
    const sleeper = run(Effect.sleep(50))
    time.advance(0)
    const before = time.nextMillis()

    sleeper.interruptUnsafe()
    time.advance(1)

    assert.deepStrictEqual([before, time.nextMillis()], [50, Number.POSITIVE_INFINITY])
  })

  it("cuts short what takes too long", () => {
    const { run, said, say, time } = make()
    run(Effect.flatMap(Effect.timeoutOption(Effect.never, 25), ({ _tag }) => say(_tag)))

    time.advance(60)

    assert.deepStrictEqual(said, ["25 None"])
  })

  it("keeps what runs in it out of the real time", async () => {
    const { run, time } = make()
    const done = Deferred.makeUnsafe<number>()
    run(
      Effect.flatMap(Effect.andThen(Effect.sleep("365 days"), Clock.currentTimeMillis), (now) =>
        Deferred.succeed(done, now)
      )
    )

    time.advance(366 * 86_400_000)

    assert.strictEqual(await Effect.runPromise(Deferred.await(done)), 365 * 86_400_000)
    assert.isUndefined(Fiber.getCurrent())
  })
})
