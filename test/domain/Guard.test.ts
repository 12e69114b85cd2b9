import { assert, describe, it } from "@effect/vitest"
import * as Guard from "../../src/domain/Guard.ts"
import { endpointKey, type ObservedState, type Server } from "../../src/domain/State.ts"
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

const answer = (...names: ReadonlyArray<"a" | "b">) => ({
  backend: "web",
  wanted: wantedOf(names),
  refused: [],
  pending: [],
  leaving: []
})

const server = (number: number, some: Partial<Server>) => readyServer(number, { endpoint: endpoints.a, ...some })

const observed = (...servers: ReadonlyArray<Server>): ObservedState => ({
  backend: "web",
  processes: [{ socket: "socket0", pid: 1, servers }],
  unobserved: []
})

describe("Guard.judge, row by row", () => {
  for (const allowEmpty of [true, false]) {
    it(`lets an answer stand that names endpoints, with allow_empty = ${allowEmpty}`, () => {
      const verdict = Guard.judge(answer("b"), [endpoints.a], { allowEmpty })

      assert.deepStrictEqual(verdict, { desired: answer("b"), held: [] })
    })

    it(`lets an empty answer stand where nothing is served, with allow_empty = ${allowEmpty}`, () => {
      assert.deepStrictEqual(Guard.judge(answer(), [], { allowEmpty }), { desired: answer(), held: [] })
    })
  }

  it("takes an empty answer at its word where that is allowed", () => {
    assert.deepStrictEqual(Guard.judge(answer(), [endpoints.a], { allowEmpty: true }), { desired: answer(), held: [] })
  })

  it("holds what is served against an empty answer", () => {
    const { desired, held } = Guard.judge(answer(), [endpoints.a, endpoints.b], { allowEmpty: false })

    assert.deepStrictEqual(
      desired.wanted.map(({ endpoint }) => endpoint),
      [endpoints.a, endpoints.b]
    )
    assert.deepStrictEqual(held, [endpoints.a, endpoints.b])
  })

  it("holds what may be an instance whose address is not known yet, and lets go of what the source says is leaving", () => {
    const pending = [{ origin: "i-1", reason: "is not known yet", isUnknown: true }]
    const leaving = [{ endpoint: endpoints.c, origin: "i-3", reason: "is in Standby" }]
    const served = [endpoints.a, endpoints.b, endpoints.c]

    const { desired, held } = Guard.judge({ ...answer("b"), pending, leaving }, served, { allowEmpty: true })
    const known = Guard.judge({ ...answer("b"), leaving }, served, { allowEmpty: true })
    const nameless = pending.map((one) => ({ ...one, isUnknown: false }))
    const withoutAddress = Guard.judge({ ...answer("b"), pending: nameless }, served, { allowEmpty: true })

    assert.deepStrictEqual(held, [endpoints.a])
    assert.sameDeepMembers(
      desired.wanted.map(({ endpoint }) => endpoint),
      [endpoints.a, endpoints.b]
    )
    assert.deepStrictEqual([known.held, withoutAddress.held], [[], []])
  })

  it("keeps what was refused in the report of a held answer", () => {
    const refused = [{ origin: "web-1", reason: "0.0.0.0 is the unspecified address" }]

    const { desired } = Guard.judge({ ...answer(), refused }, [endpoints.a], { allowEmpty: false })

    assert.deepStrictEqual(desired.refused, refused)
  })
})

describe("Guard.served", () => {
  it("counts what is at full weight, the operator's holds and what is down included", () => {
    const state = observed(
      server(1, {}),
      server(2, { endpoint: endpoints.b, admin: "maint" }),
      server(3, { endpoint: endpoints.c, admin: "drain" }),
      server(4, { endpoint: endpoints.d, health: "down" })
    )

    assert.deepStrictEqual(Guard.served(state), [endpoints.a, endpoints.b, endpoints.c, endpoints.d])
  })

  it("does not count what is on its way, free slots, servers without an address and servers of others", () => {
    const state = observed(
      server(1, { isMarked: true }),
      server(2, { endpoint: endpoints.free, admin: "maint" }),
      server(3, { endpoint: endpoints.otherFree }),
      server(4, { endpoint: undefined }),
      { ...foreign, isMarked: false }
    )

    assert.deepStrictEqual(Guard.served(state), [])
  })

  it("counts each endpoint once, and what was last seen in a process that is gone", () => {
    const { processes } = observed(server(1, {}), server(2, { endpoint: endpoints.b }))
    const state: ObservedState = {
      ...observed(server(1, {})),
      unobserved: [
        { socket: "socket1", reason: "gone", lastSeen: processes[0] },
        { socket: "socket2", reason: "gone", lastSeen: undefined }
      ]
    }

    assert.deepStrictEqual(Guard.served(state), [endpoints.a, endpoints.b])
  })

  it.prop(
    "an empty answer never takes the last servers away, unless that is allowed",
    [AnyObserved, AnyWanted],
    ([generated, names]) => {
      const served = Guard.served(observedOf(generated))
      const wanted = { backend: "web", wanted: wantedOf(names), refused: [], pending: [], leaving: [] }

      const { desired, held } = Guard.judge(wanted, served, { allowEmpty: false })

      assert.strictEqual(desired.wanted.length === 0, names.length === 0 && served.length === 0)
      assert.sameMembers(
        desired.wanted.map(({ endpoint }) => endpointKey(endpoint)),
        [...wanted.wanted.map(({ endpoint }) => endpoint), ...held].map(endpointKey)
      )
    },
    checkOptions(300)
  )
})
