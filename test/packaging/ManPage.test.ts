import { assert, describe, it } from "@effect/vitest"
import * as ManPage from "../../src/packaging/ManPage.ts"

const help = `DESCRIPTION
  Does things.

FLAGS
  --conf, -f string    Configuration file

SUBCOMMANDS
  start       Keep HAProxy in step
  dry-run     Say it only
EXAMPLES
  # A comment
  ep2 start
`

describe("the manual page", () => {
  it("finds the commands that the help lists, and nothing of its other sections", () => {
    assert.deepStrictEqual(ManPage.commandsIn(help), ["start", "dry-run"])
    assert.deepStrictEqual(ManPage.commandsIn("FLAGS\n  --conf  x\n"), [])
  })

  it("has the help of every command as it is, whatever roff would take it for", () => {
    const page = ManPage.make("1.2.3", [
      { command: "", text: help },
      { command: "start", text: ".conf \\n\n'quoted'\n" }
    ])

    const lines = page.split("\n")
    assert.strictEqual(lines[0], '.TH EP2 1 "" "ep2 1.2.3" "User Commands"')
    assert.includeMembers(lines, ["  \\-\\-conf, \\-f string    Configuration file", ".SH EP2 START"])
    assert.includeMembers(lines, ["\\&.conf \\en", "\\&'quoted'"])
  })
})
