/** ep2 as npm installs it: built anew from the sources, in a folder that ends with the scope. */
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { Effect } from "effect"
import { rolldown } from "rolldown"
import config from "../../rolldown.config.ts"

/** Path of the program. */
export const build = Effect.gen(function* () {
  const folder = yield* Effect.acquireRelease(
    Effect.promise(() => mkdtemp(join(tmpdir(), "ep2-bench-"))),
    (made) => Effect.promise(() => rm(made, { recursive: true, force: true }))
  )
  const program = join(folder, "bin", "ep2.js")
  yield* Effect.promise(async () => {
    const made = await rolldown(config)
    await made.write({ ...config.output, dir: dirname(program) })
    await made.close()
  })
  return program
})
