/** `ep2 plan` on real HAProxy: what it tells, with what it ends, and that it changes nothing. */
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { endpointKey } from "../../src/domain/State.ts"
import { ConsulServer } from "../servers/ConsulServer.ts"
import type { HttpBackend } from "../servers/HttpBackends.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"
import { edit, fileOf, sourceOf, startServing, want } from "./FileWorld.ts"
import { fates, fingerprint, planned, run } from "./Looks.ts"
import * as World from "./World.ts"

const isAll = process.env.EP2_TEST_ALL === "1"

const makeWorld = (options: Partial<World.Options> = {}) =>
  World.make({
    version: World.newest,
    source: sourceOf,
    ...options,
    settings: {
      orchestrator: "file",
      new_servers: "trusted",
      sleep_before_next_run: "0.5",
      reload_interval: "0.5",
      ...(typeof options.settings === "function" ? {} : options.settings)
    }
  })

/** A HAProxy that serves these, and no ep2 any more. */
const leftServing = Effect.fnUntraced(function* (world: World.World, backends: ReadonlyArray<HttpBackend>) {
  yield* want(world, backends)
  const { exitCode, output } = yield* run(world, "start", "--once")
  assert.strictEqual(exitCode, 0, output)
})

const keyOf = ({ endpoint }: HttpBackend) => endpointKey(endpoint)

