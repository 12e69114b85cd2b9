/**
 * Every way to change HAProxy, under load: new connections and kept ones, quick
 * answers and slow ones, while servers come, go and are all replaced.
 */
import { readFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { endpointKey, slotNumber } from "../../src/domain/State.ts"
import * as RuntimeApi from "../../src/haproxy/RuntimeApi.ts"
import * as ServerRegion from "../../src/haproxy/ServerRegion.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"
import * as Traffic from "../servers/Traffic.ts"
import * as World from "./World.ts"

interface Method {
  readonly name: string
  readonly settings: Readonly<Record<string, string>>
  /** Lines of the backend. */
  readonly backend?: string
  /** Versions that have it. */
  readonly has: (version: string) => boolean
  /** How often HAProxy may be reloaded over all changes. */
  readonly reloads: (changes: number) => readonly [least: number, most: number]
}

const always = () => true
const none = () => [0, 0] as const

const methods: ReadonlyArray<Method> = [
  { name: "slots", settings: { node_slots: "20" }, has: always, reloads: none },
  { name: "servers that are added", settings: { node_slots: "0" }, has: (version) => version !== "2.2", reloads: none },
  {
    name: "a pool that grows by reloads",
    settings: { node_slots: "2", reload_interval: "0.5" },
    // What is added at runtime would lack it.
    backend: "    default-server maxconn 500\n",
    has: always,
    reloads: () => [1, 4]
  },
  {
    name: "its config, reloaded by the binary",
    settings: { update_type: "update_by_config", reload_interval: "0.5" },
    has: always,
    reloads: (changes) => [changes, 3 * changes]
  },
  {
    name: "its config, reloaded by the master",
    settings: { update_type: "update_by_config", reload_interval: "0.5", start_by: "master" },
    has: always,
    reloads: (changes) => [changes, 3 * changes]
  }
]

/** Scale-out, scale-in and full replacement, over and over: which of twelve servers are wanted. */
const plans = (count: number): ReadonlyArray<ReadonlyArray<number>> => {
  const sets: Array<ReadonlyArray<number>> = []
  let wanted = [0, 1]
  let next = 2
  const take = (some: number) => Array.from({ length: some }, () => next++ % 12)
  for (let change = 0; change < count; change++) {
    if (change % 4 === 0) wanted = [...wanted, ...take(2)]
    else if (change % 4 === 1) wanted = wanted.slice(1)
    else if (change % 4 === 2) wanted = take(wanted.length)
    else wanted = [...wanted.slice(1), ...take(1)]
    sets.push(wanted)
  }
  return sets
}

/** Whether the servers of a process are those of the config file: names, addresses, and what is in maintenance. */
const isLevel = (world: World.World, servers: ReadonlyArray<{ name: string; text: string }>) => {
  const inFile = ServerRegion.read(readFileSync(world.configFile, "utf8"), "web").map(
    ({ endpoint, isDisabled, name }) => `${name} ${endpointKey(endpoint)} ${isDisabled ? "maint" : "ready"}`
  )
  // HAProxy has what was added at runtime in another order.
  return (
    servers
      .map(({ text }) => text)
      .sort()
      .join() === inFile.sort().join()
  )
}

const changes = process.env.EP2_TEST_ALL === undefined ? 6 : 20

const all = World.versions.flatMap((version) =>
  methods.filter(({ has }) => has(version)).map((method) => ({ version, method, name: method.name }))
)

/** Each method, and in an ordinary run on one version each, in turn. */
const cases =
  process.env.EP2_TEST_ALL !== undefined
    ? all
    : methods.flatMap((method, index) => {
        const able = all.filter((one) => one.method === method)
        return able.slice(index % able.length).slice(0, 1)
      })

describe("HAProxy under load", () => {
  it.live.each(cases)("$version loses no request to changes of $name", ({ method, version }) =>
    Effect.gen(function* () {
      const isReloaded = method.reloads(1)[1] > 0
      const closes = isReloaded && version !== "2.2" ? "    option idle-close-on-response\n" : ""
      const file = (dir: string) => join(dir, "targets.json")
      const world = yield* World.make({
        version,
        source: (dir) => `[FILE]\npath = ${file(dir)}`,
        backend: `${closes}${method.backend ?? ""}`,
        settings: (dir) => ({
          orchestrator: "file",
          check_interval: "100ms",
          haproxy_master_socket: join(dir, "master.sock"),
          ...method.settings
        })
      })
      const all = yield* HttpBackends.makeAll(Array.from({ length: 12 }, (_, index) => `s${index}`))
      const want = (which: ReadonlyArray<number>) =>
        World.replaceFile(
          file(world.dir),
          JSON.stringify([{ targets: which.map((index) => endpointKey(all[index]!.endpoint)) }])
        )
      const pid = Effect.map(world.ask("show info"), RuntimeApi.parsePid)
      yield* want([0, 1])
      const ep2 = yield* world.start()
      yield* World.serves(world, [all[0]!, all[1]!])
      yield* World.logs(ep2, /following the source/)
      const before = yield* pid
      const quick = yield* Traffic.start({ port: world.port, closing: 4, keeping: 4 })
      const slow = yield* Traffic.start({ port: world.port, path: "/slow?millis=1000", closing: 2, keeping: 2 })

      for (const which of plans(changes)) {
        yield* want(which)
        yield* World.serves(
          world,
          which.map((index) => all[index]!)
        )
        // A server that is wanted for a moment only may be gone before its turn comes.
        yield* World.eventually(
          "each wanted server has answered",
          Effect.map(quick.report, ({ byServer }) => which.every((index) => byServer[`s${index}`] !== undefined))
        )
        yield* World.eventually(
          "the config file is level with the runtime",
          Effect.map(world.servers(), (servers) =>
            isLevel(
              world,
              servers
                .filter(({ isMarked, name }) => slotNumber(name) !== undefined && !isMarked)
                .map(({ admin, endpoint, name }) => ({
                  name,
                  text: `${name} ${endpoint && endpointKey(endpoint)} ${admin}`
                }))
            )
          )
        )
      }

      const reports = [yield* quick.stop, yield* slow.stop]
      const reloads = ep2.output().match(/reloading HAProxy/g)?.length ?? 0
      const [least, most] = method.reloads(changes)
      assert.deepStrictEqual([...new Set(reports.flatMap(({ failures }) => failures.map(({ reason }) => reason)))], [])
      const used = new Set([0, 1, ...plans(changes).flat()])
      assert.sameMembers(
        Object.keys(reports[0]!.byServer),
        [...used].map((index) => `s${index}`)
      )
      assert.isTrue(reloads >= least && reloads <= most, `${reloads} reloads`)
      if (most === 0) assert.strictEqual(yield* pid, before)
    })
  )
})
