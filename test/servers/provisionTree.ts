/**
 * Makes a folder of unpacked Debian packages run where it stands: the program is
 * bound to the loader and the libraries of its own folder, by absolute paths, so
 * the result cannot be moved.
 */
import { existsSync } from "node:fs"
import { chmod, mkdir, readFile, rm, symlink, writeFile } from "node:fs/promises"
import { basename, join } from "node:path"
import { run } from "./provisionApt.ts"
import type { Target } from "./provisionTargets.ts"

const triplet = "x86_64-linux-gnu"
const libraryFolders = [`lib/${triplet}`, `usr/lib/${triplet}`, "usr/lib"]
const loaderName = "ld-linux-x86-64.so.2"
const notNeeded = ["doc", "man", "locale", "i18n", "lintian", "vim"]
  .map((folder) => `usr/share/${folder}`)
  .concat(`usr/lib/${triplet}/gconv`, "etc", "var")

/** patchelf, unpacked into `folder`, run through its own loader so that it needs nothing of the machine. */
export interface Patchelf {
  readonly folder: string
}

/**
 * Turns the packages unpacked in `built` into a target that will stand in
 * `home`: `home/bin/<command>` then starts the program.
 */
export const finish = async (options: {
  readonly target: Target
  readonly built: string
  readonly home: string
  readonly patchelf: Patchelf
}): Promise<void> => {
  const { built, home, patchelf, target } = options
  for (const folder of notNeeded) await rm(join(built, folder), { recursive: true, force: true })
  for (const patch of target.patches) await replaceIn(join(built, patch.file), patch.from, patch.to)
  const program = target.programs.find((one) => existsSync(join(built, one)))
  if (program === undefined) throw new Error(`the packages bring none of ${target.programs.join(", ")}`)
  await bind({ built, home, program, libraries: target.libraries, patchelf })
  // Packages of before the merge of /usr bring a bin of their own, which nothing here needs.
  await rm(join(built, "bin"), { recursive: true, force: true })
  await mkdir(join(built, "bin"))
  for (const name of [target.command, ...target.aliases]) {
    const command = join(built, "bin", name)
    if (target.start === "link") await symlink(join("..", program), command)
    else if (target.start === "python") await writeScript(command, pythonScript(home, program))
    else await writeScript(command, loaderScript(target, name, home, program))
  }
}

/** Writes an executable shell script. */
export const writeScript = async (file: string, body: string): Promise<void> => {
  await writeFile(file, `#!/bin/sh\n${body}\n`)
  await chmod(file, 0o755)
}

/** The surroundings of moto: no variable of the caller's Python, and the credentials that any AWS client wants. */
export const motoEnvironment =
  `env -i PATH="$PATH" HOME="\${HOME:-/tmp}" AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test PYTHONDONTWRITEBYTECODE=1 ` +
  `$(env | grep -E '^MOTO_' | tr '\\n' ' ')`

// An RPATH, not a RUNPATH, holds for what the libraries need as well. A program without a loader is static.
const bind = async (options: {
  readonly built: string
  readonly home: string
  readonly program: string
  readonly libraries: ReadonlyArray<string>
  readonly patchelf: Patchelf
}) => {
  const { built, home, libraries, patchelf, program } = options
  const file = join(built, program)
  const edit = (...args: ReadonlyArray<string>) => {
    const [tool, ...rest] = throughLoader(patchelf.folder, "usr/bin/patchelf")
    return run(tool, [...rest, ...args, file], `patchelf ${basename(program)}`)
  }
  const isStatic = (await edit("--print-interpreter").catch(() => "")).trim() === ""
  if (isStatic) return
  const folders = [...libraryFolders, ...libraries].filter((folder) => existsSync(join(built, folder)))
  await edit("--force-rpath", "--set-rpath", folders.map((folder) => join(home, folder)).join(":"))
  await edit("--set-interpreter", join(home, loaderIn(built)))
}

const loaderIn = (tree: string): string => {
  const found = ["lib64", "usr/lib64", ...libraryFolders]
    .map((folder) => join(folder, loaderName))
    .find((file) => existsSync(join(tree, file)))
  if (found === undefined) throw new Error(`no ${loaderName} among the packages`)
  return found
}

const throughLoader = (tree: string, program: string): readonly [string, ...Array<string>] => [
  join(tree, loaderIn(tree)),
  "--library-path",
  libraryFolders.map((folder) => join(tree, folder)).join(":"),
  join(tree, program)
]

// -s: nothing from the Python packages of the user.
const pythonScript = (home: string, program: string) =>
  `exec ${motoEnvironment} PYTHONHOME='${home}/usr' '${join(home, program)}' -s -m moto.server "$@"`

const loaderScript = (target: Target, name: string, home: string, program: string) => {
  const folders = [...libraryFolders, ...target.libraries].map((folder) => join(home, folder)).join(":")
  const loader = `${home}/lib64/${loaderName}`
  return `LD_LIBRARY_PATH='${folders}' exec '${loader}' --argv0 ${name} '${join(home, program)}' "$@"`
}

const replaceIn = async (file: string, from: string, to: string) => {
  if (existsSync(file)) await writeFile(file, (await readFile(file, "utf8")).replaceAll(from, to))
}
