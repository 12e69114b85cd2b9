/** Disks that are full or not writable, and config files that somebody else writes, under a running ep2. */
import { execFileSync } from "node:child_process"
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  unlinkSync,
  writeFileSync
} from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import { endpointKey } from "../../src/domain/State.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"
import * as Traffic from "../servers/Traffic.ts"
import { linesOf, sourceOf, startServing, want } from "./FileWorld.ts"
import * as World from "./World.ts"

const { eventually, logs, serves } = World

/** `npm test` has the first of a kind, `npm run test:all` has all. */
const isAll = process.env.EP2_TEST_ALL !== undefined
const some = <A>(all: ReadonlyArray<A>) => (isAll ? all : all.slice(0, 1))
const onlyInAll = <A>(all: ReadonlyArray<A>) => (isAll ? all : [])

/** Where HAProxy itself plays no part, one of them is enough. */
const version = World.newest

/** A world whose config file lies in a folder `disk` of its own. */
const makeWorld = Effect.fnUntraced(function* (options: Partial<World.Options> = {}) {
  const world = yield* World.make({
    version,
    source: sourceOf,
    ...options,
    settings: (dir) => ({
      orchestrator: "file",
      new_servers: "trusted",
      haproxy_config_file: join(dir, "disk", "haproxy.cfg"),
      ...(typeof options.settings === "function" ? options.settings(dir) : options.settings)
    })
  })
  const disk = join(world.dir, "disk")
  mkdirSync(disk)
  return { world, disk, configFile: join(disk, "haproxy.cfg") }
})

/** Waits until the file has just these in service. */
const hasOnDisk = (file: string, backends: ReadonlyArray<HttpBackends.HttpBackend>) =>
  eventually(
    "the file is level",
    Effect.sync(() => {
      const servers = [...readFileSync(file, "utf8").matchAll(/^\s*server node\d+ (\S+)(?!.* disabled)/gm)]
      const wanted = backends.map(({ endpoint }) => endpointKey(endpoint))
      return (
        servers
          .map(([, at]) => at)
          .sort()
          .join() === wanted.sort().join()
      )
    }),
    // It is tried again after five seconds.
    Duration.seconds(12)
  )

const behind = / warning .*the config file is behind the runtime/
const isLevelAgain = /the config file is level with the runtime again/

const isRoot = process.getuid?.() === 0
const nobody = 65534

/** What stops ep2 from writing, and what it says of it. */
const faults: ReadonlyArray<{
  readonly what: string
  readonly needsRoot: boolean
  readonly isMounted?: boolean
  readonly isOthers?: boolean
  readonly spoil: (disk: string, ep2: World.Ep2) => void
  readonly mend: (disk: string, ep2: World.Ep2) => void
  readonly says: RegExp
}> = [
  {
    what: "may not grow any more",
    needsRoot: false,
    spoil: (_, ep2) => limitFiles(ep2, "100"),
    mend: (_, ep2) => limitFiles(ep2, "unlimited"),
    says: /cannot write a candidate beside .*: .*raise its limit .*\(EFBIG\)$/
  },
  {
    what: "is on a disk that is full",
    needsRoot: true,
    isMounted: true,
    spoil: (disk) => fill(join(disk, "filler")),
    mend: (disk) => unlinkSync(join(disk, "filler")),
    says: /cannot write a candidate beside .*: the disk is full; make room on it \(ENOSPC\)$/
  },
  {
    what: "is on a disk that became read-only",
    needsRoot: true,
    isMounted: true,
    spoil: (disk) => run("mount", "-o", "remount,ro", disk),
    mend: (disk) => run("mount", "-o", "remount,rw", disk),
    says: /cannot write a candidate beside .*: the file system is read-only; mount it writable \(EROFS\)$/
  },
  {
    what: "is in a folder that ep2 may not write to any more",
    needsRoot: true,
    isOthers: true,
    spoil: (disk) => chmodSync(disk, 0o555),
    mend: (disk) => chmodSync(disk, 0o755),
    says: /cannot write a candidate beside .*: permission denied; ep2 must be able to write to that folder \(EACCES\)$/
  }
]

