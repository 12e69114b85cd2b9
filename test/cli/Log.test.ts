import { mkdtempSync, readFileSync, renameSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Result } from "effect"
import * as Log from "../../src/cli/Log.ts"

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "ep2-log-"))),
  (made) => Effect.sync(() => rmSync(made, { recursive: true }))
)

/** Logs into a file and gives its lines. */
const linesOf = (options: Pick<Log.LogOptions, "format" | "level">, body: Effect.Effect<void>) =>
  Effect.gen(function* () {
    const dir = yield* folder
    const file = join(dir, "ep2.log")
    yield* body.pipe(Effect.provide((yield* Log.make({ ...options, file })).layer))
    return readFileSync(file, "utf8").trimEnd().split("\n")
  })

const twoLines = Effect.gen(function* () {
  yield* Effect.logInfo("arrives").pipe(Effect.annotateLogs({ backend: "web", endpoint: "10.0.0.1:80" }))
  yield* Effect.logDebug("a step")
})

describe("the log", () => {
  it.effect("is a line of time, level, tags and words as text", () =>
    Effect.gen(function* () {
      const lines = yield* linesOf({ format: "text", level: "info" }, twoLines)

      assert.strictEqual(lines.length, 1)
      assert.match(lines[0]!, /^\d{4}-\d\d-\d\dT[\d:.]+Z info {4}backend=web endpoint=10\.0\.0\.1:80 arrives$/)
    })
  )

  it.effect("is an object per line as JSON", () =>
    Effect.gen(function* () {
      const lines = yield* linesOf({ format: "json", level: "debug" }, twoLines)

      const [first, second] = lines.map((line) => JSON.parse(line))
      const { time, ...rest } = first
      assert.match(time, /^\d{4}-/)
      assert.deepStrictEqual(rest, { level: "info", message: "arrives", backend: "web", endpoint: "10.0.0.1:80" })
      assert.strictEqual(second.level, "debug")
    })
  )

  it.effect.each(["text", "json"] as const)("cannot be forged by what others send, as %s", (format) =>
    Effect.gen(function* () {
      const lines = yield* linesOf(
        { format, level: "info" },
        Effect.logWarning("bad\n2026-01-01 info forged\u001b[31m\u2028x\u009b31m\u0085\r\u007f")
      )

      assert.strictEqual(lines.length, 1)
      assert.notMatch(lines[0]!, /[\p{Cc}\u2028]/u)
      assert.include(lines[0]!, "forged\\u001b[31m\\u2028x\\u009b31m\\u0085")
    })
  )

  it.effect("goes on when the disk is full", () =>
    Effect.gen(function* () {
      yield* Effect.logInfo("lost").pipe(
        Effect.provide((yield* Log.make({ file: "/dev/full", format: "text", level: "info" })).layer)
      )
    })
  )

  it.effect("goes on in a new file when the old one was moved away, with what is new of its options", () =>
    Effect.gen(function* () {
      const dir = yield* folder
      const options = { file: join(dir, "ep2.log"), format: "text", level: "info" } as const
      const log = yield* Log.make(options)
      const say = (line: string) => Effect.logDebug(line).pipe(Effect.provide(log.layer))

      yield* say("before")
      renameSync(options.file, join(dir, "ep2.log.1"))
      yield* log.reopen({ ...options, format: "json", level: "debug" })
      yield* say("after")

      assert.strictEqual(readFileSync(join(dir, "ep2.log.1"), "utf8"), "")
      assert.strictEqual(JSON.parse(readFileSync(options.file, "utf8")).message, "after")
    })
  )

  it.effect("goes on as it was when it cannot be opened anew", () =>
    Effect.gen(function* () {
      const dir = yield* folder
      const options = { file: join(dir, "ep2.log"), format: "text", level: "info" } as const
      const log = yield* Log.make(options)

      const result = yield* Effect.result(log.reopen({ ...options, file: join(dir, "none", "ep2.log") }))
      yield* Effect.logInfo("still here").pipe(Effect.provide(log.layer))

      assert.isTrue(Result.isFailure(result))
      assert.match(readFileSync(options.file, "utf8"), /still here/)
    })
  )

  it.effect("that cannot be opened is an error that says what to do", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(Log.make({ file: "/nonexistent/ep2.log", format: "text", level: "info" }))

      assert.match(error.message, /log_file \/nonexistent\/ep2\.log: .*ENOENT.*log_file = -/)
    })
  )
})
