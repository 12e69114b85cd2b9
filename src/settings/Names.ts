/**
 * The names that a file may use: which sections and keys there are, and what an
 * unknown one may have been meant to be.
 *
 * | name | outcome |
 * | --- | --- |
 * | known, in any case | read |
 * | a known section in a second spelling | error |
 * | `[backend NAME]` | a further backend; `BackendSection` |
 * | key of another section | error that names the section |
 * | close to a known name | error that names it |
 * | key that others refer to as `%(name)s` | fine |
 * | anything else | warning: EP2 1.0 ignored it |
 */
import { distance } from "fastest-levenshtein"
import * as BackendSection from "./BackendSection.ts"
import * as ConfFile from "./ConfFile.ts"
import { Haproxy } from "./HaproxyKeys.ts"
import type { Place, Problem } from "./SettingsError.ts"
import { Aws, Consul, File } from "./SourceKeys.ts"

/** Every section and, in its fields, every key. One Schema each. */
export const sections = { haproxy: Haproxy, AWS: Aws, CONSUL: Consul, FILE: File } as const
/** As it stands in the documentation; in a file its case does not matter. */
export type SectionName = keyof typeof sections

/** Something that ep2 goes on without. */
export interface Warning extends Place {
  readonly text: string
}

/** The sections that are read, and what is wrong with the names of others. */
export interface Names {
  readonly sections: ReadonlyMap<SectionName, ConfFile.Section>
  readonly problems: ReadonlyArray<Problem>
  readonly warnings: ReadonlyArray<Warning>
}

/** Finds the known sections of a file, and all that is wrong with its names. */
export const check = (conf: ConfFile.ConfFile): Names => {
  const found = findSections(conf)
  const keys = [
    ...[...found.sections].flatMap(([name, section]) => checkSection(conf, name, section)),
    ...conf.sections.filter(BackendSection.isOne).flatMap((section) => checkBackend(conf, section)),
    ...checkDefaults(conf)
  ]
  return {
    sections: found.sections,
    problems: [...found.verdicts, ...keys].flatMap(({ problem }) => problem ?? []),
    warnings: [...found.verdicts, ...keys].flatMap(({ warning }) => warning ?? [])
  }
}

/** What is to be said about a name. */
interface Verdict {
  readonly problem?: Problem
  readonly warning?: Warning
}

const sectionNames = Object.keys(sections) as ReadonlyArray<SectionName>
const keysOf = (name: SectionName): ReadonlyArray<string> => Object.keys(sections[name].fields)

const findSections = ({ sections: written }: ConfFile.ConfFile) => {
  const known = new Map<SectionName, ConfFile.Section>()
  const verdicts: Array<Verdict> = []
  for (const section of written.filter((one) => !BackendSection.isOne(one))) {
    const name = sectionNames.find((one) => one.toLowerCase() === section.name.trim().toLowerCase())
    const before = name === undefined ? undefined : known.get(name)
    if (name === undefined) verdicts.push(unknownSection(section))
    else if (before === undefined) known.set(name, section)
    else verdicts.push({ problem: { ...placeOf(section), ...otherSpelling(before) } })
  }
  return { sections: known, verdicts }
}

const placeOf = ({ line, name }: ConfFile.Section): Place => ({ line, section: name })

const otherSpelling = (before: ConfFile.Section) => ({
  found: `the same section as [${before.name}] in line ${before.line}`,
  expected: "each section once, in whatever case"
})

const unknownSection = (section: ConfFile.Section): Verdict => {
  const place = placeOf(section)
  const close = closest(section.name.trim(), [...sectionNames, "DEFAULT"])
  if (close === undefined) return { warning: { ...place, text: "ep2 knows no such section and ignores it" } }
  return { problem: { ...place, found: "ep2 knows no such section", expected: `[${close}]` } }
}

const checkSection = (
  conf: ConfFile.ConfFile,
  name: SectionName,
  section: ConfFile.Section
): ReadonlyArray<Verdict> => {
  const referred = ConfFile.references(conf, section)
  const others = sectionNames.filter((one) => one !== name)
  return [...section.entries.values()]
    .filter(({ key }) => !keysOf(name).includes(key) && !referred.has(key))
    .map(({ key, line }) => {
      const place = { line, section: section.name, key }
      const home = others.find((other) => keysOf(other).includes(key))
      if (home !== undefined)
        return { problem: { ...place, found: "a key of another section", ...ofSection(key, home) } }
      const close = closest(key, keysOf(name))
      if (close !== undefined) return { problem: { ...place, ...noSuchKey, expected: close } }
      for (const other of others) {
        const elsewhere = closest(key, keysOf(other))
        if (elsewhere !== undefined) return { problem: { ...place, ...noSuchKey, ...ofSection(elsewhere, other) } }
      }
      return { warning: { ...place, text: "ep2 knows no such key and ignores it" } }
    })
}

const checkBackend = (conf: ConfFile.ConfFile, section: ConfFile.Section): ReadonlyArray<Verdict> => {
  const referred = ConfFile.references(conf, section)
  return [...section.entries.values()]
    .filter(({ key }) => !BackendSection.keys.has(key) && !referred.has(key))
    .map(({ key, line }) => {
      const place = { line, section: section.name, key }
      const misplaced = BackendSection.misplaced(key)
      if (misplaced !== undefined) return { problem: { ...place, ...misplaced } }
      const close = closest(key, [...BackendSection.keys])
      if (close !== undefined) return { problem: { ...place, ...noSuchKey, expected: close } }
      return { warning: { ...place, text: "ep2 knows no such key and ignores it" } }
    })
}

const noSuchKey = { found: "ep2 knows no such key" }
const ofSection = (key: string, section: SectionName) => ({ expected: `${key} in [${section}]` })

// A key of [DEFAULT] is one of every section, so it is enough that one of them knows it.
const checkDefaults = (conf: ConfFile.ConfFile): ReadonlyArray<Verdict> => {
  const known = sectionNames.flatMap(keysOf)
  const referred = new Set(conf.sections.flatMap((section) => [...ConfFile.references(conf, section)]))
  return [...conf.defaults.values()]
    .filter(({ key }) => !known.includes(key) && !referred.has(key))
    .map(({ key, line }) => {
      const place = { line, section: "DEFAULT", key }
      const close = closest(key, known)
      if (close !== undefined) return { problem: { ...place, ...noSuchKey, expected: close } }
      return { warning: { ...place, text: "ep2 knows no such key and ignores it" } }
    })
}

/** The known name that is most like this one, if it is like enough for a slip of the hand. */
const closest = (name: string, known: ReadonlyArray<string>): string | undefined => {
  const most = name.length <= 4 ? 1 : 2
  const ranked = known
    .map((one) => ({
      one,
      steps: Math.min(distance(name.toLowerCase(), one.toLowerCase()), distance(plain(name), plain(one)))
    }))
    .sort((a, b) => a.steps - b.steps)
  return ranked[0] !== undefined && ranked[0].steps <= most ? ranked[0].one : undefined
}

const plain = (name: string): string => name.toLowerCase().replace(/[-_. ]/g, "")
