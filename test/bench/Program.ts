/** ep2 as npm installs it: built anew from the sources, in a folder that ends with the scope. */
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect } from "effect"
import { buildInto } from "../buildProgram.ts"

/** Path of the program. */
export const build = Effect.gen(function* () {
  const folder = yield* Effect.acquireRelease(
    Effect.promise(() => mkdtemp(join(tmpdir(), "ep2-bench-"))),
    (made) => Effect.promise(() => rm(made, { recursive: true, force: true }))
  )
  return yield* Effect.promise(() => buildInto(join(folder, "bin")))
})
