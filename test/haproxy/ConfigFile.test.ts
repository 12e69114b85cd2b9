import { chmod, chown, lstat, mkdir, readdir, readFile, stat, symlink, writeFile } from "node:fs/promises"
import { join } from "node:path"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Fiber, FileSystem, Layer, PlatformError } from "effect"
import { Commands } from "../../src/haproxy/Commands.ts"
import { type Config, ConfigFile } from "../../src/haproxy/ConfigFile.ts"
import * as Binaries from "../servers/Binaries.ts"
import * as HaproxyServer from "../servers/HaproxyServer.ts"

const text = (mark: string, servers = "server node1 127.0.0.1:1\n") =>
  `defaults
  mode http
  timeout connect 1s
  timeout client 1s
  timeout server 1s
listen web
  bind 127.0.0.1:1
  ${servers}
global
  setenv EP2_CONFIG ${mark}
`
const good: Config = { text: text("one") }
const bad: Config = {
  text: `${text("two")}\n  bogus\n`,
  template: "/etc/ep2/web.template",
  templateLine: (line) => line + 100
}

describe.each(Binaries.haproxyVersions())("ConfigFile with HAProxy %s", (version) => {
  it.live("refuses a config that HAProxy refuses, in its words and with the template's line", () =>
    Effect.gen(function* () {
      const { file, folder } = yield* make(version)
      yield* file.install(good)

      const error = yield* Effect.flip(file.install(bad))

      assert.equal(error.reason, "ConfigInvalid")
      assert.match(
        error.message,
        /refuses the config:\n\/etc\/ep2\/web\.template:113: unknown keyword 'bogus' in 'global' section/
      )
      assert.include(error.output, "unknown keyword 'bogus'")
      assert.include(error.output, `${error.candidate}:13`)
      assert.equal(yield* file.read, good.text)
      assert.deepEqual(yield* list(folder), ["haproxy.cfg"])
    })
  )

  it.live("returns warnings and does not fail on them", () =>
    Effect.gen(function* () {
      const { file } = yield* make(version)

      const { warnings } = yield* file.check({ text: text("one").replace("timeout client 1s", "") })

      assert.isTrue(
        warnings.some((warning) => warning.includes("missing timeouts for proxy 'web'")),
        warnings.join("; ")
      )
    })
  )

  it.live("refuses a config without a listener, for which HAProxy has an exit code of its own", () =>
    Effect.gen(function* () {
      const { file } = yield* make(version)

      const error = yield* Effect.flip(file.check({ text: "global\n  log 127.0.0.1 local0\n" }))

      assert.equal(error.reason, "ConfigInvalid")
      assert.include(error.message, "exit code 2")
    })
  )
})

