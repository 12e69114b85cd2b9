/** ep2 itself as a service of a real systemd, by the unit that the documentation gives. */
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { join, resolve } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import { endpointKey } from "../../src/domain/State.ts"
import * as RuntimeApi from "../../src/haproxy/RuntimeApi.ts"
import * as Binaries from "../servers/Binaries.ts"
import { ConsulServer } from "../servers/ConsulServer.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"
import * as NotifySocket from "../servers/NotifySocket.ts"
import * as SystemdNamespace from "../servers/SystemdNamespace.ts"
import * as Traffic from "../servers/Traffic.ts"
import * as World from "./World.ts"

/** An ordinary user's run names these as not run (test/run.ts). */
const isRoot = process.getuid?.() === 0
const isAll = process.env.EP2_TEST_ALL === "1"
const unless = isRoot ? "" : " (needs root, to boot a systemd in namespaces)"

const root = resolve(import.meta.dirname, "../..")
const version = World.newest

/** Blocks the event loop for good at a USR2: a hung ep2, without a word about it in its sources. */
const hangAtUsr2 = "process.on('SIGUSR2', () => { for (;;); })"

/** Of the HAProxy process that serves, as it knows it itself. */
const pidOf = (world: World.World) => Effect.map(world.ask("show info"), RuntimeApi.parsePid)

/** A systemd whose HAProxy is to be started by ep2, with `ep2.service` as documented, and what a test has to change in it. */
const install = Effect.fnUntraced(function* (options: {
  readonly source?: World.Options["source"]
  readonly settings?: Readonly<Record<string, string>>
  /** Lines of [Service]. */
  readonly unit?: ReadonlyArray<string>
}) {
  const world = yield* World.make({
    version,
    source: options.source ?? ((dir) => `[FILE]\npath = ${join(dir, "targets.json")}`),
    settings: (dir) => ({ orchestrator: "file", log_file: join(dir, "ep2.log"), ...options.settings })
  })
  writeFileSync(world.configFile, readFileSync(world.template, "utf8").replace("{{nodes}}", ""))
  const systemd = yield* SystemdNamespace.make({
    dir: world.dir,
    binary: Binaries.haproxy(version),
    configFile: world.configFile
  })
  yield* systemd.run("systemctl", "stop", "haproxy")

  writeFileSync(join(world.dir, "hang.mjs"), hangAtUsr2)
  const units = join(world.dir, "units")
  for (const unit of ["ep2.service", "ep2@b.service"]) {
    mkdirSync(join(units, `${unit}.d`), { recursive: true })
    copyFileSync(join(root, "docs/systemd/ep2.service"), join(units, unit))
    const lines = [
      "[Service]",
      "ExecStart=",
      `ExecStart=${process.execPath} ${World.program} start --conf ${world.conf}`,
      `Environment=NODE_OPTIONS=--import=${join(world.dir, "hang.mjs")}`,
      `StandardOutput=append:${join(world.dir, "output")}`,
      `StandardError=append:${join(world.dir, "output")}`,
      "RestartSec=100ms",
      ...(options.unit ?? [])
    ]
    writeFileSync(join(units, `${unit}.d`, "test.conf"), `${lines.join("\n")}\n`)
  }
  mkdirSync(join(units, "haproxy.service.d"))
  copyFileSync(join(root, "docs/systemd/haproxy-ep2.conf"), join(units, "haproxy.service.d/ep2.conf"))
  yield* systemd.run("cp", "-r", `${units}/.`, "/etc/systemd/system/")
  yield* systemd.run("systemctl", "daemon-reload")

  const show = (property: string, unit = "ep2") =>
    Effect.map(systemd.run("systemctl", "show", "-p", property, "--value", unit), (text) => text.trim())
  const status = (pattern: RegExp, unit = "ep2") =>
    World.eventually(
      `the status of ${unit} is ${pattern}`,
      Effect.map(show("StatusText", unit), (text) => pattern.test(text))
    ).pipe(
      // What is there instead is what one wants to know first.
      Effect.tapCause(() => Effect.flatMap(show("StatusText", unit), (text) => Effect.logError(`instead: ${text}`)))
    )
  const want = (backends: ReadonlyArray<HttpBackends.HttpBackend>) =>
    World.replaceFile(
      join(world.dir, "targets.json"),
      JSON.stringify([{ targets: backends.map(({ endpoint }) => endpointKey(endpoint)) }])
    )
  return { world, run: systemd.run, show, status, want, log: () => readFileSync(join(world.dir, "ep2.log"), "utf8") }
})

