import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import { type Endpoint, endpointKey, isPlaceholder, slotNumber } from "../../src/domain/State.ts"
import { checkOptions, endpoints, foreign, wantedOf } from "./AnyStates.ts"
import * as HaproxyModel from "./HaproxyModel.ts"
import { type How, Simulated } from "./Simulated.ts"

const AnyName = Schema.Literals(["a", "b", "c", "d", "e"])
const AnyNames = Schema.Array(AnyName).check(Schema.isMaxLength(5))
const Which = Schema.Literals([0, 1, 2])
const AnyHow = Schema.Struct({ prove: Schema.Boolean, drainTimeoutAction: Schema.Literals(["wait", "shutdown"]) })

/** A pool as ep2, an operator or a crash may have left it, the same names in all processes. */
const AnyPool = Schema.Struct({
  size: Schema.Literals([1, 2, 4, 6]),
  count: Schema.Literals([1, 2, 3]),
  served: AnyNames,
  /** How far the names of each process are turned against those of the one before. */
  turned: Schema.Literals([0, 0, 0, 1, 2]),
  hasCheck: Schema.Boolean
})

const Event = Schema.Union([
  Schema.TaggedStruct("Want", { names: AnyNames }),
  Schema.TaggedStruct("Pass", {}),
  /** ep2 dies in the middle of a pass: after so many commands to each process. */
  Schema.TaggedStruct("Crash", {
    after: Schema.Array(Schema.Literals([0, 1, 2, 3, 4, 5, 6, 7, 8, 13])).check(Schema.isBetweenLength(3, 3))
  }),
  Schema.TaggedStruct("Sessions", {
    process: Which,
    server: Schema.Literals([1, 2, 3, 4]),
    steps: Schema.Literals([1, 4, 20])
  }),
  Schema.TaggedStruct("Operator", {
    process: Which,
    server: Schema.Literals([1, 2, 3, 4]),
    command: Schema.Literals(["state maint", "state drain", "state ready", "weight 0%", "weight 100%"])
  }),
  Schema.TaggedStruct("Gone", { process: Which }),
  Schema.TaggedStruct("Back", { process: Which }),
  Schema.TaggedStruct("Restart", { process: Which }),
  Schema.TaggedStruct("Dead", { names: AnyNames }),
  Schema.TaggedStruct("Step", { steps: Schema.Literals([1, 1, 5]) })
])
const Script = Schema.Array(Event).check(Schema.isMaxLength(12))

const served = (name: string, endpoint: Endpoint, hasCheck: boolean): HaproxyModel.ModelServer => ({
  ...HaproxyModel.freeServer(name, endpoint, hasCheck),
  isMaint: false,
  isUp: true,
  unproven: 0
})

const legacy: HaproxyModel.ModelServer = { ...served("legacy", foreign.endpoint!, true), isDrain: true, weight: 0 }

const poolOf = (names: ReadonlyArray<keyof typeof endpoints>, size: number, hasCheck: boolean) => [
  legacy,
  ...Array.from({ length: size }, (_, index) => {
    const endpoint = endpoints[names[index] ?? "free"]
    const name = `node${index + 1}`
    return endpoint === undefined || isPlaceholder(endpoint)
      ? HaproxyModel.freeServer(name, endpoints.free, hasCheck)
      : served(name, endpoint, hasCheck)
  })
]

const turn = <A>(all: ReadonlyArray<A>, by: number) => all.map((_, index) => all[(index + by) % all.length]!)

const simulated = ({ count, hasCheck, served: names, size, turned }: typeof AnyPool.Type, how: How) => {
  const distinct = [...new Set(names)]
  const processes = Array.from({ length: count }, (_, index) => ({
    socket: `socket${index}`,
    servers: poolOf(turn(distinct, index * turned), size, hasCheck)
  }))
  const sim = new Simulated(processes, { ...how, hasCheck })
  sim.wanted = wantedOf(distinct.slice(0, size))
  return sim
}

