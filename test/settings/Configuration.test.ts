import { readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import * as Settings from "../../src/settings/Settings.ts"

const text = readFileSync(new URL("../../docs/configuration.md", import.meta.url), "utf8")

// Its tables are compared in test/docs/Generated.test.ts, and its examples are decoded in test/docs/Blocks.test.ts.
describe("docs/configuration.md", () => {
  it("shows messages as ep2 writes them", () => {
    const conf = ["", "[haproxy]", "orchestrator = consul", ...Array(8).fill(""), "node_slots = abc", "", ""]
    conf.push("backend_nam = web", ...Array(3).fill(""), "[CONSUL]", "service_name =")

    const shown = /exit code 2:\n\n```text\n(.*?)\n```/s.exec(text)?.[1]

    const result = Settings.decode("/etc/ep2/ep2.conf", conf.join("\n"))
    assert.strictEqual(shown, Result.isFailure(result) ? result.failure.message : "")
  })
})