describe("ConfigFile", () => {
  it.live("leaves an unchanged file alone", () =>
    Effect.gen(function* () {
      const { file, path } = yield* make()
      yield* file.install(good)
      const before = yield* inode(path)

      const second = yield* file.install(good)

      assert.deepEqual(second, { isChanged: false, warnings: [] })
      assert.equal(yield* inode(path), before)
    })
  )

  it.live("keeps owner and mode of the file that was there, and gives a new one 0644", () =>
    Effect.gen(function* () {
      const { file, path } = yield* make()
      yield* file.install(good)
      yield* file.markGood
      const fresh = yield* Effect.promise(() => stat(path))
      yield* Effect.promise(() => chmod(path, 0o640))
      if (process.getuid?.() === 0) yield* Effect.promise(() => chown(path, 12, 34))
      const before = yield* Effect.promise(() => stat(path))

      yield* file.install({ text: text("one", "server node1 127.0.0.2:2") })
      yield* file.install({ text: text("two") })

      const after = yield* Effect.promise(() => stat(path))
      const kept = yield* Effect.promise(() => stat(`${path}.lkg`))
      assert.equal(fresh.mode & 0o7777, 0o644)
      assert.deepEqual([after.mode & 0o7777, after.uid, after.gid], [0o640, before.uid, before.gid])
      assert.deepEqual([kept.mode & 0o7777, kept.uid, kept.gid], [0o640, before.uid, before.gid])
      assert.equal(yield* file.read, text("two"))
    })
  )

  it.live("writes through a symbolic link, and through one whose file is not there yet", () =>
    Effect.gen(function* () {
      const { file, folder, path } = yield* make()
      const real = join(folder, "data")
      yield* Effect.promise(() => mkdir(real))
      yield* Effect.promise(() => symlink("data/real.cfg", path))

      yield* file.install(good)
      yield* file.install({ text: text("two") })

      assert.isTrue((yield* Effect.promise(() => lstat(path))).isSymbolicLink())
      assert.equal(yield* Effect.promise(() => readFile(join(real, "real.cfg"), "utf8")), text("two"))
      assert.deepEqual(yield* list(real), ["real.cfg"])
    })
  )

  it.live("goes back to the config that was marked good, with the servers that it had last", () =>
    Effect.gen(function* () {
      const { file } = yield* make()
      yield* file.install(good)
      yield* file.markGood
      const later = text("one", "server node1 127.0.0.2:2")
      yield* file.install({ text: later })
      yield* file.install({ text: text("two") })

      const isRestored = yield* file.restore

      assert.isTrue(isRestored)
      assert.equal(yield* file.read, later)
    })
  )

  it.live("does not take a config for good that nobody marked good", () =>
    Effect.gen(function* () {
      const { file } = yield* make()
      yield* file.install(good)
      yield* file.markGood
      yield* file.install({ text: text("two") })
      yield* file.install({ text: text("three") })

      yield* file.restore

      assert.equal(yield* file.read, good.text)
    })
  )

  it.live("keeps the operator's own file when ep2 takes over, and has nothing to restore where there was none", () =>
    Effect.gen(function* () {
      const [operators, fresh] = [yield* make(), yield* make()]
      const theirs = good.text.replace(/ {2}setenv.*\n/, "")
      yield* Effect.promise(() => writeFile(operators.path, theirs))
      yield* operators.file.install(good)
      yield* fresh.file.install(good)

      assert.isTrue(yield* operators.file.restore)
      assert.isFalse(yield* fresh.file.restore)

      assert.equal(yield* operators.file.read, theirs)
      assert.equal(yield* fresh.file.read, good.text)
    })
  )

  it.live("names what is wrong with the folder, the disk or the program, in one line", () =>
    Effect.gen(function* () {
      const { folder } = yield* make()
      const path = join(folder, "haproxy.cfg")
      yield* Effect.promise(() => writeFile(join(folder, "plain"), "#!/bin/sh\n", { mode: 0o644 }))
      const messageOf = (configFile: string, binary: string, layer = NodeFileSystem.layer) =>
        Effect.gen(function* () {
          const { reason, message } = yield* Effect.flip((yield* service(configFile, binary, layer)).install(good))
          return `${reason}: ${message}`
        })
      const haproxy = Binaries.haproxy("2.6")

      const noFolder = yield* messageOf(join(folder, "no", "haproxy.cfg"), haproxy)
      const notWritable = yield* messageOf("/proc/haproxy.cfg", haproxy)
      const full = yield* messageOf(path, haproxy, fullDisk)
      const noProgram = yield* messageOf(path, join(folder, "haproxy"))
      const notExecutable = yield* messageOf(path, join(folder, "plain"))

      assert.match(
        noFolder,
        /^NotWritable: .*no\/haproxy\.cfg: cannot use the folder .*no: .*does not exist \(ENOENT\)$/
      )
      assert.match(
        notWritable,
        /^NotWritable: \/proc\/haproxy\.cfg: cannot write a candidate beside .* \((ENOENT|EACCES)\)$/
      )
      assert.match(
        full,
        /^NotWritable: .*: cannot write a candidate beside .*: the disk is full; make room on it \(ENOSPC\)$/
      )
      assert.match(noProgram, /^NotRunnable: .*: cannot run .*haproxy: no such file; is haproxy_binary right\?$/)
      assert.match(notExecutable, /^NotRunnable: .*: cannot run .*plain: it is not an executable file/)
      assert.deepEqual(yield* list(folder), ["plain"])
    })
  )

  it.live("leaves nothing behind when it is interrupted while HAProxy checks, and the file as it was", () =>
    Effect.gen(function* () {
      const { folder, path } = yield* make()
      const slow = join(folder, "slow")
      yield* Effect.promise(() => writeFile(slow, "#!/bin/sh\nexec sleep 30\n", { mode: 0o755 }))
      yield* Effect.promise(() => writeFile(path, "as it was\n"))
      const file = yield* service(path, slow)
      const fiber = yield* Effect.forkChild(file.install(good))
      yield* list(folder).pipe(
        Effect.repeat({ until: (names) => names.some((name) => name.endsWith(".ep2-candidate")) }),
        Effect.timeout("10 seconds")
      )

      yield* Fiber.interrupt(fiber)

      assert.deepEqual(yield* list(folder), ["haproxy.cfg", "slow"])
      assert.equal(yield* file.read, "as it was\n")
    })
  )

  it.live("removes the candidates of killed runs when it starts, and those of a running ep2 not", () =>
    Effect.gen(function* () {
      const { folder, path } = yield* make()
      // No process has that pid: the kernel's limit is 2^22.
      const [stale, staleGood] = [".haproxy.cfg.5000000.3.ep2-candidate", ".haproxy.cfg.lkg.5000000.4.ep2-candidate"]
      const [running, others] = [`.haproxy.cfg.${process.ppid}.1.ep2-candidate`, ".other.cfg.5000000.1.ep2-candidate"]
      for (const name of [stale, staleGood, running, others]) {
        yield* Effect.promise(() => writeFile(join(folder, name), ""))
      }

      yield* service(path)

      assert.deepEqual(yield* list(folder), [running, others].sort())
    })
  )
})

/** A service on a file that is not there yet, in a folder of its own. */
const make = Effect.fnUntraced(function* (version: Binaries.HaproxyVersion = "2.6") {
  const { configFile, dir } = yield* HaproxyServer.make({ version })
  return { folder: dir, path: configFile, file: yield* service(configFile, Binaries.haproxy(version)) }
})

const service = (configFile: string, binary = Binaries.haproxy("2.6"), fileSystem = NodeFileSystem.layer) =>
  Layer.build(ConfigFile.layer({ configFile, binary }).pipe(Layer.provide([Commands.layer, fileSystem]))).pipe(
    Effect.map((context) => Context.get(context, ConfigFile))
  )

const list = (folder: string) => Effect.promise(async () => (await readdir(folder)).sort())
const inode = (path: string) => Effect.promise(async () => (await stat(path)).ino)

/** The real file system, with no room for a byte more. */
const fullDisk = Layer.effect(
  FileSystem.FileSystem,
  Effect.gen(function* () {
    const fs = yield* FileSystem.FileSystem
    const cause = Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" })
    const full = PlatformError.systemError({ _tag: "Unknown", module: "FileSystem", method: "write", cause })
    return FileSystem.make({
      ...fs,
      open: (path, options) =>
        fs.open(path, options).pipe(Effect.map((file) => ({ ...file, writeAll: () => Effect.fail(full) })))
    })
  })
).pipe(Layer.provide(NodeFileSystem.layer))
