/** `ep2 pause`, `resume` and `release`, and what the guard holds until then. */
import { mkdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { endpointKey } from "../../src/domain/State.ts"
import * as Binaries from "../servers/Binaries.ts"
import { ConsulServer } from "../servers/ConsulServer.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"
import * as Traffic from "../servers/Traffic.ts"
import { fileOf, sourceOf, startServing, want } from "./FileWorld.ts"
import * as World from "./World.ts"

const { logs, serves } = World
const version = World.newest

const makeWorld = (settings: Readonly<Record<string, string>> = {}) =>
  World.make({
    version,
    source: sourceOf,
    backend: "    option idle-close-on-response\n",
    settings: (dir) => {
      // HAProxy's program by a name that can be taken away.
      mkdirSync(join(dir, "bin"))
      const haproxy_binary = join(dir, "bin", "haproxy")
      symlinkSync(Binaries.haproxy(version), haproxy_binary)
      return { orchestrator: "file", new_servers: "trusted", sleep_before_next_run: "0.5", haproxy_binary, ...settings }
    }
  })

/** Runs a command of ep2 to its end, and gives its exit code and what it said. */
const run = Effect.fnUntraced(function* (world: World.World, ...args: ReadonlyArray<string>) {
  const [name = "", ...more] = args
  const command = yield* world.start([name, "--conf", world.conf, ...more])
  return { exitCode: yield* command.ended, output: command.output() }
})

describe("ep2 pause and resume", () => {
  it.live("leave HAProxy and its file alone, say what would be done, and bring it level afterwards", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld()
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
      const ep2 = yield* startServing(world, [a!])
      const traffic = yield* Traffic.start({ port: world.port })
      const file = readFileSync(world.configFile, "utf8")

      assert.strictEqual((yield* run(world, "pause")).exitCode, 0)
      yield* logs(ep2, /paused \(since .* by \w+\)/)
      yield* want(world, [b!])
      yield* logs(ep2, new RegExp(`paused, or it would do this: node2 ${endpointKey(b!.endpoint)} arrives`))
      yield* Effect.sleep("1 second")
      yield* serves(world, [a!])
      assert.strictEqual(readFileSync(world.configFile, "utf8"), file)
      const { output } = yield* run(world, "resume")

      assert.match(output, /resumed/)
      yield* serves(world, [b!])
      assert.deepStrictEqual((yield* traffic.stop).failures, [])
    })
  )

  it.live(
    "hold through a restart of ep2, and a HAProxy that does not run is still started, with what the file has",
    () =>
      Effect.gen(function* () {
        const world = yield* makeWorld()
        const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
        yield* Effect.scoped(startServing(world, [a!]))
        yield* run(world, "pause")
        yield* world.killHaproxy
        yield* want(world, [b!])

        const ep2 = yield* world.start()
        yield* serves(world, [a!])
        yield* logs(ep2, /paused, or it would do this/)
        yield* run(world, "resume")

        yield* serves(world, [b!])
      })
  )

  it.live("apply a template that was changed by HUP in between, once resumed", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({ reload_interval: "0.5" })
      const [a] = yield* HttpBackends.makeAll(["a"])
      const ep2 = yield* startServing(world, [a!])
      yield* run(world, "pause")
      yield* logs(ep2, /paused \(since/)

      writeFileSync(world.template, readFileSync(world.template, "utf8").replace("retries 3", "retries 4"))
      ep2.signal("SIGHUP")
      yield* logs(ep2, /the new settings and template take the place/)
      yield* Effect.sleep("300 millis")
      assert.include(readFileSync(world.configFile, "utf8"), "retries 3")
      yield* run(world, "resume")

      yield* logs(ep2, /HAProxy runs another configuration: reloading it/)
      yield* serves(world, [a!])
      assert.include(readFileSync(world.configFile, "utf8"), "retries 4")
    })
  )

  it.live("leave a HAProxy to its owner that was stopped meanwhile", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld()
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
      const ep2 = yield* startServing(world, [a!])
      yield* run(world, "pause")
      yield* logs(ep2, /paused \(since/)
      yield* world.killHaproxy
      yield* logs(ep2, /HAProxy cannot be observed/)
      yield* want(world, [a!, b!])
      yield* run(world, "resume")

      yield* logs(ep2, /HAProxy does not run: it is left to its owner/)
      yield* Effect.sleep("500 millis")
      assert.deepStrictEqual(yield* world.haproxyPids, [])
      yield* World.startHaproxy(world, version)
      yield* serves(world, [a!, b!])
    })
  )

  it.live("count while ep2 still waits for its source, and while its conf is in the middle of an edit", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({ reload_interval: "0.5" })
      const [a] = yield* HttpBackends.makeAll(["a"])
      yield* Effect.scoped(startServing(world, [a!]))
      const file = readFileSync(world.configFile, "utf8")
      writeFileSync(world.template, readFileSync(world.template, "utf8").replace("retries 3", "retries 4"))
      yield* World.replaceFile(fileOf(world.dir), "[{")
      const ep2 = yield* world.start()
      yield* logs(ep2, /HAProxy is left as it is until a source answers/)

      const conf = readFileSync(world.conf, "utf8")
      writeFileSync(world.conf, conf.replace("node_slots = 8", "node_slots = eigh"))
      const { exitCode, output } = yield* run(world, "pause")
      yield* logs(ep2, /paused \(since/)
      yield* want(world, [a!])
      yield* Effect.sleep("2 seconds")
      assert.strictEqual(readFileSync(world.configFile, "utf8"), file)
      writeFileSync(world.conf, conf)
      yield* run(world, "resume")

      assert.strictEqual(exitCode, 0)
      assert.match(output, /for the ep2 with pid \d+/)
      yield* logs(ep2, /HAProxy runs another configuration: reloading it/)
      yield* serves(world, [a!])
    })
  )

  it.live("do not end an ep2 whose HAProxy cannot be brought up after the pause: it tries again", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({ reload_interval: "0.5" })
      const [a] = yield* HttpBackends.makeAll(["a"])
      const ep2 = yield* startServing(world, [a!])
      yield* run(world, "pause")
      yield* logs(ep2, /paused \(since/)
      // Somebody starts it without ep2's mark, and takes the program away that ep2 is to reload it with.
      yield* world.killHaproxy
      writeFileSync(world.configFile, readFileSync(world.configFile, "utf8").replace(/ *setenv EP2_CONFIG .*\n/, ""))
      yield* World.startHaproxy(world, version)
      const program = join(world.dir, "bin", "haproxy")
      renameSync(program, `${program}.away`)
      yield* run(world, "resume")
      yield* logs(ep2, /HAProxy goes on as it is, and is tried again: .*no such file/)
      renameSync(`${program}.away`, program)

      yield* logs(ep2, /HAProxy runs another configuration: reloading it/)
      yield* serves(world, [a!])
      assert.notMatch(ep2.output(), /fatal/)
    })
  )

  it.live("of an ep2 that was not paused say so, and of a conf that is not there what is wrong", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld()

      const resumed = yield* run(world, "resume")
      const missing = yield* world.start(["pause", "--conf", join(world.dir, "none.conf")])

      assert.deepStrictEqual(
        [resumed.exitCode, resumed.output.trim()],
        [0, `ep2 was not paused\nno ep2 runs on ${world.configFile}: it counts for the next one that does`]
      )
      assert.strictEqual(yield* missing.ended, 2)
      assert.match(missing.output(), /none\.conf: there is no such file/)
    })
  )
})

