/**
 * `[backend NAME]`: a further backend. It may have any key of `[haproxy]` that is
 * about one backend, and any of the sources' sections; what it does not have is as
 * it is there.
 *
 * | section | outcome |
 * | --- | --- |
 * | a name that HAProxy takes, once, other than `backend_name` | a backend |
 * | no name, a bad one, or a second time | error |
 * | a key that holds for the whole of ep2 | error that says where it belongs |
 */
import { Result, Schema, Struct } from "effect"
import type * as ConfFile from "./ConfFile.ts"
import * as Decoding from "./Decoding.ts"
import { Haproxy } from "./HaproxyKeys.ts"
import type { Place, Problem } from "./SettingsError.ts"
import * as SourceKeys from "./SourceKeys.ts"
import { expectedOf, proxyName } from "./Value.ts"

/** A backend's keys of `[haproxy]`, which every `[backend NAME]` may have as well. */
export const Backend = Schema.Struct(
  Struct.pick(Haproxy.fields, [
    "orchestrator",
    "backend_port",
    "backend_maxconn",
    "check_interval",
    "server_options",
    "node_slots",
    "new_servers",
    "drain_timeout",
    "drain_timeout_action",
    "sleep_before_next_run",
    "allow_empty",
    "min_servers",
    "max_removal_percent",
    "guard_confirmations",
    "guard_window"
  ])
)

/** The sections that a `[backend NAME]` overrides, and which keys of each. */
const overridden = { haproxy: Backend, AWS: SourceKeys.Aws, CONSUL: SourceKeys.Consul, FILE: SourceKeys.File } as const

/** Every key that may stand in a `[backend NAME]`. `service_name` is Consul's there. */
export const keys: ReadonlySet<string> = new Set(Object.values(overridden).flatMap(({ fields }) => Object.keys(fields)))

/** Keys of `[haproxy]` that hold for the whole of ep2. */
const processKeys: ReadonlySet<string> = new Set(Object.keys(Haproxy.fields).filter((key) => !keys.has(key)))

/** A further backend, as the file has it. */
export interface BackendSection {
  readonly name: string
  readonly section: ConfFile.Section
}

/** Whether a section's name says that it is one of a backend. */
export const isOne = ({ name }: ConfFile.Section): boolean => /^\s*backend(\s|$)/i.test(name)

/** The further backends, in the order of the file, and what is wrong with their names. `first`: `backend_name`. */
export const find = (
  conf: ConfFile.ConfFile,
  first: string | undefined
): { readonly sections: ReadonlyArray<BackendSection>; readonly problems: ReadonlyArray<Problem> } => {
  const found = new Map<string, BackendSection>()
  const problems: Array<Problem> = []
  for (const section of conf.sections.filter(isOne)) {
    const place: Place = { line: section.line, section: section.name }
    const name = section.name.trim().replace(/^backend\s*/i, "")
    const before = found.get(name)
    if (Result.isFailure(Schema.decodeResult(proxyName)(name))) {
      problems.push({ ...place, expected: `[backend NAME] with ${expectedOf(proxyName)}` })
    } else if (before !== undefined) {
      problems.push({
        ...place,
        found: `the same backend as in line ${before.section.line}`,
        expected: "each backend once"
      })
    } else if (name === first) {
      problems.push({
        ...place,
        found: "the backend that backend_name in [haproxy] names",
        expected: "another one",
        hint: "the first backend's keys stand in [haproxy]"
      })
    } else found.set(name, { name, section })
  }
  return { sections: [...found.values()], problems }
}

/** What is wrong with a key of `[haproxy]` in a `[backend NAME]`; `undefined` where it may stand there or is none. */
export const misplaced = (key: string): Pick<Problem, "found" | "expected" | "hint"> | undefined => {
  if (key === "backend_name") {
    return { found: "a key for the first backend", expected: "the name in the header: [backend NAME]" }
  }
  if (!processKeys.has(key)) return undefined
  return { found: "a key that holds for all backends", expected: `${key} in [haproxy]` }
}

/** Keys of which one takes the place of the others. */
const alternatives: ReadonlyArray<readonly [string, ...ReadonlyArray<string>]> = [
  ["token", "token_file"],
  ["token_file", "token"],
  ["profile", "aws_access_key_id", "aws_secret_access_key"],
  ["aws_access_key_id", "profile"]
]

/** The texts of a backend: its own, and below them those of the sections that it overrides. */
export const textsOf = <Names extends string>(
  conf: ConfFile.ConfFile,
  { section }: BackendSection,
  base: Readonly<Record<Names | keyof typeof overridden, Decoding.Texts>>
): Readonly<Record<keyof typeof overridden, Decoding.Texts>> => {
  // What [DEFAULT] has is below the sections that are overridden.
  const alone = { ...conf, sections: [section] }
  const over = (name: keyof typeof overridden): Decoding.Texts => {
    const schema: Decoding.SectionSchema = overridden[name]
    const mine = Object.fromEntries(Object.entries(schema.fields).filter(([key]) => section.entries.has(key)))
    const own = Decoding.textsOf(alone, section.name, Schema.Struct(mine), section)
    // A section that the file does not have has what [DEFAULT] says all the same.
    const empty = { ...section, entries: new Map() }
    const below = base[name].line === undefined ? Decoding.textsOf(alone, section.name, schema, empty) : base[name]
    return layered(own, below, schema)
  }
  return { haproxy: over("haproxy"), AWS: over("AWS"), CONSUL: over("CONSUL"), FILE: over("FILE") }
}

const layered = (own: Decoding.Texts, base: Decoding.Texts, schema: Decoding.SectionSchema): Decoding.Texts => {
  const isSet = (key: string) => own.values[key] !== undefined || own.problems.some((problem) => problem.key === key)
  const replaced = new Set(
    alternatives.flatMap(([key, ...others]) => (isSet(key) ? others.filter((other) => !isSet(other)) : []))
  )
  const isInherited = (key: string) => key in schema.fields && !replaced.has(key) && !isSet(key)
  const places = new Map([...base.places].filter(([key]) => isInherited(key)))
  for (const [key, place] of own.places) if (isSet(key) || !places.has(key)) places.set(key, place)
  return {
    name: own.name,
    values: { ...Struct.pick(base.values, Object.keys(base.values).filter(isInherited)), ...own.values },
    places,
    line: base.line ?? own.line,
    problems: [...base.problems.filter(({ key }) => key !== undefined && isInherited(key)), ...own.problems],
    secrets: [...base.secrets, ...own.secrets]
  }
}
