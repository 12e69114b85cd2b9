/** The commands of each page of the documentation are run as they stand, and say what the page shows. */
import { readFileSync } from "node:fs"
import { dirname, join, resolve } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as Pages from "./Pages.ts"
import * as Session from "./Session.ts"
import * as Shown from "./Shown.ts"

const root = resolve(import.meta.dirname, "../..")
const pages = Pages.all().map((page) => ({ page, blocks: Pages.blocksOf(page, Pages.read(page)) }))

describe("the commands of", () => {
  it.concurrent.each(pages.filter(({ blocks }) => Session.isOne(blocks)))(
    "$page do what they are meant to, and say what it shows",
    async ({ blocks, page }) => {
      const { left, ran } = await Session.run(blocks)

      for (const { block, exitCode, output } of ran) {
        assert.strictEqual(exitCode, Number(block.marks.get("exit") ?? 0), `${Pages.placeOf(block)} says:\n${output}`)
      }
      for (const { block, output = "" } of ran.filter(({ block }) => block.language === "sh")) {
        const next = blocks[blocks.indexOf(block) + 1]
        if (next?.language !== "text" || !next.isAfterBlock || next.marks.has("no-test")) continue
        assert.isTrue(Shown.isShown(next.text, output), `${Pages.placeOf(next)} does not show this:\n${output}`)
      }
      assert.strictEqual(Shown.renewed(Pages.read(page), ran), Pages.read(page))
      for (const name of blocks.flatMap(({ marks }) => marks.get("shows") ?? [])) {
        assert.strictEqual(readFileSync(join(root, dirname(page), name), "utf8"), left(name), name)
      }
    },
    180_000
  )
})

describe("a console block", () => {
  it("is its commands, each up to the first line that no backslash ends, and what each says", () => {
    const text = "$ one \\\n  more\nsaid\n\nmore\n$ two\n$ three\nlast\n"

    assert.deepStrictEqual(Session.commandsOf(text), [
      { command: "one \\\n  more", output: "said\n\nmore\n" },
      { command: "two", output: "" },
      { command: "three", output: "last\n" }
    ])
  })
})

describe("what a page shows", () => {
  const shown = "serves …\n…\nlast (pid 12)\n"

  it("may leave out words and lines, and times, pids and blanks do not count", () => {
    assert.isTrue(Shown.isShown(shown, "serves 3 of 4\nmore\nand more\nlast   (pid 7)\n"))
    assert.isTrue(Shown.isShown(shown, "serves 3\nlast (pid 7)\n"))
    assert.isTrue(
      Shown.isShown("2026-11-24T05:01:12.345Z up after 0.20 s\n", "2026-01-01T00:00:00.000Z up after 1.35 s")
    )
  })

  it("may not be anything else", () => {
    assert.isFalse(Shown.isShown(shown, "serves 3 of 4\nlast (pid 7)\nand more\n"))
    assert.isFalse(Shown.isShown(shown, "before\nserves 3 of 4\nlast (pid 7)\n"))
    assert.isFalse(Shown.isShown("3 endpoints\n", "4 endpoints\n"))
  })
})
