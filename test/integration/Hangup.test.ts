/** HUP: the log is reopened, conf and template are read again, and what did not change goes on undisturbed. */
import { readFileSync, renameSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { endpointKey } from "../../src/domain/State.ts"
import { ConsulServer } from "../servers/ConsulServer.ts"
import * as FaultProxy from "../servers/FaultProxy.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"
import * as Traffic from "../servers/Traffic.ts"
import { count, edit, fileOf, sourceOf, startServing, want } from "./FileWorld.ts"
import * as World from "./World.ts"

const { logs, serves } = World
const version = World.newest

const makeWorld = (settings: (dir: string) => Readonly<Record<string, string>> = () => ({})) =>
  World.make({
    version,
    source: sourceOf,
    backend: "    option idle-close-on-response\n",
    settings: (dir) => ({ orchestrator: "file", new_servers: "trusted", reload_interval: "0.5", ...settings(dir) })
  })

describe("HUP", () => {
  it.live("applies a template and settings that have changed, by one reload, and no request is lost", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld()
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
      const ep2 = yield* startServing(world, [a!])
      const traffic = yield* Traffic.start({ port: world.port, closing: 4, keeping: 4 })

      edit(world.template, (text) =>
        text.replace("    {{nodes}}\n", "    http-response set-header x-new yes\n    {{nodes}}\n")
      )
      edit(world.conf, (text) => text.replace("check_interval = 200ms", "check_interval = 150ms"))
      ep2.signal("SIGHUP")
      yield* logs(ep2, /the new settings and template take the place of the old ones/)
      yield* World.eventually(
        "the new template is loaded",
        Effect.sync(() => count(ep2, /following the source/) === 2)
      )
      yield* want(world, [a!, b!])
      yield* serves(world, [a!, b!])

      const answer = yield* Effect.promise(() => fetch(`http://127.0.0.1:${world.port}/`))
      assert.strictEqual(answer.headers.get("x-new"), "yes")
      assert.include(readFileSync(world.configFile, "utf8"), "inter 150ms")
      assert.strictEqual(count(ep2, /HAProxy runs another configuration: reloading it/), 1)
      assert.deepStrictEqual((yield* traffic.stop).failures, [])
    })
  )

  it.live("adds a backend and takes another interval without a new question to the first one's source", () =>
    Effect.gen(function* () {
      const consul = yield* ConsulServer
      const proxy = yield* FaultProxy.make(consul)
      const world = yield* World.make({
        version,
        source: (dir) =>
          `[CONSUL]\nservice_name = web\nconsul_port = ${proxy.port}\n[backend api]\norchestrator = file\npath = ${fileOf(dir)}\n`,
        settings: { orchestrator: "consul", sleep_before_next_run: "30" },
        template: (usual) => `${usual}\nbackend api\n    {{ backends.api.nodes }}\n`
      })
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
      const { address, port } = a!.endpoint
      yield* consul.register({ id: "a", name: "web", address, port })
      yield* want(world, [b!])
      const ep2 = yield* world.start()
      yield* serves(world, [a!])
      yield* serves(world, [b!], undefined, "api")
      const waiting = () => proxy.requests().filter((one) => one.includes("index=")).length
      yield* World.eventually(
        "it waits for a change",
        Effect.sync(() => waiting() > 0)
      )
      const before = waiting()

      edit(world.conf, (text) => text.replace("[backend api]", "[backend api]\nnode_slots = 3"))
      ep2.signal("SIGHUP")
      yield* World.eventually(
        "the new settings are followed",
        Effect.sync(() => count(ep2, /following the source/) === 2)
      )
      const other = yield* HttpBackends.make({ name: "c" })
      yield* consul.register({ id: "c", name: "web", address: other.endpoint.address, port: other.endpoint.port })
      yield* serves(world, [a!, other])

      // The change was seen by the very question that was waiting before.
      assert.isAtMost(waiting() - before, 1)
    }).pipe(Effect.provide(ConsulServer.layer()))
  )

  it.live("refuses what is bad with all that is wrong, leaves the old in force, and takes it once it is mended", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld()
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
      const ep2 = yield* startServing(world, [a!])
      const conf = readFileSync(world.conf, "utf8")
      const template = readFileSync(world.template, "utf8")

      edit(world.conf, (text) => text.replace("node_slots = 8", "node_slots = many\nmin_servers = few"))
      ep2.signal("SIGHUP")
      yield* logs(ep2, /stay in force: .*node_slots = "many".*min_servers = "few"/)
      writeFileSync(world.conf, conf)
      edit(world.template, (text) => text.replace("balance roundrobin", "balance nosuch"))
      ep2.signal("SIGHUP")
      yield* logs(ep2, /stay in force: .*haproxy\.cfg\.template:\d+: balance only supports/)
      edit(world.template, () => "global\n{{ nods }}\n")
      ep2.signal("SIGHUP")
      yield* logs(ep2, /stay in force: .*haproxy\.cfg\.template:2: .*nods/)
      writeFileSync(world.template, template)
      edit(world.conf, (text) => text.replace(world.configFile, `${world.configFile}.other`))
      ep2.signal("SIGHUP")
      yield* logs(ep2, /stay in force: .*haproxy_config_file = .* restart ep2 to change it/)
      writeFileSync(world.conf, conf)
      yield* want(world, [a!, b!])
      yield* serves(world, [a!, b!])
      ep2.signal("SIGHUP")
      yield* logs(ep2, /nothing has changed in them/)

      assert.strictEqual(count(ep2, /following the source/), 1)
      assert.strictEqual(count(ep2, /HAProxy runs another configuration/), 0)
      edit(world.conf, (text) => text.replace("node_slots = 8", "node_slots = 12"))
      ep2.signal("SIGHUP")
      yield* World.eventually(
        "the mended settings are followed",
        Effect.sync(() => count(ep2, /following the source/) === 2)
      )
    })
  )

  it.live("goes back to the old settings where HAProxy cannot be brought up with the new ones", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld()
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
      const ep2 = yield* startServing(world, [a!])
      const taken = yield* Effect.acquireRelease(
        Effect.promise(
          () =>
            new Promise<ReturnType<typeof createServer>>((done) => {
              const server = createServer().listen(0, "127.0.0.1", () => done(server))
            })
        ),
        (server) => Effect.sync(() => server.close())
      )
      const address = taken.address()
      const port = typeof address === "object" && address !== null ? address.port : 0

      edit(world.template, (text) => text.replace("    balance", `    bind 127.0.0.1:${port}\n    balance`))
      ep2.signal("SIGHUP")
      yield* logs(ep2, /the old settings and template are in force again: .*free the port or change the bind line/)
      yield* want(world, [a!, b!])
      yield* serves(world, [a!, b!])

      yield* World.eventually(
        "the file is that of the old template",
        Effect.sync(() => {
          const text = readFileSync(world.configFile, "utf8")
          return text.includes(endpointKey(b!.endpoint)) && !text.includes(`bind 127.0.0.1:${port}\n`)
        })
      )
    })
  )

  it.live("is what a template needs to count: an edit that nobody asked for does not reach HAProxy's file", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld()
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
      const ep2 = yield* startServing(world, [a!])

      edit(world.template, (text) => text.replace("retries 3", "retries 4"))
      yield* want(world, [a!, b!])
      yield* serves(world, [a!, b!])
      yield* World.eventually(
        "the file has the change",
        Effect.sync(() => readFileSync(world.configFile, "utf8").includes(endpointKey(b!.endpoint)))
      )

      assert.include(readFileSync(world.configFile, "utf8"), "retries 3")
      assert.notMatch(ep2.output(), /HUP/)
    })
  )

  it.live("reopens the log, so that logrotate can move it away", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld((dir) => ({ log_file: join(dir, "ep2.log") }))
      const [a] = yield* HttpBackends.makeAll(["a"])
      yield* want(world, [a!])
      const ep2 = yield* world.start()
      yield* serves(world, [a!])
      const log = join(world.dir, "ep2.log")

      renameSync(log, `${log}.1`)
      ep2.signal("SIGHUP")

      yield* World.eventually(
        "the new file has a line",
        Effect.sync(() => /HUP: reading .*ep2\.conf/.test(readFileSync(log, "utf8")))
      )
      assert.notMatch(readFileSync(`${log}.1`, "utf8"), /HUP/)
    })
  )

  it.live("does not end a standby, which takes over with the new settings", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld()
      const [a] = yield* HttpBackends.makeAll(["a"])
      const first = yield* startServing(world, [a!])
      const second = yield* world.start()
      yield* logs(second, /standing by/)

      edit(world.conf, (text) => text.replace("node_slots = 8", "node_slots = 16"))
      second.signal("SIGHUP")
      yield* logs(second, /HUP: reading/)
      first.signal("SIGKILL")

      yield* logs(second, /following the source/)
      yield* serves(world, [a!])
      const other = yield* HttpBackends.make({ name: "b" })
      yield* want(world, [a!, other])
      yield* World.eventually(
        "the file has sixteen slots",
        Effect.sync(() => /server node16 /.test(readFileSync(world.configFile, "utf8")))
      )
    })
  )
})
