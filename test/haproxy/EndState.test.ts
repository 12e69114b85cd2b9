import { assert, describe, it } from "@effect/vitest"
import * as Plan from "../../src/domain/Plan.ts"
import type { AdminState, Endpoint, ObservedState, Server } from "../../src/domain/State.ts"
import * as EndState from "../../src/haproxy/EndState.ts"
import type { ServerLine } from "../../src/haproxy/ServerRegion.ts"

const a: Endpoint = { address: "10.0.0.1", port: 80 }
const b: Endpoint = { address: "10.0.0.2", port: 80 }
const wanted = (endpoint: Endpoint) => ({ endpoint, origin: "test" })
const server = (name: string, endpoint: Endpoint, admin: AdminState = "ready", isMarked = false): Server => ({
  name,
  endpoint,
  admin,
  isMarked,
  hasCheck: true,
  health: "up",
  sessions: 0
})
const observed = (...servers: ReadonlyArray<Server>): ObservedState => ({
  backend: "web",
  processes: [{ socket: "/s", pid: 1, servers }],
  unobserved: []
})
const plan = (state: ObservedState, ...endpoints: ReadonlyArray<Endpoint>) =>
  Plan.make(
    { backend: "web", wanted: endpoints.map(wanted), refused: [], pending: [], leaving: [] },
    state,
    Plan.emptyMemory,
    {
      prove: true,
      drainTimeoutMillis: 1000,
      drainTimeoutAction: "wait",
      proveTimeoutMillis: 1000,
      nowMillis: 0
    }
  )
const shown = (lines: ReadonlyArray<ServerLine>) =>
  lines.map(
    ({ endpoint, isDisabled, name }) => `${name} ${endpoint.address}:${endpoint.port}${isDisabled ? " disabled" : ""}`
  )

const fixed = (size: number): EndState.Pool => ({ size, isElastic: false })

describe("EndState.make", () => {
  it("has what is wanted under its names, and everything else as a free slot", () => {
    const state = observed(server("node1", a), server("node2", EndState.placeholder, "maint"), server("node3", b))

    const { servers } = EndState.make(plan(state, b), state, fixed(3))

    assert.deepStrictEqual(shown(servers), [
      "node1 127.0.0.1:1 disabled",
      "node2 127.0.0.1:1 disabled",
      "node3 10.0.0.2:80"
    ])
  })

  it("disables what the operator holds, and says which of it is to be drained again", () => {
    const state = observed(server("node1", a, "maint"), server("node2", b, "drain"))

    const { servers } = EndState.make(plan(state, a, b), state, fixed(2))

    assert.deepStrictEqual(shown(servers), ["node1 10.0.0.1:80 disabled", "node2 10.0.0.2:80 disabled"])
    assert.deepStrictEqual(
      servers.map(({ afterLoad }) => afterLoad),
      [undefined, "drain"]
    )
  })

  it("leaves out the free servers beyond its size where servers can be added, and keeps those that are in use", () => {
    const free = EndState.placeholder
    const state = observed(server("node1", free, "maint"), server("node4", a), server("node5", free, "maint"))

    const { servers } = EndState.make(plan(state, a), state, { size: 2, isElastic: true })

    assert.deepStrictEqual(shown(servers), [
      "node1 127.0.0.1:1 disabled",
      "node2 127.0.0.1:1 disabled",
      "node4 10.0.0.1:80"
    ])
  })

  it("never has fewer slots than HAProxy has now", () => {
    const state = observed(server("node1", a), server("node5", EndState.placeholder, "maint"))

    assert.strictEqual(EndState.make(plan(state, a), state, fixed(2)).servers.length, 5)
    assert.strictEqual(EndState.make(plan(state, a), state, fixed(7)).servers.length, 7)
  })
})

