/**
 * What is wrong with an `ep2.conf`, told to the operator: every problem of the
 * file at once, one line each.
 */
import { Schema } from "effect"

/** One problem of the file. A secret never stands in it. */
export const Problem = Schema.Struct({
  /** From 1; absent where no line is to blame, as for a key that is missing. */
  line: Schema.optionalKey(Schema.Int),
  /** Without the brackets: `haproxy`. */
  section: Schema.optionalKey(Schema.String),
  key: Schema.optionalKey(Schema.String),
  /** As the file has it, `%(name)s` filled in. */
  value: Schema.optionalKey(Schema.String),
  /** What was found, where the value does not say it. */
  found: Schema.optionalKey(Schema.String),
  expected: Schema.String,
  /** What to write instead, or why. */
  hint: Schema.optionalKey(Schema.String)
})
export interface Problem extends Schema.Schema.Type<typeof Problem> {}

/** A place in a file, as far as it is known. */
export type Place = Pick<Problem, "line" | "section" | "key" | "value">

/** `/etc/ep2/ep2.conf:12: [haproxy] node_slots = "abc"`, or as much of it as the place knows. */
export const describePlace = (file: string, { line, section, key, value }: Place): string => {
  const at = line === undefined ? file : `${file}:${line}`
  const names = [section === undefined ? [] : `[${printable(section)}]`, key === undefined ? [] : printable(key)].flat()
  if (names.length === 0) return at
  return `${at}: ${names.join(" ")}${value === undefined ? "" : ` = ${quoted(value)}`}`
}

/** The problem in one line: the place, what was found, what was expected, what to do. */
export const describeProblem = (file: string, problem: Problem): string => {
  const words = [problem.found, `expected ${problem.expected}`, problem.hint].filter((one) => one !== undefined)
  return `${describePlace(file, problem)}: ${words.join("; ")}`
}

/** The file cannot be used. Carries all that is wrong with it, in the order of its lines. */
export class SettingsError extends Schema.TaggedError<SettingsError>()("SettingsError", {
  /** Path of the file, as it was given. */
  file: Schema.String,
  problems: Schema.NonEmptyArray(Problem)
}) {
  /** One line per problem. */
  override get message() {
    return this.problems.map((problem) => describeProblem(this.file, problem)).join("\n")
  }
}

const longestShown = 100

const quoted = (value: string): string => `"${printable(value)}"`

/** On one line, whatever is in it, and never longer than a line should be. */
const printable = (text: string): string => {
  const escaped = JSON.stringify(text)
    .slice(1, -1)
    .replace(/\\"/g, '"')
    .replace(/[\x7f-\x9f\u2028\u2029]/g, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`)
  return escaped.length <= longestShown ? escaped : `${escaped.slice(0, longestShown)}…`
}
