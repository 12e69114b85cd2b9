/**
 * Wanted against served over time, for the terminal and as an SVG. What was
 * wanted and not served, if only for an instant, is never averaged away.
 */
import { clock } from "./Timeline.ts"

/** How many endpoints were wanted and served from one moment on. */
export interface Sample {
  /** From the start of the simulation. */
  readonly atMillis: number
  /** Endpoints that are to be served, of all backends: what the source names, or would if nothing were wrong with it. */
  readonly wanted: number
  /** Endpoints that every process that runs serves. */
  readonly served: number
}

interface Options {
  /** When the simulation ended; the last sample holds until then. */
  readonly untilMillis: number
}

const most = (samples: ReadonlyArray<Sample>): number =>
  samples.reduce((max, { served, wanted }) => Math.max(max, served, wanted), 1)

/**
 * A chart of plain characters, a line each, `width` wide and about `height` high,
 * with axes and a legend below. A column shows the moment at which wanted and
 * served were furthest apart.
 */
export const terminal = (
  samples: ReadonlyArray<Sample>,
  { height = 12, untilMillis, width }: Options & { readonly width: number; readonly height?: number }
): ReadonlyArray<string> => {
  const top = most(samples)
  // A row for each endpoint where there is room for that.
  const rows = Math.min(height, top)
  const labels = String(top).length
  const columns = columnsOf(samples, untilMillis, Math.max(20, width - labels - 2))
  const heightOf = (value: number) => (value === 0 ? 0 : Math.max(1, Math.round((value / top) * rows)))
  const drawn = Array.from({ length: rows }, (_, index) => {
    const row = rows - index
    const label = row === rows ? String(top) : row === Math.ceil(rows / 2) ? String(Math.round((row / rows) * top)) : ""
    const cells = columns.map(({ served, wanted }) => cellOf(row, heightOf(served), heightOf(wanted)))
    return `${label.padStart(labels)} |${cells.join("")}`.trimEnd()
  })
  const [begin, middle, end] = [0, untilMillis / 2, untilMillis].map((at) => clock(at).slice(0, -4)) as [
    string,
    string,
    string
  ]
  const room = columns.length - begin.length - middle.length - end.length
  const times = `${begin}${" ".repeat(Math.max(1, Math.floor(room / 2)))}${middle}${" ".repeat(Math.max(1, Math.ceil(room / 2)))}${end}`
  return [
    ...drawn,
    `${"0".padStart(labels)} +${"-".repeat(columns.length)}`,
    `${" ".repeat(labels + 2)}${times}`,
    "# wanted and served   . wanted, not served   + served, not wanted any more"
  ]
}

const cellOf = (row: number, served: number, wanted: number): string => {
  if (row <= served) return row <= wanted ? "#" : "+"
  return row <= wanted ? "." : " "
}

/** For each part of the time the moment at which the two were furthest apart. */
const columnsOf = (samples: ReadonlyArray<Sample>, untilMillis: number, count: number): ReadonlyArray<Sample> => {
  const gap = ({ served, wanted }: Sample) => Math.abs(wanted - served)
  let current: Sample = { atMillis: 0, wanted: 0, served: 0 }
  let next = 0
  return Array.from({ length: count }, (_, column) => {
    const begins = (untilMillis * column) / count
    const ends = (untilMillis * (column + 1)) / count
    // What held before this part does not count where it was replaced as the part began.
    while (next < samples.length && samples[next]!.atMillis <= begins) current = samples[next++]!
    let worst = current
    while (next < samples.length && samples[next]!.atMillis < ends) {
      current = samples[next++]!
      if (gap(current) >= gap(worst)) worst = current
    }
    return worst
  })
}

const size = { width: 880, height: 340, left: 56, right: 36, top: 56, bottom: 40 }

/** So many moments at which something happened can be told apart; where there are more, none is shown. */
const mostEvents = 40

/** So many characters of a title fit as they are; a longer one is set closer. */
const titleLength = 110

/**
 * A stand-alone SVG of 880 by 340 with axes and a legend, which can be read on
 * light and on dark ground. `events` are the times at which the scenario did
 * something: an upright line each.
 */
