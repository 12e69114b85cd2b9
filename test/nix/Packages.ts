/** src/packaging/nix/packages.json: which packages of npm the flake's package has, and the hash of the folder with them. */
import { execFile } from "node:child_process"
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { builtinModules } from "node:module"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { promisify } from "node:util"
import type { Nix } from "./Nix.ts"

const root = resolve(import.meta.dirname, "../..")

/** The file. */
export const file = join(root, "src/packaging/nix/packages.json")

export interface Packages {
  /** Imported by what stands in src/, by name and in order. Their versions are those of package-lock.json. */
  readonly packages: ReadonlyArray<string>
  /** As `nix hash path` says it. */
  readonly hash: string
}

export const read = (): Packages => JSON.parse(readFileSync(file, "utf8"))

/** The packages that the sources import, by name. */
export const imported = (): ReadonlyArray<string> => {
  // What makes the packages is no part of the program.
  const files = readdirSync(join(root, "src"), { recursive: true, encoding: "utf8" }).filter(
    (one) => one.endsWith(".ts") && !one.startsWith("packaging/")
  )
  const named = files
    .flatMap((one) => [
      ...readFileSync(join(root, "src", one), "utf8").matchAll(/(?:^\S.* from|^import|\bimport\()\s*"([^".][^"]*)"/gm)
    ])
    .map(([, specifier]) => specifier!)
    .filter((specifier) => !specifier.startsWith("node:") && !builtinModules.includes(specifier))
    .map((specifier) => /^(?:@[^/]+\/)?[^/]+/.exec(specifier)![0])
  return [...new Set(named)].sort()
}

/** Makes the folder as the flake does, with the npm of this machine, and says its hash. `list`: a packages.json. */
export const hash = async (nix: Nix, list: string): Promise<string> => {
  const folder = mkdtempSync(join(tmpdir(), "ep2-packages-"))
  try {
    const inputs = [join(root, "package.json"), join(root, "package-lock.json"), list]
    await promisify(execFile)(process.execPath, [
      join(root, "src/packaging/nix/installPackages.mts"),
      ...inputs,
      join(folder, "out")
    ])
    return (await nix.run("hash", "path", "--type", "sha256", "--sri", join(folder, "out"))).trim()
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