describe("the guard", () => {
  it.live("holds against an empty answer for good, and ep2 release lets go of it once", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld()
      const all = yield* HttpBackends.makeAll(["a", "b"])
      const ep2 = yield* startServing(world, all)

      yield* want(world, [])
      yield* logs(ep2, /nothing is wanted; the 2 endpoints that are served stay: .*run `ep2 release`/)
      yield* Effect.sleep("3 seconds")
      yield* serves(world, all)
      const wrong = yield* run(world, "release", "--backend", "nosuch")
      const { exitCode } = yield* run(world, "release", "--backend", "web")

      yield* serves(world, [])
      assert.match(wrong.output, /has no backend nosuch, it has web/)
      assert.deepStrictEqual([wrong.exitCode, exitCode], [1, 0])
      assert.match(ep2.output(), /released by the operator, and taken away: /)
      yield* want(world, all)
      yield* serves(world, all)
      yield* want(world, [])
      yield* Effect.sleep("1 second")
      yield* serves(world, all)
    })
  )

  it.live("starts a HAProxy that does not run with what the file has, on an empty answer", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld()
      const all = yield* HttpBackends.makeAll(["a", "b"])
      yield* Effect.scoped(startServing(world, all))
      yield* world.killHaproxy
      yield* want(world, [])

      const ep2 = yield* world.start()

      yield* serves(world, all)
      assert.match(ep2.output(), /nothing is wanted; the 2 endpoints that are served stay/)
    })
  )

  it.live("holds more than half until three answers in a row say so, and adds what is new meanwhile", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({ sleep_before_next_run: "1" })
      const all = yield* HttpBackends.makeAll(["a", "b", "c", "d", "e"])
      const ep2 = yield* startServing(world, all.slice(0, 4))

      yield* want(world, [all[0]!, all[4]!].slice(1))
      yield* serves(world, all)
      yield* logs(
        ep2,
        /the source names 1 endpoints: max_removal_percent is 50 of the 4 .*; 4 that it leaves out stay until 3 answers/
      )
      yield* serves(world, [all[4]!])

      assert.match(ep2.output(), /nothing is held against the source any more/)
    })
  )

  it.live(
    "keeps half at the least of a Consul service whose checks turn critical one by one, as after a restart of Consul",
    () =>
      Effect.gen(function* () {
        const consul = yield* ConsulServer
        const world = yield* World.make({
          version,
          source: () => `[CONSUL]\nservice_name = web\nconsul_port = ${consul.port}`,
          settings: { orchestrator: "consul", sleep_before_next_run: "5" }
        })
        const all = yield* HttpBackends.makeAll(["a", "b", "c", "d", "e", "f"])
        for (const { endpoint, name } of all) {
          yield* consul.register({ id: name, name: "web", address: endpoint.address, port: endpoint.port })
        }
        const ep2 = yield* world.start()
        yield* serves(world, all)
        const traffic = yield* Traffic.start({ port: world.port })

        for (const { name } of all) {
          yield* consul.setCheck(name, "critical")
          yield* Effect.sleep("100 millis")
        }
        yield* logs(ep2, /nothing is wanted|max_removal_percent/)
        yield* Effect.sleep("1 second")
        // How many are gone by then depends on which of Consul's answers ep2 has seen; a hold keeps half at the least.
        assert.isAtLeast(Object.keys(yield* world.served()).length, 3)
        for (const { name } of all) yield* consul.setCheck(name, "passing")
        yield* serves(world, all)

        assert.deepStrictEqual((yield* traffic.stop).failures, [])
      }).pipe(Effect.provide(ConsulServer.layer()))
  )
})

