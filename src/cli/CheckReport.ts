/** What `ep2 check` found, as a list with a mark per line or as JSON. */

/** - `ok`: as it should be. - `warning`: ep2 works, and something is likely to hurt. - `problem`: ep2 will not do its work. */
export type Level = "ok" | "warning" | "problem"

/** What was looked at, in the order of the report. */
export const subjects = ["conf", "haproxy", "template", "socket", "source", "files", "lock"] as const

/** One thing that was looked at, and whether it is well. */
export interface Finding {
  readonly level: Level
  /** A file with its line, a socket, a source: where to look. */
  readonly place: string
  /** What was found; of what is not well also what was expected and what to do. One line. */
  readonly text: string
}

/** A finding and what it is about. */
export interface Entry extends Finding {
  readonly subject: (typeof subjects)[number]
}

/** Something is as it should be. */
export const ok = (place: string, text: string): Finding => ({ level: "ok", place, text })
/** Something that may hurt; `ep2 check` ends with 0 all the same. */
export const warning = (place: string, text: string): Finding => ({ level: "warning", place, text })
/** Something that keeps ep2 from its work. */
export const problem = (place: string, text: string): Finding => ({ level: "problem", place, text })

/** A message of an error of ours, `place: what is wrong`, in its two parts. */
export const placed = (level: Level, message: string): Finding => {
  const at = message.indexOf(": ")
  return at === -1
    ? { level, place: "", text: message }
    : { level, place: message.slice(0, at), text: message.slice(at + 2) }
}

const colours: Readonly<Record<Level, number>> = { ok: 32, warning: 33, problem: 31 }
const markWidth = "problem".length

/** The whole list, grouped by subject, with the numbers behind it. */
export const lines = (entries: ReadonlyArray<Entry>, { isColoured }: { readonly isColoured: boolean }) => {
  const paint = (text: string, code: number) => (isColoured ? `\u001b[${code}m${text}\u001b[0m` : text)
  const groups = subjects.flatMap((subject) => {
    const found = entries.filter((entry) => entry.subject === subject)
    if (found.length === 0) return []
    const marked = found.map(({ level, place, text }) => {
      const mark = paint(level.padEnd(markWidth), colours[level])
      return `  ${mark}  ${place === "" ? "" : `${place}: `}${text}`
    })
    return [paint(subject, 1), ...marked]
  })
  return [...groups, "", summary(entries)]
}

/** The same for programs. */
export const json = (entries: ReadonlyArray<Entry>): string => {
  const { problems, warnings } = count(entries)
  return JSON.stringify({ isOk: problems === 0, problems, warnings, findings: entries }, undefined, 2)
}

/** How many there are of what is not well. */
export const count = (entries: ReadonlyArray<Entry>) => ({
  problems: entries.filter(({ level }) => level === "problem").length,
  warnings: entries.filter(({ level }) => level === "warning").length
})

const summary = (entries: ReadonlyArray<Entry>): string => {
  const { problems, warnings } = count(entries)
  const some = (number: number, word: string) => `${number === 0 ? "no" : number} ${word}${number === 1 ? "" : "s"}`
  return `${some(problems, "problem")}, ${some(warnings, "warning")}`
}
