import { assert, describe, it } from "@effect/vitest"
import * as Summary from "../../src/simulation/Summary.ts"

const quiet: Summary.Summary = {
  playedMillis: 3_600_000,
  serveMillis: [],
  unserved: 0,
  requests: { sent: 360_000, failed: 0 },
  apiCalls: 60,
  commands: 7200,
  reloads: 0,
  heldPasses: 0,
  cutDrains: 0,
  brokenRules: 0
}

describe("Summary", () => {
  it("has a line for each number, names first", () => {
    const lines = Summary.lines({
      ...quiet,
      playedMillis: 1_800_000,
      serveMillis: Array.from({ length: 100 }, (_, index) => (100 - index) * 100),
      unserved: 1,
      requests: { sent: 180_000, failed: 36 },
      reloads: 2,
      heldPasses: 3,
      cutDrains: 4,
      brokenRules: 5
    })

    assert.deepEqual(lines, [
      "virtual time                      00:30:00.000",
      "time to serve                     p50 5.00 s, p95 9.50 s, longest 10.00 s (100 endpoints)",
      "wanted and not served at the end  1 endpoint",
      "requests that would have failed   36 of 180,000 (0.020 %)",
      "calls to the source               60 (120 an hour)",
      "commands to HAProxy               7,200",
      "reloads                           2",
      "passes held by the guard          3",
      "drains cut by drain_timeout       4",
      "rules broken                      5"
    ])
  })

  it("says in words that nothing arrived, failed or broke", () => {
    const lines = Summary.lines(quiet)

    assert.include(lines, "time to serve                     nothing arrived")
    assert.include(lines, "wanted and not served at the end  none")
    assert.include(lines, "requests that would have failed   0 of 360,000")
    assert.include(lines, "rules broken                      none")
  })

  it("gives scripts the percentiles by nearest rank, whatever the order of the times", () => {
    const { timeToServe } = Summary.numbers({ ...quiet, serveMillis: [900, 100, 300, 200] })

    assert.deepEqual(timeToServe, { endpoints: 4, p50Millis: 200, p95Millis: 900, maxMillis: 900 })
  })

  it("gives scripts no time where nothing arrived, and every other number as it is", () => {
    const { serveMillis: _, ...rest } = quiet

    assert.deepEqual(Summary.numbers(quiet), { ...rest, timeToServe: { endpoints: 0 } })
  })
})
