import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { mkdir, mkdtemp, readdir, rm, stat, symlink, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { createInterface } from "node:readline"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Schedule, Scope } from "effect"
import * as Lock from "../../src/controller/Lock.ts"

const retryEvery = Duration.millis(50)
const everyMoment = Schedule.spaced("10 millis")

describe("Lock", () => {
  it.live("is held by one, and the next one gets it when that one lets go", () =>
    Effect.gen(function* () {
      const { configFile, dir } = yield* folders
      const scope = yield* Scope.make()
      assert.deepEqual(yield* Lock.tryAcquire({ dir, configFile }).pipe(Scope.provide(scope)), { isHeld: true })

      assert.deepEqual(yield* Effect.scoped(Lock.tryAcquire({ dir, configFile })), {
        isHeld: false,
        holder: process.pid
      })
      yield* Scope.close(scope, Exit.void)

      assert.deepEqual(yield* Effect.scoped(Lock.tryAcquire({ dir, configFile })), { isHeld: true })
    })
  )

  it.live("writes nothing to the lock file and leaves no journal", () =>
    Effect.gen(function* () {
      const { configFile, dir } = yield* folders
      yield* Lock.tryAcquire({ dir, configFile })

      const names = yield* Effect.promise(() => readdir(dir))

      assert.sameMembers(
        names.map((name) => name.replace(/-[0-9a-f]{12}\./, "-HASH.")),
        ["ep2-haproxy.cfg-HASH.lock", "ep2-haproxy.cfg-HASH.pid"]
      )
      const size = yield* Effect.promise(() => stat(join(dir, names.find((name) => name.endsWith(".lock"))!)))
      assert.equal(size.size, 0)
    })
  )

  it.live("is one lock for two names of one config file, and two for two config files", () =>
    Effect.gen(function* () {
      const { configFile, dir } = yield* folders
      const alias = join(dir, "alias.cfg")
      yield* Effect.promise(() => symlink(configFile, alias))
      yield* Lock.tryAcquire({ dir, configFile })

      assert.isFalse((yield* Lock.tryAcquire({ dir, configFile: alias })).isHeld)
      assert.isTrue((yield* Lock.tryAcquire({ dir, configFile: join(dir, "other.cfg") })).isHeld)
    })
  )

  it.live("is free at once when its holder is killed, also while a program that it started lives on", () =>
    Effect.gen(function* () {
      const { configFile, dir } = yield* folders
      const holder = yield* start(dir, configFile, "--child")
      yield* holder.until(/^held$/)
      const child = Number((yield* holder.until(/^child \d+$/)).split(" ")[1])
      yield* Effect.addFinalizer(() => Effect.sync(() => process.kill(child, "SIGKILL")))
      assert.isFalse((yield* Lock.tryAcquire({ dir, configFile })).isHeld)

      yield* holder.kill

      assert.isTrue(process.kill(child, 0))
      assert.isTrue((yield* Lock.tryAcquire({ dir, configFile })).isHeld)
    })
  )

  it.live(
    "goes from one to another of ten standbys, never to two, as each holder is killed",
    () =>
      Effect.gen(function* () {
        const { configFile, dir } = yield* folders
        const first = yield* start(dir, configFile)
        yield* first.until(/^held$/)
        const standbys = yield* Effect.forEach(Array.from({ length: 10 }), () => start(dir, configFile), {
          concurrency: 10
        })
        yield* Effect.forEach(standbys, (one) => one.until(/^standing by: another ep2 \(pid \d+\)/))

        let holder = first
        let waiting = standbys
        for (let round = 0; round < 10; round++) {
          yield* holder.kill
          holder = yield* Effect.raceAll(waiting.map((one) => one.until(/^held$/).pipe(Effect.as(one))))
          waiting = waiting.filter((one) => one !== holder)
          // Three times the interval at which they ask: a second one would have shown itself.
          yield* Effect.sleep("150 millis")

          assert.deepEqual(
            waiting.filter((one) => one.said().includes("held")),
            []
          )
        }
        for (const one of standbys) {
          assert.deepEqual(
            one.said().map((line) => line.split(":")[0]),
            ["standing by", "taking over", "held"]
          )
        }
      }),
    60_000
  )

  it.live("prints no warning of Node's", () =>
    Effect.gen(function* () {
      const { configFile, dir } = yield* folders
      const holder = yield* start(dir, configFile)
      yield* holder.until(/^held$/)

      assert.equal(holder.warned(), "")
    })
  )

  it.live("says what is wrong with lock_dir, with the lock file, or with the config file's folder", () =>
    Effect.gen(function* () {
      const { configFile, dir } = yield* folders
      yield* Effect.scoped(Lock.tryAcquire({ dir, configFile }))
      const [name] = yield* Effect.promise(() => readdir(dir))
      yield* Effect.promise(() => writeFile(join(dir, name!), "somebody else's text, and a long one. ".repeat(30)))
      const message = (options: Lock.Options) =>
        Effect.scoped(Lock.acquire({ ...options, retryEvery })).pipe(
          Effect.flip,
          Effect.map((error) => error.message)
        )

      const missing = yield* message({ dir: join(dir, "no"), configFile })
      const file = yield* message({ dir: configFile, configFile })
      const readOnly = yield* message({ dir: "/proc", configFile })
      const garbage = yield* message({ dir, configFile })
      const orphan = yield* message({ dir, configFile: join(dir, "no", "haproxy.cfg") })

      assert.equal(missing, `${join(dir, "no")}: cannot be used as lock_dir: no such folder`)
      assert.equal(file, `${configFile}: cannot be used as lock_dir: it is not a folder`)
      assert.match(readOnly, /^\/proc.*: (cannot be opened for writing|cannot be used as lock_dir)/)
      assert.equal(garbage, `${join(dir, name!)}: is not a lock file of ep2; remove it`)
      assert.equal(
        orphan,
        `${join(dir, "no", "haproxy.cfg")}: cannot use the folder of haproxy_config_file: no such folder`
      )
    })
  )
})

/** An empty lock folder, and a config file in another one. */
const folders = Effect.acquireRelease(
  Effect.promise(async () => {
    const root = await mkdtemp(join(tmpdir(), "ep2-lock-"))
    const [dir, configFile] = [join(root, "lock"), join(root, "haproxy.cfg")]
    await mkdir(dir)
    await writeFile(configFile, "")
    return { root, dir, configFile }
  }),
  ({ root }) => Effect.promise(() => rm(root, { recursive: true }))
)

/** Another process that wants the lock. */
const start = Effect.fnUntraced(function* (...args: ReadonlyArray<string>) {
  const child = yield* Effect.acquireRelease(
    Effect.sync(() => spawn(process.execPath, [resolve(import.meta.dirname, "LockHolder.ts"), ...args])),
    kill
  )
  const lines: Array<string> = []
  let warnings = ""
  createInterface({ input: child.stdout }).on("line", (line) => lines.push(line))
  child.stderr.on("data", (chunk) => {
    warnings += String(chunk)
  })
  return {
    said: () => lines,
    warned: () => warnings,
    kill: kill(child),
    until: (pattern: RegExp) =>
      Effect.sync(() => lines.find((line) => pattern.test(line))).pipe(
        Effect.repeat({ until: (line) => line !== undefined, schedule: everyMoment }),
        Effect.timeout("20 seconds"),
        Effect.map((line) => line!)
      )
  }
})

const kill = (child: ChildProcess) =>
  Effect.promise(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const gone = once(child, "exit")
    child.kill("SIGKILL")
    await gone
  })