describe("EndState.fresh", () => {
  const line = (name: string, endpoint: Endpoint, isDisabled = false): ServerLine => ({ name, endpoint, isDisabled })
  const known = (...servers: ReadonlyArray<ServerLine>) => ({ backend: "web", servers })

  it("keeps the names that are known, and gives the others the lowest free ones", () => {
    const { servers } = EndState.fresh({
      backend: "web",
      wanted: [wanted(b), wanted(a)],
      known: known(line("node2", a)),
      nodeSlots: 3
    })

    assert.deepStrictEqual(shown(servers), ["node1 10.0.0.2:80", "node2 10.0.0.1:80", "node3 127.0.0.1:1 disabled"])
  })

  it("keeps the operator's hold on an endpoint, and gives a slot that was free to a new one ready for use", () => {
    const { servers } = EndState.fresh({
      backend: "web",
      wanted: [wanted(a), wanted(b)],
      known: known(line("node1", EndState.placeholder, true), line("node2", a, true)),
      nodeSlots: 2
    })

    assert.deepStrictEqual(shown(servers), ["node1 10.0.0.2:80", "node2 10.0.0.1:80 disabled"])
  })

  it("lets one that was to prove itself do so as HAProxy starts, and keeps an operator's drain", () => {
    const { servers } = EndState.fresh({
      backend: "web",
      wanted: [wanted(a), wanted(b)],
      known: known(
        { name: "node1", endpoint: a, isDisabled: true, afterLoad: "prove" },
        { name: "node2", endpoint: b, isDisabled: true, afterLoad: "drain" }
      ),
      nodeSlots: 2
    })

    assert.deepStrictEqual(servers, [
      { name: "node1", endpoint: a, isDisabled: false },
      { name: "node2", endpoint: b, isDisabled: true, afterLoad: "drain" }
    ])
  })

  it("grows to twice its size until all that is wanted has a place", () => {
    const { servers } = EndState.fresh({ backend: "web", wanted: [wanted(a), wanted(b)], known: known(), nodeSlots: 1 })

    assert.deepStrictEqual(shown(servers), ["node1 10.0.0.1:80", "node2 10.0.0.2:80"])
    assert.deepStrictEqual(
      [EndState.grown(5, 5), EndState.grown(5, 6), EndState.grown(5, 11), EndState.grown(10_000, 10_001)],
      [5, 10, 11, 10_001]
    )
  })

  it("has no free slots where none are kept", () => {
    const { servers } = EndState.fresh({
      backend: "web",
      wanted: [wanted(a), wanted(b)],
      known: known(line("node1", EndState.placeholder, true), line("node3", b)),
      nodeSlots: 0
    })

    assert.deepStrictEqual(shown(servers), ["node1 10.0.0.1:80", "node3 10.0.0.2:80"])
  })
})

describe("EndState.forLoad", () => {
  const forLoad = (state: ObservedState, prove: boolean, ...endpoints: ReadonlyArray<Endpoint>) => {
    const wanted = plan(state, ...endpoints)
    return EndState.forLoad(EndState.make(wanted, state, fixed(2)), wanted, state, { prove }).servers
  }

  it("lets what has not proven itself do so first, where it has to", () => {
    const state = observed(server("node1", a), server("node2", EndState.placeholder, "maint"))

    assert.deepStrictEqual(forLoad(state, true, a, b), [
      { name: "node1", endpoint: a, isDisabled: false },
      { name: "node2", endpoint: b, isDisabled: true, afterLoad: "prove" }
    ])
    assert.deepStrictEqual(shown(forLoad(state, false, a, b)), ["node1 10.0.0.1:80", "node2 10.0.0.2:80"])
  })

  it("lets what is known to be down prove itself, whatever new servers have to", () => {
    const state = observed(server("node1", a), { ...server("node2", b), health: "down" })

    assert.deepStrictEqual(forLoad(state, false, a, b), [
      { name: "node1", endpoint: a, isDisabled: false },
      { name: "node2", endpoint: b, isDisabled: true, afterLoad: "prove" }
    ])
  })

  it("keeps what leaves and may not go yet, and what the operator holds", () => {
    const leaving = observed(server("node1", a), server("node2", EndState.placeholder, "maint"))
    const held = observed(server("node1", a, "drain"), server("node2", b, "maint"))

    assert.deepStrictEqual(shown(forLoad(leaving, true, b)), ["node1 10.0.0.1:80", "node2 10.0.0.2:80 disabled"])
    assert.deepStrictEqual(forLoad(held, true, a, b), [
      { name: "node1", endpoint: a, isDisabled: true, afterLoad: "drain" },
      { name: "node2", endpoint: b, isDisabled: true }
    ])
  })
})

describe("EndState.byConfig", () => {
  const byConfig = (state: ObservedState, ...endpoints: ReadonlyArray<Endpoint>) =>
    EndState.byConfig(plan(state, ...endpoints), state)

  it("keeps what leaves until its replacement is up, and has no free slots", () => {
    const state = observed(server("node1", a), server("node2", EndState.placeholder, "maint"))
    const one = byConfig(state, b)
    const load = EndState.forLoad(one, plan(state, b), state, { prove: true })
    const up = byConfig(observed(server("node1", a), server("node2", b)), b)

    assert.deepStrictEqual(shown(one.servers), ["node1 10.0.0.1:80", "node2 10.0.0.2:80"])
    assert.deepStrictEqual(load.servers, [
      { name: "node1", endpoint: a, isDisabled: false },
      { name: "node2", endpoint: b, isDisabled: true, afterLoad: "prove" }
    ])
    assert.deepStrictEqual(shown(up.servers), ["node2 10.0.0.2:80"])
  })

  it("differs from what runs where a server is more, less, or elsewhere, and not by the template's own", () => {
    const lines = byConfig(observed(server("node1", a)), a)

    assert.isFalse(EndState.differs(lines, observed(server("legacy", b), server("node1", a))))
    assert.isTrue(EndState.differs(lines, observed()))
    assert.isTrue(EndState.differs(lines, observed(server("node1", b))))
    assert.isTrue(EndState.differs(lines, observed(server("node1", a), server("node2", b))))
  })
})
