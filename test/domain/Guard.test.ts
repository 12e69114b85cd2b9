import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import * as Guard from "../../src/domain/Guard.ts"
import {
  type DesiredState,
  type Endpoint,
  endpointKey,
  type ObservedState,
  type Server
} from "../../src/domain/State.ts"
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

const answer = (...names: ReadonlyArray<"a" | "b">): DesiredState => ({
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

const options: Guard.Options = {
  allowEmpty: false,
  minServers: 1,
  maxRemovalPercent: 50,
  confirmations: 3,
  windowMillis: 60_000,
  confirmEveryMillis: 5000
}

/** Ten endpoints of one network, so that there is something to take a part of. */
const ten = Array.from({ length: 10 }, (_, index): Endpoint => ({ address: `10.1.0.${index + 1}`, port: 80 }))

const named = (endpoints: ReadonlyArray<Endpoint>): DesiredState => ({
  ...answer(),
  wanted: endpoints.map((endpoint) => ({ endpoint, origin: endpointKey(endpoint) }))
})

/** A source and a HAProxy that does at once what it is told: what is served is what was judged before. */
const makeStory = (some: Partial<Guard.Options> = {}, served: ReadonlyArray<Endpoint> = ten) => {
  let memory = Guard.emptyMemory
  let nowMillis = 0
  let number = 0
  let now = served
  const judge = (answer: DesiredState, more: Partial<Guard.Input> = {}) => {
    const input = { answer, number, served: now, overdue: new Set<string>(), isReleased: false, nowMillis, ...more }
    const verdict = Guard.judge(input, memory, { ...options, ...some })
    memory = verdict.memory
    now = verdict.desired.wanted.map(({ endpoint }) => endpoint)
    return verdict
  }
  return {
    /** A new answer, so long after the one before. */
    answers: (endpoints: ReadonlyArray<Endpoint>, afterMillis: number, more: Partial<DesiredState> = {}) => {
      nowMillis += afterMillis
      number++
      return judge({ ...named(endpoints), ...more })
    },
    /** The same answer once more. */
    looksAgain: (endpoints: ReadonlyArray<Endpoint>, afterMillis: number, more: Partial<Guard.Input> = {}) => {
      nowMillis += afterMillis
      return judge(named(endpoints), more)
    },
    count: () => now.length
  }
}

const once = (answer: DesiredState, served: ReadonlyArray<Endpoint>, some: Partial<Guard.Options> = {}) =>
  Guard.judge({ answer, number: 1, served, overdue: new Set(), isReleased: false, nowMillis: 0 }, Guard.emptyMemory, {
    ...options,
    ...some
  })

describe("Guard.judge, row by row", () => {
  it("lets an answer stand that takes nothing away", () => {
    assert.deepInclude(once(answer("a", "b"), [endpoints.a]), { desired: answer("a", "b"), held: undefined })
    assert.deepInclude(once(answer(), []), { desired: answer(), held: undefined })
  })

  it("holds what may be an instance whose address is not known yet, and lets go of what the source says is leaving", () => {
    const pending = [{ origin: "i-1", reason: "is not known yet", isUnknown: true }]
    const leaving = [{ endpoint: endpoints.c, origin: "i-3", reason: "is in Standby" }]
    const served = [endpoints.a, endpoints.b, endpoints.c]

    const lacking = once({ ...answer("b"), pending, leaving }, served, { maxRemovalPercent: 100 })
    const known = once({ ...answer("b"), leaving }, served, { maxRemovalPercent: 100 })
    const nameless = pending.map((one) => ({ ...one, isUnknown: false }))
    const withoutAddress = once({ ...answer("b"), pending: nameless }, served, { maxRemovalPercent: 100 })

    assert.deepStrictEqual(lacking.held, {
      reason: "unknown",
      endpoints: [endpoints.a],
      ...{ wanted: 1, overdue: 0, most: 3, limit: "maxRemovalPercent" as const }
    })
    assert.deepStrictEqual([known.held, withoutAddress.held], [undefined, undefined])
  })

  it("holds all that is served against an empty answer, what it names as leaving too, however often it comes", () => {
    const story = makeStory()
    const leaving = [{ endpoint: ten[0]!, origin: "i-1", reason: "is Unhealthy" }]

    for (let round = 0; round < 10; round++) {
      const { desired, held } = story.answers([], 5000, { leaving })

      assert.strictEqual(desired.wanted.length, 10)
      assert.deepStrictEqual(held, {
        reason: "empty",
        endpoints: ten,
        ...{ wanted: 0, overdue: 0, most: 10, limit: "minServers" as const }
      })
    }
  })

  it("takes an empty answer at its word where that is allowed, once it is confirmed", () => {
    const story = makeStory({ allowEmpty: true })

    const counts = [0, 5000, 5000].map((after) => story.answers([], after).desired.wanted.length)

    assert.deepStrictEqual(counts, [10, 10, 0])
  })

  it("asks nothing of an answer that leaves half", () => {
    assert.isUndefined(makeStory().answers(ten.slice(0, 5), 0).held)
  })

  it("holds what an answer leaves out that leaves less than half, until three answers in a row have", () => {
    const story = makeStory()

    const held = [0, 5000, 5000].map((after) => story.answers(ten.slice(0, 4), after).held)

    const hold = {
      reason: "removal" as const,
      endpoints: ten.slice(4),
      ...{ wanted: 4, overdue: 0, most: 10, limit: "maxRemovalPercent" as const }
    }
    assert.deepStrictEqual(held, [hold, hold, undefined])
  })

  it("asks for confirmation of an answer that leaves fewer than min_servers, be it one less", () => {
    const story = makeStory({ minServers: 10 })

    const counts = [0, 5000, 5000].map((after) => story.answers(ten.slice(0, 9), after).desired.wanted.length)

    assert.deepStrictEqual(counts, [10, 10, 9])
  })

  it("counts one answer once, however often it is looked at, and two that come too close together as one", () => {
    const story = makeStory()
    story.answers(ten.slice(0, 1), 0)
    for (let look = 0; look < 20; look++) story.looksAgain(ten.slice(0, 1), 5000)
    for (let burst = 0; burst < 20; burst++) story.answers(ten.slice(0, 1), 10)

    // One at first, and one for the whole burst.
    assert.strictEqual(story.count(), 10)
    story.answers(ten.slice(0, 1), 5000)
    assert.strictEqual(story.count(), 1)
  })

  it("begins to count again for what an answer names in between", () => {
    const story = makeStory()
    story.answers(ten.slice(0, 1), 0)
    story.answers(ten.slice(0, 1), 5000)
    story.answers(ten.slice(0, 3), 5000)
    story.answers(ten.slice(0, 1), 5000)

    // The seven others were left out four times by then.
    assert.strictEqual(story.count(), 3)
  })

  it("lets go endpoint by endpoint, as each is confirmed", () => {
    const story = makeStory()
    story.answers(ten.slice(0, 4), 0)
    story.answers(ten.slice(0, 4), 5000)
    const { held } = story.answers(ten.slice(0, 3), 5000)

    assert.deepStrictEqual(held?.endpoints, [ten[3]!])
  })

  it("adds what a held answer adds", () => {
    const { desired, held } = once({ ...answer("a") }, ten)

    assert.strictEqual(held?.reason, "removal")
    assert.deepStrictEqual(desired.wanted[0]?.endpoint, endpoints.a)
    assert.strictEqual(desired.wanted.length, 11)
  })

  it("sees servers that go one by one as what they are together, as after a restart of Consul", () => {
    const story = makeStory()

    // All checks turn critical within a second, and pass again after ten.
    const counts = ten.map((_, index) => {
      story.answers(ten.slice(0, 9 - index), 100)
      return story.count()
    })
    story.answers(ten, 10_000)

    assert.deepStrictEqual(counts, [9, 8, 7, 6, 5, 5, 5, 5, 5, 5])
    assert.strictEqual(story.count(), 10)
  })

  it("forgets what was served before the window", () => {
    const story = makeStory()

    for (const left of [8, 6, 4, 2]) story.answers(ten.slice(0, left), 61_000)

    assert.strictEqual(story.count(), 2)
  })

  it("lets one server be replaced by another one, and all of them by as many others", () => {
    assert.isUndefined(once(answer("b"), [endpoints.a]).held)
    assert.isUndefined(once(named(ten), [endpoints.a, endpoints.b, endpoints.c]).held)
  })

  it.each([0, 30, 49, 50])("lets all be replaced through all the passes that it takes, at %i percent", (percent) => {
    const story = makeStory({ maxRemovalPercent: percent }, ten.slice(0, 4))

    const first = story.answers(ten.slice(4, 8), 1000)
    // The new ones have come up, and the old ones are let go of one by one.
    const rest = [8, 7, 6, 5, 4].map((count) =>
      story.looksAgain(ten.slice(4, 8), 1000, { served: ten.slice(8 - count, 8) })
    )
    const afterwards = story.answers(ten.slice(4, 7), 5000)

    assert.deepStrictEqual(
      [first, ...rest].map(({ held }) => held),
      Array(6).fill(undefined)
    )
    assert.strictEqual(afterwards.held === undefined, percent >= 30)
  })

  it("holds what is no longer named, though it is known by what it was called", () => {
    const isMissing = true as const
    const leaving = ten.slice(1).map((endpoint) => ({ endpoint, origin: "i", reason: "is gone", isMissing }))

    const { held } = once({ ...named(ten.slice(0, 1)), leaving }, ten)

    assert.deepStrictEqual(held?.endpoints, ten.slice(1))
  })

  it("does not take for a replacement what did not come up in its time", () => {
    const input = { answer: answer("b"), number: 1, served: [endpoints.a], isReleased: false, nowMillis: 0 }
    const overdue = new Set([endpointKey(endpoints.b)])

    const { held } = Guard.judge({ ...input, overdue }, Guard.emptyMemory, options)

    assert.deepStrictEqual(held, {
      reason: "removal",
      endpoints: [endpoints.a],
      ...{ wanted: 1, overdue: 1, most: 1, limit: "minServers" as const }
    })
  })

  it("holds at a cold boot what the file on disk has, against an empty answer", () => {
    assert.deepStrictEqual(once(answer(), ten).desired.wanted.length, 10)
  })

  it("lets go of what the source names as leaving, though it holds the rest", () => {
    const leaving = ten.slice(5).map((endpoint) => ({ endpoint, origin: "i", reason: "is in Terminating" }))

    const { held } = once({ ...named(ten.slice(0, 1)), leaving }, ten)

    assert.deepStrictEqual(held?.endpoints, ten.slice(1, 5))
  })

  it("lets go of what is held when the operator releases it, and of nothing that is left out later", () => {
    const story = makeStory()
    story.answers([], 0)
    story.looksAgain([], 0, { isReleased: true })
    assert.strictEqual(story.count(), 0)

    const other = makeStory()
    other.answers(ten.slice(0, 4), 0)
    other.looksAgain(ten.slice(0, 4), 0, { isReleased: true })
    other.answers(ten.slice(0, 1), 100)
    assert.strictEqual(other.count(), 4)
  })

  it("keeps what was refused in the report of a held answer", () => {
    const refused = [{ origin: "web-1", reason: "0.0.0.0 is the unspecified address" }]

    assert.deepStrictEqual(once({ ...answer(), refused }, [endpoints.a]).desired.refused, refused)
  })
})

/** Answers about ten endpoints, with the time from one to the next. */
const AnyAnswers = Schema.Array(
  Schema.Struct({
    names: Schema.Array(Schema.Literals([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])),
    afterMillis: Schema.Literals([10, 1000, 5000, 30_000])
  })
).check(Schema.isMaxLength(12))

describe("Guard.judge, of any history", () => {
  it.prop(
    "never takes away more than its part of what was served within the window, unless each was left out often enough",
    [AnyAnswers],
    ([answers]) => {
      const story = makeStory()
      const leftOut = new Map<string, number>()
      let most: Array<{ at: number; count: number }> = [{ at: 0, count: 10 }]
      let now = 0
      let before = ten
      for (const { afterMillis, names } of answers) {
        now += afterMillis
        const wanted = ten.filter((_, index) => names.includes(index as 0))
        const { desired } = story.answers(wanted, afterMillis)
        const served = desired.wanted.map(({ endpoint }) => endpoint)
        for (const endpoint of ten) {
          const key = endpointKey(endpoint)
          leftOut.set(key, wanted.includes(endpoint) ? 0 : (leftOut.get(key) ?? 0) + 1)
        }
        const lost = before.filter((endpoint) => !served.includes(endpoint))

        const unconfirmed = lost.filter((endpoint) => (leftOut.get(endpointKey(endpoint)) ?? 0) < options.confirmations)
        most = most.filter(({ at }) => now - at <= options.windowMillis)
        const limit = Math.max(...most.map(({ count }) => count), before.length) / 2
        if (unconfirmed.length > 0) assert.isAtLeast(served.length, limit)
        if (before.length > 0) assert.isAbove(served.length, 0)
        assert.includeMembers(served, wanted)
        most.push({ at: now, count: served.length })
        before = served
      }
    },
    checkOptions(500)
  )

  it.prop(
    "comes to what the source names, once it names the same for long enough, unless that is nothing",
    [AnyAnswers],
    ([answers]) => {
      const story = makeStory()
      for (const { afterMillis, names } of answers) {
        story.answers(
          ten.filter((_, index) => names.includes(index as 0)),
          afterMillis
        )
      }
      for (let round = 0; round < 3; round++) story.answers(ten.slice(0, 1), 5000)

      assert.strictEqual(story.count(), 1)
    },
    checkOptions(300)
  )
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

      const { desired, held } = once(wanted, served)

      assert.strictEqual(desired.wanted.length === 0, names.length === 0 && served.length === 0)
      assert.sameMembers(
        desired.wanted.map(({ endpoint }) => endpointKey(endpoint)),
        [...wanted.wanted.map(({ endpoint }) => endpoint), ...(held?.endpoints ?? [])].map(endpointKey)
      )
    },
    checkOptions(300)
  )
})
