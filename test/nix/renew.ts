/**
 * `npm run nix:renew`: writes what the flake reads and is made from something else. After a change to
 * package-lock.json, to what src/ imports or to a key of ep2.conf:
 *
 * - `src/packaging/nix/packages.json`, the packages that src/ imports and the hash of the folder with them;
 * - `src/packaging/nix/keys.json`, the keys of ep2.conf with their types.
 *
 * It needs the registry of npm, and Nix: `npm run servers -- nix-2.8` brings one.
 */
import { writeFileSync } from "node:fs"
import { join, resolve } from "node:path"
import * as Keys from "./Keys.ts"
import * as Nix from "./Nix.ts"
import * as Packages from "./Packages.ts"

const root = resolve(import.meta.dirname, "../..")
const write = (packages: Packages.Packages) => writeFileSync(Packages.file, `${JSON.stringify(packages, null, 2)}\n`)

writeFileSync(join(root, "src/packaging/nix/keys.json"), Keys.text())
const nix = Nix.make()
try {
  const before = Packages.read().hash
  const packages = Packages.imported()
  write({ packages, hash: before })
  const hash = await Packages.hash(nix, Packages.file)
  write({ packages, hash })
  console.log(hash === before ? `the hash is as it was: ${hash}` : `the hash is now ${hash} (it was ${before})`)
} finally {
  await nix.remove()
}
