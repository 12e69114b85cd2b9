/** The config file that somebody else has written or changed, and what becomes of it. */
import {
  chmodSync,
  chownSync,
  lstatSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync
} from "node:fs"
import { mkdir } from "node:fs/promises"
import { join } from "node:path"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, FileSystem, Layer, Logger, PlatformError } from "effect"
import { Commands } from "../../src/haproxy/Commands.ts"
import { ConfigFile } from "../../src/haproxy/ConfigFile.ts"
import * as Seal from "../../src/haproxy/Seal.ts"
import * as Binaries from "../servers/Binaries.ts"
import * as HaproxyServer from "../servers/HaproxyServer.ts"

const isRoot = process.getuid?.() === 0

const plain = (servers: string) => `${HaproxyServer.defaults}
listen web
  bind 127.0.0.1:1
  # ep2: servers of web, written by ep2 - edits here are lost
  ${servers}
  # ep2: end of the servers of web
`
/** As `TemplateRenderer` makes it. */
const rendered = (servers: string, mark = "one") => Seal.seal(`${plain(servers)}global\n  setenv EP2_CONFIG ${mark}\n`)
const [one, two, three] = ["127.0.0.2:2", "127.0.0.3:3", "127.0.0.4:4"].map((at) =>
  rendered(`server node1 ${at} check`)
)

const edited = (text: string) => text.replace("mode http", "mode tcp")

describe("a config file that somebody else writes", () => {
  it.live("is kept before the next write, with its owner, its mode and each of its bytes, and that is said", () =>
    Effect.gen(function* () {
      const { copies, file, log, path } = yield* make
      // Not UTF-8, as comments of old files are.
      const theirs = Buffer.concat([
        Buffer.from(plain("server app1 127.0.0.9:9")),
        Buffer.from([0x23, 0x20, 0xe9, 0x0a])
      ])
      writeFileSync(path, theirs)
      chmodSync(path, 0o640)
      if (isRoot) chownSync(path, 12, 34)
      const before = statSync(path)

      yield* file.install({ text: one! })

      const [copy] = copies()
      assert.match(copy ?? "", /haproxy\.cfg\.\d{8}T\d{6}\.\d{3}Z\.bak$/)
      const kept = statSync(copy!)
      assert.deepStrictEqual([kept.mode, kept.uid, kept.gid], [before.mode, before.uid, before.gid])
      assert.deepStrictEqual(readFileSync(copy!), theirs)
      assert.deepStrictEqual(readFileSync(`${path}.lkg`), theirs)
      assert.strictEqual(readFileSync(path, "utf8"), one)
      assert.lengthOf(log, 1)
      assert.match(
        log[0]!,
        /^Warn .*haproxy\.cfg: somebody else had written or changed it; theirs is kept as .*\.bak, .*the template/
      )
      assert.include(log[0]!, copy!)
    })
  )

  it.live.each([
    { what: "a line outside of ep2's region", change: edited },
    { what: "a server in ep2's region", change: (text: string) => text.replace("127.0.0.2:2", "127.0.0.8:8") },
    { what: "a line behind its end", change: (text: string) => `${text}# mine\n` },
    { what: "all of it", change: () => plain("") }
  ])("is kept where $what was changed, while ep2 runs and between two runs", ({ change }) =>
    Effect.gen(function* () {
      for (const isSameRun of [true, false]) {
        const { copies, file, log, path, restart } = yield* make
        yield* file.install({ text: one! })
        writeFileSync(path, change(one!))

        yield* (isSameRun ? file : yield* restart).install({ text: two! })

        assert.deepStrictEqual(
          copies().map((copy) => readFileSync(copy, "utf8")),
          [change(one!)]
        )
        assert.lengthOf(log, 1)
        assert.strictEqual(yield* file.read, two)
      }
    })
  )

  it.live("is ep2's own with other servers, of another template, put back or emptied: nothing is kept or said", () =>
    Effect.gen(function* () {
      const { copies, file, log, path, restart } = yield* make
      yield* file.install({ text: one! })
      yield* file.markGood
      yield* file.install({ text: two! })
      yield* (yield* restart).install({ text: three! })
      yield* (yield* restart).install({ text: rendered("server node1 127.0.0.2:2", "other") })
      const last = yield* restart
      assert.isTrue(yield* last.restore)
      writeFileSync(path, "")

      yield* last.install({ text: two! })

      assert.deepStrictEqual(copies(), [])
      assert.deepStrictEqual(log, [])
    })
  )

  it.live("is kept once, however often it comes back, and ten at most of different ones", () =>
    Effect.gen(function* () {
      const { copies, file, log, path } = yield* make
      for (let at = 0; at < 3; at++) {
        writeFileSync(path, edited(one!))
        yield* file.install({ text: one! })
      }
      assert.lengthOf(copies(), 1)
      assert.lengthOf(log, 3)

      for (let at = 0; at < 11; at++) {
        writeFileSync(path, `${one}# edit ${at}\n`)
        yield* file.install({ text: one! })
      }

      const kept = copies().map((copy) => readFileSync(copy, "utf8").split("\n").at(-2))
      assert.deepStrictEqual(
        kept,
        Array.from({ length: 10 }, (_, index) => `# edit ${index + 1}`)
      )
    })
  )

  it.live("is kept before it makes place for the last good config", () =>
    Effect.gen(function* () {
      const { copies, file, log, path } = yield* make
      yield* file.install({ text: one! })
      yield* file.markGood
      writeFileSync(path, edited(one!))

      assert.isTrue(yield* file.restore)

      assert.strictEqual(yield* file.read, one)
      assert.deepStrictEqual(
        copies().map((copy) => readFileSync(copy, "utf8")),
        [edited(one!)]
      )
      assert.lengthOf(log, 1)
    })
  )

  it.live("never becomes the config to go back to in place of ep2's own, nor where HAProxy refuses it", () =>
    Effect.gen(function* () {
      const [changed, broken] = [yield* make, yield* make]
      yield* changed.file.install({ text: one! })
      yield* changed.file.markGood
      writeFileSync(changed.path, edited(one!))
      writeFileSync(broken.path, plain("nosuch keyword"))

      yield* changed.file.install({ text: two! })
      yield* broken.file.install({ text: one! })

      assert.strictEqual(yield* changed.file.readGood, one)
      assert.strictEqual(yield* broken.file.readGood, undefined)
      assert.lengthOf(broken.copies(), 1)
    })
  )

  it.live("stays in place where it cannot be kept, and the error says so", () =>
    Effect.gen(function* () {
      const { copies, file, log, path } = yield* makeWith(noBackups)
      writeFileSync(path, edited(one!))

      const error = yield* Effect.flip(file.install({ text: two! }))

      assert.strictEqual(error.reason, "NotWritable")
      assert.match(
        error.message,
        /haproxy\.cfg: somebody else has written or changed it, and it cannot be kept as a backup: cannot write a candidate beside .*\.bak: the disk is full; make room on it \(ENOSPC\)$/
      )
      assert.strictEqual(yield* file.read, edited(one!))
      assert.deepStrictEqual([copies(), log], [[], []])
    })
  )

  it.live("behind a symbolic link is replaced there: the link stays, and all that is kept lies beside the file", () =>
    Effect.gen(function* () {
      const { file, folder, path } = yield* make
      const real = join(folder, "data")
      yield* Effect.promise(() => mkdir(real))
      writeFileSync(join(real, "real.cfg"), plain(""))
      symlinkSync("data/real.cfg", path)

      yield* file.install({ text: one! })

      assert.isTrue(lstatSync(path).isSymbolicLink())
      assert.deepStrictEqual(readdirSync(folder).sort(), ["data", "haproxy.cfg"])
      const names = readdirSync(real).sort()
      assert.deepStrictEqual([names.length, names[0], names[2]], [3, "real.cfg", "real.cfg.lkg"])
      assert.match(names[1]!, /^real\.cfg\..*Z\.bak$/)
      assert.strictEqual(readFileSync(join(real, "real.cfg"), "utf8"), one)
    })
  )
})

