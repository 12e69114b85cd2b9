/**
 * ep2 and the Node that it runs on as one file, for a machine without a Node: Node's
 * "single executable application". docs/decisions/packages.md has the reasons.
 *
 * Source: https://nodejs.org/docs/latest-v24.x/api/single-executable-applications.html
 */
import { chmod, copyFile, readFile, writeFile } from "node:fs/promises"
import { createRequire } from "node:module"
import { dirname, join } from "node:path"
import { rolldown } from "rolldown"
import config from "../../rolldown.config.ts"
import { run } from "./run.ts"

/** What Node's program has to be told from, so that nothing else is taken for it. */
const fuse = "NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2"

/** What was built. */
export interface Executable {
  readonly file: string
  /** The licences of everything in it, Node's own included. */
  readonly licences: string
}

/**
 * Builds it from the sources into `folder`, as `ep2`, with what is made on the way
 * beside it. It is for the platform that this runs on, and has the Node of the
 * checkout's npm package.
 */
export const build = async (folder: string): Promise<Executable> => {
  const node = nodePackage()
  const bundle = join(folder, "ep2.cjs")
  await bundleInto(bundle)

  const blob = join(folder, "ep2.blob")
  const seaConfig = join(folder, "sea.json")
  // With the code cache it starts faster than the bundle does. `import()` does not work with it, and there is none left.
  const options = { main: bundle, output: blob, disableExperimentalSEAWarning: true, useCodeCache: true }
  await writeFile(seaConfig, JSON.stringify(options))
  await run(node.program, ["--experimental-sea-config", seaConfig])

  const file = join(folder, "ep2")
  await copyFile(node.program, file)
  await chmod(file, 0o755)
  await run("postject", [file, "NODE_SEA_BLOB", blob, "--sentinel-fuse", fuse])
  const bundled = await readFile(join(folder, "LICENSES.txt"), "utf8")
  const licences = `Node.js ${node.version}\n\n${await readFile(node.licence, "utf8")}\n\n${bundled}`
  return { file, licences }
}

/** The program as Node takes it: CommonJS, and of modules only Node's own. */
const bundleInto = async (file: string) => {
  const building = await rolldown(config)
  try {
    const output = {
      format: "cjs",
      codeSplitting: false,
      dynamicImportInCjs: false,
      comments: { legal: true }
    } as const
    await building.write({ ...output, file })
  } finally {
    await building.close()
  }
}

/** The checkout's own Node, which is built to run on any Linux, and comes with its licence. */
const nodePackage = () => {
  const name = `node-${process.platform}-${process.arch}`
  try {
    const about = createRequire(import.meta.url).resolve(`${name}/package.json`)
    const { version } = createRequire(import.meta.url)(about)
    const folder = dirname(about)
    return { version, program: join(folder, "bin/node"), licence: join(folder, "LICENSE") }
  } catch (cause) {
    throw new Error(`there is no npm package ${name} in this checkout to take Node from: build this on Linux x64`, {
      cause
    })
  }
}
