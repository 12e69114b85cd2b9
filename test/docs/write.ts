/**
 * `npm run docs`: writes the generated parts of the documentation anew, and what its `console`
 * blocks show, and names the files that have changed. A block without a language becomes `text`.
 */
import { writeFileSync } from "node:fs"
import { dirname, join } from "node:path"
import * as Generated from "./Generated.ts"
import * as Pages from "./Pages.ts"
import * as Session from "./Session.ts"
import * as Shown from "./Shown.ts"

const write = (file: string, before: string, text: string) => {
  if (text === before) return
  writeFileSync(join(Generated.root, file), text)
  console.log(`written: ${file}`)
}

for (const page of Generated.all) {
  const text = Generated.read(page)
  write(page.file, text, page.render(text))
}

for (const page of Pages.all()) {
  const before = Pages.read(page)
  const lines = before.split("\n")
  for (const { language, line } of Pages.blocksOf(page, before)) if (language === "") lines[line - 1] += "text"
  const text = lines.join("\n")
  const blocks = Pages.blocksOf(page, text)
  if (!blocks.some((block) => block.language === "console" && Session.takes(block))) {
    write(page, before, text)
    continue
  }
  const { left, ran } = await Session.run(blocks)
  const failed = ran.find(({ block, exitCode }) => exitCode !== Number(block.marks.get("exit") ?? 0))
  if (failed !== undefined) {
    console.error(`${Pages.placeOf(failed.block)} ends with ${failed.exitCode}: ${failed.output}`)
    process.exitCode = 1
    continue
  }
  write(page, before, Shown.renewed(text, ran))
  for (const name of blocks.flatMap(({ marks }) => marks.get("shows") ?? [])) {
    const file = join(dirname(page), name)
    write(file, Generated.read({ file }), left(name) ?? "")
  }
}
