/**
 * One section of the file through its Schema: every key that is refused becomes
 * a problem, and the others are decoded all the same.
 */
import { Redacted, Result, Schema, type SchemaIssue, Struct } from "effect"
import * as ConfFile from "./ConfFile.ts"
import * as Key from "./Key.ts"
import type { Given } from "./Rules.ts"
import type { Place, Problem } from "./SettingsError.ts"
import { hintOf } from "./Value.ts"

/** A section's Schema: text in, nothing needed. */
export type SectionSchema = Schema.Struct<Readonly<Record<string, Schema.Codec<unknown, unknown>>>>

/** The texts of a section's keys, `%` resolved; empty ones left out. */
export interface Texts {
  readonly name: string
  readonly values: Readonly<Record<string, string>>
  /** Where each key stands, those that are empty or cannot be resolved included. */
  readonly places: ReadonlyMap<string, Place>
  /** Where the section begins, if it is there. */
  readonly line: number | undefined
  /** Keys whose `%` cannot be resolved. */
  readonly problems: ReadonlyArray<Problem>
  /** What must not be shown. */
  readonly secrets: ReadonlyArray<Redacted.Redacted<string>>
}

/** A section, as far as its values were accepted. */
export interface Decoded<A> extends Given<A> {
  /** The whole section, where nothing was refused. */
  readonly whole: A | undefined
  readonly problems: ReadonlyArray<Problem>
}

/** What is found where there is nothing. */
export const missing = "missing"

/** Takes the known keys of a section out of the file. A section that the file does not have is one without keys. */
export const textsOf = (
  conf: ConfFile.ConfFile,
  name: string,
  schema: SectionSchema,
  section: ConfFile.Section | undefined
): Texts => {
  const values: Record<string, string> = {}
  const places = new Map<string, Place>()
  const problems: Array<Problem> = []
  const secrets: Array<Redacted.Redacted<string>> = []
  for (const [key, field] of Object.entries(schema.fields)) {
    const found = section === undefined ? undefined : ConfFile.lookup(conf, section, key)
    if (found === undefined) continue
    places.set(key, { line: found.entry.line, section: name })
    if (Result.isFailure(found.value)) {
      problems.push(found.value.failure)
      continue
    }
    const text = found.value.success.trim()
    if (text === "") continue
    values[key] = text
    if (Key.docOf(field).isSecret) secrets.push(Redacted.make(text))
  }
  return { name, values, places, line: section?.line, problems, secrets }
}

/** Decodes a section, and says what is wrong with each key that was refused or is missing. */
export const decode = <S extends SectionSchema>(schema: S, texts: Texts): Decoded<S["Type"]> => {
  const unresolved = new Set(texts.problems.map(({ key }) => key))
  const has = (key: string) => texts.values[key] !== undefined || unresolved.has(key)
  const place = (key: string): Place => {
    const { line } = texts
    return { ...(texts.places.get(key) ?? { ...(line !== undefined && { line }), section: texts.name }), key }
  }
  const result = decodeWith(schema, texts.values)
  if (Result.isSuccess(result) && unresolved.size === 0) {
    return { values: result.success, whole: result.success, has, place, problems: [] }
  }
  const refused = new Map(Result.isSuccess(result) ? [] : leavesOf(result.failure.issue))
  const bad = [...refused.keys(), ...unresolved].filter((key) => key !== undefined)
  const rest = decodeWith(Schema.Struct(Struct.omit(schema.fields, bad)), texts.values)
  return {
    values: Result.getOrElse(rest, () => ({})) as Partial<S["Type"]>,
    whole: undefined,
    has,
    place,
    problems: [
      ...texts.problems,
      ...[...refused]
        .filter(([key]) => !unresolved.has(key))
        .map(([key, issue]) => problemOf(Key.docOf(schema.fields[key]!), place(key), texts, issue))
    ]
  }
}

const decodeWith = <S extends SectionSchema>(schema: S, values: Readonly<Record<string, string>>) =>
  Schema.decodeResult(schema, { errors: "all" })(values) as Result.Result<S["Type"], Schema.SchemaError>

const problemOf = (
  { expected, isSecret }: Key.DocumentedKey,
  place: ReturnType<Given<Record<string, unknown>>["place"]>,
  { places, values }: Texts,
  issue: SchemaIssue.Issue
): Problem => {
  const key = place.key ?? ""
  const value = values[key]
  if (value === undefined) return { ...place, found: places.has(key) ? "empty" : missing, expected }
  const hint = hintOf(issue)
  return { ...place, value: isSecret ? "…" : value, expected, ...(hint !== undefined && { hint }) }
}

/** The innermost issue of every key. */
const leavesOf = (issue: SchemaIssue.Issue, key = ""): ReadonlyArray<readonly [string, SchemaIssue.Issue]> => {
  switch (issue._tag) {
    case "Pointer":
      return leavesOf(issue.issue, key === "" ? String(issue.path[0] ?? "") : key)
    case "Encoding":
    case "Filter":
      return leavesOf(issue.issue, key)
    case "Composite":
      return issue.issues.flatMap((one) => leavesOf(one, key))
    default:
      return [[key, issue]]
  }
}
