/** src/packaging/nix/keys.json: what the NixOS module has to know of the keys of ep2.conf, from the Schemas that read them. */
import type { Schema } from "effect"
import * as BackendSection from "../../src/settings/BackendSection.ts"
import * as Key from "../../src/settings/Key.ts"
import { sections } from "../../src/settings/Names.ts"

/** What a key takes, by the name that src/packaging/nix/module.nix knows it by. */
export type Kind =
  | { readonly kind: "boolean" | "seconds" | "list" | "port" | "path" | "pathOrDash" | "secretFile" | "line" }
  | { readonly kind: "whole"; readonly minimum: number; readonly maximum: number }
  | { readonly kind: "words"; readonly words: ReadonlyArray<string> }

/** One key. The last three are texts of ep2.conf. */
export type NixKey = Kind & { readonly meaning: string; readonly default: string; readonly example: string }

export type NixSection = Readonly<Record<string, NixKey>>

/** The whole file. Keys that hold a secret are not in it. */
export interface Keys {
  readonly sections: Readonly<Record<string, NixSection>>
  /** The keys of `[backend NAME]`, each with the section that it is also in. */
  readonly backend: Readonly<Record<string, string>>
}

export const make = (): Keys => {
  const all = Object.entries(sections).map(([name, { fields }]) => [name, sectionOf(fields)] as const)
  const backend = all.flatMap(([name, section]) =>
    Object.keys(section)
      .filter((key) => name !== "haproxy" || key in BackendSection.Backend.fields)
      .map((key) => [key, name] as const)
  )
  return { sections: Object.fromEntries(all), backend: Object.fromEntries(backend) }
}

/** The section `[backend NAME]`. */
export const backendOf = ({ backend, sections: all }: Keys): NixSection =>
  Object.fromEntries(Object.entries(backend).map(([key, name]) => [key, all[name]![key]!]))

/** As it stands in the file. */
export const text = (): string => `${JSON.stringify(make(), null, 2)}\n`

const sectionOf = (fields: Readonly<Record<string, Schema.Constraint>>): NixSection =>
  Object.fromEntries(
    Object.entries(fields)
      .map(([key, field]) => ({ key, field, doc: Key.docOf(field) }))
      .filter(({ doc }) => doc.isSecret !== true)
      .map(({ doc, field, key }) => {
        const { default: absent, example, meaning, unit } = doc
        const kind = secretFiles.has(key) ? ({ kind: "secretFile" } as const) : kindOf(field, doc.expected)
        return [
          key,
          { ...kind, meaning: `${meaning}${unit === undefined ? "" : ` (${unit})`}`, default: absent, example }
        ]
      })
  )

/** Files that hold a secret: the module takes none that is in the store. */
const secretFiles: ReadonlySet<string> = new Set(["token_file", "key_file"])

/** From the type of what is decoded; where that is a text or a number, from what a refusal calls it. */
const kindOf = (field: Schema.Constraint, expected: string): Kind => {
  const { ast } = field
  const [, minimum, maximum] = /^a whole number from (\d+) to (\d+)$/.exec(expected) ?? []
  if (maximum !== undefined) return { kind: "whole", minimum: Number(minimum), maximum: Number(maximum) }
  if (ast._tag === "Boolean") return { kind: "boolean" }
  if (ast._tag === "Arrays") return { kind: "list" }
  if (ast._tag === "Union") {
    const words = ast.types.flatMap((one) => (one._tag === "Literal" ? [String(one.literal)] : []))
    return words.length === ast.types.length ? { kind: "words", words } : { kind: "port" }
  }
  if (expected.startsWith("seconds")) return { kind: "seconds" }
  if (/^the absolute path of .*, or - /.test(expected)) return { kind: "pathOrDash" }
  if (expected.startsWith("the absolute path of ")) return { kind: "path" }
  if (ast._tag === "String") return { kind: "line" }
  throw new Error(`src/packaging/nix/module.nix has no type for "${expected}": add one there and here`)
}
