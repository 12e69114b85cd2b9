import { assert, describe, it } from "@effect/vitest"
import * as Picture from "../../src/simulation/Picture.ts"

const sample = (atMillis: number, wanted: number, served: number): Picture.Sample => ({ atMillis, wanted, served })

const replaced = [
  sample(0, 2, 2),
  sample(10_000, 4, 2),
  sample(20_000, 4, 4),
  sample(40_000, 1, 4),
  sample(50_000, 1, 1)
]

describe("Picture", () => {
  it("draws what is wanted and served, what is only wanted, and what still drains", () => {
    const lines = Picture.terminal(replaced, { width: 63, untilMillis: 60_000 })

    assert.deepEqual(lines, [
      "4 |          ..........####################++++++++++",
      "  |          ..........####################++++++++++",
      "2 |########################################++++++++++",
      "  |############################################################",
      "0 +------------------------------------------------------------",
      "   00:00:00                  00:00:30                  00:01:00",
      "# wanted and served   . wanted, not served   + served, not wanted any more"
    ])
  })

  it("shows a gap of an instant, however short the columns make it", () => {
    const day = 86_400_000
    const lines = Picture.terminal([sample(0, 8, 8), sample(1000, 8, 5), sample(1001, 8, 8)], {
      width: 40,
      untilMillis: day
    })

    assert.match(lines[0]!, /^8 \|\.#+$/)
  })

  it("never says that nothing is served where one of hundreds is", () => {
    const lines = Picture.terminal([sample(0, 300, 1)], { width: 40, untilMillis: 1000 })

    assert.match(lines.at(-4)!, /^ +\|#+$/)
    assert.match(lines[0]!, /^300 \|\.+$/)
  })

  it("draws nothing wanted as nothing", () => {
    const lines = Picture.terminal([], { width: 40, untilMillis: 0 })

    assert.match(lines[0]!, /^1 \|$/)
  })

  it("makes an SVG with both lines in steps, axes, a legend and colours for light and dark", () => {
    const svg = Picture.svg(replaced, { title: "web <1 & 2>", untilMillis: 60_000 })

    const [served, wanted] = [...svg.matchAll(/class="(?:wanted|served)" d="(M[^"]*V[^"]*)"/g)].map(([, path]) => path)
    assert.equal(wanted, "M56 178V178H187.5V56H581.5V239H844")
    assert.equal(served, "M56 178V178H318.5V56H712.5V239H844")
    assert.include(svg, "web &lt;1 &amp; 2&gt;")
    assert.include(svg, ">served by every process<")
    assert.include(svg, "prefers-color-scheme: dark")
    assert.deepEqual(
      [...svg.matchAll(/text-anchor="middle">([^<]*)</g)].map(([, text]) => text),
      ["00:00:00", "00:00:10", "00:00:20", "00:00:30", "00:00:40", "00:00:50", "00:01:00"]
    )
    assert.deepEqual(
      [...svg.matchAll(/text-anchor="end">([^<]*)</g)].map(([, text]) => text),
      ["0", "1", "2", "3", "4"]
    )
  })

  it("fills no line: a browser would paint what lies between its two ends black", () => {
    const svg = Picture.svg(replaced, { title: "", untilMillis: 60_000 })

    const [style = ""] = /<style>[\s\S]*<\/style>/.exec(svg) ?? []
    assert.match(style, /^ {2}path \{ fill: none; \}$/m)
    assert.notMatch(svg.replace(style, ""), /fill=|style=/)
  })

  it("shows when something happens, unless that is so often that nobody could tell", () => {
    const often = Array.from({ length: 50 }, (_, index) => index * 1000)
    const eventsOf = (events: ReadonlyArray<number>) =>
      [
        ...Picture.svg(replaced, { title: "", untilMillis: 60_000, events }).matchAll(/class="event" d="M([\d.]+) 56V/g)
      ].map(([, x]) => x)

    assert.deepEqual(eventsOf([10_000, 10_000, 40_000]), ["187.5", "581.5"])
    assert.deepEqual(eventsOf(often), [])
  })

  it("sets a long title closer, so that it is not cut", () => {
    const long = Picture.svg(replaced, { title: "x".repeat(130), untilMillis: 60_000 })
    const short = Picture.svg(replaced, { title: "x", untilMillis: 60_000 })

    assert.include(long, 'textLength="788"')
    assert.notInclude(short, "textLength")
  })

  it("stays small for a day of changes, and keeps the lowest of those at one point", () => {
    const samples = Array.from({ length: 86_400 }, (_, second) =>
      sample(second * 1000, 300, second === 40_000 ? 7 : 299)
    )

    const svg = Picture.svg(samples, { title: "a day", untilMillis: 86_400_000 })

    assert.isBelow(svg.length, 10_000)
    const lowest = 340 - 40 - (7 / 300) * (340 - 56 - 40)
    assert.include(svg, `V${Math.round(lowest * 2) / 2}V`)
  })

  it("stays well-formed whatever it is given", () => {
    for (const samples of [[], [sample(0, 0, 0)], [sample(0, 64_000, 0), sample(5, 0, 64_000)]]) {
      const svg = Picture.svg(samples, { title: "", untilMillis: 0 })

      assert.notMatch(svg, /NaN|Infinity|undefined/)
      assert.equal(svg.match(/<path/g)?.length, svg.match(/<path[^>]*\/>/g)?.length)
    }
  })
})
