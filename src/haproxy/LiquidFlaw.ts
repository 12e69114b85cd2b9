/**
 * Says what is wrong with a template in the words of somebody who writes one
 * for HAProxy: liquidjs reports the place, this says what to write there. Pure.
 */
import { distance } from "fastest-levenshtein"
import { LiquidError } from "liquidjs"

/** Tags of Liquid that read another file. ep2 does not know them. */
export const tagsOfOtherFiles = ["include", "render", "layout", "block"] as const

/** What is wrong with a template. */
export interface Flaw {
  /** Line of the template, from 1, where one is known. */
  readonly line?: number
  /** What was found, what was expected and what to write instead. */
  readonly detail: string
}

/** What an error of liquidjs means. `backends` are those that `{{ backends.NAME.nodes }}` knows. */
export const explain = (error: unknown, source: string, backends: ReadonlyArray<string>): Flaw => {
  if (!(error instanceof Error)) return { detail: `cannot be rendered: ${String(error)}` }
  if (!LiquidError.is(error)) return { detail: `cannot be rendered: ${oneLine(error.message)}` }
  const [line] = error.token.getPosition()
  const detail = detailOf(error, source, backends)
  return line === undefined ? { detail } : { line, detail }
}

const asText = "text with {{ or {% that is not for ep2 goes between {% raw %} and {% endraw %}"

const detailOf = (error: LiquidError, source: string, backends: ReadonlyArray<string>): string => {
  const said = oneLine(error.message.replace(/, line:\d+, col:\d+$/, ""))
  const unknown = /^undefined variable: (.+)$/.exec(said)?.[1]
  const output = outputAt(source, error.token.begin)
  if (unknown !== undefined) return unknownName(unknown, output, source, backends)
  if (error.name === "TokenizationError" && output !== undefined && looksLikeFetch(output.text)) {
    return unknownName(firstName(output.text), output, source, backends)
  }
  const tag = /^tag "(.*)" not found$/.exec(said)?.[1]
  if (tag !== undefined) return unknownTag(tag)
  const filter = /^undefined filter: (.+)$/.exec(said)?.[1]
  if (filter !== undefined) return `"${filter}" is not a filter of Liquid; {{ nodes }} needs none`
  const open = /^tag \{%-?\s*(\w+)(.*)not closed$/.exec(said)?.[1]
  if (open !== undefined && error.name === "ParseError") return `{% ${open} %} is not closed: write {% end${open} %}`
  if (/^(?:tag|output) .* not closed$/.test(said)) {
    const [begin, end] = said.startsWith("tag") ? ["{%", "%}"] : ["{{", "}}"]
    return `"${begin}" is not closed: write "${end}" behind it; ${asText}`
  }
  if (/limit exceeded$/.test(said)) return `is too much work (${said}): is there a loop that does not end?`
  if (said.startsWith("the filter ")) return said
  return `is not Liquid: ${said}; ${asText}`
}

interface Output {
  /** What stands between the braces, in one line. */
  readonly text: string
  /** Where its braces begin. */
  readonly begin: number
}

/** The `{{ … }}` that a place of the source stands in; `undefined` in text and in tags. */
const outputAt = (source: string, offset: number): Output | undefined => {
  const begin = source.lastIndexOf("{{", offset)
  if (begin === -1 || begin < source.lastIndexOf("{%", offset)) return undefined
  const end = source.indexOf("}}", begin)
  if (end === -1 || end < offset) return undefined
  const text = oneLine(source.slice(begin + 2, end))
    .replace(/^-|-$/g, "")
    .trim()
  return { text, begin }
}

/** A sample fetch or an ACL, as `ssl_fc`, `!ssl_fc`, `path_beg /x`, `hdr(host) -i a b`. */
const looksLikeFetch = (text: string): boolean =>
  /^!?\s*[A-Za-z_][\w.-]*(?:\([^)]*\))?(?:,\S*)?(?:\s+[^|]*)?$/.test(text) && !/^(?:nodes|backends)\b/.test(text)

