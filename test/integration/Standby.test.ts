/** Several ep2 on one config file: one looks after HAProxy, the others stand by and take over, however it ends. */
import { symlinkSync, writeFileSync } from "node:fs"
import { chmod, readFile } from "node:fs/promises"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect } from "effect"
import { endpointKey } from "../../src/domain/State.ts"
import * as LockHolders from "../controller/LockHolders.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"
import * as Traffic from "../servers/Traffic.ts"
import * as World from "./World.ts"

const { logs, serves } = World

const isAll = process.env.EP2_TEST_ALL === "1"

const retryMillis = 500

/** What a takeover may cost besides: the try itself, and a machine that is busy with other tests. */
const marginMillis = 1500

const makeWorld = (options: Omit<World.Options, "source">) =>
  World.make({
    ...options,
    source: (dir) => `[FILE]\npath = ${join(dir, "targets.json")}`,
    settings: (dir) => ({
      orchestrator: "file",
      new_servers: "trusted",
      sleep_before_next_lock_attempt: String(retryMillis / 1000),
      ...(typeof options.settings === "function" ? options.settings(dir) : options.settings)
    })
  })

const want = (world: World.World, backends: ReadonlyArray<HttpBackends.HttpBackend>) =>
  World.replaceFile(
    join(world.dir, "targets.json"),
    JSON.stringify([{ targets: backends.map(({ endpoint }) => endpointKey(endpoint)) }])
  )

const says = (ep2: World.Ep2, pattern: RegExp) => pattern.test(ep2.output())

/** A fault of ep2's own that nothing catches, whenever SIGUSR2 comes. */
const defect = `data:text/javascript,${encodeURIComponent(
  'process.on("SIGUSR2", () => { throw new Error("a defect") })'
)}`

const ways = [
  { way: "TERM", signals: ["SIGTERM"], exitCode: 0 },
  { way: "KILL", signals: ["SIGKILL"], exitCode: null },
  { way: "a defect", signals: ["SIGUSR2"], exitCode: 1 },
  { way: "STOP, which does not give the lock back, and then KILL", signals: ["SIGSTOP", "SIGKILL"], exitCode: null }
] as const

describe.each([World.newest])("several ep2 on one config file, HAProxy %s", (version) => {
  it.live(
    "hand over from one to the next, whatever ends the one, and lose no request",
    () =>
      Effect.gen(function* () {
        const world = yield* makeWorld({ version, env: { NODE_OPTIONS: `--import ${defect}` } })
        const servers = yield* HttpBackends.makeAll(["a", "b", "c", "d", "e"])
        yield* want(world, servers)
        let holder = yield* world.start()
        yield* serves(world, servers)
        yield* logs(holder, /following the source/)
        const count = isAll ? 10 : ways.length
        let waiting = yield* Effect.forEach(Array.from({ length: count }), () => world.start())
        yield* Effect.forEach(waiting, (one) => logs(one, /standing by: another ep2 \(pid \d+\)/), { discard: true })
        const pid = Effect.map(world.ask("show info"), (reply) => /^Pid: \d+$/m.exec(reply)?.[0])
        const pidBefore = yield* pid
        const traffic = yield* Traffic.start({ port: world.port })

        for (let turn = 0; turn < count; turn++) {
          const { exitCode, signals, way } = ways[turn % ways.length]!
          for (const signal of signals) {
            if (signal !== signals[0]) yield* Effect.sleep(2 * retryMillis)
            assert.lengthOf(
              waiting.filter((one) => says(one, /taking over/)),
              0,
              way
            )
            holder.signal(signal)
          }
          assert.strictEqual(yield* holder.ended, exitCode, `${way}\n${holder.output().slice(-500)}`)
          const ended = yield* Clock.currentTimeMillis
          const wanted = turn % 2 === 0 ? servers.slice(0, -1) : servers
          yield* want(world, wanted)
          yield* World.eventually(
            `somebody takes over after ${way}`,
            Effect.sync(() => waiting.some((one) => says(one, /taking over/)))
          )
          const tookMillis = (yield* Clock.currentTimeMillis) - ended
          yield* serves(world, wanted)
          // A second one would have taken over by now.
          yield* Effect.sleep(retryMillis)

          const taking = waiting.filter((one) => says(one, /taking over/))
          assert.lengthOf(taking, 1, way)
          assert.isBelow(tookMillis, retryMillis + marginMillis, way)
          yield* Effect.logInfo(`taken over after ${way} in ${tookMillis} ms`)
          holder = taking[0]!
          waiting = waiting.filter((one) => one !== holder)
          yield* logs(holder, /already runs this template/)
          yield* logs(holder, /following the source/)
        }

        const report = yield* traffic.stop
        assert.deepStrictEqual(report.failures, [])
        assert.isDefined(pidBefore)
        assert.strictEqual(yield* pid, pidBefore)
      }),
    180_000
  )

  it.live("do not meet an ep2 on another config file with the same lock_dir, and do meet one by another name", () =>
    Effect.gen(function* () {
      const one = yield* makeWorld({ version })
      const other = yield* makeWorld({ version, settings: { lock_dir: one.dir } })
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
      yield* want(one, [a!])
      yield* want(other, [b!])
      const alias = join(other.dir, "alias.cfg")
      symlinkSync(one.configFile, alias)
      const conf = join(other.dir, "alias.conf")
      writeFileSync(conf, (yield* Effect.promise(() => readFile(one.conf, "utf8"))).replace(one.configFile, alias))

      const running = [yield* one.start(), yield* other.start()]
      yield* serves(one, [a!])
      yield* serves(other, [b!])
      const byAlias = yield* one.start(["start", "--conf", conf])
      yield* logs(byAlias, /standing by: another ep2 \(pid \d+\) looks after .*alias\.cfg/)
      byAlias.signal("SIGTERM")

      assert.strictEqual(yield* byAlias.ended, 0)
      for (const ep2 of running) assert.notMatch(ep2.output(), /standing by/)
    })
  )

  it.live("stand by also while lock_dir may not be written, and take over when it may again", () =>
    Effect.gen(function* () {
      const lockDir = yield* Effect.map(LockHolders.folders, ({ dir }) => dir)
      const world = yield* makeWorld({
        version,
        settings: { lock_dir: lockDir },
        // Root may write everywhere, unless it has been told that it may not.
        inside: () => (process.getuid?.() === 0 ? ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] : [])
      })
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
      yield* want(world, [a!, b!])
      const first = yield* world.start()
      yield* serves(world, [a!, b!])
      const second = yield* world.start()
      yield* logs(second, /standing by/)

      yield* Effect.promise(() => chmod(lockDir, 0o555))
      yield* logs(second, /warning .*still standing by, though .*permission denied/)
      first.signal("SIGKILL")
      yield* first.ended
      yield* Effect.sleep(2 * retryMillis)
      const warnings = second.output().match(/ warning /g)?.length
      yield* Effect.promise(() => chmod(lockDir, 0o755))
      yield* logs(second, /taking over/)
      yield* want(world, [a!])

      yield* serves(world, [a!])
      assert.strictEqual(warnings, 1)
    })
  )
})
