/** Pools that are used up, and configs that are loaded for each change: what goes wrong there, and what must stay. */
import { readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { endpointKey, slotNumber } from "../../src/domain/State.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"
import * as Traffic from "../servers/Traffic.ts"
import { count, edit, sourceOf, startServing, want } from "./FileWorld.ts"
import * as World from "./World.ts"

const { logs, serves } = World

const makeWorld = (options: Omit<World.Options, "source">) =>
  World.make({
    ...options,
    source: sourceOf,
    settings: { orchestrator: "file", check_interval: "100ms", reload_interval: "0.5", ...options.settings }
  })

/** A line of the config that HAProxy takes as long as a file is there; the two that take it away and put it back. */
const errorFileLine = (dir: string) => `    errorfile 503 ${errorFileOf(dir)}\n`
const errorFileOf = (dir: string) => {
  const file = join(dir, "503.http")
  writeFileSync(file, "HTTP/1.0 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
  return file
}
const spoil = ({ dir }: World.World) => rmSync(join(dir, "503.http"))
const mend = ({ dir }: World.World) => errorFileOf(dir)

const reloads = (ep2: World.Ep2) => count(ep2, /reloading HAProxy/)

const reasons = ({ failures }: Traffic.Report) => [...new Set(failures.map(({ reason }) => reason))]

/** In the order in which they get their names. */
const byPort = (backends: ReadonlyArray<HttpBackends.HttpBackend>) =>
  backends.toSorted((one, other) => one.endpoint.port - other.endpoint.port)

/** Name → admin state of ep2's servers. */
const admins = (world: World.World) =>
  Effect.map(world.servers(), (servers) => Object.fromEntries(servers.map(({ admin, name }) => [name, admin])))

const closesIdle = (version: string) => (version === "2.2" ? "" : "    option idle-close-on-response\n")

const isRunning = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

describe.each(World.sampleVersions)("a pool of HAProxy %s that is used up", (version) => {
  it.live("lets nothing go before it has grown, where all servers are replaced at once", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({
        version,
        settings: { node_slots: "2", reload_interval: "3" },
        backend: `    default-server maxconn 500\n${closesIdle(version)}`
      })
      const all = yield* HttpBackends.makeAll(["a", "b", "c", "d", "e"])
      const ep2 = yield* startServing(world, all.slice(0, 2))
      const traffic = yield* Traffic.start({ port: world.port })

      // The first growth is at once, the second one has to wait for its turn.
      yield* want(world, all.slice(0, 3))
      yield* serves(world, all.slice(0, 3))
      yield* want(world, all.slice(0, 4))
      yield* serves(world, all.slice(0, 4))
      const [a, b, c, d] = yield* HttpBackends.makeAll(["A", "B", "C", "D"])
      yield* want(world, [a!, b!, c!, d!])
      yield* serves(world, [a!, b!, c!, d!])

      assert.deepStrictEqual(reasons(yield* traffic.stop), [])
      assert.strictEqual(reloads(ep2), 2)
    })
  )

  it.live("grows by a reload where its balance algorithm takes no servers, and says why", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({
        version,
        settings: { node_slots: "2" },
        backend: `    balance static-rr\n${closesIdle(version)}`
      })
      const all = yield* HttpBackends.makeAll(["a", "b", "c", "d", "e", "f"])
      const ep2 = yield* startServing(world, all.slice(0, 2))
      const traffic = yield* Traffic.start({ port: world.port })

      yield* want(world, all.slice(0, 3))
      yield* serves(world, all.slice(0, 3))
      yield* want(world, all)
      yield* serves(world, all)

      assert.deepStrictEqual(reasons(yield* traffic.stop), [])
      // From 2 to 4 and from 4 to 8.
      assert.strictEqual(reloads(ep2), 2, ep2.output())
      assert.lengthOf(
        (yield* world.servers()).filter(({ name }) => slotNumber(name) !== undefined),
        8
      )
      assert.match(ep2.output(), /reloading HAProxy: the pool of web grows from 2 to 4 slots for 3 endpoints/)
      if (version !== "2.2")
        assert.match(ep2.output(), /the pool grows by a reload, as balance static-rr takes no servers/)
      assert.notMatch(ep2.output(), /added|removed|refuses/)
    })
  )

  it.live("grows by a reload where HAProxy refuses what server_options adds, having asked it once", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({
        version,
        settings: { node_slots: "1", server_options: "init-addr last,libc" },
        backend: closesIdle(version)
      })
      const all = yield* HttpBackends.makeAll(["a", "b", "c"])
      const ep2 = yield* startServing(world, all.slice(0, 1))
      const traffic = yield* Traffic.start({ port: world.port })

      yield* want(world, all.slice(0, 2))
      yield* serves(world, all.slice(0, 2))
      yield* want(world, all)
      yield* serves(world, all)

      assert.deepStrictEqual(reasons(yield* traffic.stop), [])
      assert.strictEqual(reloads(ep2), 2, ep2.output())
      const asked = count(
        ep2,
        /HAProxy refuses to add servers .*"'init-addr' option.*: its pool grows by a reload instead/
      )
      assert.strictEqual(asked, version === "2.2" ? 0 : 1)
    })
  )

  it.live("serves what fits while it cannot grow, says what does not, and grows once it can", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({
        version,
        settings: { node_slots: "2" },
        backend: (dir) => `    default-server maxconn 500\n${closesIdle(version)}${errorFileLine(dir)}`
      })
      const all = yield* HttpBackends.makeAll(["a", "b", "c"])
      const ep2 = yield* startServing(world, all.slice(0, 2))
      const traffic = yield* Traffic.start({ port: world.port })
      spoil(world)

      yield* want(world, all)
      yield* logs(ep2, /the config file is behind the runtime: .*503\.http/)
      yield* serves(world, all.slice(0, 2))
      yield* logs(ep2, /no free slot for 1 of 3 endpoints.*the pool cannot grow now/)
      // What is wanted in place of another one is served all the same.
      yield* want(world, [all[0]!, all[2]!])
      yield* serves(world, [all[0]!, all[2]!])
      yield* want(world, all)
      mend(world)
      yield* serves(world, all)

      assert.deepStrictEqual(reasons(yield* traffic.stop), [])
      assert.match(
        ep2.output(),
        /as servers that are added do not get what default-server gives \(maxconn 500\)|as this HAProxy takes no servers/
      )
    })
  )

  it.live("is as large as it must be again after somebody starts HAProxy from an old config", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({ version, settings: { node_slots: "2" } })
      const all = yield* HttpBackends.makeAll(["a", "b", "c", "d"])
      const ep2 = yield* startServing(world, all.slice(0, 2))
      const old = readFileSync(world.configFile, "utf8")
      yield* want(world, all)
      yield* serves(world, all)

      yield* world.killHaproxy
      yield* logs(ep2, /HAProxy cannot be observed/)
      writeFileSync(world.configFile, old)
      yield* World.startHaproxy(world, version)
      yield* serves(world, all)
    })
  )

  it.live("keeps what the operator holds, through passes, a reload, a restart of ep2, and until it is let go", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({
        version,
        settings: { node_slots: "3" },
        backend: `    default-server maxconn 500\n${closesIdle(version)}`
      })
      const all = yield* HttpBackends.makeAll(["a", "b", "c", "d", "e"])
      yield* want(world, all.slice(0, 3))
      const held = { node1: "maint", node2: "drain", node3: "ready" } as const
      const stays = Effect.gen(function* () {
        yield* World.eventually(
          "the operator's states",
          Effect.map(admins(world), (now) => Object.entries(held).every(([name, admin]) => now[name] === admin))
        )
        yield* Effect.sleep("1500 millis")
        const now = yield* admins(world)
        assert.deepStrictEqual({ node1: now.node1, node2: now.node2, node3: now.node3 }, held)
      })
      yield* Effect.scoped(
        Effect.gen(function* () {
          const ep2 = yield* world.start()
          yield* serves(world, all.slice(0, 3))
          yield* logs(ep2, /following the source/)
          yield* world.ask("set server web/node1 state maint")
          yield* world.ask("set server web/node2 state drain")
          yield* stays
          yield* want(world, all)
          yield* logs(ep2, /HAProxy runs the new config/)
          yield* stays
          assert.strictEqual(count(ep2, /node1 .* is in maint by the operator's hand/), 1)
          assert.strictEqual(count(ep2, /node2 .* is in drain by the operator's hand/), 1)
          ep2.signal("SIGTERM")
          yield* ep2.ended
        })
      )

      yield* world.start()
      yield* stays
      yield* world.ask("set server web/node1 state ready")
      yield* world.ask("set server web/node2 state ready")

      yield* serves(world, all)
    })
  )
})

