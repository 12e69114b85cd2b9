import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as Status from "../../src/controller/Status.ts"
import type { DesiredState, Endpoint, ObservedState, Server } from "../../src/domain/State.ts"
import { readyServer } from "../domain/AnyStates.ts"

const at = (port: number): Endpoint => ({ address: "10.0.0.1", port })

const desired = (backend: string, ...ports: ReadonlyArray<number>): DesiredState => ({
  backend,
  wanted: ports.map((port) => ({ endpoint: at(port), origin: `web-${port}` })),
  refused: [],
  pending: [],
  leaving: []
})

/** One process per list of servers. */
const observed = (backend: string, ...processes: ReadonlyArray<ReadonlyArray<Server>>): ObservedState => ({
  backend,
  processes: processes.map((servers, index) => ({ socket: `/s${index}`, pid: index + 1, servers })),
  unobserved: []
})

const serving = (port: number, some: Partial<Server> = {}) =>
  readyServer(port, { endpoint: at(port), health: "up", ...some })

/** What the line is now. */
const lineOf = (status: Status.Status) =>
  Effect.map(Stream.runHead(status.changes), (line) => (line._tag === "Some" ? line.value : undefined))

/** What the line is after these calls. */
const lineAfter = Effect.fnUntraced(function* (calls: (status: Status.Status) => ReadonlyArray<Effect.Effect<void>>) {
  const status = yield* Status.make
  yield* Effect.all(calls(status), { discard: true })
  return yield* lineOf(status)
})

const waiting = "waiting for the source of web: Consul does not answer"
const webServes = "serves 2 of 2 endpoints (web 2)"

describe("the status", () => {
  it.effect.each<{ what: string; calls: (status: Status.Status) => ReadonlyArray<Effect.Effect<void>>; line: string }>([
    { what: "nothing yet", calls: () => [], line: "starting" },
    {
      what: "the lock of another ep2",
      calls: ({ standBy }) => [standBy("another ep2 (pid 7) looks after /etc/haproxy/haproxy.cfg")],
      line: "standing by: another ep2 (pid 7) looks after /etc/haproxy/haproxy.cfg"
    },
    {
      what: "a lock that is ours",
      calls: ({ standBy }) => [standBy("another ep2"), standBy(undefined)],
      line: "starting"
    },
    {
      what: "a source without a first answer",
      calls: ({ source }) => [source("web", "Consul does not answer")],
      line: waiting
    },
    {
      what: "the first answer",
      calls: ({ source }) => [source("web", "Consul does not answer"), source("web", undefined)],
      line: "starting"
    },
    {
      what: "what is served",
      calls: ({ pass }) => [pass(desired("web", 1, 2), observed("web", [serving(1), serving(2)]))],
      line: webServes
    },
    {
      what: "several backends, each with what it lacks",
      calls: ({ pass }) => [
        pass(desired("web", 1, 2), observed("web", [serving(1), serving(2)])),
        pass(desired("api", 3, 4), observed("api", [serving(3)]))
      ],
      line: "serves 3 of 4 endpoints (web 2, api 1 of 2)"
    },
    {
      what: "one backend that waits while another serves",
      calls: ({ pass, source }) => [
        source("web", "Consul does not answer"),
        pass(desired("api", 3), observed("api", [serving(3)]))
      ],
      line: `serves 1 of 1 endpoints (api 1); ${waiting}`
    },
    {
      what: "a HAProxy that is gone",
      calls: ({ pass }) => [pass(desired("web", 1), observed("web"))],
      line: "serves 0 of 1 endpoints (web 0 of 1); HAProxy does not answer (web)"
    },
    {
      what: "a pause",
      calls: ({ pass, pause }) => [pass(desired("web", 1, 2), observed("web", [serving(1), serving(2)])), pause(true)],
      line: `${webServes}; paused until \`ep2 resume\``
    },
    {
      what: "a backend that is no longer followed",
      calls: ({ follow, pass }) => [
        pass(desired("web", 1, 2), observed("web", [serving(1), serving(2)])),
        pass(desired("api", 3), observed("api", [serving(3)])),
        follow(["new", "web"])
      ],
      line: webServes
    },
    {
      what: "a source that answers again",
      calls: ({ pass, source }) => [
        pass(desired("web", 1, 2), observed("web", [serving(1), serving(2)])),
        source("web", "reset"),
        source("web", undefined)
      ],
      line: webServes
    }
  ])("is, with $what: $line", ({ calls, line }) =>
    Effect.gen(function* () {
      const said = yield* lineAfter(calls)

      assert.strictEqual(said, line)
    })
  )

  it.effect.each<{ what: string; servers: ReadonlyArray<ReadonlyArray<Server>> }>([
    { what: "is marked as on its way", servers: [[serving(1, { isMarked: true })]] },
    { what: "is down", servers: [[serving(1, { health: "down" })]] },
    { what: "is held by the operator", servers: [[serving(1, { admin: "drain" })]] },
    { what: "is served by one process of two", servers: [[serving(1)], []] }
  ])("does not count an endpoint that $what", ({ servers }) =>
    Effect.gen(function* () {
      const line = yield* lineAfter(({ pass }) => [pass(desired("web", 1), observed("web", ...servers))])

      assert.strictEqual(line, "serves 0 of 1 endpoints (web 0 of 1)")
    })
  )

  it.effect("says since when a source has not answered, and not with each try anew", () =>
    Effect.gen(function* () {
      const status = yield* Status.make
      yield* status.pass(desired("web", 1, 2), observed("web", [serving(1), serving(2)]))
      const lines = yield* status.changes.pipe(
        Stream.take(2),
        Stream.runCollect,
        Effect.forkChild({ startImmediately: true })
      )
      yield* TestClock.setTime(Date.UTC(2026, 10, 24, 5, 1, 12))

      yield* status.source("web", "no answer in 10 s")
      yield* TestClock.adjust("1 minute")
      yield* status.source("web", "connection refused")

      const since = `${webServes}; the source of web has not answered since 2026-11-24T05:01:12.000Z`
      assert.deepStrictEqual([...(yield* Fiber.join(lines))], [webServes, since])
      assert.strictEqual(yield* lineOf(status), since)
    })
  )
})
