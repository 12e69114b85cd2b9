import { mkdirSync, readdirSync, unlinkSync } from "node:fs"
import { readdir, rename, rm, stat, symlink, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Exit, Schedule, Scope } from "effect"
import * as Lock from "../../src/controller/Lock.ts"
import { folders, start } from "./LockHolders.ts"

const isAll = process.env.EP2_TEST_ALL === "1"

/** With as many standbys as at first in each of them, or else with one less in each. */
const rounds = isAll ? 60 : 10

const retryEvery = Duration.millis(50)

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

  it.live("is not waited for by who does not stand by: it says who has it", () =>
    Effect.gen(function* () {
      const { configFile, dir } = yield* folders
      yield* Lock.tryAcquire({ dir, configFile })

      const error = yield* Effect.flip(Lock.acquire({ dir, configFile, retryEvery, standsBy: false }))

      assert.include(error.message, `another ep2 (pid ${process.pid}) looks after ${configFile}`)
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
    `goes to exactly one of ten standbys, ${rounds} times, however its holder ends, also when all ask at once`,
    () =>
      Effect.gen(function* () {
        const { configFile, dir } = yield* folders
        let holder = yield* start(dir, configFile)
        yield* holder.until(/^held$/)
        const another = Effect.tap(start(dir, configFile), (one) => one.until(/^standing by: another ep2 \(pid \d+\)/))
        let waiting = yield* Effect.forEach(Array.from({ length: 10 }), () => another, { concurrency: 10 })
        let slowestMillis = 0

        for (let round = 0; round < rounds; round++) {
          const isTogether = round % 2 === 0
          // Those that were stopped find their wait over, all at once.
          if (isTogether) yield* Effect.forEach(waiting, (one) => one.signal("SIGSTOP"))
          if (isTogether) yield* Effect.sleep("60 millis")
          yield* round % 3 === 0 ? holder.leave : holder.kill
          const ended = yield* Clock.currentTimeMillis
          if (isTogether) yield* Effect.forEach(waiting, (one) => one.signal("SIGCONT"))
          const next = yield* Effect.raceAll(waiting.map((one) => one.until(/^held$/).pipe(Effect.as(one))))
          slowestMillis = Math.max(slowestMillis, (yield* Clock.currentTimeMillis) - ended)
          // Three times the interval at which they ask: a second one would have shown itself.
          yield* Effect.sleep("150 millis")

          const holding = waiting.filter((one) => one.said().includes("held"))
          assert.isTrue(holding.length === 1 && holding[0] === next, `round ${round}: ${holding.length} hold it`)
          assert.deepEqual(
            next.said().map((line) => line.split(":")[0]),
            ["standing by", "taking over", "held"]
          )
          holder = next
          waiting = waiting.filter((one) => one !== next)
          if (isAll) waiting = [...waiting, yield* another]
        }
        yield* Effect.logInfo(`the slowest of ${rounds} takeovers took ${slowestMillis} ms, asking each 50 ms`)
        assert.isBelow(slowestMillis, 50 + 1500)
      }),
    isAll ? 300_000 : 60_000
  )

  it.live(
    "is taken anew by its holder when its file, or its whole folder, was removed, so that there are never two",
    () =>
      Effect.gen(function* () {
        const { configFile, dir } = yield* folders
        const holder = yield* start(dir, configFile)
        yield* holder.until(/^held$/)

        for (const name of readdirSync(dir)) unlinkSync(join(dir, name))
        yield* holder.until(/^the lock file was removed .* taken anew/)
        const afterFile = yield* Lock.tryAcquire({ dir, configFile })
        yield* Effect.promise(() => rm(dir, { recursive: true }))
        yield* holder.until(/^the lock is not safe: .*no such folder$/)
        mkdirSync(dir)
        yield* Effect.sync(() => readdirSync(dir).some((name) => name.endsWith(".pid"))).pipe(
          Effect.repeat({ until: (isThere) => isThere, schedule: Schedule.spaced("10 millis") }),
          Effect.timeout("5 seconds")
        )
        const afterFolder = yield* Lock.tryAcquire({ dir, configFile })

        assert.deepEqual([afterFile.isHeld, afterFolder.isHeld], [false, false])
      })
  )

  it.live("is given up by its holder when its file was removed and another one was faster", () =>
    Effect.gen(function* () {
      const { configFile, dir } = yield* folders
      const holder = yield* start(dir, configFile)
      yield* holder.until(/^held$/)

      for (const name of readdirSync(dir)) unlinkSync(join(dir, name))
      const { isHeld } = yield* Lock.tryAcquire({ dir, configFile })

      assert.isTrue(isHeld)
      yield* holder.until(
        new RegExp(`LockError: .*and another ep2 \\(pid ${process.pid}\\) has taken it since: this one ends`)
      )
    })
  )

  it.live("is waited for also while its folder is away, with one line for that", () =>
    Effect.gen(function* () {
      const { configFile, dir } = yield* folders
      const holder = yield* start(dir, configFile)
      yield* holder.until(/^held$/)
      const standby = yield* start(dir, configFile)
      yield* standby.until(/^standing by/)

      yield* Effect.promise(() => rename(dir, `${dir}.away`))
      yield* standby.until(/^still standing by, though .*no such folder$/)
      yield* Effect.sleep("300 millis")
      yield* Effect.promise(() => rename(`${dir}.away`, dir))
      yield* standby.until(/^the lock can be asked for again$/)
      yield* holder.kill
      yield* standby.until(/^held$/)

      assert.lengthOf(standby.said(), 5, standby.said().join("\n"))
    })
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
