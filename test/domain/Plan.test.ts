import { assert, describe, it } from "@effect/vitest"
import * as Plan from "../../src/domain/Plan.ts"
import { endpointKey, type ObservedState, type Server } from "../../src/domain/State.ts"
import { endpoints, foreign, readyServer, wantedOf } from "./AnyStates.ts"

const { a, b, otherFree } = endpoints

const server = (number: number, some: Partial<Server>) => readyServer(number, { sessions: 0, ...some })
const freeServer = (number: number) => server(number, { admin: "maint", health: "down" })

const observed = (...processes: ReadonlyArray<ReadonlyArray<Server>>): ObservedState => ({
  backend: "web",
  processes: processes.map((servers, index) => ({ socket: `socket${index}`, pid: index + 1, servers })),
  unobserved: []
})

const options: Plan.Options = {
  prove: false,
  drainTimeoutMillis: 30_000,
  drainTimeoutAction: "wait",
  proveTimeoutMillis: 60_000,
  nowMillis: 0
}

const make = (
  wanted: ReadonlyArray<"a" | "b" | "c" | "d" | "e">,
  state: ObservedState,
  some: Partial<Plan.Options> = {},
  memory = Plan.emptyMemory
) =>
  Plan.make({ backend: "web", wanted: wantedOf(wanted), refused: [], pending: [], leaving: [] }, state, memory, {
    ...options,
    ...some
  })

const step = { socket: "socket0", server: "node1" }

describe("Plan.make, row by row: a server whose endpoint is wanted on it", () => {
  it("is left alone when it is ready", () => {
    const plan = make(["a"], observed([server(1, { endpoint: a })]))

    assert.deepStrictEqual(plan.actions, [])
    assert.isTrue(Plan.isSettled(plan))
  })

  for (const admin of ["maint", "drain"] as const) {
    it(`is left in ${admin} by the operator's hand, and reported`, () => {
      const plan = make(["a"], observed([server(1, { endpoint: a, admin, health: "down" })]))

      assert.deepStrictEqual(plan.actions, [])
      assert.deepStrictEqual(plan.held, [{ endpoint: a, origin: "a", server: "node1", admin }])
      assert.isTrue(Plan.isSettled(plan))
    })
  }

  it("gets its traffic back when it was leaving", () => {
    const plan = make(["a"], observed([server(1, { endpoint: a, isMarked: true, sessions: 2 })]), { prove: true })

    assert.deepStrictEqual(plan.actions, [Plan.Action.Resume({ ...step, endpoint: a, prove: false, isReady: true })])
  })

  it("goes on arriving from maintenance, and proves itself", () => {
    const halfway = server(1, { endpoint: a, admin: "maint", isMarked: true, health: "down" })

    const plan = make(["a"], observed([halfway]), { prove: true })

    assert.deepStrictEqual(plan.actions, [Plan.Action.Resume({ ...step, endpoint: a, prove: true, isReady: false })])
  })

  it("goes on arriving when it was ready but not yet told to prove itself", () => {
    const halfway = server(1, { endpoint: a, isMarked: true, health: "unproven" })

    const plan = make(["a"], observed([halfway]), { prove: true })

    assert.deepStrictEqual(plan.actions, [Plan.Action.Resume({ ...step, endpoint: a, prove: true, isReady: true })])
  })

  it("does not start its proof again when it is down already", () => {
    const halfway = server(1, { endpoint: a, isMarked: true, health: "down" })

    const plan = make(["a"], observed([halfway]), { prove: true })

    assert.deepStrictEqual(plan.actions, [Plan.Action.Resume({ ...step, endpoint: a, prove: false, isReady: true })])
  })
})

