import { chmod, link, mkdir, rename, rm, symlink, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber } from "effect"
import * as FileFetcher from "../../src/orchestrator/FileFetcher.ts"
import { document, makeFolder, noticed, replace, start, write } from "./FileSource.ts"

const goesOnWaiting = Effect.fnUntraced(function* (
  awaitChange: Effect.Effect<void, unknown>,
  during: Effect.Effect<void>
) {
  const waiting = yield* Effect.forkChild(awaitChange, { startImmediately: true })
  yield* Effect.sleep("50 millis")
  yield* during
  yield* Effect.sleep("1300 millis")
  assert.isUndefined(waiting.pollUnsafe(), "returned without a change")
  yield* Fiber.interrupt(waiting)
})

describe("FileFetcher.fetch", () => {
  it.live("reads what the file names, and refuses what cannot be served", () =>
    Effect.gen(function* () {
      const { state } = yield* start(document("10.0.0.2:80", "[2001:DB8::5]:81", "10.0.0.1:0", "10.0.0.2:80"))

      const desired = yield* state

      assert.deepEqual(desired, {
        backend: "app",
        wanted: [
          { endpoint: { address: "10.0.0.2", port: 80 }, origin: "10.0.0.2:80" },
          { endpoint: { address: "2001:db8::5", port: 81 }, origin: "[2001:DB8::5]:81" }
        ],
        refused: [{ origin: "10.0.0.1:0", reason: "port 0 is not a port from 1 to 65535" }],
        pending: [],
        leaving: []
      })
    })
  )

  it.live("reads [] as nobody", () =>
    Effect.gen(function* () {
      const { fetch } = yield* start("[]")

      assert.deepEqual(yield* fetch, [])
    })
  )

  it.live("looks up host names", () =>
    Effect.gen(function* () {
      const folder = yield* makeFolder
      const path = join(folder, "targets.yml")
      yield* write(path, "- targets: [web.example:80]")
      const lookup = async () => [{ address: "10.0.0.7", family: 4 }]
      const fetcher = yield* FileFetcher.make(new Map([["app", { path, portOf: 1 }]]), { lookup })

      const { wanted } = yield* fetcher.fetch("app")

      assert.deepEqual(wanted, [{ endpoint: { address: "10.0.0.7", port: 80 }, origin: "web.example:80" }])
    })
  )

  it.live("says that the file is missing", () =>
    Effect.gen(function* () {
      const { fetch, path } = yield* start(undefined)

      const error = yield* Effect.flip(fetch)

      assert.equal(error.reason, "TargetMissing")
      assert.equal(error.message, `${path}: there is no such file: ep2 waits for it`)
    })
  )

  it.live("says that a folder is no file", () =>
    Effect.gen(function* () {
      const { fetch, path } = yield* start(undefined)
      yield* Effect.promise(() => mkdir(path))

      const error = yield* Effect.flip(fetch)

      assert.equal(error.reason, "BadResponse")
      assert.equal(error.message, `${path}: is a folder, expected a file`)
    })
  )

  it.live("does not hang on something that is no regular file", () =>
    Effect.gen(function* () {
      const fetcher = yield* FileFetcher.make(new Map([["app", { path: "/dev/zero", portOf: 80 }]]))

      const error = yield* Effect.flip(fetcher.fetch("app")).pipe(Effect.timeout("5 seconds"))

      assert.equal(error.message, "/dev/zero: is not a regular file")
    })
  )

  it.live("says that a file may not be read, or reads it where the user may read everything", () =>
    Effect.gen(function* () {
      const { fetch, path } = yield* start(document("10.0.0.1:80"))
      yield* Effect.promise(() => chmod(path, 0o000))

      const outcome = yield* fetch.pipe(Effect.catch((error) => Effect.succeed([error.reason, error.message])))

      const asUser = [
        "Unauthorized",
        `${path}: cannot be read (EACCES): give the user of ep2 read permission on it and its folders`
      ]
      assert.deepEqual(outcome, process.getuid?.() === 0 ? ["10.0.0.1:80"] : asUser)
    })
  )

  it.live("takes an empty file for an error and not for nobody", () =>
    Effect.gen(function* () {
      const { fetch, path } = yield* start("")

      const error = yield* Effect.flip(fetch)

      assert.equal(error.reason, "BadResponse")
      assert.equal(error.message, `${path}: is empty: write [] to say that nobody is to be served`)
    })
  )

  it.live("names line and column of what is no YAML", () =>
    Effect.gen(function* () {
      const { fetch, path } = yield* start('- targets:\n  - "10.0.0.1:80\n', "targets.yml")

      const error = yield* Effect.flip(fetch)

      assert.equal(error.reason, "BadResponse")
      assert.match(error.message, /: is not YAML: .*, at line 3, column 1$/)
      assert.isTrue(error.message.startsWith(path))
    })
  )

  it.live("waits for the end of a file that is written in place, bit by bit", () =>
    Effect.gen(function* () {
      const { fetch, path } = yield* start("- targets:\n  - 10.0.0.1:80\n", "targets.yml")
      yield* fetch

      yield* write(path, "- targets:\n")
      const writer = yield* Effect.forkChild(
        Effect.sleep("5 millis").pipe(
          Effect.andThen(write(path, "- targets:\n  - 10.0.0.1:80\n")),
          Effect.andThen(Effect.sleep("5 millis")),
          Effect.andThen(write(path, "- targets:\n  - 10.0.0.1:80\n  - 10.0.0.2:80\n"))
        )
      )
      const seen = yield* fetch

      yield* Fiber.join(writer)
      assert.deepEqual(seen, ["10.0.0.1:80", "10.0.0.2:80"])
    })
  )
})

