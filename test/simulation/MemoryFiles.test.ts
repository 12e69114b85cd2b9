import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, FileSystem, Layer } from "effect"
import { Commands } from "../../src/haproxy/Commands.ts"
import { ConfigFile } from "../../src/haproxy/ConfigFile.ts"
import * as MemoryFiles from "../../src/simulation/MemoryFiles.ts"

const path = "/etc/haproxy/haproxy.cfg"
const text = (mark: string, more = "") => `defaults\n  mode http\n${more}global\n  setenv EP2_CONFIG ${mark}\n`

const Accepting = Layer.succeed(Commands, { run: () => Effect.succeed({ exitCode: 0, output: "" }) })

/** The config file on a disk in memory, with what is there before. */
const make = Effect.fnUntraced(function* (before?: string) {
  const files = MemoryFiles.make()
  files.write("/etc/haproxy/errors.http", "")
  if (before !== undefined) files.write(path, before)
  const services = yield* Layer.build(
    ConfigFile.layer({ configFile: path, binary: "haproxy" }).pipe(
      Layer.provide(Accepting),
      Layer.provideMerge(files.layer)
    )
  )
  const fs = Context.get(services, FileSystem.FileSystem)
  return { files, fs, file: Context.get(services, ConfigFile), list: fs.readDirectory("/etc/haproxy") }
})

describe("MemoryFiles", () => {
  it.effect("lets ConfigFile install a config, and leaves no candidate behind", () =>
    Effect.gen(function* () {
      const { file, files, list } = yield* make()

      const installed = yield* file.install({ text: text("one") })

      assert.deepEqual(installed, { isChanged: true, warnings: [] })
      assert.equal(files.read(path), text("one"))
      assert.deepEqual(yield* list, ["errors.http", "haproxy.cfg"])
    })
  )

  it.effect("lets ConfigFile mark a config good and go back to it", () =>
    Effect.gen(function* () {
      const { file, files } = yield* make()
      yield* file.install({ text: text("one") })
      yield* file.markGood
      yield* file.install({ text: text("two") })

      const isRestored = yield* file.restore

      assert.isTrue(isRestored)
      assert.equal(files.read(`${path}.lkg`), text("one"))
      assert.equal(files.read(path), text("one"))
    })
  )

  it.effect("lets ConfigFile keep what somebody else had there", () =>
    Effect.gen(function* () {
      const { file, files, list } = yield* make("# theirs\n")

      yield* file.install({ text: text("one") })

      const [backup] = (yield* list).filter((name) => name.endsWith(".bak"))
      assert.equal(files.read(`/etc/haproxy/${backup}`), "# theirs\n")
    })
  )

  it.effect("keeps owner and mode of what is replaced", () =>
    Effect.gen(function* () {
      const { file, fs } = yield* make("old")
      yield* fs.chmod(path, 0o640)
      yield* fs.chown(path, 12, 34)

      yield* file.install({ text: text("one") })

      const info = yield* fs.stat(path)
      assert.equal(info.mode & 0o7777, 0o640)
      assert.deepEqual([info.uid, info.gid].map(String), ["some(12)", "some(34)"])
    })
  )

  it.effect("a full disk keeps the old text, is told as one, and takes the next text once there is room", () =>
    Effect.gen(function* () {
      const { file, files, list } = yield* make()
      yield* file.install({ text: text("one") })
      files.setFull(true)

      const error = yield* Effect.flip(file.install({ text: text("two") }))
      const meanwhile = files.read(path)
      const names = yield* list
      files.setFull(false)
      yield* file.install({ text: text("two") })

      assert.equal(error.reason, "NotWritable")
      assert.match(error.message, /the disk is full; make room on it \(ENOSPC\)/)
      assert.equal(meanwhile, text("one"))
      assert.deepEqual(names, ["errors.http", "haproxy.cfg"])
      assert.equal(files.read(path), text("two"))
    })
  )

  it.effect("a read-only disk changes nothing and is told as one", () =>
    Effect.gen(function* () {
      const { file, files, fs } = yield* make("old")
      files.setReadOnly(true)

      const error = yield* Effect.flip(file.install({ text: text("one") }))
      const removal = yield* Effect.flip(fs.remove(path))
      const renaming = yield* Effect.flip(fs.rename(path, `${path}.old`))

      assert.match(error.message, /the file system is read-only; mount it writable \(EROFS\)/)
      assert.deepEqual([removal.reason._tag, renaming.reason._tag], ["Unknown", "Unknown"])
      assert.equal(files.read(path), "old")
    })
  )

  it.effect("says what is not there, and where nothing can be", () =>
    Effect.gen(function* () {
      const { fs } = yield* make("old")

      const missing = yield* Effect.flip(fs.readFile("/etc/haproxy/other.cfg"))
      const nowhere = yield* Effect.flip(Effect.scoped(fs.open("/nowhere/file", { flag: "w" })))
      const twice = yield* Effect.flip(Effect.scoped(fs.open(path, { flag: "wx" })))

      assert.deepEqual(
        [missing, nowhere, twice].map(({ reason }) => reason._tag),
        ["NotFound", "NotFound", "AlreadyExists"]
      )
      assert.isFalse(yield* fs.exists("/etc/haproxy/other.cfg"))
      assert.deepEqual(yield* fs.readDirectory("/etc"), ["haproxy"])
    })
  )
})
