/** `npm run docs`: writes the generated parts of the documentation anew, and names the files that have changed. */
import { writeFileSync } from "node:fs"
import { join } from "node:path"
import * as Generated from "./Generated.ts"

for (const page of Generated.all) {
  const text = Generated.read(page)
  const made = page.render(text)
  if (made === text) continue
  writeFileSync(join(Generated.root, page.file), made)
  console.log(`written: ${page.file}`)
}
