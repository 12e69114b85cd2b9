import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Logger } from "effect"
import { TestClock } from "effect/testing"
import { inWords, nextDueMillis, SourceReport } from "../../src/controller/SourceReport.ts"
import { FetchError } from "../../src/orchestrator/Fetcher.ts"

const slow = (words: string) => ({
  error: new FetchError({ target: "Consul", reason: "Unavailable", detail: `no answer in ${words}` }),
  isTransient: true
})
const throttled = {
  error: new FetchError({ target: "Consul", reason: "Throttled", detail: "too often" }),
  isTransient: true
}
const malformed = (words: string) => ({
  error: new FetchError({ target: "Consul", reason: "BadResponse", detail: `no JSON: ${words}` }),
  isTransient: false
})

const minute = 60_000

/** A report whose lines are kept, with the minute of the test at which each came. */
const make = Effect.gen(function* () {
  const lines: Array<string> = []
  const logger = Logger.make<unknown, void>(({ date, logLevel, message }) => {
    if (logLevel !== "Debug") lines.push(`${Math.floor(date.getTime() / minute)} ${logLevel} ${message}`)
  })
  const logging = Logger.layer([logger])
  const context = yield* Layer.build(SourceReport.layer)
  const report = yield* SourceReport.pipe(Effect.provide(context))
  return {
    lines,
    state: report.state("web"),
    answers: report.heard("web", undefined).pipe(Effect.provide(logging)),
    fails: (trouble = slow("10 s")) => report.heard("web", trouble).pipe(Effect.provide(logging))
  }
})

/** Asks each 30 seconds for so long, as the loop does of a source that fails. */
const keepFailing = Effect.fnUntraced(function* (ask: Effect.Effect<void>, minutes: number) {
  for (let asks = 0; asks < minutes * 2; asks++) {
    yield* TestClock.adjust("30 seconds")
    yield* ask
  }
})

