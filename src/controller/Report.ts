/**
 * What the log says of a pass: one line per change and server, with its reason,
 * and each standing fact once, when it begins and when it ends.
 */
import { Effect, Ref } from "effect"
import * as Plan from "../domain/Plan.ts"
import { type DesiredState, type Endpoint, endpointKey, type ObservedState } from "../domain/State.ts"

/** Says each fact when it becomes true, and once more when it no longer is. Keyed, so that a fact can change its words. */
export interface Standing {
  /** `facts`: key → the line to log while it holds. `over` words what is said when the key is gone. */
  readonly say: (facts: ReadonlyMap<string, string>, over: (key: string) => string) => Effect.Effect<void>
}

/** A set of standing facts of one kind, all warnings. */
export const makeStanding: Effect.Effect<Standing> = Effect.gen(function* () {
  const known = yield* Ref.make<ReadonlyMap<string, string>>(new Map())
  const say = Effect.fnUntraced(function* (facts: ReadonlyMap<string, string>, over: (key: string) => string) {
    const before = yield* Ref.getAndSet(known, facts)
    for (const [key, line] of facts) if (before.get(key) !== line) yield* Effect.logWarning(line)
    for (const key of before.keys()) if (!facts.has(key)) yield* Effect.logInfo(over(key))
  })
  return { say }
})

/** Logs what a plan changes: one line per server, whatever the number of processes. */
export const logActions = Effect.fnUntraced(function* (plan: Plan.Plan, observed: ObservedState) {
  const origins = new Map(plan.placed.map((one) => [endpointKey(one.endpoint), one.origin]))
  const total = observed.processes.length
  const sockets = Map.groupBy(plan.actions, (action) => `${action._tag} ${action.server}`)
  for (const same of sockets.values()) {
    const action = same[0]!
    const where = same.length === total ? {} : { sockets: same.map(({ socket }) => socket).join(",") }
    const log = (message: string, at?: Endpoint) =>
      Effect.logInfo(message).pipe(
        Effect.annotateLogs({
          server: action.server,
          ...(at === undefined ? {} : { endpoint: endpointKey(at) }),
          ...where
        })
      )
    const origin = (at: Endpoint) => origins.get(endpointKey(at)) ?? "unknown"
    yield* Plan.Action.$match(action, {
      Arrive: ({ endpoint, prove }) =>
        log(`arrives${prove ? ", takes traffic once its checks pass" : ""}: ${origin(endpoint)}`, endpoint),
      Resume: ({ endpoint }) => log(`takes traffic (again): ${origin(endpoint)}`, endpoint),
      Drain: ({ endpoint }) => log("drains: no longer wanted", endpoint),
      Stop: ({ shutdown }) =>
        shutdown
          ? log("stopped: drain_timeout is over, its sessions are shut down")
          : Effect.logDebug(`${action.server} into maintenance`),
      Free: () => log("left: its slot is free")
    })
  }
})

/** Logs which endpoints on their way have passed their checks, in every process that could be observed. */
export const logProven = Effect.fnUntraced(function* (plan: Plan.Plan, before: Plan.Memory, nowMillis: number) {
  for (const { endpoint, server } of plan.placed) {
    const key = endpointKey(endpoint)
    const since = before.arrivals.get(key)
    if (since === undefined || plan.memory.arrivals.get(key) !== undefined) continue
    yield* Effect.logInfo(
      `passes its checks, ${((nowMillis - since) / 1000).toFixed(2)} s after it was first wanted`
    ).pipe(Effect.annotateLogs({ server, endpoint: key }))
  }
})

/** The facts that stand after planning, by kind. */
export const standingFacts = (
  answer: DesiredState,
  held: ReadonlyArray<Endpoint>,
  plan: Plan.Plan,
  observed: ObservedState
) => {
  const facts = new Map<string, string>()
  for (const { origin, reason } of answer.refused) facts.set(`refused ${origin}`, `not served: ${origin}: ${reason}`)
  if (plan.unplaced.length > 0) {
    const names = plan.unplaced.map((one) => endpointKey(one.endpoint))
    facts.set(
      "unplaced",
      `no free slot for ${names.length} of ${plan.placed.length + names.length} endpoints, the others are served: ` +
        `${someOf(names)}; raise node_slots and restart ep2`
    )
  }
  for (const one of plan.held) {
    facts.set(
      `held ${one.server}`,
      `${one.server} ${endpointKey(one.endpoint)} is in ${one.admin} by the operator's hand and stays so ` +
        `until "set server ${plan.backend}/${one.server} state ready"`
    )
  }
  if (held.length > 0) {
    facts.set(
      "guard",
      `the source answers that nothing is wanted; the ${held.length} endpoints that are served stay: ` +
        `${someOf(held.map(endpointKey))}; if that is right, set allow_empty = True and restart ep2`
    )
  }
  for (const { reason, socket } of observed.unobserved)
    facts.set(`socket ${socket}`, `HAProxy cannot be observed: ${reason}`)
  return facts
}

/** What is said when a fact of `standingFacts` is over. */
export const over = (key: string): string => {
  const [kind, ...rest] = key.split(" ")
  const what = rest.join(" ")
  switch (kind) {
    case "refused":
      return `no longer refused: ${what}`
    case "unplaced":
      return "every wanted endpoint has a slot again"
    case "held":
      return `${what} is no longer held by the operator`
    case "guard":
      return "the source names endpoints again; nothing is held any more"
    case "socket":
      return `HAProxy can be observed again: ${what}`
    default:
      return `over: ${key}`
  }
}

/** The first few of many names, so that a line stays a line. */
export const someOf = (names: ReadonlyArray<string>): string =>
  names.length <= 5 ? names.join(", ") : `${names.slice(0, 5).join(", ")} and ${names.length - 5} more`