describe("update_by_config", () => {
  const version = World.versions.at(-1)!
  const settings = { update_type: "update_by_config" }
  /** One load at once, and the next one six seconds later: time to do something in between. */
  const seldom = { reload_interval: "6", new_servers: "trusted" }

  it.live("loads the first change at once, and those that come within reload_interval together", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({
        version,
        settings: { ...settings, reload_interval: "4", new_servers: "trusted" }
      })
      const all = yield* HttpBackends.makeAll(["a", "b", "c", "d", "e", "f"])
      const ep2 = yield* startServing(world, all.slice(0, 1))

      const began = Date.now()
      yield* want(world, all.slice(0, 2))
      yield* serves(world, all.slice(0, 2))
      const first = Date.now() - began
      for (const size of [3, 4, 5, 6]) {
        yield* want(world, all.slice(0, size))
        yield* Effect.sleep("300 millis")
      }
      yield* serves(world, all)
      const second = Date.now() - began

      assert.isBelow(first, 3000)
      assert.isAbove(second, 3500)
      assert.strictEqual(reloads(ep2), 2)
    })
  )

  it.live("lets what leaves go only when its replacement is up, and serves nothing that is dead", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({ version, settings, backend: closesIdle(version) })
      const [a, b, c, d] = yield* HttpBackends.makeAll(["a", "b", "c", "d"])
      const ep2 = yield* startServing(world, [a!, b!])
      yield* Effect.forEach([c!, d!], ({ stop }) => stop)
      const traffic = yield* Traffic.start({ port: world.port })

      yield* want(world, [c!, d!])
      yield* logs(ep2, /HAProxy runs the new config/)
      yield* Effect.sleep("2 seconds")
      yield* serves(world, [a!, b!])
      yield* Effect.forEach([c!, d!], ({ start }) => start)
      yield* serves(world, [c!, d!])
      yield* World.eventually(
        "those that left are gone",
        Effect.map(world.servers(), (servers) => servers.length === 2)
      )

      assert.deepStrictEqual(reasons(yield* traffic.stop), [])
      assert.isTrue(reloads(ep2) === 2 || reloads(ep2) === 3, ep2.output())
    })
  )

  it.live("sends nothing new to what leaves from the moment it is no longer wanted, while the load waits", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({ version, settings: { ...settings, ...seldom } })
      const [a, b, c] = yield* HttpBackends.makeAll(["a", "b", "c"])
      const ep2 = yield* startServing(world, [a!, b!])
      yield* want(world, [a!, b!, c!])
      yield* serves(world, [a!, b!, c!])

      yield* want(world, [b!, c!])
      yield* serves(world, [b!, c!])

      assert.strictEqual(reloads(ep2), 1)
      assert.strictEqual((yield* world.servers()).length, 3)
    })
  )

  it.live("loads what is wanted when its turn has come, not what was wanted when it began to wait", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({ version, settings: { ...settings, ...seldom } })
      const [a, b, c] = yield* HttpBackends.makeAll(["a", "b", "c"])
      const ep2 = yield* startServing(world, [a!])
      yield* want(world, [a!, b!])
      yield* serves(world, [a!, b!])

      yield* want(world, [a!, b!, c!])
      yield* logs(ep2, new RegExp(`arrives with the next config: ${endpointKey(c!.endpoint)}`))
      yield* want(world, [a!, b!])
      yield* Effect.sleep("7 seconds")

      assert.strictEqual(reloads(ep2), 1)
      assert.notInclude(readFileSync(world.configFile, "utf8"), endpointKey(c!.endpoint))
    })
  )

  it.live("keeps a hold that the operator has set while a load waits", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({ version, settings: { ...settings, ...seldom } })
      const all = byPort(yield* HttpBackends.makeAll(["a", "b", "c", "d"]))
      const ep2 = yield* startServing(world, all.slice(0, 2))
      yield* want(world, all.slice(0, 3))
      yield* serves(world, all.slice(0, 3))
      const [first] = yield* world.haproxyPids

      yield* want(world, all)
      yield* logs(ep2, new RegExp(`arrives with the next config: ${endpointKey(all[3]!.endpoint)}`))
      yield* world.ask("set server web/node1 state maint")
      yield* serves(world, all.slice(1))

      assert.strictEqual((yield* admins(world)).node1, "maint")
      assert.notInclude(yield* world.haproxyPids, first)
      assert.strictEqual(reloads(ep2), 2)
    })
  )

  it.live("gives a server that is known to be down no request by a reload", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({
        version,
        settings: {
          ...settings,
          new_servers: "trusted",
          check_interval: "2s",
          server_options: "fastinter 100ms downinter 100ms fall 1"
        },
        backend: `    retries 0\n    no option redispatch\n${closesIdle(version)}`
      })
      // HAProxy checks its first server at once, and the second one later.
      const [a, b, c] = byPort(yield* HttpBackends.makeAll(["a", "b", "c"]))
      const ep2 = yield* startServing(world, [a!, b!])
      yield* b!.stop
      yield* serves(world, [a!])
      const traffic = yield* Traffic.start({ port: world.port })

      yield* want(world, [a!, b!, c!])
      yield* serves(world, [a!, c!])
      yield* Effect.sleep("1 second")
      assert.deepStrictEqual(reasons(yield* traffic.stop), [])
      assert.strictEqual(reloads(ep2), 1)

      yield* b!.start
      yield* serves(world, [a!, b!, c!])
    })
  )

  it.live("serves at once what has no health check", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({ version, settings: { ...settings, server_options: "no-check" } })
      const all = yield* HttpBackends.makeAll(["a", "b"])
      yield* startServing(world, all.slice(0, 1))

      yield* want(world, all)
      yield* serves(world, all)
    })
  )

  it.live("starts no HAProxy that somebody has stopped, when a load is tried again", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({ version, settings, backend: errorFileLine })
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
      const ep2 = yield* startServing(world, [a!])
      spoil(world)
      yield* want(world, [a!, b!])
      yield* logs(ep2, /the config file is behind the runtime/)

      yield* world.killHaproxy
      yield* logs(ep2, /HAProxy cannot be observed/)
      mend(world)
      yield* logs(ep2, /level with the runtime again/)
      yield* Effect.sleep("1 second")

      assert.deepStrictEqual((yield* world.haproxyPids).filter(isRunning), [])
      yield* World.startHaproxy(world, version)
      yield* serves(world, [a!, b!])
    })
  )

  it.live("keeps the old config running when HAProxy refuses the new one, says so once, and loads it once it can", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({
        version,
        settings,
        backend: (dir) => `${closesIdle(version)}${errorFileLine(dir)}`
      })
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
      const ep2 = yield* startServing(world, [a!])
      const before = readFileSync(world.configFile, "utf8")
      const traffic = yield* Traffic.start({ port: world.port })
      spoil(world)

      yield* want(world, [a!, b!])
      yield* logs(ep2, /the config file is behind the runtime: .*template:\d+: .*503\.http/)
      yield* Effect.sleep("2 seconds")
      assert.strictEqual(readFileSync(world.configFile, "utf8"), before)
      yield* serves(world, [a!])
      mend(world)
      yield* serves(world, [a!, b!])

      assert.deepStrictEqual(reasons(yield* traffic.stop), [])
      assert.strictEqual(count(ep2, /the config file is behind the runtime/), 1)
    })
  )

  it.live("keeps what the operator holds through its reloads", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({ version, settings })
      const all = yield* HttpBackends.makeAll(["a", "b", "c", "d"])
      yield* startServing(world, all.slice(0, 3))
      yield* world.ask("set server web/node1 state maint")
      yield* world.ask("set server web/node2 state drain")

      yield* want(world, all)

      // Names go by the order of the endpoints, which is that of their ports.
      yield* World.eventually(
        "the other two are served",
        Effect.map(world.served(), (served) => Object.keys(served).sort().join() === "node3,node4")
      )
      yield* World.eventually(
        "the operator's states",
        Effect.map(admins(world), ({ node1, node2, node3 }) => [node1, node2, node3].join() === "maint,drain,ready")
      )
    })
  )
})

