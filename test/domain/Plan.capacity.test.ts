import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import * as Plan from "../../src/domain/Plan.ts"
import { endpointKey } from "../../src/domain/State.ts"
import { checkOptions, endpoints, wantedOf } from "./AnyStates.ts"
import * as HaproxyModel from "./HaproxyModel.ts"
import { drainTimeout, proveTimeout, Simulated } from "./Simulated.ts"

type Name = "a" | "b" | "c" | "d" | "e"

const AnyNames = Schema.Array(Schema.Literals(["a", "b", "c", "d", "e"])).check(Schema.isBetweenLength(1, 5))
const AnyHow = Schema.Struct({ prove: Schema.Boolean, drainTimeoutAction: Schema.Literals(["wait", "shutdown"]) })
const Sessions = Schema.Array(Schema.Literals([0, 1, 2, 9])).check(Schema.isBetweenLength(5, 5))

const served = (name: string, endpoint: Name, sessions = 0): HaproxyModel.ModelServer => ({
  ...HaproxyModel.freeServer(name, endpoints[endpoint], true),
  isMaint: false,
  isUp: true,
  unproven: 0,
  sessions: sessions === 0 ? [] : [sessions]
})

/** One process that serves the names, with so many slots. */
const serving = (
  names: ReadonlyArray<Name>,
  size: number,
  how: typeof AnyHow.Type,
  sessions: ReadonlyArray<number> = []
) => {
  const servers = Array.from({ length: size }, (_, index) => {
    const endpoint = names[index]
    const name = `node${index + 1}`
    return endpoint === undefined
      ? HaproxyModel.freeServer(name, endpoints.free, true)
      : served(name, endpoint, sessions[index])
  })
  return new Simulated([{ socket: "socket0", servers }], how)
}

const keysServed = (sim: Simulated) =>
  sim.processes[0]!.servers.filter(HaproxyModel.takesTraffic).map(({ endpoint }) => endpointKey(endpoint))

const keysOf = (names: ReadonlyArray<Name>) => wantedOf(names).map(({ endpoint }) => endpointKey(endpoint))

/** Fails when fewer than `least` servers take traffic, be it between two commands or two seconds. */
const watch = (sim: Simulated, least: () => number) => {
  const check = () => assert.isAtLeast(keysServed(sim).length, least(), `second ${sim.seconds}: ${sim.show()}`)
  sim.onCommand = check
  return check
}

