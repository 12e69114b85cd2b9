/** What came of the demo, and whether that is what it promises. */
import type { Outcome } from "./Acts.ts"
import type { Totals } from "./Audience.ts"
import * as Picture from "./Picture.ts"
import { paint } from "./Screen.ts"

export interface Summary {
  readonly lines: ReadonlyArray<string>
  /** No request failed, and every act was served. */
  readonly isGood: boolean
}

const shownFailures = 10

export const make = (of: {
  readonly outcomes: ReadonlyArray<Outcome>
  readonly totals: Totals
  readonly reloads: number
  /** On `performance.now()`. */
  readonly began: number
}): Summary => {
  const { began, outcomes, reloads, totals } = of
  const problems = outcomes.filter(({ problem }) => problem !== "")
  const isGood = totals.failed === 0 && totals.requests > 0 && problems.length === 0
  const width = Math.max(...outcomes.map(({ title }) => title.length))
  const failures = totals.failures
    .slice(0, shownFailures)
    .map(({ at, reason }) => `            ${((at - began) / 1000).toFixed(2)} s  ${reason}`)
  const lines = [
    paint("bold", "Summary"),
    `  requests  ${totals.requests.toLocaleString("en")}, of which ${Picture.failed(totals)}`,
    ...failures,
    ...(totals.failed > shownFailures ? [`            and ${totals.failed - shownFailures} more`] : []),
    ...answered(totals),
    `  reloads   ${reloads}`,
    ...under("changes", [
      paint("dim", `${"".padEnd(width)}  time from the change to the first answer`),
      ...outcomes.map(
        ({ problem, title, took }) => `${title.padEnd(width)}  ${problem === "" ? took : paint("red", problem)}`
      )
    ]),
    "",
    isGood
      ? paint(["green", "bold"], "No request failed, and every change was served.")
      : paint(
          ["red", "bold"],
          `Failed: ${totals.failed} requests failed, changes that were not served: ${problems.length}.`
        )
  ]
  return { lines, isGood }
}

/** Who answered how often, a line for each generation of servers. */
const answered = ({ byServer }: Totals): ReadonlyArray<string> => {
  const servers = [...byServer].toSorted(([one], [other]) => one.localeCompare(other, "en", { numeric: true }))
  const generations = Map.groupBy(servers, ([name]) => name.split("-")[0])
  return under(
    "answered",
    [...generations.values()].flatMap((group) =>
      rowsOf(group.map(([name, count]) => `${Picture.painted(name, name)} ${count.toLocaleString("en")}`))
    )
  )
}

const perRow = 5

const rowsOf = (words: ReadonlyArray<string>): ReadonlyArray<string> =>
  words.length === 0 ? [] : [words.slice(0, perRow).join(", "), ...rowsOf(words.slice(perRow))]

const under = (title: string, lines: ReadonlyArray<string>): ReadonlyArray<string> =>
  lines.map((line, index) => `  ${(index === 0 ? title : "").padEnd(8)}  ${line}`)
