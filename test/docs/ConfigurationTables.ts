/**
 * The tables of docs/configuration.md, from the Schemas of src/settings. A table stands
 * between two comments, of which the first names its section and its keys:
 *
 *     <!-- keys of [haproxy]: orchestrator, sleep_before_next_run -->
 *     <!-- end of keys -->
 *
 * `all` stands for every key of the section, in the order of the Schema. `[backend NAME]`
 * has the keys that such a section may have, with the section that each falls back on.
 */
import type { Schema } from "effect"
import * as BackendSection from "../../src/settings/BackendSection.ts"
import * as Key from "../../src/settings/Key.ts"
import { type SectionName, sections } from "../../src/settings/Names.ts"

/** Every key that a section may have, by the section's header: its documentation. */
export const documented: ReadonlyMap<string, ReadonlyMap<string, Key.DocumentedKey>> = (() => {
  const docsOf = (name: SectionName) =>
    Object.entries<Schema.Constraint>(sections[name].fields).map(([key, field]) => [key, Key.docOf(field)] as const)
  const names = Object.keys(sections) as ReadonlyArray<SectionName>
  const backend = new Map<string, Key.DocumentedKey>()
  for (const name of names) {
    for (const [key, doc] of docsOf(name)) {
      // `service_name` of [haproxy] is the unit's, which a backend cannot have.
      const isOfBackend = name === "haproxy" ? key in BackendSection.Backend.fields : BackendSection.keys.has(key)
      if (isOfBackend) backend.set(key, { ...doc, default: `as in [${name}]` })
    }
  }
  return new Map([
    ...names.map((name) => [`[${name}]`, new Map(docsOf(name))] as const),
    ["[backend NAME]", backend] as const
  ])
})()

/** The page with its tables made anew. Throws where a key has no table, or two, and where a table names one that is none. */
export const render = (page: string): string => {
  const shown = new Map([...documented.keys()].map((section) => [section, [] as Array<string>]))
  const text = page.replace(marked, (_, begin: string, section: string, list: string, end: string) => {
    const docs = documented.get(section)
    if (docs === undefined) throw new Error(`${begin}: there is no section ${section}`)
    const keys = list === "all" ? [...docs.keys()] : list.split(/,\s*/)
    shown.get(section)!.push(...keys)
    return [begin, "", ...table(docs, keys), "", end].join("\n")
  })
  for (const [section, docs] of documented) {
    const inTables = shown.get(section)!
    for (const key of docs.keys()) {
      const count = inTables.filter((one) => one === key).length
      if (count !== 1) throw new Error(`${key} of ${section} is in ${count} tables`)
    }
  }
  return text
}

const marked = /(<!-- keys of (\[[\w ]+\]): ([\w, ]+) -->)\n.*?(<!-- end of keys -->)/gs

const table = (docs: ReadonlyMap<string, Key.DocumentedKey>, keys: ReadonlyArray<string>): ReadonlyArray<string> => [
  "| key | meaning | value | unit | default | example |",
  "| --- | --- | --- | --- | --- | --- |",
  ...keys.map((key) => {
    const doc = docs.get(key)
    if (doc === undefined) throw new Error(`a table names ${key}, which is no key of its section`)
    const cells = [code(key), linked(key, doc.meaning), doc.expected, doc.unit ?? "", absent(doc), code(doc.example)]
    return `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`.replaceAll("|  |", "| |")
  })
]

const code = (text: string) => `\`${text}\``

/** A default that is a value is shown as one; `none` and `required` are words. */
const absent = (doc: Key.DocumentedKey) =>
  doc.default === "none" || doc.default === "required" || doc.default.startsWith("as in")
    ? doc.default
    : code(doc.default)

/** The one meaning that another page says more about. */
const linked = (key: string, meaning: string) =>
  key === "orchestrator"
    ? meaning.replace("a program's own source", "[a program's own source](#orchestrator--custom)")
    : meaning
