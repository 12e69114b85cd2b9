import { assert, describe, it } from "@effect/vitest"
import * as Plan from "../../src/domain/Plan.ts"
import { endpointKey, isPlaceholder, type ObservedState, type Server, slotNumber } from "../../src/domain/State.ts"
import { AnyObserved, AnyOptions, AnyWanted, checkOptions, observedOf, wantedOf } from "./AnyStates.ts"

type Case = [typeof AnyWanted.Type, typeof AnyObserved.Type, typeof AnyOptions.Type]

/** Looks at the plan of one generated case, with one process and server per action. */
const planned = ([names, generated, some]: Case) => {
  const observed = observedOf(generated)
  const wanted = wantedOf(names)
  const options = { ...some, drainTimeoutMillis: 30_000, proveTimeoutMillis: 60_000 }
  const desired = { backend: "web", wanted, refused: [], pending: [], leaving: [] }
  const plan = Plan.make(desired, observed, Plan.emptyMemory, options)
  return {
    desired,
    observed,
    wanted,
    options,
    plan,
    steps: plan.actions.map((action) => ({ action, before: find(observed, action) }))
  }
}

const find = ({ processes }: ObservedState, { server, socket }: Plan.Action): Server | undefined =>
  processes.find((one) => one.socket === socket)?.servers.find(({ name }) => name === server)

const keyOf = ({ endpoint }: Server) => (endpoint === undefined ? undefined : endpointKey(endpoint))

const isOnPlaceholder = ({ endpoint }: Server) => endpoint !== undefined && isPlaceholder(endpoint)

const property = (name: string, check: (facts: ReturnType<typeof planned>) => void) =>
  it.prop(name, [AnyWanted, AnyObserved, AnyOptions], (input) => check(planned(input)), checkOptions(1_000))

describe("Plan.make is safe: for every pair of states,", () => {
  property(
    "every wanted endpoint is placed or unplaced, exactly once, and on a server of its own",
    ({ plan, wanted }) => {
      const all = [...plan.placed, ...plan.unplaced].map(({ endpoint }) => endpointKey(endpoint))
      const names = plan.placed.map(({ server }) => server)

      assert.sameMembers(
        all,
        wanted.map(({ endpoint }) => endpointKey(endpoint))
      )
      assert.strictEqual(new Set(names).size, names.length)
      assert.isTrue(names.every((name) => slotNumber(name) !== undefined))
    }
  )

  property("actions are only on ep2's own servers of processes that are seen", ({ steps }) => {
    for (const { action, before } of steps) {
      assert.isDefined(before, `${action.socket} ${action.server} was not observed`)
      assert.isDefined(slotNumber(action.server))
    }
  })

  property("a server gets at most one action", ({ plan }) => {
    const ids = plan.actions.map(({ server, socket }) => `${socket} ${server}`)
    assert.strictEqual(new Set(ids).size, ids.length)
  })

  property("only a free server gets another endpoint, and only the one that it is placed for", ({ plan, steps }) => {
    for (const { action, before } of steps) {
      if (action._tag !== "Arrive") continue
      assert.isTrue(before!.admin === "maint" && !before!.isMarked && isOnPlaceholder(before!), action.server)
      assert.deepStrictEqual(plan.placed.find(({ server }) => server === action.server)?.endpoint, action.endpoint)
    }
  })

  property("a server with sessions, or of which they are not known, is never given the placeholder", ({ steps }) => {
    for (const { action, before } of steps) {
      if (action._tag !== "Free" || isOnPlaceholder(before!)) continue
      assert.strictEqual(before!.sessions, 0)
      assert.strictEqual(before!.admin, "maint")
    }
  })

  property("a placeholder is never given traffic", ({ steps }) => {
    for (const { action, before } of steps) {
      if (action._tag === "Resume") assert.isFalse(isOnPlaceholder(before!))
      if (action._tag === "Arrive" || action._tag === "Resume") assert.isFalse(isPlaceholder(action.endpoint))
    }
  })

  property("traffic goes only to wanted endpoints", ({ steps, wanted }) => {
    const keys = wanted.map(({ endpoint }) => endpointKey(endpoint))
    for (const { action, before } of steps) {
      if (action._tag === "Arrive") assert.include(keys, endpointKey(action.endpoint))
      if (action._tag === "Resume") assert.include(keys, keyOf(before!))
    }
  })

  property("a placed endpoint at full weight gets no action, held by the operator or not", ({ observed, plan }) => {
    const placed = new Map(plan.placed.map((one) => [one.server, endpointKey(one.endpoint)]))
    for (const { servers, socket } of observed.processes) {
      for (const server of servers) {
        if (server.isMarked || placed.get(server.name) !== keyOf(server) || keyOf(server) === undefined) continue
        assert.isUndefined(plan.actions.find((one) => one.socket === socket && one.server === server.name))
      }
    }
  })

  property("what the operator holds of what is placed is reported, once", ({ observed, plan }) => {
    const holds = plan.placed.filter((one) =>
      observed.processes.some(({ servers }) =>
        servers.some(
          (server) =>
            server.name === one.server &&
            keyOf(server) === endpointKey(one.endpoint) &&
            !server.isMarked &&
            server.admin !== "ready"
        )
      )
    )
    assert.sameMembers(
      plan.held.map(({ server }) => server),
      holds.map(({ server }) => server)
    )
  })

  property(
    "the only server of a wanted endpoint in a process is drained only alone, and only for another one to have its own",
    ({ observed, plan }) => {
      for (const { servers, socket } of observed.processes) {
        const serving = servers.filter(
          (one) => slotNumber(one.name) !== undefined && one.admin === "ready" && !one.isMarked && one.health !== "down"
        )
        const actions = plan.actions.filter((one) => one.socket === socket)
        for (const { endpoint, server } of plan.placed) {
          const key = endpointKey(endpoint)
          const on = serving.filter((one) => keyOf(one) === key)
          const isDrained = on.length === 1 && actions.some((one) => one._tag === "Drain" && one.server === on[0]!.name)
          if (!isDrained) continue
          const own = servers.find(({ name }) => name === server)!
          assert.isFalse(keyOf(own) === key || isOnPlaceholder(own), `${socket} ${key}`)
          assert.deepStrictEqual(
            actions.filter(({ _tag }) => _tag === "Arrive" || _tag === "Resume"),
            []
          )
          assert.isTrue(serving.length > 1 || own.admin !== "ready" || own.health === "down", `${socket} ${key}`)
        }
      }
    }
  )

  property("sessions are cut only after the drain timeout, and only where that is asked for", ({ options, steps }) => {
    for (const { action, before } of steps) {
      if (action._tag === "Stop" && before!.admin !== "maint" && !isOnPlaceholder(before!)) {
        assert.strictEqual(before!.sessions, 0, "a drain that begins now is not over")
      }
      if (action._tag === "Stop") assert.isFalse(action.shutdown && options.drainTimeoutAction === "wait")
    }
  })

  property("capacity is added before any is taken away", ({ plan }) => {
    const isTaking = plan.actions.map(({ _tag }) => _tag === "Drain" || _tag === "Stop" || _tag === "Free")
    assert.deepStrictEqual(
      isTaking,
      isTaking.toSorted((one, other) => Number(one) - Number(other))
    )
  })

  property("equal inputs give an equal plan", ({ desired, observed, options, plan }) => {
    const copy = structuredClone(observed)
    assert.deepStrictEqual(Plan.make(structuredClone(desired), copy, Plan.emptyMemory, { ...options }), plan)
    assert.deepStrictEqual(copy, observed)
  })
})
