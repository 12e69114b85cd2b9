import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, utimesSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { basename, join } from "node:path"
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

/** The files are real, so that what is seen of them is seen after some real time. Where nobody tells, after a second besides. */
const until = (is: Effect.Effect<boolean>) =>
  Effect.gen(function* () {
    yield* TestClock.adjust("1 second")
    for (let tries = 0; tries < 500 && !(yield* is); tries++) yield* TestClock.withLive(Effect.sleep("20 millis"))
    assert.isTrue(yield* is)
  })

/** Long enough for what is expected not to happen. */
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

      assert.isFalse(before)
      yield* until(overrides.isPaused)
    })
  )

  it.effect("is known at once, holds until it is ended, and is found by the next ep2", () =>
    Effect.gen(function* () {
      const { lines, lock, start } = yield* make
      yield* Overrides.pause({ ...lock, who: "somebody" })

      const overrides = yield* start
      const before = yield* overrides.isPaused
      yield* Overrides.resume(lock)

      assert.isTrue(before)
      yield* until(Effect.map(overrides.isPaused, (is) => !is))
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
      yield* until(Effect.sync(() => lines.some((line) => /EISDIR/.test(line))))
      const withFolder = yield* overrides.isPaused
      renameSync(lock.dir, `${lock.dir}.away`)
      rmSync(`${lock.dir}.away/${basename(file)}`, { recursive: true })
      yield* until(Effect.sync(() => lines.some((line) => /ENOENT/.test(line))))
      const withoutFolder = yield* overrides.isPaused
      renameSync(`${lock.dir}.away`, lock.dir)
      yield* until(Effect.map(overrides.isPaused, (is) => !is))

      assert.deepStrictEqual([withFolder, withoutFolder], [true, true])
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

      const release = (...backends: ReadonlyArray<string>) =>
        Effect.flatMap(Overrides.release({ ...lock, backends }), (file) =>
          until(Effect.sync(() => !existsSync(file))).pipe(Effect.andThen(look))
        )

      const none = yield* take
      yield* release("web")
      const [one, again] = [yield* take, yield* take]
      yield* release("api")
      yield* release("web")
      const both = yield* take
      yield* release()
      const all = yield* take

      assert.deepStrictEqual(
        [none, one, again, both, all],
        [
          [false, false],
          [true, false],
          [false, false],
          [true, true],
          [true, true]
        ]
      )
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
