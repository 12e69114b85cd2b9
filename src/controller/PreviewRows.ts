/**
 * The servers of one process in a preview: a row each, with what would become of it
 * and why. Pure: what is decided was decided elsewhere (`Plan`, `EndState`), and is
 * only put into words here.
 */
import { Schema } from "effect"
import type * as Guard from "../domain/Guard.ts"
import * as Plan from "../domain/Plan.ts"
import {
  type DesiredState,
  endpointKey,
  isPlaceholder,
  type ProcessState,
  type Server,
  slotNumber,
  type Wanted
} from "../domain/State.ts"
import * as ConfigText from "../haproxy/ConfigText.ts"
import type { First } from "./FirstStep.ts"
import { type BackendOptions, isBesideConfig, type Look } from "./Reconciler.ts"

/** The ways in which HAProxy is changed. */
export const methods = ["start", "reload", "dynamic server", "socket"] as const
/** By which way a change is made. */
export const Method = Schema.Literals(methods)

/**
 * What would become of a server.
 *
 * - `keep`: nothing; it is wanted and has its place.
 * - `add`, `arrive`, `resume`: it gets traffic; `add` is a new server, which has to be made first.
 * - `drain`, `stop`, `free`, `remove`: the steps on the way out.
 * - `wait`: it is on its way out, and something has to end or to come up first.
 * - `guard`: the source leaves it out, and the guard keeps it.
 * - `operator`: it is wanted, and the operator keeps it out of service.
 */
export const Action = Schema.Literals([
  "keep",
  "add",
  "arrive",
  "resume",
  "drain",
  "stop",
  "free",
  "remove",
  "wait",
  "guard",
  "operator"
])
type Action = typeof Action.Type

/** Whether it is a change, or on its way to one. */
export const isChange = (action: Action): boolean => action !== "keep" && action !== "guard" && action !== "operator"

/** One server. */
export const Row = Schema.Struct({
  server: Schema.String,
  /** Where it is, or for a new one will be; `null` where HAProxy knows none. */
  endpoint: Schema.NullOr(Schema.String),
  /** Who vouches for it: `aws`, `consul`, `file`; `null` where the source does not name it. */
  source: Schema.NullOr(Schema.String),
  /** The source's own name: instance id, group and zone; service id and node; target and labels. */
  instance: Schema.NullOr(Schema.String),
  /** As HAProxy has it now; `null` for a server that is still to come. */
  state: Schema.NullOr(
    Schema.Struct({
      admin: Schema.Literals(["ready", "drain", "maint"]),
      health: Schema.Literals(["up", "unproven", "down"]),
      /** At weight 0: ep2 is moving it, in or out. */
      isMoving: Schema.Boolean,
      /** `null` where nobody needs to know. */
      sessions: Schema.NullOr(Schema.Int)
    })
  ),
  action: Action,
  /** By which method; `null` where nothing is done. */
  by: Schema.NullOr(Method),
  reason: Schema.String
})
export type Row = typeof Row.Type

/** ep2's servers in one process. */
export const ProcessRows = Schema.Struct({
  /** `null`: of a HAProxy that does not run. */
  socket: Schema.NullOr(Schema.String),
  pid: Schema.NullOr(Schema.Int),
  /** Why it could not be observed: nothing is done to it then. */
  error: Schema.NullOr(Schema.String),
  servers: Schema.Array(Row),
  /** Slots that are free and stay so. */
  freeSlots: Schema.Int,
  /** Servers of the template itself, which ep2 leaves alone. */
  others: Schema.Int
})
export type ProcessRows = typeof ProcessRows.Type

/** What the source says of endpoints, by their keys. */
export interface Named {
  readonly kind: string
  readonly hasAnswered: boolean
  readonly wanted: ReadonlySet<string>
  /** What it calls them, those that leave included. */
  readonly origins: ReadonlyMap<string, string>
  /** Why they leave. */
  readonly reasons: ReadonlyMap<string, string>
  /** What the guard keeps against it. */
  readonly held: ReadonlySet<string>
}

/** What an answer says, and what the guard holds against it. */
export const namedBy = (kind: string, answer: DesiredState | undefined, held: Guard.Hold | undefined): Named => {
  const { leaving, wanted } = answer ?? { leaving: [], wanted: [] }
  const keyOf = ({ endpoint }: Wanted) => endpointKey(endpoint)
  return {
    kind,
    hasAnswered: answer !== undefined,
    wanted: new Set(wanted.map(keyOf)),
    origins: new Map([...leaving, ...wanted].map((one) => [keyOf(one), one.origin])),
    reasons: new Map(leaving.map((one) => [keyOf(one), one.reason])),
    held: new Set(held?.endpoints.map(endpointKey))
  }
}