describe("FileFetcher.awaitChange", () => {
  it.live("returns at once before the first fetch", () =>
    Effect.gen(function* () {
      const { awaitChange } = yield* start(document())

      yield* awaitChange.pipe(Effect.timeout("5 seconds"))
    })
  )

  it.live("returns when the file is replaced by rename, without waiting for the next look", () =>
    Effect.gen(function* () {
      const { awaitChange, fetch, path } = yield* start(document("10.0.0.1:80"))
      const times: Array<number> = []
      yield* fetch

      for (const last of [2, 3, 4, 5, 6]) {
        times.push(yield* noticed(awaitChange, replace(path, document(`10.0.0.${last}:80`))))
        assert.deepEqual(yield* fetch, [`10.0.0.${last}:80`])
      }

      // Without a notice, each would be seen by the next look, 900 ms later.
      assert.isBelow(Math.min(...times), 500)
    })
  )

  it.live("returns when the file is written in place", () =>
    Effect.gen(function* () {
      const { awaitChange, fetch, path } = yield* start(document("10.0.0.1:80"))
      yield* fetch

      yield* noticed(awaitChange, write(path, document("10.0.0.2:80")))

      assert.deepEqual(yield* fetch, ["10.0.0.2:80"])
    })
  )

  it.live("returns when a file that was left alone for seconds is written in place", () =>
    Effect.gen(function* () {
      const { awaitChange, fetch, path } = yield* start(document("10.0.0.1:80"))
      yield* fetch
      const waiting = yield* Effect.forkChild(awaitChange, { startImmediately: true })
      yield* Effect.sleep("3400 millis")

      yield* write(path, document("10.0.0.2:80"))
      yield* Fiber.join(waiting).pipe(Effect.timeout("1500 millis"))

      assert.deepEqual(yield* fetch, ["10.0.0.2:80"])
    })
  )

  it.live("returns when the inner of two links is swapped, as an update of a Kubernetes ConfigMap does", () =>
    Effect.gen(function* () {
      const { awaitChange, fetch, folder, path } = yield* start(undefined)
      const version = (name: string, text: string) =>
        Effect.promise(async () => {
          await mkdir(join(folder, name))
          await writeFile(join(folder, name, "targets.json"), text)
          await symlink(name, join(folder, "..data.new"))
          await rename(join(folder, "..data.new"), join(folder, "..data"))
        })
      yield* version("..1", document("10.0.0.1:80"))
      yield* Effect.promise(() => symlink("..data/targets.json", path))
      assert.deepEqual(yield* fetch, ["10.0.0.1:80"])

      yield* noticed(awaitChange, version("..2", document("10.0.0.2:80")))

      assert.deepEqual(yield* fetch, ["10.0.0.2:80"])
    })
  )

  it.live("returns when the file that a link leads to is replaced in another folder", () =>
    Effect.gen(function* () {
      const { awaitChange, fetch, path } = yield* start(undefined)
      const elsewhere = join(yield* makeFolder, "real.json")
      yield* write(elsewhere, document("10.0.0.1:80"))
      yield* Effect.promise(() => symlink(elsewhere, path))
      yield* fetch

      yield* noticed(awaitChange, replace(elsewhere, document("10.0.0.2:80")))

      assert.deepEqual(yield* fetch, ["10.0.0.2:80"])
    })
  )

  it.live("returns when the file goes, when it comes back, and when its folder does", () =>
    Effect.gen(function* () {
      const { awaitChange, fetch, folder, path } = yield* start(document("10.0.0.1:80"))
      yield* fetch

      yield* noticed(
        awaitChange,
        Effect.promise(() => rm(path))
      )
      assert.equal((yield* Effect.flip(fetch)).reason, "TargetMissing")
      yield* noticed(awaitChange, write(path, document("10.0.0.1:80")))
      assert.deepEqual(yield* fetch, ["10.0.0.1:80"])

      yield* noticed(
        awaitChange,
        Effect.promise(() => rename(folder, `${folder}.away`))
      )
      assert.equal((yield* Effect.flip(fetch)).reason, "TargetMissing")
      yield* noticed(
        awaitChange,
        Effect.promise(() => rename(`${folder}.away`, folder))
      )
      assert.deepEqual(yield* fetch, ["10.0.0.1:80"])
    })
  )

  it.live("returns when a bad file is put right", () =>
    Effect.gen(function* () {
      const { awaitChange, fetch, path } = yield* start("[{")
      yield* Effect.flip(fetch)

      yield* noticed(awaitChange, replace(path, document("10.0.0.1:80")))

      assert.deepEqual(yield* fetch, ["10.0.0.1:80"])
    })
  )

  it.live("returns for a change that came between the fetch and the wait", () =>
    Effect.gen(function* () {
      const { awaitChange, fetch, path } = yield* start(document("10.0.0.1:80"))
      yield* fetch
      yield* replace(path, document("10.0.0.2:80"))

      yield* awaitChange.pipe(Effect.timeout("5 seconds"))

      assert.deepEqual(yield* fetch, ["10.0.0.2:80"])
    })
  )

  it.live("goes on waiting when the file is written again with the same content, or another file changes", () =>
    Effect.gen(function* () {
      const { awaitChange, fetch, folder, path } = yield* start(document("10.0.0.1:80"))
      yield* fetch

      yield* goesOnWaiting(
        awaitChange,
        Effect.all([replace(path, document("10.0.0.1:80")), write(join(folder, "other"), "x")], { discard: true })
      )
    })
  )

  it.live("returns when the file goes a second time, after the very same one had come back", () =>
    Effect.gen(function* () {
      const { awaitChange, fetch, path } = yield* start(document("10.0.0.1:80"))
      yield* Effect.sleep("2100 millis")
      yield* fetch
      const move = (from: string, to: string) => Effect.promise(() => rename(from, to))
      for (const _ of ["once", "again"]) {
        yield* noticed(awaitChange, move(path, `${path}.away`))
        assert.equal((yield* Effect.flip(fetch)).reason, "TargetMissing")
        yield* noticed(awaitChange, move(`${path}.away`, path))
        assert.deepEqual(yield* fetch, ["10.0.0.1:80"])
      }
    })
  )

  it.live("leaves to the next fetch what is written through another name of the file, which nobody tells of", () =>
    Effect.gen(function* () {
      const { awaitChange, fetch, path } = yield* start(document("10.0.0.1:80"))
      const other = join(yield* makeFolder, "other.json")
      yield* Effect.promise(() => link(path, other))
      // Until how the file stands can be relied on, and what it says is not read again.
      yield* Effect.sleep("2100 millis")
      yield* fetch
      const waiting = yield* Effect.forkChild(awaitChange, { startImmediately: true })
      yield* Effect.sleep("100 millis")
      assert.deepEqual(yield* fetch, ["10.0.0.1:80"])

      yield* write(other, document("10.0.0.2:80"))

      assert.deepEqual(yield* fetch, ["10.0.0.2:80"])
      yield* Fiber.interrupt(waiting)
    })
  )

  it.live("loses no change when it is interrupted and called again, over and over", () =>
    Effect.gen(function* () {
      const { awaitChange, fetch, path } = yield* start(document("10.0.0.1:80"))
      yield* fetch
      const waiting = yield* awaitChange.pipe(
        Effect.timeoutOption(Duration.millis(7)),
        Effect.repeat({ until: (outcome) => outcome._tag === "Some" }),
        Effect.forkChild({ startImmediately: true })
      )
      yield* Effect.sleep("100 millis")

      yield* replace(path, document("10.0.0.2:80"))

      yield* Fiber.join(waiting).pipe(Effect.timeout("10 seconds"))
      assert.deepEqual(yield* fetch, ["10.0.0.2:80"])
    })
  )
})
