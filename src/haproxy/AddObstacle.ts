/**
 * Why servers cannot be added to a backend while HAProxy runs, as far as its
 * config tells. Pure. Source: HAProxy management guide, 9.3 "add server"; tried on
 * 2.6 to 3.2.
 *
 * | config | obstacle |
 * | --- | --- |
 * | `balance static-rr`, or by a hash that is not consistent | HAProxy refuses |
 * | `default-server` with words that the server line does not repeat | they would lack these |
 */
import * as ConfigText from "./ConfigText.ts"

/** In words that follow "as"; `undefined` where there is none. `line` is what a server line has behind its address. */
export const find = (text: string, backend: string, line: string): string | undefined => {
  const sections = sectionsFor(text, backend)
  // Of a section's own lines the last one counts, and those of `defaults` where it has none.
  const settingOf = (keyword: string) =>
    sections.map((lines) => lines.findLast(([first]) => first === keyword)).find((found) => found !== undefined)?.[1]
  const algorithm = settingOf("balance") ?? "roundrobin"
  if (algorithm === "static-rr" || (isHash.test(algorithm) && settingOf("hash-type") !== "consistent")) {
    const remedy = algorithm === "static-rr" ? "balance roundrobin does" : "hash-type consistent does"
    return `balance ${algorithm} takes no servers while HAProxy runs (${remedy})`
  }
  const own = new Set(line.split(" "))
  const words = sections.flat().flatMap(([keyword, ...rest]) => (keyword === "default-server" ? rest : []))
  const lacking = [...new Set(words)].filter((word) => !own.has(word))
  if (lacking.length === 0) return undefined
  return `servers that are added do not get what default-server gives (${lacking.join(" ")}); server_options could repeat it`
}

const isHash = /^(?:source|uri|url_param|hdr\(|rdp-cookie|hash$)/

/** The words of the lines that count for a backend: its own section first, then the `defaults` behind it. */
const sectionsFor = (text: string, backend: string): ReadonlyArray<ReadonlyArray<ReadonlyArray<string>>> => {
  const lines = text.split("\n")
  const sections = ConfigText.sections(lines)
  const found: Array<ReadonlyArray<ReadonlyArray<string>>> = []
  const seen = new Set<number>()
  let index = sections.findIndex((section) => section.name === backend && ConfigText.isBackend(section))
  while (index !== -1 && !seen.has(index)) {
    seen.add(index)
    const { begin, end } = sections[index]!
    found.push(lines.slice(begin, end).map((line) => ConfigText.split(line).words))
    index = parentOf(lines, sections, index)
  }
  return found
}

/** The `defaults` section that a section takes its own from: the one that it names, else the last one before it. */
const parentOf = (lines: ReadonlyArray<string>, sections: ReadonlyArray<ConfigText.Section>, index: number): number => {
  const section = sections[index]!
  const header = ConfigText.split(lines[section.begin] ?? "").words
  const from = header.indexOf("from")
  if (from !== -1) return sections.findLastIndex(({ kind, name }) => kind === "defaults" && name === header[from + 1])
  // A `defaults` section takes from another one only where it says so.
  return section.kind === "defaults" ? -1 : sections.slice(0, index).findLastIndex(({ kind }) => kind === "defaults")
}
