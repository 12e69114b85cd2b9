/** `npm run simulate:soak`, as it is called. */
import { spawnSync } from "node:child_process"
import { join } from "node:path"
import { assert, describe, it } from "vitest"

const soak = (...args: ReadonlyArray<string>) =>
  spawnSync(process.execPath, [join(import.meta.dirname, "soak.ts"), ...args], { encoding: "utf8" })

describe("npm run simulate:soak", () => {
  it("plays seeds for so many minutes, and says how many broke a rule", () => {
    const { status, stdout } = soak("--minutes", "0.01", "--from", "5")

    assert.match(stdout, /^\d+ seeds from 5 on: 0 broke a rule\n$/)
    assert.strictEqual(status, 0)
  })

  it("shows one seed, with its settings and its numbers", () => {
    const { status, stdout } = soak("--seed", "2")

    assert.match(stdout, /"version": "\d\.\d"/)
    assert.match(stdout, /^00:00:00\.\d+ +ep2 +.*the source names \d+ endpoints/m)
    assert.match(stdout, /^rules broken +none$/m)
    assert.strictEqual(status, 0)
  })

  it("refuses what is no number", () => {
    const wrong = [soak("--minutes", "often"), soak("--seed", "1.5")].map(({ status, stderr }) => [status, stderr])

    assert.deepStrictEqual(wrong, [
      [2, '--minutes "often": expected a number of minutes, such as 30\n'],
      [2, '--seed "1.5": expected a whole number from 1\n']
    ])
  })
})
