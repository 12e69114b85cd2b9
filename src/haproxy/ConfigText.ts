/**
 * HAProxy's config language, as far as ep2 has to read it: words and sections.
 * Pure, and never throws on any text.
 *
 * Source: HAProxy configuration manual, 2.2 "Quoting and escaping" and the list
 * of sections that follows it.
 */

export interface Words {
  readonly words: ReadonlyArray<string>
  /** False where a comment cut the line short or a quote was left open: what is put behind it would not count. */
  readonly isWhole: boolean
}

/**
 * Splits a line as HAProxy does: blanks part words, quotes and backslashes hold
 * them together, `#` begins a comment. Variables and `\x41` stay as written.
 */
export const split = (line: string): Words => {
  const words: Array<string> = []
  let word: string | undefined
  let quote = ""
  for (let at = 0; at < line.length; at++) {
    const char = line[at]!
    if (quote !== "" && char === quote) quote = ""
    else if (quote === "'") word = (word ?? "") + char
    else if (char === "\\" && at + 1 < line.length) word = (word ?? "") + unescaped(line[++at]!)
    else if (quote !== "") word = (word ?? "") + char
    else if (char === '"' || char === "'") {
      quote = char
      word ??= ""
    } else if (char === "#") {
      return { words: word === undefined ? words : [...words, word], isWhole: false }
    } else if (/\s/.test(char)) {
      if (word !== undefined) words.push(word)
      word = undefined
    } else word = (word ?? "") + char
  }
  return { words: word === undefined ? words : [...words, word], isWhole: quote === "" }
}

const unescaped = (char: string): string => ({ r: "\r", n: "\n", t: "\t" })[char] ?? char

/** One section of a config: its lines, by their indexes from 0. */
export interface Section {
  /** `listen`, `backend`, `global`, … */
  readonly kind: string
  /** Empty where the section has none, as `global`. */
  readonly name: string
  /** Index of its first line, the one with its name. */
  readonly begin: number
  /** Index behind its last line. */
  readonly end: number
}

const kinds = new Set([
  "acme",
  "backend",
  "cache",
  "crt-store",
  "defaults",
  "fcgi-app",
  "frontend",
  "global",
  "http-errors",
  "listen",
  "log-forward",
  "log-profile",
  "mailers",
  "peers",
  "program",
  "resolvers",
  "ring",
  "traces",
  "userlist"
])

/** The sections of a config, in order. Lines before the first belong to none. */
export const sections = (lines: ReadonlyArray<string>): ReadonlyArray<Section> => {
  const begins = lines.flatMap((line, begin) => {
    const [kind = "", name = ""] = split(line).words
    return kinds.has(kind) ? [{ kind, name, begin }] : []
  })
  return begins.map((section, index) => ({ ...section, end: begins[index + 1]?.begin ?? lines.length }))
}

/** Whether servers of a backend with that name can stand in the section. */
export const isBackend = ({ kind }: Section): boolean => kind === "backend" || kind === "listen"

/** The names of the `server` lines of a backend, in order. */
export const serverNames = (text: string, backend: string): ReadonlyArray<string> => {
  const lines = text.split("\n")
  return sections(lines)
    .filter((section) => isBackend(section) && section.name === backend)
    .flatMap(({ begin, end }) => lines.slice(begin, end))
    .flatMap((line) => {
      const [keyword, name] = split(line).words
      return keyword === "server" && name !== undefined ? [name] : []
    })
}

/** A line of a config. */
export interface Line {
  readonly words: ReadonlyArray<string>
  /** From 0. */
  readonly index: number
}

/**
 * The lines that count for the first section that is meant, nearest first: its own,
 * then those of the `defaults` behind it. None where there is no such section.
 */
export const layersOf = (
  lines: ReadonlyArray<string>,
  isMeant: (section: Section) => boolean
): ReadonlyArray<ReadonlyArray<Line>> => {
  const all = sections(lines)
  const found: Array<ReadonlyArray<Line>> = []
  const seen = new Set<number>()
  let at = all.findIndex(isMeant)
  while (at !== -1 && !seen.has(at)) {
    seen.add(at)
    const { begin, end } = all[at]!
    found.push(lines.slice(begin, end).map((line, offset) => ({ words: split(line).words, index: begin + offset })))
    at = parentOf(lines, all, at)
  }
  return found
}

/** The line that decides: the last one of its layer, of the nearest layer that has one. */
export const lastLine = (
  layers: ReadonlyArray<ReadonlyArray<Line>>,
  is: (words: ReadonlyArray<string>) => boolean
): Line | undefined =>
  layers.map((lines) => lines.findLast(({ words }) => is(words))).find((found) => found !== undefined)

/** The `defaults` section that a section takes its own from: the one that it names, else the last one before it. */
const parentOf = (lines: ReadonlyArray<string>, all: ReadonlyArray<Section>, at: number): number => {
  const section = all[at]!
  const header = split(lines[section.begin] ?? "").words
  const from = header.indexOf("from")
  if (from !== -1) return all.findLastIndex(({ kind, name }) => kind === "defaults" && name === header[from + 1])
  // A `defaults` section takes from another one only where it says so.
  return section.kind === "defaults" ? -1 : all.slice(0, at).findLastIndex(({ kind }) => kind === "defaults")
}