/** The service on a file in a folder of its own, what it says, and `restart`: the next ep2 on the same file. */
const makeWith = Effect.fnUntraced(function* (fileSystem: Layer.Layer<FileSystem.FileSystem>) {
  const { configFile, dir } = yield* HaproxyServer.make({ version: "2.6" })
  const log: Array<string> = []
  const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
    log.push(`${logLevel} ${String(message)}`)
  })
  const restart = Effect.gen(function* () {
    const options = { configFile, binary: Binaries.haproxy("2.6") }
    const layer = ConfigFile.layer(options).pipe(Layer.provide([Commands.layer, fileSystem]))
    const service = Context.get(yield* Layer.build(layer), ConfigFile)
    const logged = Effect.provide(Logger.layer([logger]))
    return {
      ...service,
      install: (text: { text: string }) => logged(service.install(text)),
      restore: logged(service.restore)
    }
  })
  const copies = () =>
    readdirSync(dir)
      .filter((name) => name.endsWith(".bak"))
      .sort()
      .map((name) => join(dir, name))
  return { folder: dir, path: configFile, file: yield* restart, restart, copies, log }
})

const make = makeWith(NodeFileSystem.layer)

/** The real file system, which is full as soon as a backup is to be written. */
const noBackups = Layer.effect(
  FileSystem.FileSystem,
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const cause = Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" })
    const full = PlatformError.systemError({ _tag: "Unknown", module: "FileSystem", method: "write", cause })
    return FileSystem.make({
      ...fs,
      open: (path, options) =>
        fs
          .open(path, options)
          .pipe(Effect.map((file) => (path.includes(".bak.") ? { ...file, writeAll: () => Effect.fail(full) } : file)))
    })
  })
).pipe(Layer.provide(NodeFileSystem.layer))
