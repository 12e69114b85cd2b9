/** start_by = systemd on a real systemd, which can only be booted by root. */
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { endpointKey } from "../../src/domain/State.ts"
import * as Binaries from "../servers/Binaries.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"
import * as SystemdNamespace from "../servers/SystemdNamespace.ts"
import * as Traffic from "../servers/Traffic.ts"
import { edit } from "./FileWorld.ts"
import * as World from "./World.ts"

/** An ordinary user's run names these as not run (test/run.ts). */
const isRoot = process.getuid?.() === 0

/** A world inside of a systemd that runs HAProxy on some other config of the same file. */
const makeWorld = Effect.fnUntraced(function* (
  version: Binaries.HaproxyVersion,
  settings: Readonly<Record<string, string>> = {}
) {
  let inside: ReadonlyArray<string> = []
  const closes = version === "2.2" ? "" : "    option idle-close-on-response\n"
  const world = yield* World.make({
    version,
    source: (dir) => `[FILE]\npath = ${join(dir, "targets.json")}`,
    backend: closes,
    inside: () => inside,
    settings: {
      orchestrator: "file",
      start_by: "systemd",
      service_name: "haproxy",
      pid_file: "/run/haproxy.pid",
      reload_interval: "0.5",
      ...settings
    }
  })
  writeFileSync(world.configFile, readFileSync(world.template, "utf8").replace("{{nodes}}", ""))
  const systemd = yield* SystemdNamespace.make({
    dir: world.dir,
    binary: Binaries.haproxy(version),
    configFile: world.configFile
  })
  inside = systemd.inside
  const want = (backends: ReadonlyArray<HttpBackends.HttpBackend>) =>
    World.replaceFile(
      join(world.dir, "targets.json"),
      JSON.stringify([{ targets: backends.map(({ endpoint }) => endpointKey(endpoint)) }])
    )
  return { world, systemd, want }
})

const unless = isRoot ? "" : " (needs root, to boot a systemd in namespaces)"

describe.skipIf(!isRoot)(`a HAProxy that systemd owns${unless}`, () => {
  it.live.each(World.versions.map((version) => ({ version })))(
    "$version is reloaded by systemctl for each change of its config, and no request is lost",
    ({ version }) =>
      Effect.gen(function* () {
        const { systemd, want, world } = yield* makeWorld(version, { update_type: "update_by_config" })
        const all = yield* HttpBackends.makeAll(["a", "b", "c", "d"])
        yield* want(all.slice(0, 2))
        const ep2 = yield* world.start()
        yield* World.serves(world, all.slice(0, 2))
        const main = yield* systemd.run("systemctl", "show", "-p", "MainPID", "--value", "haproxy")
        const traffic = yield* Traffic.start({ port: world.port, closing: 4, keeping: 4 })

        for (const some of [all.slice(0, 3), all.slice(1, 3), all.slice(2), all.slice(0, 2)]) {
          yield* want(some)
          yield* World.serves(world, some)
          // What leaves is drained at once; the reload that takes it away follows.
          yield* World.eventually(
            "the config has just these",
            Effect.map(world.servers(), (servers) => servers.length === some.length)
          )
        }

        const report = yield* traffic.stop
        assert.deepStrictEqual([...new Set(report.failures.map(({ reason }) => reason))], [])
        assert.sameMembers(Object.keys(report.byServer), ["a", "b", "c", "d"])
        assert.isAtLeast(ep2.output().match(/reloading HAProxy/g)?.length ?? 0, 4)
        assert.strictEqual(yield* systemd.run("systemctl", "show", "-p", "MainPID", "--value", "haproxy"), main)
        // A last reload, for what has left, may be under way.
        yield* World.eventually(
          "the service is active",
          Effect.map(systemd.run("systemctl", "is-active", "haproxy"), (state) => state.trim() === "active")
        )
      })
  )

  it.live("is started by systemctl where it does not run, and changed over its socket without a reload", () =>
    Effect.gen(function* () {
      const { systemd, want, world } = yield* makeWorld(World.versions[0]!)
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
      yield* want([a!])
      yield* systemd.run("systemctl", "stop", "haproxy")

      const ep2 = yield* world.start()
      yield* World.serves(world, [a!])
      yield* want([a!, b!])
      yield* World.serves(world, [a!, b!])

      assert.match(ep2.output(), /HAProxy does not run: starting it/)
      assert.notMatch(ep2.output(), /reloading/)
      assert.strictEqual((yield* systemd.run("systemctl", "is-active", "haproxy")).trim(), "active")
    })
  )

  it.live("is not reloaded by the binary: that is refused with the name of its service, and it serves on", () =>
    Effect.gen(function* () {
      const { systemd, want, world } = yield* makeWorld(World.versions[0]!, { start_by: "binary" })
      const [a] = yield* HttpBackends.makeAll(["a"])
      yield* want([a!])

      const ep2 = yield* world.start()

      assert.strictEqual(yield* ep2.ended, 4)
      assert.match(
        ep2.output(),
        /belongs to the systemd service haproxy\.service.*start_by = systemd and service_name = haproxy/
      )
      assert.strictEqual((yield* systemd.run("systemctl", "is-active", "haproxy")).trim(), "active")
    })
  )

  it.live("serves on with its old config when systemctl fails, and ep2 says what to do", () =>
    Effect.gen(function* () {
      const { systemd, want, world } = yield* makeWorld(World.versions[0]!, { service_name: "nosuch" })
      const [a] = yield* HttpBackends.makeAll(["a"])
      yield* want([a!])

      const ep2 = yield* world.start()

      assert.strictEqual(yield* ep2.ended, 4)
      assert.match(ep2.output(), /systemctl reload nosuch ended with exit code \d+: .*nosuch/)
      assert.strictEqual((yield* systemd.run("systemctl", "is-active", "haproxy")).trim(), "active")
    })
  )

  it.live("is looked at by ep2 check as by whoever will reload it", () =>
    Effect.gen(function* () {
      const { want, world } = yield* makeWorld(World.versions[0]!)
      yield* want([])
      yield* World.eventually(
        "HAProxy answers",
        Effect.map(world.ask("show info"), (reply) => reply !== "")
      )
      const check = Effect.fnUntraced(function* (from: string, to: string) {
        edit(world.conf, (text) => text.replace(from, to))
        const ep2 = yield* world.start(["check", "--conf", world.conf])
        yield* ep2.ended
        return ep2.output()
      })

      const right = yield* check("", "")
      const missing = yield* check("service_name = haproxy", "service_name = nosuch")
      const foreign = yield* check("start_by = systemd", "start_by = binary")

      assert.match(right, / ok {7}service_name = haproxy: systemd has the unit, and can reload it\n/)
      assert.match(right, / ok .*: HAProxy .*, runs a config that is not ep2's: ep2 reloads it when it starts\n/)
      assert.match(missing, / problem {2}service_name = nosuch: systemd has no such unit \(not-found\)/)
      assert.match(foreign, / problem {2}start_by = binary: HAProxy .* belongs to the systemd service haproxy\.service/)
    })
  )
})
