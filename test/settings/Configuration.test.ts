import { readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { Result, type Schema } from "effect"
import * as Key from "../../src/settings/Key.ts"
import { sections } from "../../src/settings/Names.ts"
import * as Settings from "../../src/settings/Settings.ts"

const text = readFileSync(new URL("../../docs/configuration.md", import.meta.url), "utf8")

describe("docs/configuration.md", () => {
  it("has every key of every section, with the unit, default and example that the code has", () => {
    const inCode = Object.entries(sections).flatMap(([section, { fields }]) =>
      Object.entries<Schema.Constraint>(fields).map(([key, field]) => {
        const { default: absent, example, unit } = Key.docOf(field)
        return [section, key, unit ?? "", absent, example].join(" | ")
      })
    )

    assert.sameMembers([...rows(text)], inCode)
  })

  it("has examples that ep2 takes", () => {
    const blocks = [...text.matchAll(/```ini\n(.*?)```/gs)].map(([, block]) => block!)

    assert.isAbove(blocks.length, 0)
    for (const block of blocks) assert.isTrue(Result.isSuccess(Settings.decode("ep2.conf", block)), block)
  })

  it("shows messages as ep2 writes them", () => {
    const conf = ["", "[haproxy]", "orchestrator = consul", ...Array(8).fill(""), "node_slots = abc", "", ""]
    conf.push("backend_nam = web", ...Array(3).fill(""), "[CONSUL]", "service_name =")

    const shown = /exit code 2:\n\n```\n(.*?)\n```/s.exec(text)?.[1]

    const result = Settings.decode("/etc/ep2/ep2.conf", conf.join("\n"))
    assert.strictEqual(shown, Result.isFailure(result) ? result.failure.message : "")
  })
})

/** `section | key | unit | default | example` of every row of the tables. */
const rows = function* (markdown: string) {
  let section = ""
  for (const line of markdown.split("\n")) {
    // The keys of a section stand before its first subsection.
    section = /^## (?:\[(\w+)\])?/.exec(line)?.[1] ?? (/^###? /.test(line) ? "" : section)
    const [, key, meaning, unit, absent, example] = line.split("|").map((cell) => cell.trim().replace(/^`(.*)`$/, "$1"))
    if (section === "" || key === undefined || key === "key" || key.startsWith("---")) continue
    assert.notStrictEqual(meaning, "", key)
    yield [section, key, unit, absent, example].join(" | ")
  }
}