export const svg = (
  samples: ReadonlyArray<Sample>,
  options: Options & { readonly title: string; readonly events?: ReadonlyArray<number> }
): string => {
  const { bottom, height, left, right, top, width } = size
  const untilMillis = Math.max(1, options.untilMillis)
  const valueStep = stepOf(most(samples), 6, valueSteps(most(samples)))
  const highest = Math.ceil(most(samples) / valueStep) * valueStep
  const x = (atMillis: number) => rounded(left + (atMillis / untilMillis) * (width - left - right))
  const y = (value: number) => rounded(height - bottom - (value / highest) * (height - top - bottom))

  const values = Array.from({ length: highest / valueStep + 1 }, (_, index) => index * valueStep)
  const timeStep = stepOf(untilMillis, 8, timeSteps)
  const times = Array.from({ length: Math.floor(untilMillis / timeStep) + 1 }, (_, index) => index * timeStep)
  const happened = [...new Set((options.events ?? []).map(x))]
  const events = happened.length > mostEvents ? [] : happened
  const closer =
    options.title.length > titleLength ? ` textLength="${width - left - right}" lengthAdjust="spacingAndGlyphs"` : ""
  const line = (of: (sample: Sample) => number) => pathOf(samples, { of, x, y, untilMillis })
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img" aria-label="${escaped(options.title)}">
<style>
  svg { color: #1f2328; background: #ffffff; font: 13px system-ui, sans-serif; --wanted: #b35900; --served: #0757ba; }
  @media (prefers-color-scheme: dark) { svg { color: #e6edf3; background: #0d1117; --wanted: #f0a53c; --served: #6cb0ff; } }
  text { fill: currentColor; }
  path { fill: none; }
  .title { font-weight: 600; }
  .grid { stroke: currentColor; stroke-opacity: 0.15; }
  .axis { stroke: currentColor; }
  .event { stroke: currentColor; stroke-opacity: 0.5; stroke-dasharray: 2 3; }
  .served { stroke: var(--served); stroke-width: 4; stroke-opacity: 0.6; }
  .wanted { stroke: var(--wanted); stroke-width: 2; stroke-dasharray: 5 3; }
</style>
<text class="title" x="${left}" y="20"${closer}>${escaped(options.title)}</text>
<path class="wanted" d="M${left} 38h28"/><text x="${left + 34}" y="42">wanted</text>
<path class="served" d="M${left + 110} 38h28"/><text x="${left + 144}" y="42">served by every process</text>
${events.length === 0 ? "" : `<path class="event" d="M${left + 330} 30v16"/><text x="${left + 338}" y="42">something happens</text>`}
${values.map((value) => `<path class="grid" d="M${left} ${y(value)}H${width - right}"/><text x="${left - 8}" y="${y(value) + 4}" text-anchor="end">${value}</text>`).join("\n")}
${times.map((at) => `<path class="axis" d="M${x(at)} ${height - bottom}v5"/><text x="${x(at)}" y="${height - bottom + 20}" text-anchor="middle">${shortClock(at)}</text>`).join("\n")}
${events.map((at) => `<path class="event" d="M${at} ${top}V${height - bottom}"/>`).join("\n")}
<path class="axis" d="M${left} ${top}V${height - bottom}H${width - right}"/>
<path class="served" d="${line(({ served }) => served)}"/>
<path class="wanted" d="${line(({ wanted }) => wanted)}"/>
</svg>
`
}

/** A line in steps. Of the values at one and the same point the lowest, the highest and the last are drawn. */
const pathOf = (
  samples: ReadonlyArray<Sample>,
  how: {
    readonly of: (sample: Sample) => number
    readonly x: (atMillis: number) => number
    readonly y: (value: number) => number
    readonly untilMillis: number
  }
): string => {
  const points = new Map<number, Array<number>>()
  for (const sample of samples) {
    const x = how.x(Math.min(sample.atMillis, how.untilMillis))
    const values = points.get(x)
    if (values === undefined) points.set(x, [how.of(sample)])
    else values.push(how.of(sample))
  }
  let last: number | undefined
  let path = ""
  for (const [x, values] of points) {
    const final = values.at(-1)!
    const lowest = values.reduce((a, b) => Math.min(a, b))
    const highest = values.reduce((a, b) => Math.max(a, b))
    const stops = [lowest, highest, final].filter((value, index, all) => value !== all[index - 1])
    if (last === undefined) path += `M${x} ${how.y(stops[0]!)}`
    else if (stops.length === 1 && final === last) continue
    else path += `H${x}`
    for (const stop of stops) path += `V${how.y(stop)}`
    last = final
  }
  return last === undefined ? "" : `${path}H${how.x(how.untilMillis)}`
}

const rounded = (n: number): number => Math.round(n * 2) / 2

const timeSteps = [1, 2, 5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400].map(
  (seconds) => seconds * 1000
)
const valueSteps = (highest: number): ReadonlyArray<number> =>
  Array.from({ length: Math.ceil(Math.log10(highest)) + 1 }, (_, power) => [1, 2, 5].map((n) => n * 10 ** power)).flat()

/** The smallest step that needs no more ticks than these. */
const stepOf = (whole: number, ticks: number, steps: ReadonlyArray<number>): number =>
  steps.find((step) => whole / step <= ticks) ?? Math.ceil(whole / ticks)

const shortClock = (millis: number): string => clock(millis).slice(0, -4)

const escaped = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;")
