/** The file source end to end: what is wrong is said once, and HAProxy keeps what it serves. */
import { chmodSync, readFileSync, statSync, unlinkSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { endpointKey, slotNumber } from "../../src/domain/State.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"
import * as Traffic from "../servers/Traffic.ts"
import * as World from "./World.ts"

const fileOf = (world: { readonly dir: string }) => join(world.dir, "targets.json")

const makeWorld = (options: Omit<World.Options, "source">) =>
  World.make({
    ...options,
    source: (dir) => `[FILE]\npath = ${fileOf({ dir })}`,
    settings: { orchestrator: "file", ...options.settings }
  })

const want = (world: World.World, backends: ReadonlyArray<HttpBackends.HttpBackend>) =>
  World.replaceFile(fileOf(world), JSON.stringify([{ targets: backends.map(({ endpoint }) => endpointKey(endpoint)) }]))

const { logs, serves } = World

const count = (ep2: World.Ep2, pattern: RegExp) =>
  ep2
    .output()
    .split("\n")
    .filter((line) => pattern.test(line)).length

describe.each(World.sampleVersions)("a file to HAProxy %s", (version) => {
  it.live("replaces all servers at once without losing a request, and proves new ones first", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({ version })
      const old = yield* HttpBackends.makeAll(["a", "b", "c"])
      const fresh = yield* HttpBackends.makeAll(["d", "e", "f"])
      yield* want(world, old)
      const ep2 = yield* world.start()
      yield* serves(world, old)
      const traffic = yield* Traffic.start({ port: world.port, path: "/x?millis=30" })

      yield* want(world, fresh)
      yield* serves(world, fresh)
      yield* World.eventually(
        "every slot that is left is free",
        Effect.map(world.servers(), (servers) =>
          servers.filter(({ admin }) => admin === "maint").every(({ isMarked }) => !isMarked)
        )
      )

      yield* World.eventually(
        "the new ones answer",
        Effect.map(traffic.report, ({ byServer }) => ["d", "e", "f"].every((name) => (byServer[name] ?? 0) > 0))
      )

      const report = yield* traffic.stop
      assert.deepStrictEqual(report.failures, [])
      assert.sameMembers(Object.keys(report.byServer), ["a", "b", "c", "d", "e", "f"])
      assert.match(ep2.output(), /takes traffic once its checks pass/)
      assert.match(ep2.output(), /drains: no longer wanted/)
    })
  )

  it.live("sends nothing to a new server that is dead", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({ version, settings: { new_servers: "checked" } })
      const [alive, dead] = yield* HttpBackends.makeAll(["alive", "dead"])
      yield* dead!.stop
      yield* want(world, [alive!])
      yield* world.start()
      yield* serves(world, [alive!])
      const traffic = yield* Traffic.start({ port: world.port })

      yield* want(world, [alive!, dead!])
      yield* World.eventually(
        "the dead one has a server",
        Effect.map(world.servers(), (servers) => servers.some(({ endpoint }) => endpoint?.port === dead!.endpoint.port))
      )
      yield* Effect.sleep("1 second")
      yield* dead!.start
      yield* serves(world, [alive!, dead!])

      assert.deepStrictEqual((yield* traffic.stop).failures, [])
    })
  )

  it.live("keeps the config file level with the runtime, its mode and its region", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({ version })
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
      yield* want(world, [a!])
      const ep2 = yield* world.start()
      yield* serves(world, [a!])
      chmodSync(world.configFile, 0o640)

      yield* want(world, [a!, b!])
      yield* serves(world, [a!, b!])

      const inFile = Effect.sync(() => {
        const lines = readFileSync(world.configFile, "utf8")
          .split("\n")
          .map((line) => line.trim().split(/\s+/))
        const servers = lines.filter(([word, name = ""]) => word === "server" && slotNumber(name) !== undefined)
        return Object.fromEntries(
          servers.filter((line) => !line.includes("disabled")).map(([, name, at]) => [name, at])
        )
      })
      const served = yield* world.served()
      yield* World.eventually(
        "the file is level",
        Effect.map(inFile, (file) => JSON.stringify(file) === JSON.stringify(served))
      )
      assert.strictEqual(statSync(world.configFile).mode & 0o777, 0o640)
      assert.strictEqual(count(ep2, /reloading/), 0)
    })
  )

  it.live("says once what is wrong with the file, keeps serving, and recovers by itself", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({ version, settings: { sleep_before_next_run: "0.3" } })
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
      yield* want(world, [a!, b!])
      const ep2 = yield* world.start()
      yield* serves(world, [a!, b!])
      const traffic = yield* Traffic.start({ port: world.port })

      yield* World.replaceFile(fileOf(world), '[{"targets": ["10.0.0.1:80"')
      yield* logs(ep2, /warning.*targets\.json/)
      yield* Effect.sleep("1500 millis")
      assert.strictEqual(count(ep2, /warning.*targets\.json/), 1)
      yield* serves(world, [a!, b!])
      unlinkSync(fileOf(world))
      yield* Effect.sleep("1 second")
      yield* serves(world, [a!, b!])
      yield* want(world, [])
      yield* logs(ep2, /allow_empty/)
      yield* serves(world, [a!, b!])
      yield* want(world, [a!])
      yield* serves(world, [a!])
      yield* logs(ep2, /the source answers again/)

      assert.deepStrictEqual((yield* traffic.stop).failures, [])
    })
  )

  it.live("refuses what is no endpoint, by name, and serves the rest", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({ version })
      const [a] = yield* HttpBackends.makeAll(["a"])
      const good = endpointKey(a!.endpoint)
      yield* World.replaceFile(
        fileOf(world),
        JSON.stringify([
          { targets: [good, "0.0.0.0:80", "10.0.0.1:70000", "127.0.0.1:1", "1.2.3.4; shutdown:80", "10.0.0.9:80\nx"] }
        ])
      )
      const ep2 = yield* world.start()

      yield* serves(world, [a!])

      yield* logs(ep2, /not served: .*0\.0\.0\.0/)
      yield* logs(ep2, /not served: .*70000/)
      const config = readFileSync(world.configFile, "utf8")
      assert.notMatch(config, /70000|0\.0\.0\.0|shutdown|10\.0\.0\.9/)
    })
  )

  it.live("leaves a server in the operator's maintenance, through passes and a restart of ep2", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({ version, settings: { sleep_before_next_run: "0.3" } })
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
      yield* want(world, [a!, b!])
      yield* Effect.scoped(
        Effect.gen(function* () {
          const ep2 = yield* world.start()
          yield* serves(world, [a!, b!])
          yield* world.ask("set server web/node1 state maint")
          yield* logs(ep2, /node1 .* is in maint by the operator's hand/)
          yield* Effect.sleep("1 second")
          assert.strictEqual(count(ep2, /operator's hand/), 1)
        })
      )
      const again = yield* world.start()
      yield* logs(again, /operator's hand/)
      yield* Effect.sleep("500 millis")
      assert.deepStrictEqual(Object.keys(yield* world.served()), ["node2"])
      yield* world.ask("set server web/node1 state ready")
      yield* serves(world, [a!, b!])
    })
  )

  it.live("ends with exit code 0 on TERM and INT, and HAProxy goes on serving", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({ version })
      const [a] = yield* HttpBackends.makeAll(["a"])
      yield* want(world, [a!])
      for (const signal of ["SIGTERM", "SIGINT"] as const) {
        const ep2 = yield* world.start()
        yield* serves(world, [a!])
        yield* logs(ep2, /following the source/)
        ep2.signal(signal)

        assert.strictEqual(yield* ep2.ended, 0)

        assert.match(ep2.output(), /stopped; HAProxy goes on serving/)
        const traffic = yield* Traffic.start({ port: world.port, maxRequests: 20 })
        yield* World.eventually(
          "20 requests",
          Effect.map(traffic.report, ({ requests }) => requests >= 20)
        )
        assert.deepStrictEqual((yield* traffic.stop).failures, [])
      }
    })
  )

  it.live("lets a second ep2 stand by and take over when the first is killed", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({ version })
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
      yield* want(world, [a!])
      const first = yield* world.start()
      yield* serves(world, [a!])
      const second = yield* world.start()
      yield* logs(second, /stand/)

      first.signal("SIGKILL")
      yield* first.ended
      yield* want(world, [a!, b!])

      yield* serves(world, [a!, b!])
      yield* logs(second, /following the source/)
      yield* logs(second, /already runs this template/)
    })
  )
})
