/**
 * What the log says of a pass: one line per change and server, with its reason,
 * and each standing fact once, when it begins and when it ends.
 */
import { Effect, Ref } from "effect"
import type * as Guard from "../domain/Guard.ts"
import * as Plan from "../domain/Plan.ts"
import { type DesiredState, endpointKey, isPlaceholder, type ObservedState } from "../domain/State.ts"

/** Says each fact when it becomes true, and once more when it no longer is. Keyed, so that a fact can change its words. */
export interface Standing {
  /** `facts`: key → the line to log while it holds. `over` words what is said when the key is gone. */
  readonly say: (facts: ReadonlyMap<string, string>, over: (key: string) => string) => Effect.Effect<void>
}

const makeFacts = (log: (line: string) => Effect.Effect<void>): Effect.Effect<Standing> =>
  Effect.gen(function* () {
    const known = yield* Ref.make<ReadonlyMap<string, string>>(new Map())
    const say = Effect.fnUntraced(function* (facts: ReadonlyMap<string, string>, over: (key: string) => string) {
      const before = yield* Ref.getAndSet(known, facts)
      for (const [key, line] of facts) if (before.get(key) !== line) yield* log(line)
      for (const key of before.keys()) if (!facts.has(key)) yield* Effect.logInfo(over(key))
    })
    return { say }
  })

/** A set of standing facts of one kind, all warnings. */
export const makeStanding: Effect.Effect<Standing> = makeFacts(Effect.logWarning)

/** The same for facts that are no cause for concern. */
export const makeNotices: Effect.Effect<Standing> = makeFacts(Effect.logInfo)

/** Says which processes cannot be observed: once, however many backends find it so. */
export interface Processes {
  readonly say: (observed: ObservedState) => Effect.Effect<void>
}

/** What the backends have found so far, shared by their passes. */
export const makeProcesses: Effect.Effect<Processes> = Effect.sync(() => {
  /** Backends that cannot observe a socket, by socket and reason. */
  const silent = new Map<string, Map<string, Set<string>>>()
  const say = Effect.fnUntraced(function* ({ backend, processes, unobserved }: ObservedState) {
    const now = new Map<string, string | undefined>([
      ...processes.map(({ socket }) => [socket, undefined] as const),
      ...unobserved.map(({ reason, socket }) => [socket, reason] as const)
    ])
    for (const [socket, reason] of now) {
      const reasons = silent.get(socket) ?? new Map<string, Set<string>>()
      silent.set(socket, reasons)
      const isSilentBefore = reasons.size > 0
      for (const [one, backends] of reasons) {
        if (one !== reason && backends.delete(backend) && backends.size === 0) reasons.delete(one)
      }
      if (reason !== undefined) {
        const backends = reasons.get(reason)
        if (backends === undefined) yield* Effect.logWarning(`HAProxy cannot be observed: ${reason}`)
        reasons.set(reason, (backends ?? new Set()).add(backend))
      } else if (isSilentBefore && reasons.size === 0) {
        yield* Effect.logInfo(`HAProxy can be observed again: ${socket}`)
      }
    }
  })
  return { say }
})

/** The source's names of endpoints, by endpoint: of those that it names now, and of those that are still observed. */
export type Origins = ReadonlyMap<string, string>

/** Adds what an answer names, and forgets what neither it nor HAProxy has any more. */
export const nextOrigins = (before: Origins, answer: DesiredState, observed: ObservedState): Origins => {
  const origins = new Map([...answer.leaving, ...answer.wanted].map((one) => [endpointKey(one.endpoint), one.origin]))
  for (const { endpoint } of observed.processes.flatMap(({ servers }) => servers)) {
    if (endpoint === undefined) continue
    const key = endpointKey(endpoint)
    const origin = before.get(key)
    if (origin !== undefined && !origins.has(key)) origins.set(key, origin)
  }
  return origins
}

/** What is known of endpoints by name. */
export interface Names {
  readonly origins: Origins
  readonly leaving: DesiredState["leaving"]
}

