import { assert, describe, it } from "@effect/vitest"
import * as Plan from "../../src/domain/Plan.ts"
import type { AdminState, Endpoint, ObservedState, Server } from "../../src/domain/State.ts"
import * as EndState from "../../src/haproxy/EndState.ts"
import type { ServerLine } from "../../src/haproxy/TemplateRenderer.ts"

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

describe("EndState.make", () => {
  it("has what is wanted under its names, and everything else as a free slot", () => {
    const state = observed(server("node1", a), server("node2", EndState.placeholder, "maint"), server("node3", b))

    const { servers } = EndState.make(plan(state, b), state, 3)

    assert.deepStrictEqual(shown(servers), [
      "node1 127.0.0.1:1 disabled",
      "node2 127.0.0.1:1 disabled",
      "node3 10.0.0.2:80"
    ])
  })

  it("disables what the operator has in maintenance, and not what is only drained", () => {
    const state = observed(server("node1", a, "maint"), server("node2", b, "drain"))

    const { servers } = EndState.make(plan(state, a, b), state, 2)

    assert.deepStrictEqual(shown(servers), ["node1 10.0.0.1:80 disabled", "node2 10.0.0.2:80"])
  })

  it("never has fewer slots than HAProxy has now", () => {
    const state = observed(server("node1", a), server("node5", EndState.placeholder, "maint"))

    assert.strictEqual(EndState.make(plan(state, a), state, 2).servers.length, 5)
    assert.strictEqual(EndState.make(plan(state, a), state, 7).servers.length, 7)
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

    assert.deepStrictEqual(shown(servers.servers), [
      "node1 10.0.0.2:80",
      "node2 10.0.0.1:80",
      "node3 127.0.0.1:1 disabled"
    ])
  })

  it("keeps the operator's hold on an endpoint, and gives a slot that was free to a new one ready for use", () => {
    const { servers } = EndState.fresh({
      backend: "web",
      wanted: [wanted(a), wanted(b)],
      known: known(line("node1", EndState.placeholder, true), line("node2", a, true)),
      nodeSlots: 2
    })

    assert.deepStrictEqual(shown(servers.servers), ["node1 10.0.0.2:80", "node2 10.0.0.1:80 disabled"])
  })

  it("says what has no slot", () => {
    const { servers, unplaced } = EndState.fresh({
      backend: "web",
      wanted: [wanted(a), wanted(b)],
      known: known(),
      nodeSlots: 1
    })

    assert.deepStrictEqual([shown(servers.servers), unplaced], [["node1 10.0.0.1:80"], [wanted(b)]])
  })
})
