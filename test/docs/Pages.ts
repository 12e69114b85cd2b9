/**
 * The pages of the documentation and their fenced blocks. docs/decisions/docs.md has the
 * rules for who writes a block: its language, and the marks behind it.
 *
 *     ```sh no-test: needs root
 *     ```sh exit: 5
 *     ```ini file: /etc/ep2/ep2.conf
 */
import { readdirSync, readFileSync } from "node:fs"
import { join, relative, resolve } from "node:path"

const root = resolve(import.meta.dirname, "../..")

/** A fenced block. */
export interface Block {
  /** From the root of the checkout: `docs/operations.md`. */
  readonly page: string
  /** Line of its opening fence, from 1. */
  readonly line: number
  /** The first word behind the fence; empty where there is none. */
  readonly language: string
  /** Mark → what stands behind its colon; empty where there is none. */
  readonly marks: ReadonlyMap<string, string>
  /** Its lines, without the indentation of the fence, each ending in a line feed. */
  readonly text: string
  /** What `<!-- test: … -->` comments right before it say. */
  readonly before: ReadonlyArray<string>
  /** Nothing but blank lines stands between it and the block before. */
  readonly isAfterBlock: boolean
}

/** README.md and everything in docs/ that is Markdown. */
export const all = (): ReadonlyArray<string> => [
  "README.md",
  ...readdirSync(join(root, "docs"), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(".md"))
    .map(({ name, parentPath }) => relative(root, join(parentPath, name)))
    .toSorted()
]

/** The text of a page. */
export const read = (page: string): string => readFileSync(join(root, page), "utf8")

/** Where a block stands, for messages. */
export const placeOf = ({ line, page }: Block): string => `${page}:${line}`

/** The blocks of a page, in their order. */
export const blocksOf = (page: string, markdown: string): ReadonlyArray<Block> => {
  const blocks: Array<Block> = []
  const lines = markdown.split("\n")
  let before: Array<string> = []
  let isAfterBlock = false
  for (let index = 0; index < lines.length; index++) {
    const [, indent = "", fence, info = ""] = /^( *)(```+|~~~+)(.*)$/.exec(lines[index]!) ?? []
    if (fence === undefined) {
      const [, said] = /^ *<!-- test: (.*) -->$/.exec(lines[index]!) ?? []
      if (said !== undefined) before.push(said)
      else if (lines[index]!.trim() !== "") [before, isAfterBlock] = [[], false]
      continue
    }
    const end = lines.findIndex((one, at) => at > index && one.trim() === fence)
    if (end === -1) throw new Error(`${page}:${index + 1}: the block has no end`)
    const text = lines
      .slice(index + 1, end)
      .map((one) => `${one.startsWith(indent) ? one.slice(indent.length) : one}\n`)
    const [, language = "", marks = ""] = /^(\S*)\s*(.*)$/.exec(info.trim()) ?? []
    blocks.push({
      page,
      line: index + 1,
      language,
      marks: marksOf(marks),
      text: text.join(""),
      before,
      isAfterBlock
    })
    index = end
    before = []
    isAfterBlock = true
  }
  return blocks
}

/** A reason may hold anything, so that `no-test` is the only mark of its block. */
const marksOf = (text: string): ReadonlyMap<string, string> => {
  if (text === "") return new Map()
  const parts = text.startsWith("no-test") ? [text] : text.split(";")
  return new Map(
    parts.map((part) => {
      const [, name = "", value = ""] = /^([^:]*):?(.*)$/s.exec(part.trim()) ?? []
      return [name.trim(), value.trim()]
    })
  )
}

/** The marks that each language takes, besides `no-test`. A language that is not here is not tested. */
export const languages: Readonly<Record<string, ReadonlyArray<string>>> = {
  sh: ["exit", "background"],
  console: ["exit", "shows"],
  text: [],
  ini: ["file"],
  haproxy: ["file"],
  yaml: ["file"],
  json: ["file"],
  ts: ["signature", "with"],
  nix: [],
  mermaid: []
}

/** What is wrong with the head of a block; `undefined` where it keeps to the rules. */
export const flawOf = ({ language, marks }: Block): string | undefined => {
  if (language === "") return "a block without a language; `text` is one that nothing is done with"
  const reason = marks.get("no-test")
  if (reason !== undefined) return reason === "" ? "no-test without a reason" : undefined
  const known = languages[language]
  if (known === undefined) return `${language} is no language that the tests know; say why not: no-test: REASON`
  const unknown = [...marks.keys()].find((mark) => !known.includes(mark))
  return unknown === undefined ? undefined : `${language} has no mark ${JSON.stringify(unknown)}`
}