describe("Plan.make, row by row: a wanted endpoint without a server", () => {
  it("arrives on the lowest free server", () => {
    const plan = make(["a"], observed([server(1, { endpoint: b }), freeServer(2), freeServer(3)]))

    assert.deepStrictEqual(plan.actions[0], Plan.Action.Arrive({ ...step, server: "node2", endpoint: a, prove: false }))
  })

  it("proves itself where that is asked for and the server has a check, and only there", () => {
    const servers = [freeServer(1), { ...freeServer(2), hasCheck: false }]

    const plan = make(["a", "b"], observed(servers), { prove: true })

    assert.deepStrictEqual(plan.actions, [
      Plan.Action.Arrive({ ...step, endpoint: a, prove: true }),
      Plan.Action.Arrive({ ...step, server: "node2", endpoint: b, prove: false })
    ])
  })

  it("arrives in a process that lacks it under the name that it has in the others", () => {
    const state = observed([freeServer(1), server(2, { endpoint: a })], [freeServer(1), freeServer(2)])

    const plan = make(["a"], state)

    assert.deepStrictEqual(plan.actions, [
      Plan.Action.Arrive({ socket: "socket1", server: "node2", endpoint: a, prove: false })
    ])
  })

  it("proves itself on a server whose check is still off, which is switched on", () => {
    const off = { ...freeServer(1), hasCheck: false, isCheckOff: true } as const

    const plan = make(["a"], observed([off]), { prove: true })

    assert.deepStrictEqual(plan.actions, [Plan.Action.Arrive({ ...step, endpoint: a, prove: true, isCheckOff: true })])
  })

  describe("where servers can be added", () => {
    const growth = { by: "add", keep: 1 } as const

    it("gets a new server under the lowest name that nobody has, once in each process", () => {
      const state = observed([server(1, { endpoint: a }), server(3, { endpoint: b })], [server(1, { endpoint: a })])

      const plan = make(["a", "b", "c"], state, { growth })

      assert.deepStrictEqual(plan.unplaced, [])
      assert.deepStrictEqual(plan.actions, [
        Plan.Action.Add({ socket: "socket0", server: "node2" }),
        Plan.Action.Add({ socket: "socket1", server: "node2" }),
        Plan.Action.Add({ socket: "socket1", server: "node3" })
      ])
      assert.isTrue(plan.isIncomplete)
    })

    it("takes a free server before a new one, also one that is to be removed", () => {
      const plan = make(["a"], observed([server(1, { endpoint: b }), freeServer(5)]), { growth })

      assert.deepStrictEqual(
        plan.actions[0],
        Plan.Action.Arrive({ ...step, server: "node5", endpoint: a, prove: false })
      )
    })

    it("has free servers beyond what is kept removed, and those that are on their way not", () => {
      const marked = server(4, { admin: "maint", isMarked: true, health: "down" })

      const plan = make([], observed([freeServer(1), freeServer(2), freeServer(3), marked]), { growth })

      assert.deepStrictEqual(plan.actions, [
        Plan.Action.Free({ ...step, server: "node4" }),
        Plan.Action.Remove({ ...step, server: "node2" }),
        Plan.Action.Remove({ ...step, server: "node3" })
      ])
    })
  })

  it("waits where the pool grows by a reload, and nothing is drained to make room", () => {
    const state = observed([server(1, { endpoint: a }), server(2, { endpoint: b })])

    const growing = make(["c", "d"], state, { growth: { by: "reload" } })
    const stuck = make(["c", "d"], state)

    assert.deepStrictEqual([growing.actions, growing.unplaced.length], [[], 2])
    assert.deepStrictEqual(
      stuck.actions.map(({ _tag }) => _tag),
      ["Drain"]
    )
  })

  it("is reported when there is no room", () => {
    const plan = make(["a", "b"], observed([server(1, { endpoint: a })]))

    assert.deepStrictEqual(plan.unplaced, [{ endpoint: b, origin: "b" }])
    assert.deepStrictEqual(plan.actions, [])
    assert.isTrue(Plan.isSettled(plan))
  })

  it("is not put on a server that stands on a placeholder but is marked, ready or in drain", () => {
    const states = [{ isMarked: true, admin: "maint" }, { admin: "ready" }, { admin: "drain" }] as const
    for (const some of states) {
      const plan = make(["a"], observed([server(1, some)]))

      assert.deepStrictEqual(plan.unplaced, [{ endpoint: a, origin: "a" }])
      assert.notInclude(
        plan.actions.map(({ _tag }) => _tag),
        "Arrive"
      )
    }
  })
})

