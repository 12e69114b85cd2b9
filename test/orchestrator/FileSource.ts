/** What the tests of the file source share: a fetcher of one file, and a wait that has to end by a change. */
import { mkdtemp, rename, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { endpointKey } from "../../src/domain/State.ts"
import * as FileFetcher from "../../src/orchestrator/FileFetcher.ts"

/** A folder that ends with the scope. */
export const makeFolder = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "ep2-file-"))),
  (folder) => Effect.promise(() => rm(folder, { recursive: true, force: true }))
)

/** A file_sd document in JSON. */
export const document = (...targets: ReadonlyArray<string>) => JSON.stringify([{ targets }])

/** Writes in place. */
export const write = (path: string, text: string) => Effect.promise(() => writeFile(path, text))

/** Writes beside it and renames over it. */
export const replace = (path: string, text: string) =>
  Effect.promise(async () => {
    await writeFile(`${path}.new`, text)
    await rename(`${path}.new`, path)
  })

/** A fetcher of one file in a folder of its own, with the file there if it has a text. */
export const start = Effect.fnUntraced(function* (text: string | undefined, name = "targets.json") {
  const folder = yield* makeFolder
  const path = join(folder, name)
  if (text !== undefined) yield* write(path, text)
  const fetcher = yield* FileFetcher.make(new Map([["app", { path, portOf: "service" }]]))
  const fetch = Effect.map(fetcher.fetch("app"), ({ wanted }) => wanted.map(({ endpoint }) => endpointKey(endpoint)))
  return { folder, path, fetch, state: fetcher.fetch("app"), awaitChange: fetcher.awaitChange("app") }
})

/** Does something to the file while `awaitChange` waits, and returns how long it took to notice. */
export const noticed = Effect.fnUntraced(function* (
  awaitChange: Effect.Effect<void, unknown>,
  action: Effect.Effect<void>
) {
  const waiting = yield* Effect.forkChild(awaitChange, { startImmediately: true })
  yield* Effect.sleep("100 millis")
  assert.isUndefined(waiting.pollUnsafe(), "returned without a change")
  const before = performance.now()
  yield* action
  yield* Fiber.join(waiting).pipe(Effect.timeout("10 seconds"))
  return performance.now() - before
})
