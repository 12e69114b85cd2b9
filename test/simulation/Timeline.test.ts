import { assert, describe, it } from "@effect/vitest"
import * as Timeline from "../../src/simulation/Timeline.ts"

const ep2 = (atMillis: number, text: string, level: Timeline.Entry["level"] = "info"): Timeline.Entry => ({
  atMillis,
  kind: "ep2",
  level,
  text
})

describe("Timeline", () => {
  it("shows the virtual time, who did it and what, and leaves out what is for debugging", () => {
    const lines = Timeline.lines([
      { atMillis: 60_000, kind: "event", level: "info", text: "the source names 2 endpoints for web" },
      ep2(60_250, "added node2 10.0.0.2:8080", "info"),
      ep2(60_260, "asked anew", "debug"),
      ep2(61_000, "holds back 2 of 4", "warning"),
      { atMillis: 90_061_000, kind: "rule", level: "error", text: "a placeholder takes traffic" }
    ])

    assert.deepEqual(lines, [
      "00:01:00.000  * event the source names 2 endpoints for web",
      "00:01:00.250    ep2   added node2 10.0.0.2:8080",
      "00:01:01.000    ep2   warning: holds back 2 of 4",
      "25:01:01.000  ! rule  a placeholder takes traffic"
    ])
  })

  it("folds lines that differ only in numbers, and keeps the last one's time and words", () => {
    const lines = Timeline.lines([
      ...[1, 2, 3, 4, 5].map((n) => ep2(n * 1000, `added node${n} 10.0.0.${n}:8080`)),
      ep2(6000, "removed node1")
    ])

    assert.deepEqual(lines, [
      "00:00:01.000    ep2   added node1 10.0.0.1:8080",
      "00:00:02.000    ep2   added node2 10.0.0.2:8080",
      "00:00:05.000    ep2   … and 3 more like this, the last one: added node5 10.0.0.5:8080",
      "00:00:06.000    ep2   removed node1"
    ])
  })

  it("does not fold three, nor what another level or another party said", () => {
    const three = [1, 2, 3].map((n) => ep2(n, `added node${n}`))

    const lines = Timeline.lines([
      ...three,
      ep2(4, "added node4", "warning"),
      { ...ep2(5, "added node5"), kind: "event" }
    ])

    assert.equal(lines.length, 5)
  })

  it("puts the times in order, and leaves the order of one time as it was", () => {
    const lines = Timeline.lines([ep2(2, "third"), ep2(1, "first"), ep2(1, "second")])

    assert.deepEqual(
      lines.map((line) => line.split(/ +/).at(-1)),
      ["first", "second", "third"]
    )
  })

  it("indents the further lines of a text", () => {
    const lines = Timeline.lines([ep2(0, "HAProxy refuses the config:\nhaproxy.cfg:3: unknown keyword\n", "error")])

    assert.deepEqual(lines, [
      "00:00:00.000    ep2   error: HAProxy refuses the config:",
      "                      haproxy.cfg:3: unknown keyword"
    ])
  })
})
