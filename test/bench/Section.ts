/** What a part of the bench found, and how it is printed: the same text on a terminal and in docs/benchmarks.md. */

/** Which sizes are measured, and how often. */
export interface Effort {
  /**
   * - `full`: all that docs/benchmarks.md has.
   * - `quick`: a sample of every part that ends within a minute.
   * - `smoke`: the least that runs every line, for the tests. Its figures mean nothing.
   */
  readonly level: "full" | "quick" | "smoke"
  /** How often each side of a pair is measured. */
  readonly rounds: number
}

export interface Section {
  readonly title: string
  /** What is measured against what, in sentences. */
  readonly how: string
  readonly columns: ReadonlyArray<string>
  readonly rows: ReadonlyArray<ReadonlyArray<string>>
  /** What the figures mean, where that is not plain. */
  readonly notes?: ReadonlyArray<string>
}

/** A goal beside its figure: `≤ 1.5: met`. It is said, and never asserted. */
export const atMost = (limit: number, figure: number, unit = ""): string =>
  `≤ ${limit}${unit}: ${figure <= limit ? "met" : "missed"}`

/** The same for a goal from below. */
export const atLeast = (limit: number, figure: number, unit = ""): string =>
  `≥ ${limit}${unit}: ${figure >= limit ? "met" : "missed"}`

/** A time as it is read: three figures, and milliseconds or seconds. */
export const duration = (millis: number): string =>
  millis >= 10_000 ? `${(millis / 1000).toFixed(1)} s` : `${threeFigures(millis)} ms`

/** How many times as much. */
export const times = (ratio: number): string => `${threeFigures(ratio)}×`

/** A number with three figures that count. */
export const threeFigures = (value: number): string =>
  value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)

/** 10,000 for 10000. */
export const count = (value: number): string => value.toLocaleString("en-US")

/** The section as Markdown that can be read as it is. */
export const print = ({ columns, how, notes = [], rows, title }: Section): string => {
  const widths = columns.map((column, index) => Math.max(column.length, ...rows.map((row) => row[index]?.length ?? 0)))
  const line = (cells: ReadonlyArray<string>) =>
    `| ${columns.map((_, index) => (cells[index] ?? "").padEnd(widths[index]!)).join(" | ")} |`
  const table = [line(columns), `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`, ...rows.map(line)]
  return [
    `## ${title}`,
    how,
    table.join("\n"),
    ...(notes.length > 0 ? [notes.map((note) => `- ${note}`).join("\n")] : [])
  ]
    .join("\n\n")
    .concat("\n")
}
