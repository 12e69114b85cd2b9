import { assert, describe, it } from "@effect/vitest"
import * as Plan from "../../src/domain/Plan.ts"

const times = { nowMillis: 100_000, proveTimeoutMillis: 30_000, drainTimeoutMillis: 10_000 }
const still = Plan.none("web")
const endpoint = { address: "10.0.0.1", port: 80 }

const withArrival = (since: number | undefined): Plan.Plan => ({
  ...still,
  memory: { ...Plan.emptyMemory, arrivals: new Map([["10.0.0.1:80", since]]) }
})
const withDrain = (since: number): Plan.Plan => ({
  ...still,
  isMoving: true,
  memory: { ...Plan.emptyMemory, drains: new Map([["socket node1", since]]) }
})

describe("Plan.isLevel", () => {
  it("is so where nothing is left to do or to wait for", () => {
    const levels = [still, withArrival(undefined)].map((plan) => Plan.isLevel(plan, times))

    assert.deepStrictEqual(levels, [true, true])
  })

  it("is not so with an action to carry out, or an endpoint without a place", () => {
    const action = Plan.Action.Drain({ socket: "socket", server: "node1", endpoint })
    const plans: ReadonlyArray<Plan.Plan> = [
      { ...still, actions: [action] },
      { ...still, unplaced: [{ endpoint, origin: "a" }] }
    ]

    const levels = plans.map((plan) => Plan.isLevel(plan, times))

    assert.deepStrictEqual(levels, [false, false])
  })

  it("waits for an arriving endpoint until its time to prove itself is over, and no longer", () => {
    const levels = [70_001, 70_000].map((since) => Plan.isLevel(withArrival(since), times))

    assert.deepStrictEqual(levels, [false, true])
  })

  it("waits for a drain until drain_timeout, and leaves sessions that last longer", () => {
    const levels = [90_001, 90_000].map((since) => Plan.isLevel(withDrain(since), times))

    assert.deepStrictEqual(levels, [false, true])
  })
})
