/**
 * What happened in a simulation, line by line, as a person reads it:
 *
 * ```
 * 00:01:00.000  * event the source names 2 endpoints for web
 * 00:01:00.250    ep2   added node2 10.0.0.2:8080
 * ```
 *
 * Lines that differ only in their numbers and follow one another are folded.
 */

export interface Entry {
  /** From the start of the simulation. */
  readonly atMillis: number
  /**
   * - `event`: the scenario did it.
   * - `ep2`: ep2 did it, in the words of its log, which say why.
   * - `rule`: a rule was broken.
   */
  readonly kind: "event" | "ep2" | "rule"
  readonly level: "debug" | "info" | "warning" | "error"
  readonly text: string
}

/** `00:12:03.250`; hours go on past 24. */
export const clock = (millis: number): string => {
  const whole = Math.max(0, Math.round(millis))
  const two = (n: number) => String(n).padStart(2, "0")
  const seconds = Math.floor(whole / 1000)
  const rest = String(whole % 1000).padStart(3, "0")
  return `${two(Math.floor(seconds / 3600))}:${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}.${rest}`
}

/** How many lines of one kind are shown before the rest of them is counted. */
const shownOfOneKind = 2

/** The timeline, a line each, in the order of the times. Entries below `info` are left out. */
export const lines = (entries: ReadonlyArray<Entry>): ReadonlyArray<string> => {
  const shown = entries.filter(({ level }) => level !== "debug").toSorted((a, b) => a.atMillis - b.atMillis)
  const runs: Array<[Entry, ...Array<Entry>]> = []
  for (const entry of shown) {
    const run = runs.at(-1)
    if (run !== undefined && isAlike(run[0], entry)) run.push(entry)
    else runs.push([entry])
  }
  return runs.flatMap((run) => {
    // A single one more takes no more room than the words that count it.
    if (run.length <= shownOfOneKind + 1) return run.flatMap(written)
    const last = run.at(-1)!
    const folded = run.length - shownOfOneKind
    return [
      ...run.slice(0, shownOfOneKind).flatMap(written),
      `${clock(last.atMillis)}  ${marks[last.kind]} … and ${folded} more like this, the last one: ${firstLine(last.text)}`
    ]
  })
}

const marks: Record<Entry["kind"], string> = { event: "* event", ep2: "  ep2  ", rule: "! rule " }
const levels: Record<Entry["level"], string> = { debug: "", info: "", warning: "warning: ", error: "error: " }

const written = ({ atMillis, kind, level, text }: Entry): ReadonlyArray<string> => {
  const [first = "", ...others] = text.trimEnd().split("\n")
  const word = kind === "ep2" ? levels[level] : ""
  return [
    `${clock(atMillis)}  ${marks[kind]} ${word}${first}`,
    ...others.map((line) => `${" ".repeat(clock(0).length + marks.ep2.length + 3)}${line}`)
  ]
}

const firstLine = (text: string): string => text.split("\n", 1)[0]!

const isAlike = (one: Entry, other: Entry): boolean =>
  one.kind === other.kind && one.level === other.level && withoutNumbers(one.text) === withoutNumbers(other.text)

const withoutNumbers = (text: string): string => text.replace(/\d+/g, "#")