describe("a start while the source is down", () => {
  it.live(
    "starts a HAProxy that does not run with what the file of the last run has, and is level when it returns",
    () =>
      Effect.gen(function* () {
        const world = yield* makeWorld()
        const [a, b, c] = yield* HttpBackends.makeAll(["a", "b", "c"])
        yield* Effect.scoped(startServing(world, [a!, b!]))
        yield* world.killHaproxy
        yield* World.replaceFile(fileOf(world.dir), "[{")

        const ep2 = yield* world.start()
        yield* serves(world, [a!, b!])
        yield* logs(
          ep2,
          /no source has answered, and HAProxy does not run: it gets the servers that .*haproxy\.cfg has/
        )
        yield* want(world, [a!, b!, c!])

        yield* serves(world, [a!, b!, c!])
      })
  )

  it.live("does so with the file as it is where the template is in the middle of an edit", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld()
      const [a] = yield* HttpBackends.makeAll(["a"])
      yield* Effect.scoped(startServing(world, [a!]))
      yield* world.killHaproxy
      yield* World.replaceFile(fileOf(world.dir), "[{")
      writeFileSync(world.template, "global\n{{ nod")

      const ep2 = yield* world.start()

      yield* serves(world, [a!])
      yield* logs(ep2, /HAProxy is started with .*haproxy\.cfg as it is: .*haproxy\.cfg\.template/)
    })
  )

  it.live("leaves servers alone that are not ep2's, where the source names nothing in their place", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({ reload_interval: "0.5" })
      const [a] = yield* HttpBackends.makeAll(["a"])
      const old = `server app1 127.0.0.1:${a!.endpoint.port} check inter 100ms`
      writeFileSync(world.configFile, readFileSync(world.template, "utf8").replace("{{nodes}}", old))
      yield* World.startHaproxy(world, version)
      const traffic = yield* Traffic.start({ port: world.port })
      yield* want(world, [])

      const ep2 = yield* world.start()
      yield* logs(ep2, /the source of web names nothing, and HAProxy serves app1 there/)
      yield* Effect.sleep("1 second")
      assert.include(readFileSync(world.configFile, "utf8"), "app1")
      yield* want(world, [a!])

      yield* serves(world, [a!])
      assert.deepStrictEqual((yield* traffic.stop).failures, [])
    })
  )

  it.live("leaves a HAProxy alone that runs and does not answer, and goes on once it does", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld()
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
      yield* Effect.scoped(startServing(world, [a!]))
      const pids = yield* world.haproxyPids
      for (const pid of pids) process.kill(pid, "SIGSTOP")
      yield* want(world, [a!, b!])

      const ep2 = yield* world.start()
      yield* logs(ep2, /HAProxy runs and does not answer: .*admin-1\.sock: HAProxy was silent for 5 s/)
      for (const pid of pids) process.kill(pid, "SIGCONT")

      yield* serves(world, [a!, b!])
      assert.deepStrictEqual(yield* world.haproxyPids, pids)
      assert.notMatch(ep2.output(), /reloading it|starting it/)
    })
  )

  it.live("waits where there is no file of a last run", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld()
      const [a] = yield* HttpBackends.makeAll(["a"])

      const ep2 = yield* world.start()
      yield* logs(ep2, /waiting for the source: .*targets\.json/)
      assert.deepStrictEqual(yield* world.haproxyPids, [])
      yield* want(world, [a!])

      yield* serves(world, [a!])
    })
  )

  it.live("leaves a HAProxy that runs another configuration as it is until the source answers", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({ reload_interval: "0.5" })
      const [a] = yield* HttpBackends.makeAll(["a"])
      yield* Effect.scoped(startServing(world, [a!]))
      const pids = yield* world.haproxyPids
      writeFileSync(world.template, readFileSync(world.template, "utf8").replace("retries 3", "retries 4"))
      yield* World.replaceFile(fileOf(world.dir), "[{")

      const ep2 = yield* world.start()
      yield* logs(ep2, /HAProxy is left as it is until a source answers/)
      yield* Effect.sleep("500 millis")
      assert.deepStrictEqual(yield* world.haproxyPids, pids)
      assert.include(readFileSync(world.configFile, "utf8"), "retries 3")
      yield* want(world, [a!])

      yield* logs(ep2, /HAProxy runs another configuration: reloading it/)
      yield* logs(ep2, /following the source/)
      yield* serves(world, [a!])
    })
  )
})