describe("servers and lines that are not ep2's", () => {
  it.live.each([
    { name: "slots", settings: { node_slots: "4" }, own: "    default-server inter 100ms\n" },
    { name: "servers that are added", settings: { node_slots: "0" }, own: "" },
    {
      name: "a config for each change",
      settings: { update_type: "update_by_config" },
      own: "    default-server inter 100ms\n"
    }
  ])("stay as they are through changes of $name", ({ own, settings }) =>
    Effect.gen(function* () {
      const version = World.versions[0]!
      const [legacy, spare, a, b, c] = yield* HttpBackends.makeAll(["legacy", "spare", "a", "b", "c"])
      const { address, port } = legacy!.endpoint
      const world = yield* makeWorld({
        version,
        settings,
        backend: `${own}    server legacy ${address}:${port} weight 7
    server spare ${spare!.endpoint.address}:${spare!.endpoint.port} backup
    server-template late 2 127.0.0.1:9 disabled
`
      })
      const others = Effect.map(world.ask("show servers state web"), (reply) =>
        reply
          .split("\n")
          .map((row) => row.split(" "))
          .filter((row) => ["legacy", "spare", "late1", "late2"].includes(row[3] ?? ""))
          // Name, address, operational and administrative state, weights.
          .map((row) => [row[3], row[4], row[5], row[6], row[7], row[8]].join(" "))
          .sort()
      )
      yield* want(world, [a!, b!])
      yield* world.start()
      const served = (...some: ReadonlyArray<HttpBackends.HttpBackend>) =>
        World.eventually(
          "served",
          Effect.map(world.served(), (now) =>
            some.every(({ endpoint }) =>
              Object.entries(now).some(([name, key]) => slotNumber(name) !== undefined && key === endpointKey(endpoint))
            )
          )
        )
      yield* served(a!, b!)
      const before = yield* others

      yield* want(world, [b!, c!])
      yield* served(b!, c!)
      yield* want(world, [a!])
      yield* served(a!)

      assert.lengthOf(before, 4)
      assert.deepStrictEqual(yield* others, before)
    })
  )
})

