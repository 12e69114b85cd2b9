/** What can be in place of the file that a writer should have left. */
import { execFile } from "node:child_process"
import { rm, symlink, truncate, writeFile } from "node:fs/promises"
import { promisify } from "node:util"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { document, noticed, replace, start } from "./FileSource.ts"

describe("FileFetcher when the file is none", () => {
  it.live.each<{
    readonly what: string
    readonly put: (path: string) => Promise<unknown>
    readonly reason: string
    readonly says: RegExp
  }>([
    {
      what: "half of a document",
      put: (path) => writeFile(path, '[{"targets": ["10.0.0.1:80"'),
      reason: "BadResponse",
      says: /^is not JSON: .*, at line 1, column 28$/
    },
    {
      what: "bytes that are no text",
      put: (path) =>
        writeFile(
          path,
          Uint8Array.from({ length: 4096 }, (_, at) => (at * 151) % 256)
        ),
      reason: "BadResponse",
      says: /^is not UTF-8/
    },
    {
      what: "zeros, as a crash of the machine leaves them",
      put: (path) => writeFile(path, Buffer.alloc(4096)),
      reason: "BadResponse",
      says: /^is not JSON: /
    },
    {
      what: "UTF-16",
      put: (path) => writeFile(path, Buffer.from(`\uFEFF${document("10.0.0.2:80")}`, "utf16le")),
      reason: "BadResponse",
      says: /^is not UTF-8/
    },
    {
      what: "a target with half a character in it",
      put: (path) => writeFile(path, Buffer.from(document("10.0.0.1:80", "w\u00fcb:80"), "latin1")),
      reason: "BadResponse",
      says: /^is not UTF-8/
    },
    {
      what: "more than 64 MiB",
      put: async (path) => {
        await writeFile(path, "")
        await truncate(path, 64 * 1024 * 1024 + 1)
      },
      reason: "BadResponse",
      says: /^is larger than 64 MiB$/
    },
    {
      what: "a link that leads to itself",
      put: (path) => symlink(path, path),
      reason: "Unavailable",
      says: /^cannot be read \(ELOOP\)$/
    },
    {
      what: "a link to nowhere",
      put: (path) => symlink(`${path}.gone`, path),
      reason: "TargetMissing",
      says: /^there is no such file/
    },
    {
      what: "a pipe without a writer",
      put: (path) => promisify(execFile)("mkfifo", [path]),
      reason: "BadResponse",
      says: /^is not a regular file$/
    }
  ])("fails when there is $what in place of the file, and sees what is put right", ({ put, reason, says }) =>
    Effect.gen(function* () {
      const { awaitChange, fetch, path } = yield* start(document("10.0.0.1:80"))
      yield* fetch
      yield* Effect.promise(() => rm(path).then(() => put(path)))
      yield* awaitChange.pipe(Effect.timeout("5 seconds"))

      const error = yield* Effect.flip(fetch).pipe(Effect.timeout("5 seconds"))
      yield* noticed(awaitChange, replace(path, document("10.0.0.2:80")))
      const after = yield* fetch

      assert.equal(error.reason, reason)
      assert.match(error.detail, says)
      assert.deepEqual(after, ["10.0.0.2:80"])
    })
  )
})