describe.skipIf(!isRoot)(`ep2 as a service of systemd${unless}`, () => {
  it.live(
    "is reloaded, restarted and stopped under load, and the HAProxy that it started serves on as the same process",
    () =>
      Effect.gen(function* () {
        const { log, run, show, status, want, world } = yield* install({})
        const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
        yield* want([a!])
        assert.strictEqual(yield* show("RuntimeDirectoryPreserve", "haproxy"), "yes")
        yield* run("systemctl", "start", "ep2")
        yield* World.serves(world, [a!])
        yield* status(/^serves 1 of 1 endpoints \(web 1\)$/)
        const pid = yield* pidOf(world)
        const traffic = yield* Traffic.start({ port: world.port, path: "/x?millis=20", closing: 4, keeping: 4 })

        const main = yield* show("MainPID")
        yield* run("systemctl", "reload", "ep2")
        yield* World.eventually(
          "conf and template are read again",
          Effect.sync(() => /HUP: reading .* and its template again/.test(log()))
        )
        yield* World.eventually(
          "the reload is over",
          Effect.map(show("ActiveState"), (state) => state === "active")
        )
        assert.strictEqual(yield* show("MainPID"), main)
        for (const wanted of [[b!], [a!, b!]].slice(0, isAll ? 2 : 1)) {
          yield* run("systemctl", "restart", "ep2")
          yield* want(wanted)
          yield* World.serves(world, wanted)
        }
        yield* run("systemctl", "stop", "ep2")
        yield* Effect.sleep("500 millis")

        const report = yield* traffic.stop
        assert.deepStrictEqual(report.failures, [])
        assert.strictEqual(yield* pidOf(world), pid)
        assert.deepStrictEqual(
          [yield* show("ActiveState"), yield* show("Result"), yield* show("ExecMainStatus"), yield* show("NRestarts")],
          ["inactive", "success", "0", "0"]
        )
      })
  )
})