describe("a replacement of servers", () => {
  it.prop(
    "never serves less than before or than is wanted, whichever is less, where the pool has room for both",
    [AnyNames, AnyNames, AnyHow, Sessions],
    ([before, after, how, sessions]) => {
      const old = [...new Set(before)]
      const sim = serving(old, new Set([...before, ...after]).size, how, sessions)
      sim.wanted = wantedOf(after)
      const check = watch(sim, () => Math.min(old.length, sim.wanted.length))

      for (let second = 0; second < 40; second++) {
        sim.pass()
        sim.step()
        check()
      }

      assert.isTrue(Plan.isSettled(sim.plan()))
      assert.sameMembers(keysServed(sim), keysOf(after))
    },
    checkOptions(500)
  )

  it.prop(
    "never takes the last server away where the pool is too small for both",
    [AnyNames, AnyNames, AnyHow, Sessions, Schema.Literals([2, 3, 4])],
    ([before, after, how, sessions, size]) => {
      const old = [...new Set(before)].slice(0, size)
      const sim = serving(old, size, how, sessions)
      sim.wanted = wantedOf(after)
      const half = Math.max(1, Math.floor(Math.min(old.length, sim.wanted.length) / 2))
      const check = watch(sim, () => (size > 1 && old.length > 1 ? half : 0))

      for (let second = 0; second < 80; second++) {
        sim.pass()
        sim.step()
        check()
      }

      assert.isTrue(Plan.isSettled(sim.plan()))
      assert.strictEqual(keysServed(sim).length, Math.min(size, sim.wanted.length))
      assert.includeMembers(keysOf(after), keysServed(sim))
    },
    checkOptions(500)
  )

  it.prop(
    "waits for servers that never come up only for the time that they have to prove themselves",
    [AnyNames, AnyNames, AnyNames],
    ([before, after, dead]) => {
      const old = [...new Set(before)]
      const fresh = [...new Set(after)].filter((name) => !old.includes(name))
      const sim = serving(old, 6, { prove: true, drainTimeoutAction: "wait" })
      sim.wanted = wantedOf(fresh)
      sim.dead = new Set(keysOf(dead.filter((name) => fresh.includes(name))))
      const check = watch(sim, () => (sim.seconds < proveTimeout ? Math.min(old.length, fresh.length) : 0))

      for (let second = 0; second < proveTimeout + 10; second++) {
        sim.pass()
        sim.step()
        check()
      }

      assert.isTrue(Plan.isSettled(sim.plan()))
      assert.sameMembers(
        keysServed(sim),
        keysOf(fresh).filter((key) => !sim.dead.has(key))
      )
    },
    checkOptions(300)
  )

  for (const drainTimeoutAction of ["wait", "shutdown"] as const) {
    it(`goes on beside a session that never ends, with drain_timeout_action = ${drainTimeoutAction}`, () => {
      const sim = serving(["a", "b"], 2, { prove: true, drainTimeoutAction }, [0, 100_000])
      sim.wanted = wantedOf(["c", "d"])

      for (let second = 0; second < 5 * drainTimeout + 2 * proveTimeout; second++) {
        sim.pass()
        sim.step()
      }

      const isCut = drainTimeoutAction === "shutdown"
      assert.sameMembers(keysServed(sim), keysOf(isCut ? ["c", "d"] : ["c"]))
      assert.deepStrictEqual(
        sim.plan().unplaced.map(({ origin }) => origin),
        isCut ? [] : ["d"]
      )
      assert.strictEqual(Plan.isSettled(sim.plan()), isCut)
    })
  }

  it("makes room in a full pool although one server is kept by a session that never ends", () => {
    const sim = serving(["a", "b", "c"], 3, { prove: true, drainTimeoutAction: "wait" }, [100_000])
    sim.wanted = wantedOf(["d", "e"])

    for (let second = 0; second < 60; second++) {
      sim.pass()
      sim.step()
    }

    assert.sameMembers(keysServed(sim), keysOf(["d", "e"]))
  })
})

describe("processes that disagree on names", () => {
  const disagreeing = (...pools: ReadonlyArray<ReadonlyArray<Name | undefined>>) => {
    const processes = pools.map((names, index) => ({
      socket: `socket${index}`,
      servers: names.map((name, at) =>
        name === undefined
          ? HaproxyModel.freeServer(`node${at + 1}`, endpoints.free, true)
          : served(`node${at + 1}`, name)
      )
    }))
    return new Simulated(processes, { prove: true, drainTimeoutAction: "wait" })
  }
  const level = (sim: Simulated) =>
    sim.processes.map(({ servers }) => servers.map((one) => `${one.name} ${endpointKey(one.endpoint)}`))

  const cases = [
    ["one has another endpoint in the place", [["a"], [undefined, "a"], [undefined, "a"], ["a", "b"]]],
    [
      "two are crossed, with a free slot",
      [
        ["a", "b"],
        ["a", "b", undefined],
        ["b", "a", undefined]
      ]
    ],
    [
      "two are crossed in a full pool",
      [
        ["a", "b"],
        ["a", "b"],
        ["b", "a"]
      ]
    ],
    [
      "one serves a second endpoint elsewhere",
      [
        ["c", "d"],
        ["a", "d"],
        ["d", "a"]
      ]
    ]
  ] as const
  for (const [name, [wanted, ...pools]] of cases) {
    it(`become alike, and no process ever serves nothing: ${name}`, () => {
      const size = Math.max(...pools.map((pool) => pool.length))
      const sim = disagreeing(...pools.map((pool) => Array.from({ length: size }, (_, at) => pool[at])))
      sim.wanted = wantedOf(wanted)
      const check = () => {
        for (const { servers } of sim.processes) assert.isTrue(servers.some(HaproxyModel.takesTraffic), sim.show())
      }
      sim.onCommand = check

      for (let second = 0; second < 80; second++) {
        sim.pass()
        sim.step()
        check()
      }

      assert.isTrue(Plan.isSettled(sim.plan()), sim.show())
      assert.strictEqual(new Set(level(sim).map((one) => one.join())).size, 1, sim.show())
    })
  }
})