describe("a config file", () => {
  for (const { isMounted, isOthers, mend, needsRoot, says, spoil, what } of some(faults)) {
    const isLeftOut = needsRoot && !isRoot
    const why = isLeftOut ? " (needs root, to mount disks and to become another user)" : ""
    it.live.skipIf(isLeftOut)(`that ${what} is behind, and level once that is mended${why}`, () =>
      Effect.gen(function* () {
        const { configFile, disk, world } = yield* makeWorld(isOthers === true ? asNobody : {})
        if (isMounted === true) yield* mounted(disk)
        if (isOthers === true) for (const folder of [world.dir, disk]) chownSync(folder, nobody, nobody)
        const [a, b, c, d] = yield* HttpBackends.makeAll(["a", "b", "c", "d"])
        const ep2 = yield* startServing(world, [a!])
        const traffic = yield* Traffic.start({ port: world.port })
        yield* want(world, [a!, b!])
        yield* serves(world, [a!, b!])
        yield* hasOnDisk(configFile, [a!, b!])
        const before = readFileSync(configFile, "utf8")

        spoil(disk, ep2)
        yield* want(world, [b!, c!])
        yield* serves(world, [b!, c!])
        yield* logs(ep2, behind)
        yield* want(world, [c!, d!])
        yield* serves(world, [c!, d!])
        assert.strictEqual(readFileSync(configFile, "utf8"), before)
        mend(disk, ep2)
        yield* hasOnDisk(configFile, [c!, d!])
        yield* logs(ep2, isLevelAgain)

        assert.deepStrictEqual((yield* traffic.stop).failures, [])
        const [said, ...more] = linesOf(ep2, behind)
        assert.match(said ?? "", says)
        assert.include(said!, configFile)
        assert.deepStrictEqual(more, [])
        assert.lengthOf(linesOf(ep2, isLevelAgain), 1)
        assert.deepStrictEqual(readdirSync(disk).sort(), ["haproxy.cfg", "haproxy.cfg.lkg"])
      })
    )
  }

  it.live("that somebody replaces by an edit of theirs is ep2's again with the next change, and theirs is kept", () =>
    Effect.gen(function* () {
      const { configFile, disk, world } = yield* makeWorld()
      const [a, b, c] = yield* HttpBackends.makeAll(["a", "b", "c"])
      // As EP2 1.0 and its users had it: a file by hand, before ep2 has ever run.
      const byHand = readFileSync(world.template, "utf8").replace("{{nodes}}", "server mine 127.0.0.1:9")
      writeFileSync(configFile, byHand)
      chmodSync(configFile, 0o640)
      const ep2 = yield* startServing(world, [a!])
      yield* want(world, [a!, b!])
      yield* hasOnDisk(configFile, [a!, b!])
      const edited = readFileSync(configFile, "utf8").replace("retries 3", "retries 2")
      yield* World.replaceFile(configFile, edited)

      yield* want(world, [a!, b!, c!])
      yield* serves(world, [a!, b!, c!])
      yield* hasOnDisk(configFile, [a!, b!, c!])

      const kept = readdirSync(disk)
        .filter((name) => name.endsWith(".bak"))
        .sort()
      assert.deepStrictEqual(
        kept.map((name) => readFileSync(join(disk, name), "utf8")),
        [byHand, edited]
      )
      assert.strictEqual(lstatSync(join(disk, kept[0]!)).mode & 0o777, 0o640)
      assert.match(readFileSync(configFile, "utf8"), /retries 3/)
      const sayings = () => linesOf(ep2, /somebody else had written or changed it/)
      yield* World.eventually(
        "both are in the log",
        Effect.sync(() => sayings().length >= 2)
      )
      const said = sayings()
      assert.lengthOf(said, 2)
      for (const [index, name] of kept.entries()) assert.include(said[index]!, name)
      assert.include(said[1]!, `belongs into ${world.template}`)
    })
  )
})

describe.each(onlyInAll(["a config file"]))("%s", () => {
  it.live("that is a symbolic link is written where it leads, and stays a link, through changes and a restart", () =>
    Effect.gen(function* () {
      const { configFile, disk, world } = yield* makeWorld()
      const real = join(world.dir, "real")
      mkdirSync(real)
      symlinkSync("../real/haproxy.cfg", configFile)
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
      yield* Effect.scoped(
        Effect.gen(function* () {
          const ep2 = yield* startServing(world, [a!])
          yield* want(world, [a!, b!])
          yield* hasOnDisk(configFile, [a!, b!])
          ep2.signal("SIGTERM")
          yield* ep2.ended
        })
      )

      yield* world.start()
      yield* want(world, [b!])
      yield* serves(world, [b!])
      yield* hasOnDisk(configFile, [b!])

      assert.isTrue(lstatSync(configFile).isSymbolicLink())
      assert.deepStrictEqual(readdirSync(disk), ["haproxy.cfg"])
      assert.deepStrictEqual(readdirSync(real).sort(), ["haproxy.cfg", "haproxy.cfg.lkg"])
    })
  )
})

describe.each(onlyInAll(["a log file on a full disk"]))("%s", () => {
  it.live("never stops the loop", () =>
    Effect.gen(function* () {
      const { configFile, world } = yield* makeWorld({ settings: { log_file: "/dev/full" } })
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
      yield* want(world, [a!])
      const ep2 = yield* world.start()
      yield* serves(world, [a!])

      yield* want(world, [a!, b!])
      yield* serves(world, [a!, b!])
      yield* hasOnDisk(configFile, [a!, b!])
      ep2.signal("SIGTERM")

      assert.strictEqual(yield* ep2.ended, 0)
      assert.strictEqual(ep2.output(), "")
    })
  )
})

const asNobody = { inside: () => ["setpriv", `--reuid=${nobody}`, `--regid=${nobody}`, "--clear-groups"] }

const run = (command: string, ...args: ReadonlyArray<string>) => void execFileSync(command, args)

/** How large a file a running ep2 may write. */
const limitFiles = (ep2: World.Ep2, bytes: string) =>
  run("prlimit", `--pid=${/, pid (\d+), Node/.exec(ep2.output())?.[1]}`, `--fsize=${bytes}:unlimited`)

/** A small disk of its own there, for as long as the scope lasts. */
const mounted = (folder: string) =>
  Effect.acquireRelease(
    Effect.sync(() => run("mount", "-t", "tmpfs", "-o", "size=256k,mode=755", "ep2-test", folder)),
    () => Effect.sync(() => run("umount", "-l", folder))
  )

/** Leaves no room for a byte more. */
const fill = (file: string) => {
  try {
    writeFileSync(file, Buffer.alloc(1024 * 1024))
  } catch {
    // It is full now.
  }
}
