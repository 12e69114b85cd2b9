/**
 * Reads the text of an `ep2.conf` as Python's configparser does with its default
 * settings (`ConfigParser()`, strict, BasicInterpolation), and keeps the line of
 * every key.
 *
 * | line, once the blanks around it are taken off | is |
 * | --- | --- |
 * | empty | part of the value it follows, except at its end |
 * | begins with `#` or `;` | a comment; elsewhere in a line, both are text |
 * | indented deeper than the key or section before it, after a key | one more line of that key's value |
 * | `[name]` | the start of a section; what stands behind the last `]` is ignored |
 * | `key = value`, `key : value` | a key: without regard to case, cut at the first `=` or `:` |
 * | anything else | an error |
 *
 * A section or a key that comes twice is an error; `[DEFAULT]` may come again.
 * Names of sections are kept as they are written. Other than Python with its
 * default encoding, a byte order mark is skipped.
 *
 * Source: Python's documentation of configparser; compared with Python itself in the tests.
 */
import { Result } from "effect"
import type { Problem } from "./SettingsError.ts"

/** One `key = value` of the file. */
export interface Entry {
  /** In lower case. */
  readonly key: string
  /** Where the key stands, from 1. */
  readonly line: number
  /** Lines joined by line feeds, `%` still as written: see `lookup`. */
  readonly raw: string
}

/** One section of the file. Keys are in lower case. */
export interface Section {
  /** As written in the brackets, blanks included. */
  readonly name: string
  readonly line: number
  readonly entries: ReadonlyMap<string, Entry>
}

/** The text in its parts. Values are as written. */
export interface ConfFile {
  /** `[DEFAULT]`: keys that every section has, unless it sets them itself. */
  readonly defaults: ReadonlyMap<string, Entry>
  /** In the order of the file, without `[DEFAULT]`. */
  readonly sections: ReadonlyArray<Section>
}

/**
 * Reads the whole text, whatever is wrong with it. Where there are `problems`,
 * `conf` is what could be read: of two entries of one name, the first.
 */
export const parse = (text: string): { readonly conf: ConfFile; readonly problems: ReadonlyArray<Problem> } => {
  const problems: Array<Problem> = []
  const defaults: OpenSection = { name: defaultName, line: 0, entries: new Map() }
  const sections = new Map<string, OpenSection>()
  let section: OpenSection | undefined
  let entry: OpenEntry | undefined
  let indent = 0
  let isHeaderMissing = false

  const openSection = (name: string, line: number): OpenSection => {
    if (name === defaultName) return defaults
    const fresh: OpenSection = { name, line, entries: new Map() }
    const before = sections.get(name)
    if (before === undefined) sections.set(name, fresh)
    else problems.push({ line, section: name, ...twice("section", before.line) })
    return fresh
  }

  const openEntry = (into: OpenSection, line: number, value: string): OpenEntry | undefined => {
    const end = value.search(/[=:]/)
    if (end === -1) {
      problems.push({ line, section: into.name, ...neither })
      return undefined
    }
    const key = trimBlanks(value.slice(0, end)).toLowerCase()
    const fresh: OpenEntry = { line, parts: [trimBlanks(value.slice(end + 1))] }
    const before = into.entries.get(key)
    if (key === "") problems.push({ line, section: into.name, ...nameless })
    else if (before === undefined) into.entries.set(key, fresh)
    else problems.push({ line, section: into.name, key, ...twice("key", before.line) })
    return fresh
  }

  for (const [index, whole] of text
    .replace(/^\uFEFF/, "")
    .split(/\r\n|\r|\n/)
    .entries()) {
    const line = index + 1
    const value = trimBlanks(whole)
    if (value === "") {
      entry?.parts.push("")
      continue
    }
    if (value.startsWith("#") || value.startsWith(";")) continue
    const depth = whole.search(nonBlank)
    if (entry !== undefined && depth > indent) {
      entry.parts.push(value)
      continue
    }
    indent = depth
    const name = /^\[(.+)\]/s.exec(value)?.[1]
    if (name !== undefined) {
      section = openSection(name, line)
      entry = undefined
    } else if (section !== undefined) {
      // A line that is no entry leaves the one before it open, so that its own further lines are not errors too.
      entry = openEntry(section, line, value) ?? entry
    } else if (!isHeaderMissing) {
      isHeaderMissing = true
      problems.push({ line, ...headless })
    }
  }

  return {
    conf: { defaults: closed(defaults).entries, sections: [...sections.values()].map(closed) },
    problems
  }
}

/**
 * The value of a key with `%(name)s` and `%%` resolved, or `undefined` where
 * neither the section nor `[DEFAULT]` has it. `key` is in lower case. Values are
 * resolved when they are asked for, as in Python: a stray `%` in a key that
 * nobody reads is no error.
 *
 * Fails with the problem, without the value.
 */
