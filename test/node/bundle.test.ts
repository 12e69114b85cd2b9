import { spawnSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join, resolve } from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { buildInto } from "../buildProgram.ts"

const requireNode = resolve(import.meta.dirname, "../../src/requireNode.ts")

// What stands in for ep2 here imports a module and a name that Node 20 has not, and something that it may never use.
const entry = `import ${JSON.stringify(requireNode)}
import { DatabaseSync } from "node:sqlite"
import { createZstdDecompress } from "node:zlib"
import * as path from "node:path"
console.log(typeof DatabaseSync, typeof createZstdDecompress, path.join("a", "b"))
if (process.argv[2] === "lazy") import("./lazy.ts").then(({ value }) => console.log(value))
`
const lazy = `console.log("evaluated")
export const value = 42
`

let folder = ""
const bundle = () => join(folder, "bin", "ep2.js")

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "ep2-bundle-"))
  writeFileSync(join(folder, "main.ts"), entry)
  writeFileSync(join(folder, "lazy.ts"), lazy)
  await buildInto(dirname(bundle()), join(folder, "main.ts"))
})

afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** Runs the bundle on a Node that calls itself `version`, and lacks what 20.15 and older lack. */
const runOn = (version: string) => {
  const older = `delete process.getBuiltinModule; Object.defineProperty(process.versions, "node", { value: "${version}" })`
  const fake = `const versions = { ...process.versions }; Object.defineProperty(process, "versions", { value: versions }); ${older}`
  const preload = `data:text/javascript,${encodeURIComponent(fake)}`
  return spawnSync(process.execPath, ["--import", preload, bundle()], { encoding: "utf8" })
}

describe("the bundle", () => {
  it("is executable and starts by itself", () => {
    const done = spawnSync(bundle(), [], { encoding: "utf8" })

    assert.strictEqual(done.stdout, "function function a/b\n")
    assert.strictEqual(statSync(bundle()).mode & 0o111, 0o111)
  })

  it.each(["18.20.8", "20.19.0", "22.18.0"])(
    "says in one line that Node %s is too old, before anything is loaded",
    (version) => {
      const done = runOn(version)

      assert.match(done.stderr, new RegExp(`^ep2: needs Node 22\\.19 or newer, and this is Node ${version} .*\\n$`))
      assert.strictEqual(done.stdout, "")
      assert.strictEqual(done.status, 1)
    }
  )

  it("imports nothing statically that an older Node may lack", () => {
    const imports = readFileSync(bundle(), "utf8").match(/^import .*$/gm) ?? []

    assert.deepStrictEqual(
      imports.filter((line) => line !== 'import { createRequire } from "node:module";'),
      []
    )
  })

  it("is a file of the program that loads nothing before the check either", () => {
    const { EP2_TEST_PROGRAM: program = "" } = process.env

    assert.notMatch(readFileSync(program, "utf8"), /^(import|export .* from) /m)
  })

  it("evaluates what is imported dynamically only when it is asked for", () => {
    const without = spawnSync(process.execPath, [bundle()], { encoding: "utf8" })
    const asked = spawnSync(process.execPath, [bundle(), "lazy"], { encoding: "utf8" })

    assert.notInclude(without.stdout, "evaluated")
    assert.match(asked.stdout, /evaluated\n42\n$/)
  })
})