/** A line about one server. */
interface Line {
  readonly text: string
  /** For the debug log alone. */
  readonly isDetail?: true
  /** `server`, `endpoint`, and `sockets` where it is not in all of them. */
  readonly tags: Readonly<Record<string, string>>
}

/** What a plan changes: one line per server, whatever the number of processes. */
const linesOf = (plan: Plan.Plan, observed: ObservedState, names: Names): ReadonlyArray<Line> => {
  const total = observed.processes.length
  const at = new Map(
    observed.processes.flatMap(({ servers, socket }) => servers.map((one) => [`${socket} ${one.name}`, one.endpoint]))
  )
  const reasons = new Map(names.leaving.map(({ endpoint, reason }) => [endpointKey(endpoint), reason]))
  const sockets = Map.groupBy(plan.actions, (action) => `${action._tag} ${action.server}`)
  return [...sockets.values()].map((same) => {
    const action = same[0]!
    const where = same.length === total ? {} : { sockets: same.map(({ socket }) => socket).join(",") }
    const endpoint = "endpoint" in action ? action.endpoint : at.get(`${action.socket} ${action.server}`)
    const key = endpoint === undefined || isPlaceholder(endpoint) ? undefined : endpointKey(endpoint)
    const origin = key === undefined ? undefined : names.origins.get(key)
    const named = origin === undefined ? "" : `: ${origin}`
    const tags = { server: action.server, ...(key === undefined ? {} : { endpoint: key }), ...where }
    const line = (text: string): Line => ({ text, tags })
    return Plan.Action.$match(action, {
      Add: () => line("added: no slot was free, and HAProxy takes servers while it runs"),
      Remove: () => line("removed: it is free, and the pool has enough without it"),
      Arrive: ({ prove }) => line(`arrives${prove ? ", takes traffic once its checks pass" : ""}${named}`),
      Resume: () => line(`takes traffic (again)${named}`),
      Drain: () => {
        const reason = key === undefined ? undefined : reasons.get(key)
        return line(`drains: ${reason === undefined ? `no longer wanted${named}` : `${origin} ${reason}`}`)
      },
      Stop: ({ shutdown }) =>
        shutdown
          ? line(`stopped: drain_timeout is over, its sessions are shut down${named}`)
          : { ...line("into maintenance"), isDetail: true as const },
      Free: () => line(`left, its slot is free${named}`)
    })
  })
}

/** Logs what a plan changes. */
export const logActions = Effect.fnUntraced(function* (plan: Plan.Plan, observed: ObservedState, names: Names) {
  for (const { isDetail, tags, text } of linesOf(plan, observed, names)) {
    yield* (isDetail === true ? Effect.logDebug(text) : Effect.logInfo(text)).pipe(Effect.annotateLogs(tags))
  }
})

/** What a plan would change, for as long as ep2 is paused. */
export const intentionsOf = (plan: Plan.Plan, observed: ObservedState, names: Names): ReadonlyMap<string, string> =>
  new Map(
    linesOf(plan, observed, names).map(({ tags: { endpoint, server }, text }) => {
      const what = [server, endpoint, text].filter((part) => part !== undefined).join(" ")
      return [what, `paused, or it would do this: ${what}`]
    })
  )

/** The same where a config makes the changes: what comes and what goes, once it is decided. */
export const logConfigActions = Effect.fnUntraced(function* (plan: Plan.Plan, observed: ObservedState, names: Names) {
  const present = new Set(observed.processes.flatMap(({ servers }) => servers.map(({ name }) => name)))
  for (const { endpoint, origin, server } of plan.placed) {
    if (present.has(server)) continue
    yield* Effect.logInfo(`arrives with the next config: ${origin}`).pipe(
      Effect.annotateLogs({ server, endpoint: endpointKey(endpoint) })
    )
  }
  yield* logActions({ ...plan, actions: plan.actions.filter(({ _tag }) => _tag === "Drain") }, observed, names)
})