describe("Plan.make, row by row: a server that nobody wants", () => {
  it("is left alone when it is free, on whichever placeholder", () => {
    const plan = make([], observed([freeServer(1), { ...freeServer(2), endpoint: otherFree }]))

    assert.deepStrictEqual(plan.actions, [])
    assert.isTrue(Plan.isSettled(plan))
  })

  it("is freed to the end when only the last step was missing", () => {
    const plan = make([], observed([{ ...freeServer(1), isMarked: true }]))

    assert.deepStrictEqual(plan.actions, [Plan.Action.Free(step)])
  })

  for (const admin of ["ready", "drain"] as const) {
    it(`is stopped when it is a placeholder in ${admin}`, () => {
      const plan = make([], observed([server(1, { admin })]))

      assert.deepStrictEqual(plan.actions, [Plan.Action.Stop({ ...step, shutdown: false })])
    })
  }

  for (const admin of ["maint", "drain"] as const) {
    it(`is retired although the operator holds it in ${admin}`, () => {
      const plan = make([], observed([server(1, { endpoint: b, admin })]))

      assert.deepStrictEqual(plan.actions, [Plan.Action.Drain({ ...step, endpoint: b })])
    })
  }

  it("is drained when it is up and there is nothing to wait for", () => {
    const plan = make(["a"], observed([server(1, { endpoint: b }), server(2, { endpoint: a })]))

    assert.deepStrictEqual(plan.actions, [Plan.Action.Drain({ ...step, endpoint: b })])
    assert.isFalse(Plan.isSettled(plan))
  })

  it("stays while the endpoint that replaces it is not up, and goes when it is", () => {
    const arriving = (health: Server["health"]) =>
      observed([server(1, { endpoint: b }), server(2, { endpoint: a, health })])
    const first = make(["a"], arriving("down"), { nowMillis: 1_000 })
    const second = make(["a"], arriving("up"), { nowMillis: 2_000 }, first.memory)

    assert.deepStrictEqual(first.actions, [])
    assert.isTrue(first.isMoving)
    assert.deepStrictEqual(second.actions, [Plan.Action.Drain({ ...step, endpoint: b })])
  })

  it("goes when the endpoint that replaces it has had its time to come up", () => {
    const state = observed([server(1, { endpoint: b }), server(2, { endpoint: a, health: "down" })])
    const { memory } = make(["a"], state, { nowMillis: 1_000 })

    assert.deepStrictEqual(make(["a"], state, { nowMillis: 60_999 }, memory).actions, [])
    assert.deepStrictEqual(make(["a"], state, { nowMillis: 61_000 }, memory).actions, [
      Plan.Action.Drain({ ...step, endpoint: b })
    ])
  })

  it("waits for an endpoint whose server is still to come, however long, and from then on for it to come up", () => {
    const growth = { by: "add", keep: 0 } as const
    const old = observed([server(1, { endpoint: b })])
    const loaded = observed([server(1, { endpoint: b }), server(2, { endpoint: a, health: "down" })])
    const first = make(["a"], old, { growth, nowMillis: 1_000 })
    const late = make(["a"], old, { growth, nowMillis: 200_000 }, first.memory)
    const there = make(["a"], loaded, { growth, nowMillis: 200_100 }, late.memory)
    const drains = ({ actions }: Plan.Plan) => actions.filter(({ _tag }) => _tag === "Drain").length

    assert.deepStrictEqual([first, late, there].map(drains), [0, 0, 0])
    assert.strictEqual(drains(make(["a"], loaded, { growth, nowMillis: 259_999 }, there.memory)), 0)
    assert.strictEqual(drains(make(["a"], loaded, { growth, nowMillis: 260_000 }, there.memory)), 1)
  })

  it("does not wait for an endpoint that was up before and is down now", () => {
    const state = (health: Server["health"]) =>
      observed([server(1, { endpoint: b }), server(2, { endpoint: a, health })])
    const { memory } = make(["a", "b"], state("up"))

    assert.deepStrictEqual(make(["a"], state("down"), {}, memory).actions, [
      Plan.Action.Drain({ ...step, endpoint: b })
    ])
  })

  it("is drained at once when it is down", () => {
    const state = observed([server(1, { endpoint: b, health: "down" }), server(2, { endpoint: a, health: "down" })])

    assert.deepStrictEqual(make(["a"], state).actions, [Plan.Action.Drain({ ...step, endpoint: b })])
  })

  for (const admin of ["ready", "drain"] as const) {
    const leaving = (sessions: number | undefined) =>
      observed([server(1, { endpoint: b, admin, isMarked: true, sessions })])

    it(`is stopped once it is drained and idle, in ${admin}`, () => {
      assert.deepStrictEqual(make([], leaving(0)).actions, [Plan.Action.Stop({ ...step, shutdown: false })])
    })

    for (const sessions of [2, undefined]) {
      it(`is waited for while it has ${sessions ?? "unknown"} sessions, up to the drain timeout, in ${admin}`, () => {
        const first = make([], leaving(sessions), { nowMillis: 5_000 })
        const early = make([], leaving(sessions), { nowMillis: 34_999 }, first.memory)
        const late = make([], leaving(sessions), { nowMillis: 35_000 }, early.memory)
        const shutdown = { nowMillis: 35_000, drainTimeoutAction: "shutdown" } as const

        assert.deepStrictEqual([first.actions, early.actions], [[], []])
        assert.isTrue(first.isMoving)
        assert.deepStrictEqual(late.actions, [Plan.Action.Stop({ ...step, shutdown: false })])
        assert.deepStrictEqual(make([], leaving(sessions), shutdown, early.memory).actions, [
          Plan.Action.Stop({ ...step, shutdown: true })
        ])
      })
    }
  }

  it("is freed from maintenance once it is idle", () => {
    const state = observed([server(1, { endpoint: b, admin: "maint", isMarked: true, health: "down" })])

    assert.deepStrictEqual(make([], state).actions, [Plan.Action.Free(step)])
  })

  for (const sessions of [2, undefined]) {
    it(`waits in maintenance while it has ${sessions ?? "unknown"} sessions`, () => {
      const state = observed([server(1, { endpoint: b, admin: "maint", isMarked: true, health: "down", sessions })])
      const plan = make([], state)

      assert.deepStrictEqual(plan.actions, [])
      assert.isTrue(plan.isMoving)
    })
  }
})

