/**
 * The parts of the documentation that are made from something else, and where from:
 * `npm run docs` writes them, and a test compares.
 */
import { existsSync, readFileSync } from "node:fs"
import { join, resolve } from "node:path"
import * as ApiReference from "./ApiReference.ts"
import * as ConfigurationTables from "./ConfigurationTables.ts"
import * as Exports from "./Exports.ts"

/** The checkout. */
export const root = resolve(import.meta.dirname, "../..")

/** A page with generated parts. */
export interface Generated {
  /** From the root of the checkout. */
  readonly file: string
  /** The page as it should be, from the page as it is. */
  readonly render: (page: string) => string
}

let modules: ReadonlyArray<Exports.Module> | undefined

/** What src/ exports, read once. */
export const exported = (): ReadonlyArray<Exports.Module> => {
  modules ??= Exports.read()
  return modules
}

/** Those that are made from the sources. */
export const all: ReadonlyArray<Generated> = [
  { file: "docs/configuration.md", render: ConfigurationTables.render },
  { file: "docs/api.md", render: () => ApiReference.render(exported()) }
]

/** A page as it is; empty where it is not there yet. */
export const read = ({ file }: Pick<Generated, "file">): string => {
  const path = join(root, file)
  return existsSync(path) ? readFileSync(path, "utf8") : ""
}