describe("what a server line carries", () => {
  const version = World.versions.at(-1)!
  const options = { backend_maxconn: "17", check_interval: "150ms", server_options: "rise 1 fall 4 slowstart 1s" }
  const numbers = { maxconn: "17", fall: "4" }

  /** `show stat` of ep2's servers: what of it is ep2.conf's. */
  const carried = (world: World.World) =>
    Effect.map(world.ask("show stat web 4 -1"), (reply) => {
      const [header = "", ...rows] = reply.split("\n")
      const names = header.replace("# ", "").split(",")
      return rows.map((row) => {
        const field = (name: string) => row.split(",")[names.indexOf(name)] ?? ""
        return { maxconn: field("slim"), fall: field("check_fall") }
      })
    })

  it.live.each([
    { name: "in the config", settings: { node_slots: "2" } },
    { name: "that is added at runtime", settings: { node_slots: "0" } }
  ])("is the same on a server $name", ({ settings }) =>
    Effect.gen(function* () {
      const world = yield* makeWorld({ version, settings: { ...options, ...settings } })
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
      yield* want(world, [])
      edit(world.conf, (text) => text.replace("[haproxy]", "[haproxy]\nallow_empty = True"))
      const ep2 = yield* world.start()
      yield* logs(ep2, /following the source/)
      yield* want(world, [a!, b!])
      yield* serves(world, [a!, b!])

      assert.deepStrictEqual(yield* carried(world), [numbers, numbers])
    })
  )

  it.live("is refused at the start, in HAProxy's words, where the running HAProxy does not take it", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({ version, settings: { server_options: "rise 1 nosuchword" } })
      const [a] = yield* HttpBackends.makeAll(["a"])
      yield* want(world, [a!])

      const ep2 = yield* world.start()

      assert.strictEqual(yield* ep2.ended, 4)
      assert.match(ep2.output(), /nosuchword/)
    })
  )
})