/** Lets one thing happen. */
const play = (sim: Simulated, pool: typeof AnyPool.Type, event: typeof Event.Type): void => {
  const socketOf = (process: number) => `socket${process % pool.count}`
  const nameOf = (server: number) => `node${((server - 1) % pool.size) + 1}`
  switch (event._tag) {
    case "Want":
      sim.wanted = wantedOf(event.names)
      return
    case "Pass":
      sim.pass()
      return
    case "Crash":
      sim.pass(event.after)
      return
    case "Sessions":
      sim.processes = sim.processes.map((process) => ({
        ...process,
        servers: process.servers.map((one) =>
          process.socket === socketOf(event.process) &&
          one.name === nameOf(event.server) &&
          HaproxyModel.takesTraffic(one) &&
          // The placeholder refuses every connection.
          !isPlaceholder(one.endpoint)
            ? { ...one, sessions: [...one.sessions, event.steps] }
            : one
        )
      }))
      return
    case "Operator":
      if (sim.has(socketOf(event.process), nameOf(event.server))) {
        sim.operate(socketOf(event.process), `set server web/${nameOf(event.server)} ${event.command}`)
      }
      return
    case "Gone":
      sim.gone.add(socketOf(event.process))
      return
    case "Back":
      sim.gone.delete(socketOf(event.process))
      return
    case "Restart":
      sim.processes = sim.processes.map((one) =>
        one.socket === socketOf(event.process) ? { ...one, servers: poolOf([], pool.size, pool.hasCheck) } : one
      )
      return
    case "Dead":
      sim.dead = new Set(wantedOf(event.names).map(({ endpoint }) => endpointKey(endpoint)))
      return
    case "Step":
      for (let count = 0; count < event.steps; count++) sim.step()
  }
}

/** What must hold once ep2 is at rest: all that is wanted and fits is served everywhere, the rest is free. */
const assertLevel = (sim: Simulated, plan: ReturnType<Simulated["settle"]>, size: number) => {
  const placed = new Map(plan.placed.map((one) => [one.server, endpointKey(one.endpoint)]))
  const held = new Set(plan.held.map(({ server }) => server))
  assert.strictEqual(plan.placed.length, Math.min(sim.wanted.length, size), sim.show())
  for (const { servers } of sim.processes) {
    for (const server of servers.filter(({ name }) => slotNumber(name) !== undefined)) {
      const key = placed.get(server.name)
      assert.strictEqual(server.weight, 100, sim.show())
      if (key === undefined) {
        assert.isTrue(isPlaceholder(server.endpoint) && server.isMaint, sim.show())
      } else {
        assert.strictEqual(endpointKey(server.endpoint), key, sim.show())
        assert.isTrue(held.has(server.name) || !(server.isMaint || server.isDrain), sim.show())
      }
    }
  }
}

describe("passes over modelled processes", () => {
  it.prop(
    "are as safe where servers can be added, and leave none without a place and no free one that need not be kept",
    [AnyPool, AnyHow, Script, AnyNames, Schema.Literals([0, 1, 4])],
    ([pool, how, script, last, keep]) => {
      const sim = simulated(pool, { ...how, growth: { by: "add", keep } })
      for (const event of script) play(sim, pool, event)
      sim.gone.clear()
      sim.wanted = wantedOf(last)

      const plan = sim.settle()

      assertLevel(sim, plan, Number.POSITIVE_INFINITY)
      assert.deepStrictEqual(plan.unplaced, [])
      const placed = new Set(plan.placed.map(({ server }) => server))
      for (const { servers } of sim.processes) {
        const needless = servers.filter(({ name }) => (slotNumber(name) ?? 0) > keep && !placed.has(name))
        assert.deepStrictEqual(needless, [])
      }
    },
    checkOptions(1_000)
  )

  it.prop(
    "are safe at every command, and settle with all that is wanted served alike, whatever happened before",
    [AnyPool, AnyHow, Script, AnyNames],
    ([pool, how, script, last]) => {
      const sim = simulated(pool, how)
      for (const event of script) play(sim, pool, event)
      sim.gone.clear()
      sim.wanted = wantedOf(last)

      const plan = sim.settle()

      assertLevel(sim, plan, pool.size)
      for (const { servers } of sim.processes) {
        assert.deepStrictEqual(
          servers.filter(({ name }) => name === "legacy").map(({ name, weight }) => [name, weight]),
          [["legacy", 0]]
        )
      }
    },
    checkOptions(1_000)
  )
})