const firstName = (text: string): string => /^!?\s*([\w.-]+)/.exec(text)?.[1] ?? text

const unknownName = (
  name: string,
  output: Output | undefined,
  source: string,
  backends: ReadonlyArray<string>
): string => {
  const [root = name] = name.split(/[.[]/)
  if (root === "nodes") return `"${name}" has no meaning: write {{ nodes }}, which is all server lines`
  if (root === "backends") return unknownBackend(name.slice("backends".length + 1), backends)
  const shown = output === undefined ? `"${name}"` : `"{{ ${output.text} }}"`
  const meant = ["nodes", "backends"].find((known) => distance(root.toLowerCase(), known) <= 2)
  if (meant !== undefined) {
    const rest = meant === "nodes" ? "" : (/[.[].*$/.exec(output?.text ?? name)?.[0] ?? "")
    return `${shown} is not known: write {{ ${meant}${rest} }}`
  }
  const known = "a template has {{ nodes }} and {{ backends.NAME.nodes }}"
  if (output === undefined || !looksLikeFetch(output.text)) return `${shown} is not known: ${known}`
  return `${shown} is not known: ${known}; ${forHaproxy(output, source)}`
}

/** HAProxy's own braces: one pair for a condition, and another form for a value. */
const forHaproxy = ({ begin, text }: Output, source: string): string => {
  const isNegated = text.startsWith("!")
  const bare = isNegated ? text.slice(1).trim() : text
  const condition = `${isNegated ? "!" : ""}{ ${bare} }`
  const lineBefore = source.slice(source.lastIndexOf("\n", begin) + 1, begin)
  const isCondition = isNegated || /\s(?:if|unless)\s/.test(lineBefore) || /\s/.test(bare)
  return isCondition
    ? `for HAProxy's own condition write ${condition}`
    : `for HAProxy's own condition write ${condition}, for its value %[${bare}]`
}

const unknownBackend = (path: string, backends: ReadonlyArray<string>): string => {
  const known = backends.find((name) => path === name || path.startsWith(`${name}.`))
  if (known !== undefined) return `backend "${known}" has only its nodes: write {{ backends["${known}"].nodes }}`
  const name = path.replace(/\.nodes$/, "")
  const nearest = backends.toSorted((one, other) => distance(name, one) - distance(name, other))
  return `there is no backend "${name}" in the conf; there is ${nearest.map((one) => `"${one}"`).join(", ")}`
}

/** What other template languages, the original's among them, call it. */
const otherWords: Readonly<Record<string, string>> = {
  set: "assign",
  elif: "elsif",
  else_if: "elsif",
  endset: "assign"
}

const ownTags = [
  ...["assign", "break", "capture", "case", "comment", "continue", "cycle", "decrement", "echo", "else", "elsif"],
  ...["endcapture", "endcase", "endcomment", "endfor", "endif", "endraw", "endtablerow", "endunless", "for", "if"],
  ...["increment", "liquid", "raw", "tablerow", "unless", "when"]
]

const unknownTag = (tag: string): string => {
  if (tagsOfOtherFiles.some((one) => one === tag) || tag === "extends") {
    return `{% ${tag} %} would take in another file, which ep2 does not: put its text into the template`
  }
  const nearest = ownTags.toSorted((one, other) => distance(tag, one) - distance(tag, other))[0]!
  const meant = otherWords[tag] ?? (distance(tag, nearest) <= (tag.length > 3 ? 2 : 1) ? nearest : undefined)
  // A known tag is missing only where it stands, as an `else` outside of an `if`.
  if (meant === tag) return `{% ${tag} %} stands outside of what it belongs to`
  return meant === undefined
    ? `"{% ${tag} %}" is not a tag of Liquid; ${asText}`
    : `"{% ${tag} %}" is not a tag of Liquid: write {% ${meant} %}`
}

const oneLine = (text: string): string => text.trim().replaceAll(/\s+/g, " ")