/** Logs which endpoints on their way have passed their checks, in every process that could be observed. */
export const logProven = Effect.fnUntraced(function* (plan: Plan.Plan, before: Plan.Memory, nowMillis: number) {
  for (const { endpoint, origin, server } of plan.placed) {
    const key = endpointKey(endpoint)
    const since = before.arrivals.get(key)
    if (since === undefined || plan.memory.arrivals.get(key) !== undefined) continue
    yield* Effect.logInfo(
      `passes its checks, ${((nowMillis - since) / 1000).toFixed(2)} s after HAProxy got it: ${origin}`
    ).pipe(Effect.annotateLogs({ server, endpoint: key }))
  }
})

/** The facts that stand after planning, by kind. */
export const standingFacts = (seen: {
  readonly answer: DesiredState
  readonly hold: Guard.Hold | undefined
  readonly guard: Guard.Options
  readonly plan: Plan.Plan
  readonly growth: { readonly growth: Plan.Options["growth"]; readonly obstacle: string | undefined }
}) => {
  const { answer, growth, guard, hold, plan } = seen
  const facts = new Map<string, string>()
  for (const { origin, reason } of answer.refused) facts.set(`refused ${origin}`, `not served: ${origin}: ${reason}`)
  if (plan.unplaced.length > 0) {
    const names = plan.unplaced.map(({ endpoint, origin }) => `${endpointKey(endpoint)} (${origin})`)
    facts.set(
      "unplaced",
      `no free slot for ${names.length} of ${plan.placed.length + names.length} endpoints, the others are served: ` +
        `${someOf(names)}; ${growth.growth === undefined ? "the pool cannot grow now, and what leaves makes room" : "the pool grows by a reload"}` +
        `${growth.obstacle === undefined ? "" : `, as ${growth.obstacle}`}`
    )
  }
  for (const one of plan.held) {
    facts.set(
      `held ${one.server}`,
      `${one.server} ${endpointKey(one.endpoint)} (${one.origin}) is in ${one.admin} by the operator's hand and stays so ` +
        `until "set server ${plan.backend}/${one.server} state ready"`
    )
  }
  if (hold !== undefined) facts.set("guard", holdLine(answer, hold, guard))
  return facts
}

/** What was wanted, what is served, what is held, and what lets it go. */
export const holdLine = ({ pending }: DesiredState, hold: Guard.Hold, options: Guard.Options): string => {
  const { endpoints, most, reason, wanted } = hold
  const names = someOf(endpoints.map(endpointKey))
  const count = endpoints.length
  switch (reason) {
    case "unknown": {
      const unknown = pending.filter(({ isUnknown }) => isUnknown).length
      return `the source names ${unknown} without their addresses yet; the ${count} endpoints that may be theirs stay until it has them: ${names}`
    }
    case "empty":
      return `the source answers that nothing is wanted; the ${count} endpoints that are served stay: ${names}; if that is right, run \`ep2 release\`, or set allow_empty = True for good`
    case "removal": {
      const { confirmations, confirmEveryMillis, maxRemovalPercent, minServers, windowMillis } = options
      const dead = hold.overdue === 0 ? "" : `, ${hold.overdue} of which have not come up in their time`
      const why =
        hold.limit === "minServers"
          ? `fewer than min_servers = ${minServers}`
          : `max_removal_percent is ${maxRemovalPercent} of the ${most} that were served within ${windowMillis / 1000} s`
      return (
        `the source names ${wanted} endpoints${dead}: ${why}; ${count} that it leaves out stay until ${confirmations} answers in a row, ` +
        `${(confirmEveryMillis / 1000).toFixed(1)} s apart or more, have left them out, or until \`ep2 release\`: ${names}`
      )
    }
  }
}

/** What is to be served and cannot be yet, by origin. */
export const pendingFacts = ({ pending }: DesiredState): ReadonlyMap<string, string> =>
  new Map(pending.map(({ origin, reason }) => [origin, `not yet: ${origin} ${reason}; asked again soon`]))

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
      return "nothing is held against the source any more"
    default:
      return `over: ${key}`
  }
}

/** The first few of many names, so that a line stays a line. */
export const someOf = (names: ReadonlyArray<string>): string =>
  names.length <= 5 ? names.join(", ") : `${names.slice(0, 5).join(", ")} and ${names.length - 5} more`