/** A process that could not be observed. */
export const unobserved = (socket: string, error: string): ProcessRows => ({
  socket,
  pid: null,
  error,
  servers: [],
  freeSlots: 0,
  others: 0
})

/** A process that was, with what becomes of its servers. */
const observed = (process: ProcessState, rows: ReadonlyArray<Row>, freeSlots: number): ProcessRows => ({
  socket: process.socket,
  pid: process.pid,
  error: null,
  servers: inOrder(rows),
  freeSlots,
  others: othersOf(process)
})

/** What a pass would do to a process. */
export const ofPass = (process: ProcessState, { plan }: Look, named: Named, options: BackendOptions): ProcessRows => {
  const isConfig = options.updateBy === "config"
  const goals = new Map(plan.placed.map((one) => [one.server, one]))
  const actions = new Map(plan.actions.flatMap((one) => (one.socket === process.socket ? [[one.server, one]] : [])))
  const rows: Array<Row> = []
  const there = new Set(process.servers.map(({ name }) => name))
  for (const [server, action] of actions) {
    const goal = goals.get(server)
    if (there.has(server) || action._tag !== "Add" || goal === undefined) continue
    const words = isConfig
      ? arrives(options)
      : `no slot is free, and HAProxy takes servers while it runs; ${arrives(options)}`
    const does = isConfig
      ? ({ action: "arrive", by: "reload" } as const)
      : ({ action: "add", by: "dynamic server" } as const)
    rows.push({ ...identify(endpointKey(goal.endpoint), named), server, state: null, ...does, reason: words })
  }
  let freeSlots = 0
  for (const server of process.servers) {
    if (slotNumber(server.name) === undefined) continue
    const action = actions.get(server.name)
    const goal = goals.get(server.name)
    if (action === undefined && goal === undefined && isFree(server)) {
      freeSlots++
      continue
    }
    const outcome = !named.hasAnswered
      ? still("keep", "its source has not answered: it stays as it is")
      : action === undefined
        ? standing(server, goal, plan, named)
        : acting(action, server, named)
    // A config makes the change: what it does not have is gone with the next load.
    const isByConfig = isConfig && action !== undefined && !isBesideConfig(action)
    rows.push({
      ...about(server, endpointOf(server, action), named),
      ...outcome,
      ...(isByConfig ? { by: "reload" as const } : {})
    })
  }
  return observed(process, rows, freeSlots)
}

/** What HAProxy would be started with. */
export const ofStart = ({ servers: { servers } }: First, named: Named, by: "start" | "reload"): ProcessRows => {
  const rows = servers.flatMap(({ afterLoad, endpoint, isDisabled, name }): ReadonlyArray<Row> => {
    if (isPlaceholder(endpoint)) return []
    const key = endpointKey(endpoint)
    const hold = isDisabled && afterLoad !== "prove" ? "the operator's hand stays: it is disabled; " : ""
    const reason = `${hold}${whyWanted(key, named)}`
    return [{ ...identify(key, named), server: name, state: null, action: "arrive", by, reason }]
  })
  return { socket: null, pid: null, error: null, servers: rows, freeSlots: servers.length - rows.length, others: 0 }
}

/** What a reload, with which ep2 begins, would make of a process. */
export const ofReload = (process: ProcessState, first: First, named: Named, text: string): ProcessRows => {
  const lines = first.servers.servers
  const next = new Map(lines.map((line) => [line.name, line]))
  const kept = new Set(ConfigText.serverNames(text, first.servers.backend))
  const there = new Map(process.servers.map((server) => [server.name, server]))
  const rows: Array<Row> = []
  for (const { afterLoad, endpoint, name } of lines) {
    const server = there.get(name)
    if (isPlaceholder(endpoint)) continue
    const key = endpointKey(endpoint)
    const reason = whyWanted(key, named)
    const at = server?.endpoint === undefined ? undefined : endpointKey(server.endpoint)
    if (server === undefined || at !== key) {
      const proof = afterLoad === "prove" ? "; takes traffic once its checks pass" : ""
      rows.push({
        ...identify(key, named),
        server: name,
        state: null,
        action: "arrive",
        by: "reload",
        reason: `${reason}${proof}`
      })
    } else rows.push({ ...about(server, key, named), ...still("keep", reason) })
  }
  for (const server of process.servers) {
    const line = next.get(server.name)
    const isLeft = line === undefined ? !kept.has(server.name) : isPlaceholder(line.endpoint)
    if (!isLeft || isFree(server)) continue
    const at = server.endpoint === undefined ? null : endpointKey(server.endpoint)
    rows.push({
      ...about(server, at, named),
      action: "remove",
      by: "reload",
      reason: `the new config does not have it; ${whyLeaving(at, named)}`
    })
  }
  const freeSlots = lines.filter(({ endpoint }) => isPlaceholder(endpoint)).length
  return observed(process, rows, freeSlots)
}

