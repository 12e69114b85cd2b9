import { execFileSync } from "node:child_process"
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { afterAll, assert, describe, it } from "@effect/vitest"
import { Effect, FileSystem, PlatformError } from "effect"
import * as Settings from "../../src/settings/Settings.ts"
import * as Conf from "./Conf.ts"

const folder = mkdtempSync(join(tmpdir(), "ep2-conf-"))
afterAll(() => rmSync(folder, { recursive: true }))

const write = (name: string, content: string | Uint8Array): string => {
  const path = join(folder, name)
  writeFileSync(path, content)
  return path
}

const load = (path: string) => Settings.load(path).pipe(Effect.provide(NodeFileSystem.layer))
const messageOf = (path: string) =>
  load(path).pipe(
    Effect.flip,
    Effect.map(({ message }) => message)
  )

describe("load", () => {
  it.effect("reads and decodes a file, also with a byte order mark and through a link", () =>
    Effect.gen(function* () {
      const path = write("good.conf", `\uFEFF${Conf.consul}`)
      const link = join(folder, "link.conf")
      symlinkSync(path, link)

      const { settings, warnings } = yield* load(link)

      assert.deepStrictEqual(settings, { ...Conf.settings(Conf.consul), file: link })
      assert.deepStrictEqual(warnings, [])
    })
  )

  it.effect("names the path as it was given in every message", () =>
    Effect.gen(function* () {
      const path = write("bad.conf", Conf.withLines(Conf.consul, "haproxy", "node_slots = x"))

      assert.strictEqual(
        yield* messageOf(path),
        `${path}:2: [haproxy] node_slots = "x": expected a whole number from 0 to 4096`
      )
    })
  )

  it.effect("a missing file is one message", () =>
    Effect.gen(function* () {
      const path = join(folder, "none.conf")

      assert.strictEqual(yield* messageOf(path), `${path}: there is no such file; expected the path of an ep2.conf`)
    })
  )

  it.effect("a folder, and a path through a file, are one message each", () =>
    Effect.gen(function* () {
      const path = join(folder, "folder.conf")
      mkdirSync(path)
      const through = join(write("plain", ""), "ep2.conf")

      assert.strictEqual(yield* messageOf(path), `${path}: this is a folder; expected the path of an ep2.conf`)
      const message = yield* messageOf(through)
      assert.match(message, /plain\/ep2\.conf: ENOTDIR: .*; expected the path of an ep2\.conf$/)
      assert.notInclude(message, "\n")
    })
  )

  it.effect("a device is refused before it is read", () =>
    Effect.gen(function* () {
      assert.strictEqual(
        yield* messageOf("/dev/zero"),
        "/dev/zero: this is a CharacterDevice; expected the path of an ep2.conf"
      )
    })
  )

  it.live("a pipe is read like a file", () =>
    Effect.gen(function* () {
      const path = join(folder, "pipe")
      execFileSync("mkfifo", [path])
      const writer = Effect.promise(() => import("node:fs/promises").then((fs) => fs.writeFile(path, Conf.consul)))

      const [{ settings }] = yield* Effect.all([load(path), writer], { concurrency: 2 })

      assert.strictEqual(settings.backends[0].source._tag, "Consul")
    })
  )

  it.effect("a file that is far too large is one message", () =>
    Effect.gen(function* () {
      const path = write("large.conf", "#".repeat(1024 * 1024 + 1))

      assert.strictEqual(yield* messageOf(path), `${path}: 1048577 bytes; expected an ep2.conf of at most 1 MiB`)
    })
  )

  it.effect("bytes that are not UTF-8 are one message with the line of the first", () =>
    Effect.gen(function* () {
      const good = Buffer.from("[haproxy]\n# grün\n")
      const path = write("latin1.conf", Buffer.concat([good, Buffer.from("# gr\xfcn\n# \xff\n", "latin1")]))

      assert.strictEqual(yield* messageOf(path), `${path}:3: a byte that is not UTF-8; expected UTF-8 text`)
    })
  )

  it.effect("no permission is one message", () =>
    Effect.gen(function* () {
      // The tests may run as root, whom no file refuses.
      const denied = (method: string) =>
        Effect.fail(
          PlatformError.systemError({ _tag: "PermissionDenied", module: "FileSystem", method, pathOrDescriptor: "/x" })
        )
      const files = FileSystem.layerNoop({ stat: () => denied("stat"), readFile: () => denied("readFile") })

      const error = yield* Settings.load("/x").pipe(Effect.provide(files), Effect.flip)

      assert.strictEqual(error.message, "/x: no permission to read it; expected the path of an ep2.conf")
    })
  )
})
