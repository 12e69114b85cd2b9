/**
 * Before the tests: ep2 as it is shipped, since many tests start it
 * and the sources take four times as long to start. It stands in the checkout, so
 * that a systemd in namespaces of its own sees it too.
 */
import { spawnSync } from "node:child_process"
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from "node:fs"
import { join, resolve } from "node:path"
import { rolldown } from "rolldown"
import config from "../rolldown.config.ts"

const parent = resolve(import.meta.dirname, "../node_modules/.cache")

/** Builds it into a folder, out of another first file if one is named; resolves to the path of the program. */
export const buildInto = async (dir: string, input?: string): Promise<string> => {
  const build = await rolldown(input === undefined ? config : { ...config, input: { ep2: input } })
  await build.write({ ...config.output, dir })
  await build.close()
  return join(dir, "ep2.js")
}

export default async () => {
  mkdirSync(parent, { recursive: true })
  const folder = mkdtempSync(join(parent, "ep2-test-"))
  // Some tests run it as another user.
  chmodSync(folder, 0o755)
  const program = await buildInto(join(folder, "bin"))
  // Read by test/integration/World.ts; the second is Node's own, and what it keeps is made here once.
  process.env.EP2_TEST_PROGRAM = program
  process.env.NODE_COMPILE_CACHE = join(folder, "cache")
  const { status, stderr } = spawnSync(process.execPath, [program, "--help"], { encoding: "utf8" })
  if (status !== 0) throw new Error(`the bundle does not run: ${stderr}`)
  return () => rmSync(folder, { recursive: true, force: true })
}