export const lookup = (
  conf: ConfFile,
  section: Section,
  key: string
): { readonly entry: Entry; readonly value: Result.Result<string, Problem> } | undefined => {
  const entry = section.entries.get(key) ?? conf.defaults.get(key)
  if (entry === undefined) return undefined
  const find = (name: string) => section.entries.get(name)?.raw ?? conf.defaults.get(name)?.raw
  const value = resolve(entry.raw, find, { depth: 1, left: mostReferences })
  return {
    entry,
    value: Result.mapError(value, (why) => ({ line: entry.line, section: section.name, key, ...why }))
  }
}

/** The names (in lower case) that some value of the section, `[DEFAULT]` included, refers to as `%(name)s`. */
export const references = (conf: ConfFile, section: Section): ReadonlySet<string> => {
  const entries = [...section.entries.values(), ...conf.defaults.values()]
  return new Set(
    entries.flatMap(({ raw }) => [...raw.matchAll(/%\(([^)]+)\)s/g)].map((match) => match[1]!.toLowerCase()))
  )
}

interface OpenEntry {
  readonly line: number
  readonly parts: Array<string>
}

interface OpenSection {
  readonly name: string
  readonly line: number
  readonly entries: Map<string, OpenEntry>
}

const closed = ({ name, line, entries }: OpenSection): Section => ({
  name,
  line,
  entries: new Map(
    Array.from(entries, ([key, entry]) => [
      key,
      { key, line: entry.line, raw: entry.parts.join("\n").replace(blanksAtEnd, "") }
    ])
  )
})

const defaultName = "DEFAULT"

// What Python's `str.isspace` takes for blank; JavaScript's own idea differs in both directions.
const blank = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000"
const nonBlank = new RegExp(`[^${blank}]`)
const blanksAtStart = new RegExp(`^[${blank}]+`)
const blanksAtEnd = new RegExp(`(?<![${blank}])[${blank}]+$`)

const trimBlanks = (text: string): string => text.replace(blanksAtStart, "").replace(blanksAtEnd, "")

type Why = Pick<Problem, "found" | "expected" | "hint">

// The text of a broken line is never shown: it may be half of a secret.
const neither: Why = {
  found: 'a line without "=" or ":"',
  expected: "key = value, [section], or an indented further line of a value"
}
const nameless: Why = { found: 'no key before the "=" or ":"', expected: "key = value" }
const headless: Why = { found: "a line before the first section", expected: "a section such as [haproxy] first" }
const twice = (what: string, line: number): Why => ({
  found: `the same ${what} as in line ${line}`,
  expected: `each ${what} once`
})

/** Python's own bound: a value may refer to one that refers to another, up to this deep. */
const deepest = 10

/** Ours: ten levels of references, several each, would otherwise multiply without end. */
const mostReferences = 10_000

const resolve = (
  raw: string,
  find: (name: string) => string | undefined,
  bounds: { readonly depth: number; left: number }
): Result.Result<string, Why> => {
  if (bounds.depth > deepest) return Result.fail({ found: "references that go in a circle or too deep", ...atMost })
  let text = ""
  let from = 0
  for (let at = raw.indexOf("%"); at !== -1; at = raw.indexOf("%", from)) {
    text += raw.slice(from, at)
    if (raw.startsWith("%%", at)) {
      text += "%"
      from = at + 2
      continue
    }
    reference.lastIndex = at
    const name = reference.exec(raw)?.[1]
    if (name === undefined) return Result.fail(strayPercent)
    from = reference.lastIndex
    const referred = find(name.toLowerCase())
    if (referred === undefined) {
      return Result.fail({ found: `%(${name})s, which is a key neither here nor in [DEFAULT]`, ...knownName })
    }
    if (--bounds.left < 0) return Result.fail({ found: `more than ${mostReferences} references`, ...atMost })
    const inner = { depth: bounds.depth + 1, left: bounds.left }
    const resolved = referred.includes("%") ? resolve(referred, find, inner) : Result.succeed(referred)
    if (Result.isFailure(resolved)) return resolved
    bounds.left = inner.left
    text += resolved.success
  }
  return Result.succeed(text + raw.slice(from))
}

const reference = /%\(([^)]+)\)s/y

const atMost = { expected: `values that refer to one another at most ${deepest} deep` }
const strayPercent: Why = {
  found: 'a "%" that is neither "%%" nor the start of %(name)s',
  expected: "%% for a plain percent sign"
}
const knownName = {
  expected: "%(name)s with a key of this section or of [DEFAULT]",
  hint: "%% is a plain percent sign"
}
