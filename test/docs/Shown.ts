/**
 * Whether a page shows what a command says. A `console` block shows all of it, to the letter,
 * and `npm run docs` writes it anew. The `text` block right behind an `sh` block shows what
 * that says, with `…` for what is left out: on a line of its own for any lines, in a line for
 * any of its words. In such a block times, pids, versions and the number of blanks do not count.
 */
import type { Block } from "./Pages.ts"
import * as Session from "./Session.ts"

/** What differs from run to run, or with the width of something that does. */
const plain = (text: string): string =>
  text
    .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, "TIME")
    .replace(/\bpid \d+/g, "pid N")
    .replace(/\b\d+\.\d+ s\b/g, "N s")
    .replace(/\b(HAProxy|Node|Effect|ep2) v?\d+\.\d+[\w.+~-]*/g, "$1 V")
    .replace(/[ \t]+/g, " ")
    .replace(/ $/gm, "")
    .trim()

/** Whether `text` shows `output`. */
export const isShown = (text: string, output: string): boolean => {
  const pattern = plain(text)
    .split("\n")
    .map((line) => (line.trim() === "…" ? "(?:.*\n)*" : `${line.split("…").map(escaped).join(".*")}\n`))
    .join("")
  return new RegExp(`^${pattern}$`).test(`${plain(output)}\n`)
}

const escaped = (text: string) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")

/** The `console` blocks of a page with what their commands have said just now. */
export const renewed = (page: string, ran: ReadonlyArray<Session.Ran>): string => {
  const lines = page.split("\n")
  const shown = new Map<Block, Array<string>>()
  for (const { block, number, output = "" } of ran) {
    if (block.language !== "console") continue
    const { command } = Session.commandsOf(block.text)[number]!
    shown.set(block, [...(shown.get(block) ?? []), `$ ${command}`, ...(output === "" ? [] : [output.trimEnd()])])
  }
  for (const [block, text] of [...shown].reverse()) lines.splice(block.line, block.text.split("\n").length - 1, ...text)
  return lines.join("\n")
}
