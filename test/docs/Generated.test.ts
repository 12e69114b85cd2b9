/** What is generated from the sources is as the sources are, and they have what it is made from. */
import { assert, describe, it } from "@effect/vitest"
import * as ApiReference from "./ApiReference.ts"
import * as ConfigurationTables from "./ConfigurationTables.ts"
import * as Generated from "./Generated.ts"

describe("the generated documentation", () => {
  it.each(Generated.all)("$file is what `npm run docs` writes", (page) => {
    const text = Generated.read(page)

    const made = page.render(text)

    assert.strictEqual(text, made)
  })

  it("has a table for every key of every section, and says so where one lacks", () => {
    const [configuration] = Generated.all
    const text = Generated.read(configuration!)
    const changed = (from: string, to: string) => () => ConfigurationTables.render(text.replace(from, to))

    const lacking = changed("orchestrator, sleep_before_next_run", "orchestrator")
    const doubled = changed("keys of [FILE]: all", "keys of [FILE]: path, path")
    const unknown = changed("keys of [FILE]: all", "keys of [FILE]: path, paht")

    assert.throws(lacking, "sleep_before_next_run of [haproxy] is in 0 tables")
    assert.throws(doubled, "path of [FILE] is in 2 tables")
    assert.throws(unknown, "a table names paht")
    assert.deepStrictEqual(
      [...ConfigurationTables.documented.keys()],
      ["[haproxy]", "[AWS]", "[CONSUL]", "[FILE]", "[backend NAME]"]
    )
  })

  it("has every module that package.json exports, with what it exports", () => {
    const page = ApiReference.render(Generated.exported())

    const sections = [...page.matchAll(/^## ep2\/(\w+)$/gm)].map(([, name]) => name)
    assert.deepStrictEqual(sections, [...ApiReference.entryPoints.keys()])
    for (const name of ["Fetcher", "FetchError", "DesiredState", "runMain"]) assert.include(page, `\n### ${name}\n`)
    assert.include(
      page,
      "\nconst layer: ({ ask, awaitChange, timeout }: Options) => Layer.Layer<Fetcher, never, never>\n"
    )
    assert.notMatch(page, /import\("/, "a path of this machine")
  })
})

describe("the docstrings", () => {
  it("are on every exported name of src, and on every static member of an exported class", () => {
    const names = Generated.exported().flatMap(({ exported, file }) =>
      exported.flatMap((one) => [one, ...one.members]).map(({ doc, name }) => ({ name: `${file} ${name}`, doc }))
    )

    const without = names.filter(({ doc }) => doc.trim() === "")

    assert.isAbove(names.length, 400)
    assert.deepStrictEqual(
      without.map(({ name }) => name),
      []
    )
  })
})