/** Each of these takes seconds of waiting. */
describe.skipIf(!isRoot).each(isAll ? ["in trouble"] : [])(`ep2 as a service of systemd %s${unless}`, () => {
  it.live("is killed by the watchdog when it hangs and started again, and no request is lost", () =>
    Effect.gen(function* () {
      const { run, show, status, want, world } = yield* install({ unit: ["WatchdogSec=4"] })
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
      yield* want([a!])
      yield* run("systemctl", "start", "ep2")
      yield* World.serves(world, [a!])
      const pid = yield* pidOf(world)
      const traffic = yield* Traffic.start({ port: world.port, path: "/x?millis=20" })
      // Longer than the watchdog's period: it is fed.
      yield* Effect.sleep("5 seconds")
      assert.strictEqual(yield* show("NRestarts"), "0")

      for (const [index, signal] of ["-STOP", "-USR2"].entries()) {
        yield* status(/^serves \d of \d/)
        yield* run("kill", signal, yield* show("MainPID"))
        yield* want([b!])
        yield* World.eventually(
          `restarted after ${signal}`,
          Effect.map(show("NRestarts"), (count) => count === String(index + 1))
        )
        yield* World.serves(world, [b!])
        yield* want([a!])
        yield* World.serves(world, [a!])
      }

      const report = yield* traffic.stop
      assert.deepStrictEqual(report.failures, [])
      assert.strictEqual(yield* pidOf(world), pid)
    })
  )

  it.live(
    "is started and stays though its source is out, or another one has the lock, for longer than TimeoutStartSec",
    () =>
      Effect.gen(function* () {
        const consul = yield* ConsulServer
        const { log, run, show, status, world } = yield* install({
          source: () => `[CONSUL]\nservice_name = web\nconsul_ip = ${consul.host}\nconsul_port = ${consul.port}`,
          settings: { orchestrator: "consul" },
          unit: ["TimeoutStartSec=10", "WatchdogSec=4"]
        })
        const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
        const register = ({ endpoint: { address, port }, name }: HttpBackends.HttpBackend) =>
          consul.register({ id: name, name: "web", address, port })
        yield* register(a!)
        yield* run("systemctl", "start", "ep2")
        yield* World.serves(world, [a!])
        yield* run("systemctl", "stop", "ep2")
        yield* consul.stop()
        const traffic = yield* Traffic.start({ port: world.port })

        yield* run("systemctl", "start", "ep2")
        yield* run("systemctl", "start", "ep2@b")
        const standsBy = `^standing by: another ep2 \\(pid ${yield* show("MainPID")}\\) looks after ${world.configFile}$`
        yield* status(new RegExp(standsBy), "ep2@b")
        yield* Effect.sleep("11 seconds")
        const states = yield* Effect.forEach(["ep2", "ep2@b"], (unit) =>
          Effect.all([show("ActiveState", unit), show("NRestarts", unit)])
        )
        const isWaiting = yield* show("StatusText")
        yield* consul.start
        yield* register(a!)
        yield* register(b!)
        yield* World.serves(world, [a!, b!])
        yield* status(/^serves 2 of 2 endpoints \(web 2\)$/)
        yield* run("systemctl", "stop", "ep2")
        yield* consul.deregister("a")
        yield* World.serves(world, [b!])
        yield* status(/^serves 1 of 1 endpoints \(web 1\)$/, "ep2@b")
        yield* consul.stop()
        yield* status(/^serves 1 of 1 endpoints \(web 1\); the source of web has not answered since \d{4}-/, "ep2@b")

        const report = yield* traffic.stop
        assert.deepStrictEqual(states, [
          ["active", "0"],
          ["active", "0"]
        ])
        assert.match(isWaiting, /^waiting for the source of web: .*Consul/i)
        assert.match(log(), /taking over/)
        assert.deepStrictEqual(report.failures, [])
      }).pipe(Effect.provide(ConsulServer.layer()))
  )

  it.live("fails for good where its conf is wrong, and says why", () =>
    Effect.gen(function* () {
      const { run, show, world } = yield* install({ settings: { node_slots: "many" } })

      yield* run("systemctl", "start", "ep2").pipe(Effect.catchCause(() => Effect.void))

      assert.deepStrictEqual(
        [yield* show("ActiveState"), yield* show("ExecMainStatus"), yield* show("NRestarts")],
        ["failed", "2", "0"]
      )
      assert.match(readFileSync(join(world.dir, "output"), "utf8"), /node_slots/)
    })
  )
})

describe("ep2 tells systemd", () => {
  it.live("that it is ready before anything answers, what it is at, that it rereads its conf, and that it stops", () =>
    Effect.gen(function* () {
      const socket = yield* NotifySocket.make
      const world = yield* World.make({
        version,
        source: (dir) => `[FILE]\npath = ${join(dir, "targets.json")}`,
        settings: { orchestrator: "file" },
        env: { NOTIFY_SOCKET: socket.path }
      })
      const [a] = yield* HttpBackends.makeAll(["a"])
      const said = (text: string) =>
        World.eventually(
          `said: ${text}`,
          Effect.sync(() => socket.messages().some((one) => one.startsWith(text)))
        )

      const ep2 = yield* world.start()
      yield* said("STATUS=waiting for the source of web: ")
      yield* World.replaceFile(
        join(world.dir, "targets.json"),
        JSON.stringify([{ targets: [endpointKey(a!.endpoint)] }])
      )
      yield* said("STATUS=serves 1 of 1 endpoints (web 1)")
      ep2.signal("SIGHUP")
      yield* said("RELOADING=1")
      yield* World.eventually(
        "said: ready again",
        Effect.sync(() => socket.messages().filter((one) => one === "READY=1").length === 2)
      )
      ep2.signal("SIGTERM")
      const code = yield* ep2.ended

      const messages = socket.messages()
      assert.deepStrictEqual([code, messages[0], messages.at(-1)], [0, "READY=1", "STOPPING=1"])
      assert.isFalse(messages.some((one, index) => one === messages[index + 1]))
      assert.deepStrictEqual(
        messages.flatMap((one) => /^(READY|RELOADING|STOPPING)=1/.exec(one)?.[1] ?? []),
        ["READY", "RELOADING", "READY", "STOPPING"]
      )
      for (const pid of yield* world.haproxyPids)
        assert.notInclude(readFileSync(`/proc/${pid}/environ`, "utf8"), "NOTIFY_SOCKET")
    }).pipe(Effect.timeout(Duration.seconds(30)))
  )
})
