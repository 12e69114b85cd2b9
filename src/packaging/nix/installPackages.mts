/**
 * Puts the npm packages that ep2 imports into a folder:
 * `node src/packaging/nix/installPackages.mts package.json package-lock.json src/packaging/nix/packages.json FOLDER`.
 *
 * `FOLDER/node_modules` then has them in the versions of package-lock.json, with what they depend on and nothing else,
 * and is the same wherever and whenever it is made. The flake runs this in a derivation whose hash is fixed, and
 * `npm run nix:renew` to find that hash out, so that both make one and the same folder. It runs by itself: it imports
 * nothing but Node.
 *
 * In package.json all packages are for development, because the program that npm has needs none of them. So npm gets a
 * manifest of its own, where those of packages.json are what is depended on, and the lock file as it is.
 */
import { spawnSync } from "node:child_process"
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"

const stop = (line: string): never => {
  console.error(`installPackages: ${line}`)
  process.exit(1)
}

const [manifestFile, lockFile, listFile, folder] = process.argv.slice(2)
if (manifestFile === undefined || lockFile === undefined || listFile === undefined || folder === undefined) {
  stop("usage: installPackages.mts package.json package-lock.json packages.json FOLDER")
} else {
  const { dependencies, devDependencies, name, version } = JSON.parse(readFileSync(manifestFile, "utf8"))
  const versions: Record<string, string | undefined> = { ...devDependencies, ...dependencies }
  const { packages } = JSON.parse(readFileSync(listFile, "utf8")) as { readonly packages: ReadonlyArray<string> }
  const wanted = packages.map((one) => [one, versions[one] ?? stop(`${manifestFile} has no version of ${one}`)])

  mkdirSync(folder, { recursive: true })
  const own = { name, version, private: true, dependencies: Object.fromEntries(wanted) }
  writeFileSync(join(folder, "package.json"), JSON.stringify(own))
  copyFileSync(lockFile, join(folder, "package-lock.json"))
  const { error, status } = spawnSync(
    "npm",
    [
      "install",
      "--omit=dev",
      "--omit=optional",
      // Nothing that a package brings is run.
      "--ignore-scripts",
      // Links would make files executable, which is all of a file's mode that the hash has in it.
      "--bin-links=false",
      // What a user's own settings could change about the folder.
      "--install-strategy=hoisted",
      "--legacy-peer-deps=false",
      "--strict-peer-deps=false",
      "--global=false",
      "--save=false",
      "--audit=false",
      "--fund=false",
      "--update-notifier=false",
      "--loglevel=error"
    ],
    // Standard output is the caller's.
    { cwd: folder, stdio: ["ignore", 2, 2] }
  )
  if (error !== undefined) stop(`npm does not run: ${error.message}`)
  if (status !== 0) stop("`npm install` failed; its own words stand above")

  // npm's own notes, which differ from version to version.
  rmSync(join(folder, "node_modules", ".package-lock.json"))
  for (const file of ["package.json", "package-lock.json"]) rmSync(join(folder, file))
}