describe("two processes of HAProxy 2.2", () => {
  const makeTwo = (settings: Readonly<Record<string, string>>) => makeWorld({ version: "2.2", processes: 2, settings })
  const level = (world: World.World, backends: ReadonlyArray<HttpBackends.HttpBackend>) =>
    Effect.gen(function* () {
      for (const socket of world.sockets) yield* serves(world, backends, socket)
      assert.deepStrictEqual(yield* world.served(world.sockets[0]), yield* world.served(world.sockets[1]))
    })

  it.live("grow together, under the same names, without a lost request", () =>
    Effect.gen(function* () {
      const world = yield* makeTwo({ node_slots: "2" })
      const all = yield* HttpBackends.makeAll(["a", "b", "c", "d", "e"])
      yield* want(world, all.slice(0, 2))
      const ep2 = yield* world.start()
      yield* level(world, all.slice(0, 2))
      yield* logs(ep2, /following the source/)
      const traffic = yield* Traffic.start({ port: world.port })

      yield* want(world, all)
      yield* level(world, all)
      yield* want(world, all.slice(3))
      yield* level(world, all.slice(3))

      assert.deepStrictEqual(reasons(yield* traffic.stop), [])
      assert.strictEqual(reloads(ep2), 1)
    })
  )

  it.live("are changed by one config for both", () =>
    Effect.gen(function* () {
      const world = yield* makeTwo({ update_type: "update_by_config" })
      const all = yield* HttpBackends.makeAll(["a", "b", "c"])
      yield* want(world, all.slice(0, 2))
      const ep2 = yield* world.start()
      yield* level(world, all.slice(0, 2))
      yield* logs(ep2, /following the source/)
      const traffic = yield* Traffic.start({ port: world.port })

      yield* want(world, all.slice(1))
      yield* level(world, all.slice(1))

      assert.deepStrictEqual(reasons(yield* traffic.stop), [])
    })
  )
})

