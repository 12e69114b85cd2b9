/** That the bench runs. What it finds is its own affair: no test looks at a figure. */
import { execFile, spawnSync } from "node:child_process"
import { resolve } from "node:path"
import { promisify } from "node:util"
import { assert, describe, it } from "vitest"
import * as Parts from "./Parts.ts"
import { atLeast, atMost, print } from "./Section.ts"

const main = resolve(import.meta.dirname, "main.ts")

/** All of it takes half a minute even with the least sizes. */
const parts = process.env.EP2_TEST_ALL === undefined ? ["idle", "simulation"] : Parts.names

describe("the bench", () => {
  it(`prints a table with a goal of each part: ${parts.join(", ")}`, async () => {
    const { stdout } = await promisify(execFile)(process.execPath, [main, "--smoke", ...parts])

    assert.lengthOf(stdout.match(/^## .+\n\n.+\n\n\| .+ \|\n\| -+ .+ \|\n\| .+ \|$/gm) ?? [], parts.length)
    assert.match(stdout, /\| [≤≥] [\d.]+.*: (?:met|missed) /)
    assert.match(
      stdout,
      /^- HAProxy 2\.2\.\d+\S*, 2\.6\.\d+\S*, 3\.0\.\d+\S*, 3\.2\.\d+\S*; Consul \d\S+; moto \d\S+$/m
    )
  })

  it("names its parts when it is asked for one that it does not have", () => {
    const { status, stderr } = spawnSync(process.execPath, [main, "throughput"], { encoding: "utf8" })

    assert.strictEqual(status, 2)
    assert.include(stderr, `parts: ${Parts.names.join(", ")}`)
  })

  it("says of a goal whether its figure meets it", () => {
    const goals = [atMost(1.5, 1.5), atMost(1.5, 1.51), atLeast(20, 20), atLeast(20, 19.9), atMost(2, Number.NaN)]

    assert.deepStrictEqual(goals, ["≤ 1.5: met", "≤ 1.5: missed", "≥ 20: met", "≥ 20: missed", "≤ 2: missed"])
  })

  it("prints a section as a table whose columns are as wide as they have to be", () => {
    const text = print({
      title: "Apply",
      how: "How.",
      columns: ["a", "long"],
      rows: [["wide one", "1"]],
      notes: ["So."]
    })

    assert.strictEqual(
      text,
      "## Apply\n\nHow.\n\n| a        | long |\n| -------- | ---- |\n| wide one | 1    |\n\n- So.\n"
    )
  })
})
