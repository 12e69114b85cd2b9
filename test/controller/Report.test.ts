import { assert, describe, it } from "@effect/vitest"
import { Effect, Logger } from "effect"
import * as Report from "../../src/controller/Report.ts"
import * as Plan from "../../src/domain/Plan.ts"
import type { DesiredState, ObservedState, Server } from "../../src/domain/State.ts"
import { readyServer } from "../domain/AnyStates.ts"

/** Runs something and gives the lines that it logs: level and message. */
const logged = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.gen(function* () {
    const lines: Array<string> = []
    const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
      lines.push(`${logLevel} ${Array.isArray(message) ? message.join(" ") : String(message)}`)
    })
    yield* effect.pipe(Effect.provide(Logger.layer([logger])))
    return lines
  })

describe("a standing fact", () => {
  it.effect("is said when it begins and when it ends, and not in between", () =>
    Effect.gen(function* () {
      const lines = yield* logged(
        Effect.gen(function* () {
          const standing = yield* Report.makeStanding
          const say = (...facts: ReadonlyArray<string>) =>
            standing.say(new Map(facts.map((fact) => [fact, `${fact} holds`])), (key) => `${key} is over`)
          yield* say("a")
          yield* say("a")
          yield* say("a", "b")
          yield* say("b")
          yield* say()
        })
      )

      assert.deepStrictEqual(lines, ["Warn a holds", "Warn b holds", "Info a is over", "Info b is over"])
    })
  )

  it.effect("is said again when its words change", () =>
    Effect.gen(function* () {
      const lines = yield* logged(
        Effect.gen(function* () {
          const standing = yield* Report.makeStanding
          yield* standing.say(new Map([["slots", "1 has none"]]), () => "over")
          yield* standing.say(new Map([["slots", "2 have none"]]), () => "over")
        })
      )

      assert.deepStrictEqual(lines, ["Warn 1 has none", "Warn 2 have none"])
    })
  )
})

const endpoint = (number: number) => ({ address: `10.0.0.${number}`, port: 80 })

const wanted = (number: number) => ({ endpoint: endpoint(number), origin: `i-${number} in web (eu-central-1a)` })

const answer = (some: Partial<DesiredState>): DesiredState => ({
  backend: "web",
  wanted: [],
  refused: [],
  pending: [],
  leaving: [],
  ...some
})

const server = (number: number, some: Partial<Server> = {}) =>
  readyServer(number, { endpoint: endpoint(number), sessions: 0, ...some })

const observed = (...servers: ReadonlyArray<Server>): ObservedState => ({
  backend: "web",
  processes: [{ socket: "/s", pid: 1, servers }],
  unobserved: []
})

const options = { prove: false, drainTimeoutMillis: 0, proveTimeoutMillis: 0, nowMillis: 0 } as const

/** What a pass says of what it does, given what the passes before it knew. */
const said = (desired: DesiredState, state: ObservedState, before: Report.Origins = new Map()) => {
  const plan = Plan.make(desired, state, Plan.emptyMemory, { ...options, drainTimeoutAction: "shutdown" })
  const origins = Report.nextOrigins(before, desired, state)
  return logged(Report.logActions(plan, state, { origins, leaving: desired.leaving }))
}

describe("what is said of a change", () => {
  it.effect("names the source's own name with every step of a server, from its arrival to its end", () =>
    Effect.gen(function* () {
      const known = new Map([["10.0.0.1:80", "i-1 in web (eu-central-1a)"]])
      const free = server(2, { endpoint: { address: "127.0.0.1", port: 1 }, admin: "maint" })
      const marked = { isMarked: true } as const

      const arrives = yield* said(answer({ wanted: [wanted(1), wanted(2)] }), observed(server(1), free))
      const resumes = yield* said(answer({ wanted: [wanted(1)] }), observed(server(1, marked)))
      const drains = yield* said(answer({}), observed(server(1)), known)
      const stops = yield* said(answer({}), observed(server(1, { ...marked, sessions: 3 })), known)
      const leaves = yield* said(answer({}), observed(server(1, { ...marked, admin: "maint" })), known)

      assert.deepStrictEqual(
        [arrives, resumes, drains, stops, leaves],
        [
          ["Info arrives: i-2 in web (eu-central-1a)"],
          ["Info takes traffic (again): i-1 in web (eu-central-1a)"],
          ["Info drains: no longer wanted: i-1 in web (eu-central-1a)"],
          ["Info stopped: drain_timeout is over, its sessions are shut down: i-1 in web (eu-central-1a)"],
          ["Info left, its slot is free: i-1 in web (eu-central-1a)"]
        ]
      )
    })
  )

  it.effect("says why a server drains where the source says why", () =>
    Effect.gen(function* () {
      const leaving = [{ ...wanted(1), reason: "is in Standby" }]

      const lines = yield* said(answer({ leaving }), observed(server(1)))

      assert.deepStrictEqual(lines, ["Info drains: i-1 in web (eu-central-1a) is in Standby"])
    })
  )

  it.effect("does without a name that nobody has told", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* said(answer({}), observed(server(1))), ["Info drains: no longer wanted"])
    })
  )

  it("forgets the names of what neither the source nor HAProxy has any more", () => {
    const first = Report.nextOrigins(new Map(), answer({ wanted: [wanted(1), wanted(2)] }), observed(server(1)))
    const second = Report.nextOrigins(first, answer({ wanted: [wanted(2)] }), observed(server(1)))
    const third = Report.nextOrigins(second, answer({ wanted: [wanted(2)] }), observed())

    assert.deepStrictEqual([...first.keys()].sort(), ["10.0.0.1:80", "10.0.0.2:80"])
    assert.deepStrictEqual([...second.keys()].sort(), ["10.0.0.1:80", "10.0.0.2:80"])
    assert.deepStrictEqual([...third.keys()], ["10.0.0.2:80"])
  })
})

describe("what is not there yet", () => {
  it.effect("is said once, and once more when it is over, and is no warning", () =>
    Effect.gen(function* () {
      const pending = [{ origin: "i-1 in web (eu-central-1a)", reason: "is not known to EC2 yet", isUnknown: true }]
      const lines = yield* logged(
        Effect.gen(function* () {
          const notices = yield* Report.makeNotices
          for (const one of [pending, pending, []]) {
            yield* notices.say(Report.pendingFacts(answer({ pending: one })), (key) => `over: ${key}`)
          }
        })
      )

      assert.deepStrictEqual(lines, [
        "Info not yet: i-1 in web (eu-central-1a) is not known to EC2 yet; asked again soon",
        "Info over: i-1 in web (eu-central-1a)"
      ])
    })
  )
})
