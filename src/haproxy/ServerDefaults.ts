/**
 * What `default-server` lines of a config give to the servers of a backend.
 * Servers that are added at runtime do not get it (tried on 2.6 to 3.2). Pure.
 *
 * Source: HAProxy configuration manual, 4. "Proxies" (which `defaults` section
 * counts) and "default-server".
 */
import * as ConfigText from "./ConfigText.ts"

/** The words behind `default-server`, in no particular order; none where the config has no such line. */
export const wordsFor = (text: string, backend: string): ReadonlySet<string> => {
  const lines = text.split("\n")
  const sections = ConfigText.sections(lines)
  const at = sections.findIndex((section) => section.name === backend && ConfigText.isBackend(section))
  const words = new Set<string>()
  const seen = new Set<number>()
  for (let index = at; index !== -1 && !seen.has(index); index = parentOf(lines, sections, index)) {
    seen.add(index)
    const { begin, end } = sections[index]!
    for (const line of lines.slice(begin, end)) {
      const [keyword, ...rest] = ConfigText.split(line).words
      if (keyword === "default-server") for (const word of rest) words.add(word)
    }
  }
  return words
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
