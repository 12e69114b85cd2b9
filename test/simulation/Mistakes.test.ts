/** The seeds find deliberate mistakes: each of them, made in a process of its own, breaks a rule. */
import { execFile } from "node:child_process"
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { promisify } from "node:util"
import { assert, describe, it } from "vitest"
import { mistakes } from "./Mistakes.ts"

/** Far fewer than `Seeds.test.ts` plays without a mistake. */
const seeds = 300

/** One of each part, and all of them in the matrix. */
const made =
  process.env.EP2_TEST_ALL === undefined
    ? [...Map.groupBy(mistakes, ({ part }) => part).values()].map((all) => all[0]!)
    : mistakes

describe("the seeds", () => {
  it.each(made)("find it where $name ($part)", async ({ name }) => {
    const program = join(import.meta.dirname, "mistaken.ts")

    const { stdout } = await promisify(execFile)(process.execPath, [program, name, String(seeds)])

    assert.match(stdout, /^\{"seed":\d+,"rule":"[a-z]+"\}\n$/)
  })

  it("are tried with a dozen mistakes at the least, in every part", () => {
    assert.isAtLeast(mistakes.length, 12)
    assert.sameMembers([...new Set(mistakes.map(({ part }) => part))], ["planner", "guard", "apply", "socket", "loop"])
    assert.strictEqual(new Set(mistakes.map(({ name }) => name)).size, mistakes.length)
  })

  it("are tried with mistakes in code that is there", () => {
    for (const { file, from, name } of mistakes) {
      const source = readFileSync(join(import.meta.dirname, "../../src", file), "utf8")
      assert.strictEqual(source.split(from).length, 2, `${name}: ${file} has what is replaced once`)
    }
  })
})