describe("ep2 plan", () => {
  it.live("tells what arrives, leaves, stays and is the operator's, and changes nothing", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld()
      const [a, b, c, d] = yield* HttpBackends.makeAll(["a", "b", "c", "d"])
      yield* leftServing(world, [a!, b!, c!])
      const byEndpoint = Object.entries(yield* world.served())
      const [ofA = ""] = byEndpoint.find(([, endpoint]) => endpoint === keyOf(a!)) ?? []
      yield* world.ask(`set server web/${ofA} state maint`)
      yield* want(world, [a!, c!, d!])
      const before = yield* fingerprint(world)

      const { exitCode, preview } = yield* planned(world)
      const table = yield* run(world, "plan")

      assert.strictEqual(yield* fingerprint(world), before)
      assert.strictEqual(exitCode, 5)
      assert.deepStrictEqual([preview.step.action, preview.isChange, preview.ep2], ["pass", true, null])
      const [web] = preview.backends
      assert.deepStrictEqual(web?.source, { kind: "file", target: fileOf(world.dir) })
      assert.deepStrictEqual([web?.wanted, web?.methods], [3, ["socket"]])
      const [process] = web?.processes ?? []
      assert.deepStrictEqual([process?.socket, process?.freeSlots], [world.sockets[0], 4])
      assert.deepStrictEqual(fates({ preview }, [a!, b!, c!, d!]), {
        a: "operator",
        b: "wait",
        c: "keep",
        d: "arrive socket"
      })
      const rowOf = (backend: HttpBackend) => process?.servers.find(({ endpoint }) => endpoint === keyOf(backend))
      assert.deepStrictEqual([rowOf(a!)?.server, rowOf(a!)?.state?.admin], [ofA, "maint"])
      assert.deepStrictEqual([rowOf(b!)?.source, rowOf(b!)?.instance], [null, null])
      assert.deepStrictEqual([rowOf(d!)?.source, rowOf(d!)?.instance], ["file", keyOf(d!)])
      assert.include(web?.operator[0]?.words, `until "set server web/${ofA} state ready"`)
      assert.strictEqual(table.exitCode, 5)
      // No terminal, no colours.
      assert.notInclude(table.output, "\u001b")
      assert.match(table.output, /SERVER +ENDPOINT +SOURCE +INSTANCE +STATE +ACTION +BY +REASON/)
      assert.match(table.output, /node\d +127\.0\.0\.1:\d+ +- +- +ready, up +wait +- +the source does not name it/)
      assert.match(table.output, /held by the operator: node\d /)
      assert.match(table.output, /and 4 free slots/)
    })
  )

  it.live("tells of the guard what it holds, why and until when, and ends as if there was nothing to do", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld()
      const all = yield* HttpBackends.makeAll(["a", "b", "c", "d"])
      yield* leftServing(world, all)
      yield* want(world, [])

      const none = yield* planned(world)
      yield* want(world, all.slice(0, 1))
      const few = yield* planned(world)

      const held = { a: "guard", b: "guard", c: "guard", d: "guard" }
      assert.strictEqual(none.exitCode, 0)
      assert.deepStrictEqual(fates(none, all), held)
      assert.match(none.preview.backends[0]?.held?.words ?? "", /nothing is wanted.*run `ep2 release`/)
      assert.deepStrictEqual(fates(few, all), { ...held, a: "keep" })
      assert.strictEqual(few.preview.backends[0]?.held?.reason, "removal")
      assert.match(few.preview.backends[0]?.held?.words ?? "", /until 3 answers in a row/)
    })
  )

  it.live("tells with what servers HAProxy would be started where it does not run, and leaves nothing behind", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld()
      const all = yield* HttpBackends.makeAll(["a", "b"])
      yield* want(world, all)
      const files = readdirSync(world.dir)

      const { exitCode, preview } = yield* planned(world)

      assert.deepStrictEqual([exitCode, preview.step.action], [5, "start"])
      assert.match(preview.step.reason, /it is started with 2 servers/)
      assert.deepStrictEqual(fates({ preview }, all), { a: "arrive start", b: "arrive start" })
      assert.deepStrictEqual(readdirSync(world.dir), files)
    })
  )

  it.live("works beside an ep2 that runs and names it, and says what it cannot know of it", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({ settings: { sleep_before_next_run: "60" } })
      const all = yield* HttpBackends.makeAll(["a", "b", "c", "d"])
      const ep2 = yield* startServing(world, all)
      const pid = Number(/pid (\d+), Node/.exec(ep2.output())?.[1])

      const level = yield* planned(world)
      yield* run(world, "pause")
      yield* World.logs(ep2, /paused \(since/)
      yield* want(world, all.slice(0, 1))
      yield* World.logs(ep2, /max_removal_percent is/)
      const paused = yield* planned(world)
      writeFileSync(world.template, readFileSync(world.template, "utf8").replace("retries 3", "retries 4"))
      const edited = yield* planned(world)
      yield* world.killHaproxy
      const down = yield* planned(world)

      assert.deepStrictEqual([level.exitCode, level.preview.ep2, level.preview.paused], [0, { pid }, null])
      assert.match(paused.preview.paused ?? "", /^since .* by /)
      assert.match(paused.preview.notes.join("\n"), /has counted of the confirmations so far is known to it alone/)
      assert.strictEqual(edited.preview.step.action, "pass")
      assert.match(edited.preview.step.reason, /has not read this template, or these settings, yet/)
      assert.match(edited.preview.notes.join("\n"), /goes on with its own until HUP, and then reloads/)
      assert.deepStrictEqual([down.exitCode, down.preview.step.action], [7, "wait"])
      assert.match(down.preview.step.reason, /ep2 starts it only when it starts itself/)
    })
  )

  it.live(
    "tells of dynamic servers, and where there can be none what has no place and that the pool grows by a reload",
    () =>
      Effect.gen(function* () {
        const all = yield* HttpBackends.makeAll(["a", "b", "c"])
        const settings = { node_slots: "2" }
        const [elastic, fixed] = [
          yield* makeWorld({ settings }),
          yield* makeWorld({ settings, backend: "    default-server maxconn 500\n" })
        ]
        for (const world of [elastic, fixed]) {
          yield* leftServing(world, all.slice(0, 2))
          yield* want(world, all)
        }
        const before = yield* fingerprint(fixed)

        const added = yield* planned(elastic)
        const unplaced = yield* planned(fixed)

        assert.deepStrictEqual([added.exitCode, fates(added, all).c], [5, "add dynamic server"])
        const [web] = unplaced.preview.backends
        assert.deepStrictEqual([unplaced.exitCode, web?.methods], [5, ["reload"]])
        assert.deepStrictEqual(
          web?.noPlace.map(({ endpoint }) => endpoint),
          [keyOf(all[2]!)]
        )
        assert.match(web?.noPlace[0]?.reason ?? "", /grows from 2 to 4 slots.*, as servers that are added do not get/)
        assert.strictEqual(yield* fingerprint(fixed), before)
      })
  )

  it.live("tells of update_by_config what comes with a reload and what is drained at once", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({ settings: { update_type: "update_by_config" } })
      const [a, b, c] = yield* HttpBackends.makeAll(["a", "b", "c"])
      yield* leftServing(world, [a!, b!])
      yield* want(world, [b!, c!])
      const before = yield* fingerprint(world)

      const more = yield* planned(world)
      yield* want(world, [b!])
      const fewer = yield* planned(world)

      assert.deepStrictEqual(fates(more, [a!, b!, c!]), { a: "wait", b: "keep", c: "arrive reload" })
      assert.deepStrictEqual(more.preview.backends[0]?.load, { reason: "update_by_config, servers changed" })
      assert.deepStrictEqual(fates(fewer, [a!, b!, c!]), { a: "drain socket", b: "keep" })
      assert.deepStrictEqual(fewer.preview.backends[0]?.methods, ["reload", "socket"])
      const now = yield* fingerprint(world)
      const withoutSource = (text: string) =>
        JSON.parse(text).files.filter(([name]: [string]) => name !== "targets.json")
      assert.deepStrictEqual(withoutSource(now), withoutSource(before))
    })
  )

  it.live("tells of each process by itself, with nbproc", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({ version: "2.2", processes: 2 })
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
      yield* leftServing(world, [a!])
      yield* world.ask("set server web/node1 state drain", world.sockets[1])
      yield* want(world, [a!, b!])
      const before = yield* fingerprint(world)

      const { preview } = yield* planned(world)
      const table = yield* run(world, "plan")
      const after = yield* fingerprint(world)
      rmSync(world.sockets[1]!)
      const half = yield* run(world, "plan")

      assert.strictEqual(after, before)
      assert.strictEqual(half.exitCode, 7)
      assert.match(half.output, /ep2: HAProxy cannot be asked: .*admin-2\.sock/)
      assert.deepStrictEqual(fates({ preview }, [a!, b!], 0), { a: "keep", b: "arrive socket" })
      assert.deepStrictEqual(fates({ preview }, [a!, b!], 1), { a: "operator", b: "arrive socket" })
      assert.deepStrictEqual(
        preview.backends[0]?.processes.map(({ socket }) => socket),
        [...world.sockets]
      )
      assert.match(table.output, /admin-1\.sock \(pid \d+\)\n[\s\S]*admin-2\.sock \(pid \d+\)\n/)
    })
  )

  if (isAll) {
    it.live(
      "tells of another template that HAProxy would be reloaded, and of servers that ep2 takes the place of",
      () =>
        Effect.gen(function* () {
          const world = yield* makeWorld()
          const [a] = yield* HttpBackends.makeAll(["a"])
          const old = `server app1 ${keyOf(a!)} check inter 100ms`
          writeFileSync(world.configFile, readFileSync(world.template, "utf8").replace("{{nodes}}", old))
          yield* World.startHaproxy(world, World.newest)
          yield* want(world, [a!])
          const before = yield* fingerprint(world)

          const taking = yield* planned(world)
          yield* want(world, [])
          const empty = yield* planned(world)
          yield* want(world, [a!])

          assert.deepStrictEqual([taking.exitCode, taking.preview.step.action], [5, "reload"])
          assert.deepStrictEqual(
            taking.preview.backends[0]?.processes[0]?.servers.map(({ action, by, server }) => [server, action, by]),
            [
              ["app1", "remove", "reload"],
              ["node1", "arrive", "reload"]
            ]
          )
          assert.deepStrictEqual([empty.exitCode, empty.preview.step.action], [7, "wait"])
          assert.match(empty.preview.step.reason, /names nothing, and HAProxy serves app1 there/)
          assert.deepStrictEqual(JSON.parse(yield* fingerprint(world)).servers, JSON.parse(before).servers)
        })
    )
  }

  if (isAll) {
    it.live("names instances as Consul does, and its service", () =>
      Effect.gen(function* () {
        const consul = yield* ConsulServer
        const world = yield* World.make({
          version: World.newest,
          source: () => `[CONSUL]\nservice_name = web\nconsul_port = ${consul.port}`,
          settings: { orchestrator: "consul" }
        })
        const [a] = yield* HttpBackends.makeAll(["a"])
        yield* consul.register({ id: "web-1", name: "web", address: "127.0.0.1", port: a!.endpoint.port })

        const { exitCode, preview } = yield* planned(world)

        assert.strictEqual(exitCode, 5)
        const [web] = preview.backends
        assert.deepStrictEqual(web?.source, { kind: "consul", target: `web at http://127.0.0.1:${consul.port}` })
        assert.match(web?.processes[0]?.servers[0]?.instance ?? "", /^web-1 on \S+$/)
      }).pipe(Effect.provide(ConsulServer.layer()))
    )
  }

  it.live("ends with the exit code of what is wrong, and says it in words", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld()
      const [a] = yield* HttpBackends.makeAll(["a"])
      yield* leftServing(world, [a!])

      const level = yield* run(world, "plan")
      yield* World.replaceFile(fileOf(world.dir), "[{")
      const mute = yield* planned(world)
      const words = yield* run(world, "plan")
      yield* want(world, [a!])
      edit(world.template, (text) => `${text}{{ nod }}`)
      const template = yield* run(world, "plan")
      edit(world.conf, (text) => text.replace("node_slots = 8", "node_slots = eigh"))
      const conf = yield* run(world, "plan")
      const missing = yield* world.start(["plan", "--conf", join(world.dir, "none.conf")])

      assert.deepStrictEqual([level.exitCode, /nothing to do/.test(level.output)], [0, true])
      assert.strictEqual(mute.exitCode, 6)
      assert.match(mute.preview.backends[0]?.sourceError ?? "", /targets\.json/)
      assert.deepStrictEqual(fates(mute, [a!]), { a: "keep" })
      assert.match(words.output, /ep2: the source of web: .*targets\.json/)
      assert.strictEqual(template.exitCode, 4)
      assert.match(template.output, /haproxy\.cfg\.template:\d+: .*nod/)
      assert.strictEqual(conf.exitCode, 2)
      assert.match(conf.output, /node_slots = "eigh"/)
      assert.strictEqual(yield* missing.ended, 2)
    })
  )
})
