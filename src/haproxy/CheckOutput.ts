/**
 * Reads what HAProxy says about a config, and finds the line of the template
 * that it means. Its words stay its own.
 */

/** What `haproxy` said about one file. */
export interface Said {
  readonly output: string
  /** The file that it was given. */
  readonly file: string
  /** The file that the operator knows instead. */
  readonly shownAs: string
  /** The template's line that a line of the file came from; both from 1. */
  readonly templateLine: ((line: number) => number | undefined) | undefined
}

/**
 * The first thing that is wrong, in one line: `haproxy.cfg:17 (template line
 * 12): unknown keyword 'bogus' in 'global' section`.
 */
export const firstError = (said: Said): string => {
  const alerts = entries(said.output).filter(({ level }) => level === "ALERT")
  const told = alerts.find(({ text }) => placeOf(text, said.file) !== undefined) ?? alerts[0]
  const words = told?.text ?? said.output.trim().split("\n").at(-1) ?? ""
  return words === "" ? "it says nothing more" : withPlace(words, said)
}

/** Each warning in one line, as in `firstError`. */
export const warnings = (said: Said): ReadonlyArray<string> =>
  entries(said.output)
    .filter(({ level }) => level === "WARNING")
    .map(({ text }) => withPlace(text, said))

interface Entry {
  readonly level: string
  readonly text: string
}

/**
 * `[ALERT]    (11265) : config : parsing [FILE:17] : …`, and the same with a
 * date before the pid on 2.2. Lines without such a head belong to the entry before.
 */
const entries = (output: string): ReadonlyArray<Entry> => {
  const found: Array<Entry> = []
  for (const line of output.split("\n")) {
    const head = /^\[(ALERT|WARNING|NOTICE|INFO|DIAG|DEBUG)\]\s+(?:\S+\s+)?\(\d+\) : (?:config : )?(.*)$/.exec(line)
    const last = found.at(-1)
    if (head !== null) found.push({ level: head[1]!, text: head[2]! })
    else if (last !== undefined && line.trim() !== "") {
      found[found.length - 1] = { level: last.level, text: `${last.text} ${line.trim()}` }
    }
  }
  return found
}

/** The line of the file that the words name first; `undefined` when they name none. */
const placeOf = (text: string, file: string): number | undefined => {
  const at = text.indexOf(`${file}:`)
  const line = at === -1 ? null : /^\d+/.exec(text.slice(at + file.length + 1))
  return line === null ? undefined : Number(line[0])
}

const withPlace = (text: string, said: Said): string => {
  const line = placeOf(text, said.file)
  const templateLine = line === undefined ? undefined : said.templateLine?.(line)
  const shown = text.replaceAll(said.file, said.shownAs)
  return templateLine === undefined ? shown : `${shown} (line ${templateLine} of the template)`
}
