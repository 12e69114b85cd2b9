/** What stands in `.servers/<target>`: written last, so that a target with a stamp is whole. */
import { createHash } from "node:crypto"
import { readFileSync, statSync } from "node:fs"
import { writeFile } from "node:fs/promises"
import { join } from "node:path"
import type { Target } from "./provisionTargets.ts"

export interface Stamp {
  /** Where it was built. The programs hold absolute paths, so in a checkout that was moved it is to be built anew. */
  readonly home: string
  /** What it was built from; another recipe builds it anew. */
  readonly recipe: string
  readonly version: string
  /** `Debian bookworm`, or the file on the PATH. */
  readonly origin: string
  /** Size and time of the program: one that was replaced or lost is noticed without running it. */
  readonly program: string
}

/** The stamp of a target that stands and is what the recipe makes; else undefined. Takes well under a millisecond. */
export const goodStamp = (target: Target, home: string): Stamp | undefined => {
  try {
    const stamp = JSON.parse(readFileSync(join(home, ".stamp.json"), "utf8")) as Stamp
    const isGood = stamp.home === home && stamp.recipe === recipeOf(target) && stamp.program === look(target, home)
    return isGood ? stamp : undefined
  } catch {
    return undefined
  }
}

export const writeStamp = async (
  target: Target,
  home: string,
  facts: Pick<Stamp, "version" | "origin">
): Promise<Stamp> => {
  const stamp: Stamp = { home, recipe: recipeOf(target), program: look(target, home), ...facts }
  await writeFile(join(home, ".stamp.json"), `${JSON.stringify(stamp, null, 2)}\n`)
  return stamp
}

const recipeOf = (target: Target) => {
  const plain = JSON.stringify(target, (_key, value) => (value instanceof RegExp ? value.source : value))
  return createHash("sha256").update(plain).digest("hex").slice(0, 16)
}

const look = (target: Target, home: string) => {
  const { mtimeMs, size } = statSync(join(home, "bin", target.command))
  return `${size} ${mtimeMs}`
}
