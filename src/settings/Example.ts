/**
 * A first ep2.conf: every key with what it means, its unit and its default. Those
 * that have to be looked at have a value, the others are comments. Made from the
 * Schema, so that it cannot fall behind.
 */
import type { Schema } from "effect"
import { Haproxy } from "./HaproxyKeys.ts"
import * as Key from "./Key.ts"
import { Aws, Consul, File } from "./SourceKeys.ts"

/** What is to be written with a value, besides what a section cannot do without. */
export type Values = Readonly<Record<string, string>>

const sources = { aws: ["AWS", Aws], consul: ["CONSUL", Consul], file: ["FILE", File] } as const

/** Which source the file is for. */
export type Orchestrator = keyof typeof sources

/** All of them. */
export const orchestrators = ["aws", "consul", "file"] as const satisfies ReadonlyArray<Orchestrator>

/** The text of a file. Values of keys that `[haproxy]` has go there, and the others into the section of the source. */
export const conf = (orchestrator: Orchestrator, values: Values): string => {
  const [name, keys] = sources[orchestrator]
  return [
    "# ep2.conf, written by `ep2 init`. A key that is a comment has the value that stands there, or none.",
    "# A further backend gets a section of its own, [backend NAME], with the keys in which it differs.",
    "",
    "[haproxy]",
    ...section(Haproxy.fields, { ...values, orchestrator }),
    `[${name}]`,
    ...section(keys.fields, values)
  ]
    .join("\n")
    .trimEnd()
    .concat("\n")
}

const section = (fields: Readonly<Record<string, Schema.Constraint>>, values: Values): ReadonlyArray<string> =>
  Object.entries(fields).flatMap(([key, field]) => {
    const { default: absent, example, meaning, unit } = Key.docOf(field)
    const value = values[key] ?? (absent === "required" ? example : undefined)
    const line = value === undefined ? `#${key} = ${absent === "none" ? "" : absent}` : `${key} = ${value}`
    const such = absent === "none" && value === undefined ? `; for example ${example}` : ""
    return [`# ${meaning}${unit === undefined ? "" : ` (${unit})`}${such}`, line.trimEnd(), ""]
  })