const othersOf = ({ servers }: ProcessState): number =>
  servers.filter(({ name }) => slotNumber(name) === undefined).length

const inOrder = (rows: ReadonlyArray<Row>): ReadonlyArray<Row> =>
  rows.toSorted((one, other) => (slotNumber(one.server) ?? 0) - (slotNumber(other.server) ?? 0))

const isFree = ({ admin, endpoint, isMarked }: Server): boolean =>
  admin === "maint" && !isMarked && endpoint !== undefined && isPlaceholder(endpoint)

type Outcome = Pick<Row, "action" | "by" | "reason">

const still = (action: Action, reason: string): Outcome => ({ action, by: null, reason })

const arrives = ({ plan }: BackendOptions): string =>
  plan.prove ? "the source names it; takes traffic once its checks pass" : "the source names it"

/** What stays as it is in this pass, and why. */
const standing = (server: Server, goal: Plan.Placed | undefined, plan: Plan.Plan, named: Named): Outcome => {
  const key = server.endpoint === undefined ? null : endpointKey(server.endpoint)
  if (key === null) return still("keep", "HAProxy knows no address for it: it is left alone")
  if (goal !== undefined && endpointKey(goal.endpoint) === key) {
    const hold = plan.held.find((one) => one.server === server.name)
    // In this process: it may be so in another one alone.
    if (hold !== undefined && server.admin !== "ready") {
      return still("operator", `in ${server.admin} by the operator's hand, until \`state ready\``)
    }
    if (named.held.has(key)) return still("guard", heldWords)
    return still(
      "keep",
      server.health === "down" ? "the source names it; its health check fails" : "the source names it"
    )
  }
  const why = whyLeaving(key, named)
  if (!server.isMarked) return still("wait", `${why}; it stays until what takes its place is up`)
  return still("wait", `${why}; its sessions end first`)
}

const acting = (action: Plan.Action, server: Server, named: Named): Outcome => {
  const key = server.endpoint === undefined ? null : endpointKey(server.endpoint)
  const proof = (prove: boolean) => (prove ? "; takes traffic once its checks pass" : "")
  const does = (what: Action, reason: string): Outcome => ({ action: what, by: "socket", reason })
  return Plan.Action.$match(action, {
    Add: () => does("add", "the source names it"),
    Arrive: ({ prove }) => does("arrive", `the source names it${proof(prove)}`),
    Resume: ({ prove }) => does("resume", `the source names it, and ep2 was moving it${proof(prove)}`),
    Drain: () => does("drain", whyLeaving(key, named)),
    Stop: ({ shutdown }) =>
      does(
        "stop",
        shutdown
          ? `${whyLeaving(key, named)}; drain_timeout is over: its sessions are shut down`
          : `${server.sessions === 0 ? "it is idle" : "drain_timeout is over"}: into maintenance`
      ),
    Free: () => does("free", "it is idle and in maintenance: its slot becomes free"),
    Remove: (): Outcome => ({
      action: "remove",
      by: "dynamic server",
      reason: "it is free, and the pool has enough without it"
    })
  })
}

/** Where a server is to be, if that is what its action is about; else where it is. */
const endpointOf = (server: Server, action: Plan.Action | undefined): string | null => {
  const endpoint = action?._tag === "Arrive" ? action.endpoint : server.endpoint
  return endpoint === undefined || isPlaceholder(endpoint) ? null : endpointKey(endpoint)
}

const about = (server: Server, endpoint: string | null, named: Named) => ({
  ...identify(endpoint, named),
  server: server.name,
  state: {
    admin: server.admin,
    health: server.health,
    isMoving: server.isMarked,
    sessions: server.sessions ?? null
  }
})

/** Who it is to the source: what it names, or says is leaving. */
const identify = (endpoint: string | null, { kind, origins }: Named) => {
  const instance = endpoint === null ? undefined : origins.get(endpoint)
  return { endpoint, source: instance === undefined ? null : kind, instance: instance ?? null }
}

const heldWords = "the source leaves it out, and the guard holds it"

const whyWanted = (key: string, { hasAnswered, held, wanted }: Named): string => {
  if (held.has(key)) return heldWords
  if (!hasAnswered) return "its source has not answered: it stays as it is"
  return wanted.has(key) ? "the source names it" : "it stays until what takes its place is up"
}

const whyLeaving = (key: string | null, { reasons, wanted }: Named): string => {
  const reason = key === null ? undefined : reasons.get(key)
  if (reason !== undefined) return `it ${reason}`
  return key !== null && wanted.has(key)
    ? "the source names it, and it moves to another server"
    : "the source does not name it"
}
