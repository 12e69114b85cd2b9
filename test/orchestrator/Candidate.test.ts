import { assert, describe, it } from "@effect/vitest"
import { Arbitrary, Effect, Result, Schema } from "effect"
import { endpointKey } from "../../src/domain/State.ts"
import { type Candidate, fingerprint, vet } from "../../src/orchestrator/Candidate.ts"
import { type HostNames, Unresolved } from "../../src/orchestrator/HostNames.ts"

const known: Readonly<Record<string, ReadonlyArray<string>>> = {
  web: ["10.0.0.9", "10.0.0.10"],
  blocked: ["0.0.0.0"],
  mixed: ["0.0.0.0", "10.0.0.11"]
}

const hostNames: HostNames = {
  resolve: (name) => {
    if (name === "lost") return Effect.fail(new Unresolved({ name, detail: "EAI_AGAIN" }))
    const addresses = known[name]
    return Effect.succeed(addresses === undefined ? Result.fail("is not known to DNS") : Result.succeed(addresses))
  }
}

const judge = (...candidates: ReadonlyArray<Candidate>) =>
  vet({ candidates, refused: [] }, { backend: "app", target: "a source", hostNames })

const candidate = (address: string, port = 80, origin = "one"): Candidate => ({ origin, address, port })

describe("Candidate.vet", () => {
  it.effect("wants an address and a port, in canonical form", () =>
    Effect.gen(function* () {
      const desired = yield* judge(candidate("2001:DB8:0::5"), candidate("10.0.0.1", 81, "two"))

      assert.deepEqual(desired, {
        backend: "app",
        wanted: [
          { endpoint: { address: "2001:db8::5", port: 80 }, origin: "one" },
          { endpoint: { address: "10.0.0.1", port: 81 }, origin: "two" }
        ],
        refused: [],
        pending: [],
        leaving: []
      })
    })
  )

  it.effect.each<readonly [address: string, port: number, reason: string]>([
    ["10.0.0.1", 0, "port 0 is not a port from 1 to 65535"],
    ["10.0.0.1", 70000, "port 70000 is not a port from 1 to 65535"],
    ["10.0.0.1", 80.5, "port 80.5 is not a port from 1 to 65535"],
    ["", 80, "has no address"],
    ["10.0.0.256", 80, 'address "10.0.0.256" is not an IPv4 or IPv6 address'],
    ["127.1", 80, 'address "127.1" is not an IPv4 or IPv6 address'],
    ["/run/web.sock", 80, 'address "/run/web.sock" is not an IPv4 or IPv6 address'],
    ["10.0.0.1\n; shutdown", 80, 'address "10.0.0.1 ; shutdown" is not an IPv4 or IPv6 address'],
    ["nobody", 80, 'host name "nobody" is not known to DNS'],
    [
      "blocked",
      80,
      'host name "blocked" is 0.0.0.0, which is the unspecified address, which is the HAProxy host itself'
    ]
  ])("refuses %j with port %j", ([address, port, reason]) =>
    Effect.gen(function* () {
      const desired = yield* judge(candidate(address, port))

      assert.deepEqual(desired, {
        backend: "app",
        wanted: [],
        refused: [{ origin: "one", reason }],
        pending: [],
        leaving: []
      })
    })
  )

  it.effect("refuses what cannot be served even if it is an address", () =>
    Effect.gen(function* () {
      const desired = yield* judge(candidate("0.0.0.0"), candidate("224.0.0.1"), candidate("fe80::1"))

      assert.deepEqual(desired.wanted, [])
      assert.lengthOf(desired.refused, 3)
    })
  )

  it.effect("wants a host name at its first address that can be served", () =>
    Effect.gen(function* () {
      const desired = yield* judge(candidate("web", 80, "a"), candidate("mixed", 80, "b"))

      assert.deepEqual(
        desired.wanted.map(({ endpoint }) => endpointKey(endpoint)),
        ["10.0.0.9:80", "10.0.0.11:80"]
      )
    })
  )

  it.effect("fails as a whole when a host name cannot be looked up, since its endpoint may well be wanted", () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(judge(candidate("10.0.0.1"), candidate("lost")))

      assert.equal(error.reason, "Unavailable")
      assert.match(error.message, /^a source: the host name lost cannot be looked up \(EAI_AGAIN\): /)
    })
  )

  it.effect("wants an endpoint once, under the first origin by alphabet", () =>
    Effect.gen(function* () {
      const desired = yield* judge(candidate("::ffff:10.0.0.1", 80, "b"), candidate("10.0.0.1", 80, "a"))

      assert.deepEqual(desired.wanted, [{ endpoint: { address: "10.0.0.1", port: 80 }, origin: "a" }])
    })
  )

  it.effect("makes origins fit for one line of a log", () =>
    Effect.gen(function* () {
      const desired = yield* judge(candidate("10.0.0.1", 80, `web\r\n\u001b[31mfake\u202e line ${"x".repeat(5000)}`))

      const origin = desired.wanted[0]!.origin
      assert.isTrue(origin.startsWith("web [31mfake line xxx"))
      assert.isAtMost(origin.length, 201)
      assert.notMatch(origin, /\p{C}/u)
    })
  )

  const Addresses = Schema.Literals(["10.0.0.1", "10.0.0.2", "::1", "web", "blocked", "nobody", "rubbish!"])
  const Candidates = Arbitrary.schema(
    Schema.Array(
      Schema.Struct({
        origin: Schema.Literals(["a", "b", "c"]),
        address: Addresses,
        port: Schema.Literals([0, 80, 81])
      })
    )
  )

  it.effect.prop(
    "names every endpoint once, whatever was found, and says the same whatever the order",
    [Candidates],
    ([candidates]) =>
      Effect.gen(function* () {
        const desired = yield* judge(...candidates)
        const turned = yield* judge(...candidates.toReversed())

        const keys = desired.wanted.map(({ endpoint }) => endpointKey(endpoint))
        assert.equal(new Set(keys).size, keys.length)
        assert.sameDeepMembers([...turned.wanted], [...desired.wanted])
        assert.sameDeepMembers([...turned.refused], [...desired.refused])
        assert.equal(
          fingerprint({ candidates: candidates.toReversed(), refused: [] }),
          fingerprint({ candidates, refused: [] })
        )
      })
  )
})

describe("Candidate.fingerprint", () => {
  it("differs when an address, a port, an origin or a refusal does", () => {
    const base = { candidates: [candidate("10.0.0.1")], refused: [] }
    const others = [
      { candidates: [candidate("10.0.0.2")], refused: [] },
      { candidates: [candidate("10.0.0.1", 81)], refused: [] },
      { candidates: [candidate("10.0.0.1", 80, "two")], refused: [] },
      { candidates: [candidate("10.0.0.1")], refused: [{ origin: "x", reason: "y" }] },
      { candidates: [], refused: [] }
    ]

    const prints = [base, ...others].map(fingerprint)

    assert.equal(new Set(prints).size, prints.length)
  })
})