describe("SourceReport.heard", () => {
  it.effect("says nothing of a source that answers", () =>
    Effect.gen(function* () {
      const { answers, lines } = yield* make

      yield* keepFailing(answers, 5)

      assert.deepStrictEqual(lines, [])
    })
  )

  it.effect(
    "says at growing intervals how old the answer is that is served, then for how long the source was away",
    () =>
      Effect.gen(function* () {
        const { answers, fails, lines } = yield* make
        yield* TestClock.adjust("10 minutes")
        yield* answers

        yield* keepFailing(fails(), 200)
        yield* answers

        const since = "since 1970-01-01T00:10:00Z"
        const line = (at: number, age: string, tries: number) =>
          `${at} Warn the source has not answered for ${age} (${since}, ${tries} ${tries === 1 ? "try" : "tries"}): HAProxy serves its answer of then; Consul: no answer in 10 s`
        assert.deepStrictEqual(lines, [
          "10 Warn Consul: no answer in 10 s",
          line(11, "1 min", 1),
          line(12, "2 min", 3),
          line(14, "4 min", 7),
          line(18, "8 min", 15),
          line(26, "16 min", 31),
          line(42, "32 min", 63),
          line(74, "1 h 4 min", 127),
          line(134, "2 h 4 min", 247),
          line(194, "3 h 4 min", 367),
          "210 Info the source answers again after 3 h 20 min (400 tries): Consul"
        ])
      })
  )

  it.effect("says of a source that never answered that it never did, and of its first answer how long it took", () =>
    Effect.gen(function* () {
      const { answers, fails, lines } = yield* make

      yield* keepFailing(fails(), 2)
      yield* answers

      assert.deepStrictEqual(lines, [
        "0 Warn waiting for the source: Consul: no answer in 10 s",
        "1 Warn the source has not answered for 1 min, and not once since ep2 started (1970-01-01T00:00:00Z, 1 try): HAProxy has what it had; Consul: no answer in 10 s",
        "2 Warn the source has not answered for 2 min, and not once since ep2 started (1970-01-01T00:00:00Z, 3 tries): HAProxy has what it had; Consul: no answer in 10 s",
        "2 Info the source answers after 2 min (4 tries): Consul"
      ])
    })
  )

  it.effect("says trouble that waiting can help once, whatever its words, and two kinds that alternate once each", () =>
    Effect.gen(function* () {
      const { answers, fails, lines } = yield* make
      yield* answers

      for (let tries = 0; tries < 50; tries++) yield* fails(tries % 2 === 0 ? slow(`${tries} s`) : throttled)

      assert.deepStrictEqual(lines, ["0 Warn Consul: no answer in 0 s", "0 Warn Consul: too often"])
    })
  )

  it.effect("says what the operator has to mend in each of its words, but not without end", () =>
    Effect.gen(function* () {
      const { answers, fails, lines } = yield* make
      yield* answers

      for (const words of ["line 1", "line 2", "line 1"]) yield* fails(malformed(words))
      const few = [...lines]
      for (let tries = 0; tries < 500; tries++) yield* fails(malformed(`${tries} characters`))

      assert.deepStrictEqual(few, ["0 Warn Consul: no JSON: line 1", "0 Warn Consul: no JSON: line 2"])
      assert.lengthOf(lines, 20)
    })
  )

  it.effect("begins anew with each outage", () =>
    Effect.gen(function* () {
      const { answers, fails, lines } = yield* make
      yield* answers
      yield* keepFailing(fails(), 1)
      yield* answers

      yield* keepFailing(fails(), 1)

      assert.deepStrictEqual(lines.slice(-3), [
        "1 Info the source answers again after 1 min (2 tries): Consul",
        "1 Warn Consul: no answer in 10 s",
        "2 Warn the source has not answered for 1 min (since 1970-01-01T00:01:00Z, 1 try): HAProxy serves its answer of then; Consul: no answer in 10 s"
      ])
    })
  )

  it.effect("begins with the words of the source also where its last answer was old already", () =>
    Effect.gen(function* () {
      const { answers, fails, lines } = yield* make
      yield* answers
      yield* TestClock.adjust("10 minutes")

      yield* fails()
      yield* fails()
      yield* TestClock.adjust("15 minutes")

      assert.lengthOf(lines, 2)
      assert.strictEqual(lines[0], "10 Warn Consul: no answer in 10 s")
      assert.match(lines[1]!, /^16 Warn the source has not answered for 16 min \(since 1970-01-01T00:00:00Z, 2 tries\)/)
    })
  )

  it.effect(
    "says the age by the clock, also while a try takes its time, and not any more once there is an answer",
    () =>
      Effect.gen(function* () {
        const { answers, fails, lines } = yield* make
        yield* answers
        yield* fails()

        yield* TestClock.adjust("2 minutes")
        yield* answers
        yield* TestClock.adjust("10 hours")

        assert.deepStrictEqual(
          lines.map((line) => line.slice(0, 45)),
          [
            "0 Warn Consul: no answer in 10 s",
            "1 Warn the source has not answered for 1 min ",
            "2 Warn the source has not answered for 2 min ",
            "2 Info the source answers again after 2 min ("
          ]
        )
      })
  )
})

describe("SourceReport.state", () => {
  it.effect("has the time of the last good answer, and what the source has failed with since", () =>
    Effect.gen(function* () {
      const { answers, fails, state } = yield* make
      const unknown = yield* state
      yield* TestClock.adjust("3 seconds")
      yield* answers
      const good = yield* state
      yield* TestClock.adjust("5 seconds")
      yield* fails()
      yield* fails(throttled)

      const failing = yield* state

      assert.deepStrictEqual(unknown, { answeredAtMillis: undefined, failing: undefined })
      assert.deepStrictEqual(good, { answeredAtMillis: 3000, failing: undefined })
      assert.deepStrictEqual(failing, { answeredAtMillis: 3000, failing: { tries: 2, error: throttled.error } })
    })
  )
})

describe("nextDueMillis", () => {
  it("is at 1, 2, 4, … and 64 minutes, and at each hour after that", () => {
    const due = [nextDueMillis(0)]

    while (due.length < 10) due.push(nextDueMillis(due.at(-1)!))

    assert.deepStrictEqual(
      due.map((millis) => millis / minute),
      [1, 2, 4, 8, 16, 32, 64, 124, 184, 244]
    )
    assert.deepStrictEqual([-5 * minute, minute - 1, 100 * minute].map(nextDueMillis), [minute, minute, 124 * minute])
  })
})

describe("inWords", () => {
  it("has two units at the most", () => {
    const [second, hour, day] = [1000, 60 * minute, 24 * 60 * minute]

    assert.deepStrictEqual(
      [0, 40 * second, 4 * minute + 59 * second, hour, 3 * hour + 4 * minute + 5 * second, 2 * day + 3 * hour].map(
        inWords
      ),
      ["1 s", "40 s", "4 min", "1 h", "3 h 4 min", "2 d 3 h"]
    )
  })
})
