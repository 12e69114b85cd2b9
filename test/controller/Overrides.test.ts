import { mkdirSync, mkdtempSync, renameSync, rmSync, utimesSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Logger } from "effect"
import { TestClock } from "effect/testing"
import * as Overrides from "../../src/controller/Overrides.ts"

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "ep2-overrides-"))),
  (made) => Effect.sync(() => rmSync(made, { recursive: true, force: true }))
)

/** A lock_dir, and the overrides of one ep2 there, once it has looked for the first time. */
const make = Effect.gen(function* () {
  const dir = yield* folder
  const lockDir = join(dir, "lock")
  mkdirSync(lockDir)
  const lock = { dir: lockDir, configFile: join(dir, "haproxy.cfg") }
  const lines: Array<string> = []
  const logger = Logger.make<unknown, void>(({ message }) => {
    lines.push(String(message))
  })
  const start = Layer.build(Overrides.Overrides.layer(lock)).pipe(
    Effect.provide(Logger.layer([logger])),
    Effect.map((context) => Overrides.Overrides.pipe(Effect.provide(context))),
    Effect.flatten
  )
  return { lock, lines, start }
})

/** The files are real, so that a look takes real time after its second is over. */
const look = Effect.andThen(TestClock.adjust("1 second"), TestClock.withLive(Effect.sleep("60 millis")))

describe("a pause", () => {
  it.effect("is seen by the next look also where nothing has happened in the folder for long", () =>
    Effect.gen(function* () {
      const { lock, start } = yield* make
      const longAgo = new Date(Date.now() - 60_000)
      utimesSync(lock.dir, longAgo, longAgo)
      const overrides = yield* start
      yield* Effect.repeat(look, { times: 3 })
      const before = yield* overrides.isPaused

      yield* Overrides.pause({ ...lock, who: "somebody" })
      yield* look

      assert.deepStrictEqual([before, yield* overrides.isPaused], [false, true])
    })
  )

  it.effect("is known at once, holds until it is ended, and is found by the next ep2", () =>
    Effect.gen(function* () {
      const { lines, lock, start } = yield* make
      yield* Overrides.pause({ ...lock, who: "somebody" })

      const overrides = yield* start
      const before = yield* overrides.isPaused
      yield* Overrides.resume(lock)
      yield* look

      assert.deepStrictEqual([before, yield* overrides.isPaused], [true, false])
      assert.match(lines.join("\n"), /paused \(since .* by somebody\).*\nresumed by the operator/)
    })
  )

  it.effect("is not over because its file, or the whole folder, cannot be read", () =>
    Effect.gen(function* () {
      const { lines, lock, start } = yield* make
      const file = yield* Overrides.pause({ ...lock, who: "somebody" })
      const overrides = yield* start

      rmSync(file)
      mkdirSync(file)
      yield* look
      const withFolder = yield* overrides.isPaused
      rmSync(file, { recursive: true })
      renameSync(lock.dir, `${lock.dir}.away`)
      yield* look
      const withoutFolder = yield* overrides.isPaused
      renameSync(`${lock.dir}.away`, lock.dir)
      yield* look

      assert.deepStrictEqual([withFolder, withoutFolder, yield* overrides.isPaused], [true, true, false])
      assert.lengthOf(
        lines.filter((line) => /EISDIR.*what was known before holds/.test(line)),
        1
      )
      assert.lengthOf(
        lines.filter((line) => /resumed/.test(line)),
        1
      )
    })
  )
})

describe("a release", () => {
  it.effect("is taken once by each backend that it names", () =>
    Effect.gen(function* () {
      const { lock, start } = yield* make
      const overrides = yield* start
      const take = Effect.forEach(["web", "api"], overrides.takeRelease)

      const none = yield* take
      yield* Overrides.release({ ...lock, backends: ["web"] })
      yield* look
      const [one, again] = [yield* take, yield* take]
      yield* Overrides.release({ ...lock, backends: ["web"] })
      yield* Overrides.release({ ...lock, backends: [] })
      yield* look

      assert.deepStrictEqual(
        [none, one, again],
        [
          [false, false],
          [true, false],
          [false, false]
        ]
      )
      assert.deepStrictEqual(yield* take, [true, true])
    })
  )

  it.effect("counts for what is held then: not for a backend that comes later", () =>
    Effect.gen(function* () {
      const { lock, start } = yield* make
      const overrides = yield* start
      yield* Overrides.release({ ...lock, backends: [] })
      yield* look

      yield* TestClock.adjust("31 seconds")

      assert.isFalse(yield* overrides.takeRelease("web"))
    })
  )

  it.effect("that is old when it is seen lets go of nothing, and says so", () =>
    Effect.gen(function* () {
      const { lines, lock, start } = yield* make
      yield* TestClock.setTime(Date.now())
      const file = yield* Overrides.release({ ...lock, backends: [] })
      const before = (Date.now() - 11 * 60_000) / 1000
      utimesSync(file, before, before)

      const overrides = yield* start

      assert.isFalse(yield* overrides.takeRelease("web"))
      assert.match(lines.join(), /is too old and lets go of nothing: run it again/)
    })
  )

  it.effect("that cannot be taken away does not count", () =>
    Effect.gen(function* () {
      const { lines, lock, start } = yield* make
      const file = yield* Overrides.release({ ...lock, backends: [] })
      rmSync(file)
      mkdirSync(file)
      writeFileSync(join(file, "x"), "")

      const overrides = yield* start
      yield* look

      assert.isFalse(yield* overrides.takeRelease("web"))
      assert.lengthOf(lines, 1)
    })
  )
})
