import { assert, describe, it } from "@effect/vitest"
import * as Assignment from "../../src/domain/Assignment.ts"
import { endpointKey, isPlaceholder, type ObservedState, type Server, slotNumber } from "../../src/domain/State.ts"
import {
  AnyObserved,
  AnyWanted,
  checkOptions,
  endpoints,
  foreign,
  observedOf,
  readyServer,
  wantedOf
} from "./AnyStates.ts"

const { a, b, free } = endpoints

const server = (number: number, endpoint: Server["endpoint"], some: Partial<Server> = {}) =>
  readyServer(number, { endpoint, admin: endpoint === free ? "maint" : "ready", ...some })

const process = (socket: string, ...servers: ReadonlyArray<Server>) => ({ socket, pid: 1, servers })
const observed = (...processes: ReadonlyArray<ReadonlyArray<Server>>): ObservedState => ({
  backend: "web",
  processes: processes.map((servers, index) => process(`socket${index}`, ...servers)),
  unobserved: []
})

const names = (wanted: ReadonlyArray<"a" | "b" | "c">, state: ObservedState) =>
  Object.fromEntries(Assignment.make(wantedOf(wanted), state).placed.map(({ origin, server }) => [origin, server]))

describe("Assignment.make", () => {
  it("keeps the server that an endpoint has, whatever state it is in", () => {
    const states = [
      {},
      { admin: "maint" },
      { admin: "drain" },
      { isMarked: true },
      { isMarked: true, admin: "maint" },
      { health: "down" }
    ] as const
    for (const some of states) {
      assert.deepStrictEqual(names(["a"], observed([server(1, free), server(2, a, some)])), { a: "node2" })
    }
  })

  it("gives new endpoints the lowest free names by number, in their order", () => {
    const state = observed([server(10, free), server(2, free), server(9, free), server(1, b)])

    assert.deepStrictEqual(names(["c", "a"], state), { c: "node2", a: "node9" })
  })

  it("gives every endpoint a name where servers can be added, and never one that is busy somewhere", () => {
    const state = observed([server(1, b), server(2, free)], [server(1, free), server(4, b)])

    const without = Assignment.make(wantedOf(["a", "c"]), state)
    const { placed, unplaced } = Assignment.make(wantedOf(["a", "c"]), state, { canAdd: true })

    assert.lengthOf(without.unplaced, 2)
    assert.deepStrictEqual(unplaced, [])
    // node2 is free where it is; node1 and node4 are busy in one process each.
    assert.deepStrictEqual(
      placed.map(({ origin, server: name }) => [origin, name]),
      [
        ["a", "node2"],
        ["c", "node3"]
      ]
    )
  })

  it("lists what is placed by the number of the server", () => {
    const { placed } = Assignment.make(wantedOf(["a", "b"]), observed([server(10, a), server(9, b)]))

    assert.deepStrictEqual(
      placed.map(({ server }) => server),
      ["node9", "node10"]
    )
  })

  it("takes the name under which most of an endpoint is served where processes disagree", () => {
    const state = observed(
      [server(1, a), server(2, free)],
      [server(1, free), server(2, a)],
      [server(1, free), server(2, a)]
    )

    assert.deepStrictEqual(names(["a"], state), { a: "node2" })
  })

  it("prefers the server that takes traffic to the one that is on its way", () => {
    const state = observed([server(1, a, { isMarked: true }), server(2, a)])

    assert.deepStrictEqual(names(["a"], state), { a: "node2" })
  })

  it("prefers the server that the operator holds to one that is on its way", () => {
    const state = observed([server(1, a, { isMarked: true }), server(2, a, { admin: "maint" })])

    assert.deepStrictEqual(names(["a"], state), { a: "node2" })
  })

  it("does not use a name that is busy in any process, seen now or before", () => {
    const state: ObservedState = {
      ...observed(
        [server(1, free), server(2, free), server(3, free)],
        [server(1, b), server(2, free), server(3, free)]
      ),
      unobserved: [
        { socket: "gone", reason: "gone", lastSeen: process("gone", server(1, free), server(2, b), server(3, free)) }
      ]
    }

    assert.deepStrictEqual(names(["a"], state), { a: "node3" })
  })

  it("does not use a name that some process does not have", () => {
    const state = observed([server(1, free), server(2, free)], [server(2, free)])

    assert.deepStrictEqual(names(["a"], state), { a: "node2" })
  })

  it("keeps the name that is known from a process that is gone", () => {
    const state: ObservedState = {
      ...observed([server(1, free), server(2, free)]),
      unobserved: [{ socket: "gone", reason: "gone", lastSeen: process("gone", server(1, free), server(2, a)) }]
    }

    assert.deepStrictEqual(names(["a"], state), { a: "node2" })
  })

  it("does not place on servers of others, nor take their endpoint for placed", () => {
    const { placed, unplaced } = Assignment.make(
      wantedOf(["a"]),
      observed([foreign, server(1, free, { name: "spare" })])
    )

    assert.deepStrictEqual(placed, [])
    assert.deepStrictEqual(unplaced, wantedOf(["a"]))
  })

  it("places an endpoint once although the source names it twice", () => {
    const twice = [...wantedOf(["a"]), ...wantedOf(["a"])]

    const { placed, unplaced } = Assignment.make(twice, observed([server(1, free), server(2, free)]))

    assert.deepStrictEqual([placed.length, unplaced.length], [1, 0])
  })

  it.prop(
    "leaves an endpoint out only where no name is free in all processes",
    [AnyWanted, AnyObserved],
    ([wanted, generated]) => {
      const state = observedOf(generated)
      const { placed, unplaced } = Assignment.make(wantedOf(wanted), state)
      const views = [
        ...state.processes,
        ...state.unobserved.flatMap(({ lastSeen }) => (lastSeen === undefined ? [] : [lastSeen]))
      ]
      const isFree = (one: Server) =>
        one.admin === "maint" && !one.isMarked && one.endpoint !== undefined && isPlaceholder(one.endpoint)
      const taken = new Set(placed.map(({ server }) => server))
      const left = (views[0]?.servers ?? [])
        .map(({ name }) => name)
        .filter((name) => slotNumber(name) !== undefined && !taken.has(name))
        .filter((name) => views.every(({ servers }) => servers.some((one) => one.name === name && isFree(one))))

      assert.isTrue(unplaced.length === 0 || left.length === 0, left.join())
    },
    checkOptions(1_000)
  )

  it.prop(
    "keeps every endpoint on its name when another one comes or goes",
    [AnyWanted, AnyWanted, AnyObserved],
    ([wanted, others, generated]) => {
      const state = observedOf({ ...generated, processes: generated.processes.slice(0, 1) })
      const has = new Map(
        state.processes.flatMap(({ servers }) =>
          servers.flatMap((one) =>
            one.endpoint !== undefined && slotNumber(one.name) !== undefined && !isPlaceholder(one.endpoint)
              ? [[one.name, endpointKey(one.endpoint)] as const]
              : []
          )
        )
      )
      const kept = (names: typeof wanted) =>
        Assignment.make(wantedOf(names), state)
          .placed.filter((one) => has.get(one.server) === endpointKey(one.endpoint))
          .map(({ origin, server }) => `${origin} ${server}`)

      const before = kept(wanted)
      const after = kept([...wanted, ...others])

      assert.includeMembers(after, before)
    },
    checkOptions(1_000)
  )
})