describe("Plan.make", () => {
  it("leaves servers alone that are not ep2's, whatever they look like", () => {
    const strange = ["legacy", "node0", "node01", "node1x", "Node1", "node", "node1000000", "xnode1"]
    const servers = strange.flatMap((name) => [
      { ...foreign, name },
      { ...freeServer(1), name },
      server(1, { name, endpoint: b })
    ])

    for (const one of servers) {
      const plan = make(["a"], observed([one]))
      assert.deepStrictEqual(plan.actions, [])
      assert.deepStrictEqual(plan.unplaced, [{ endpoint: a, origin: "a" }])
    }
  })

  it("moves a replacement of all servers without going below the number that was served", () => {
    const old = [server(1, { endpoint: b }), server(2, { endpoint: endpoints.c })]
    const arrived = (...health: ReadonlyArray<Server["health"]>) =>
      observed([
        ...old,
        ...health.map((one, index) => server(3 + index, { endpoint: [a, endpoints.d][index], health: one }))
      ])
    const drained = (...health: ReadonlyArray<Server["health"]>) => make(["a", "d"], arrived(...health)).actions.length

    assert.deepStrictEqual([drained("down", "down"), drained("up", "down"), drained("up", "up")], [0, 1, 2])
  })

  it("adds capacity before it takes any away", () => {
    const state = observed([
      server(1, { endpoint: b, admin: "maint", isMarked: true }),
      server(2, { endpoint: b, isMarked: true }),
      server(3, { endpoint: b, health: "down" }),
      freeServer(4),
      server(5, { endpoint: a, isMarked: true })
    ])

    const plan = make(["a", "e"], state)

    assert.deepStrictEqual(
      plan.actions.map(({ _tag }) => _tag),
      ["Resume", "Arrive", "Drain", "Stop", "Free"]
    )
  })

  it("does nothing to a process that it does not see, and counts what was busy there as busy", () => {
    const { processes } = observed([freeServer(1), freeServer(2)], [server(1, { endpoint: b }), freeServer(2)])
    const [seen, gone] = processes
    const state: ObservedState = {
      backend: "web",
      processes: [seen!],
      unobserved: [{ socket: "socket1", reason: "gone", lastSeen: gone }]
    }

    const plan = make(["a"], state)

    assert.deepStrictEqual(plan.actions, [
      Plan.Action.Arrive({ socket: "socket0", server: "node2", endpoint: a, prove: false })
    ])
  })

  it("does nothing to a server without an address, which HAProxy would make ready while it refuses another one", () => {
    for (const admin of ["ready", "drain", "maint"] as const) {
      for (const isMarked of [true, false]) {
        const plan = make([], observed([server(1, { endpoint: undefined, admin, isMarked })]))
        assert.deepStrictEqual(plan.actions, [])
        assert.isTrue(Plan.isSettled(plan))
      }
    }
  })

  it("plans nothing but to report where no process was ever seen", () => {
    const state: ObservedState = {
      backend: "web",
      processes: [],
      unobserved: [{ socket: "socket0", reason: "gone", lastSeen: undefined }]
    }

    const plan = make(["a"], state)

    assert.deepStrictEqual([plan.actions, plan.placed.length, plan.unplaced.length], [[], 0, 1])
  })

  it("remembers how long an arrival takes only while it is wanted", () => {
    const { memory } = make(["a"], observed([freeServer(1)]), { nowMillis: 7_000 })

    assert.deepStrictEqual([...memory.arrivals], [[endpointKey(a), 7_000]])
    assert.deepStrictEqual([...make([], observed([freeServer(1)]), {}, memory).memory.arrivals], [])
  })

  it("has a plan that does nothing", () => {
    assert.isTrue(Plan.isSettled(Plan.none("web")))
  })
})