describe("a start of ep2 beside a HAProxy that serves and has to be reloaded", () => {
  it.live.each([
    { name: "slots", settings: { node_slots: "4" } },
    { name: "a config for each change", settings: { update_type: "update_by_config" } }
  ])("replaces all servers with $name as a pass would: the old ones go when the new ones are up", ({ settings }) =>
    Effect.gen(function* () {
      const version = World.versions.at(-1)!
      const world = yield* makeWorld({ version, settings, backend: closesIdle(version) })
      const [a, b, c, d] = yield* HttpBackends.makeAll(["a", "b", "c", "d"])
      yield* want(world, [a!, b!])
      yield* Effect.scoped(
        Effect.gen(function* () {
          const ep2 = yield* world.start()
          yield* serves(world, [a!, b!])
          yield* logs(ep2, /following the source/)
          ep2.signal("SIGTERM")
          yield* ep2.ended
        })
      )
      yield* Effect.forEach([c!, d!], ({ stop }) => stop)
      yield* want(world, [c!, d!])
      edit(world.template, (text) => text.replace("retries 3", "retries 2"))
      const traffic = yield* Traffic.start({ port: world.port })

      const ep2 = yield* world.start()
      yield* logs(ep2, /HAProxy runs another configuration: reloading it/)
      yield* logs(ep2, /following the source/)
      yield* Effect.sleep("1500 millis")
      yield* serves(world, [a!, b!])
      yield* Effect.forEach([c!, d!], ({ start }) => start)
      yield* serves(world, [c!, d!])

      assert.deepStrictEqual(reasons(yield* traffic.stop), [])
    })
  )
})
