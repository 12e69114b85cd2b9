/**
 * Decides what to change so that the observed state becomes the desired state.
 *
 * First every wanted endpoint gets one server name, the same in all processes:
 * the one it has, else the lowest free one. Then each process is looked at by
 * itself. Per server ("mark" is weight 0, ep2's own sign that it is moving it):
 *
 *   wanted  observed                             outcome
 *   ------  -----------------------------------  -----------------------------------------
 *   a       a, ready                             nothing
 *   a       a, maint or drain, no mark           nothing: the operator's hand (`held`)
 *   a       a, mark                              Resume: it was arriving or leaving
 *   a       free                                 Arrive
 *   a       no such server, servers can be added Add: a free slot
 *   a       anything else                        as for "–", until it is free
 *   –       free                                 nothing
 *   –       free, beyond what the pool keeps     Remove, where servers can be added again
 *   –       placeholder, maint, mark             Free: the last step was missing
 *   –       placeholder, ready or drain          Stop: a placeholder is never served
 *   –       b, maint or drain, no mark           Drain
 *   –       b, ready, up, no mark                Drain, as far as `Retirement` lets go of it
 *   –       b, ready, down, no mark              Drain
 *   –       b, ready or drain, mark, idle        Stop
 *   –       b, ready or drain, mark, busy        wait for `drainTimeout`, then Stop
 *   –       b, maint, mark, idle                 Free
 *   –       b, maint, mark, busy                 wait
 *
 * "Free" is: in maintenance, on the placeholder, no mark. Sessions that are not
 * known count as busy. Servers whose name is not `node<N>` are not ep2's.
 *
 * Pure and deterministic: equal inputs give an equal plan.
 */

import { Data } from "effect"
import * as Assignment from "./Assignment.ts"
import * as Retirement from "./Retirement.ts"
import {
  type DesiredState,
  type Endpoint,
  endpointKey,
  isPlaceholder,
  type ObservedState,
  type Server,
  slotNumber,
  type Wanted
} from "./State.ts"

/** One change to one server of one process. */
export type Action = Data.TaggedEnum<{
  /** Make a free slot of that name in a HAProxy that has no such server. */
  readonly Add: Step
  /** Point the free slot at the endpoint and let it take traffic; `prove`: not before its checks pass. */
  readonly Arrive: Step & {
    readonly endpoint: Endpoint
    readonly prove: boolean
    /** Its check has to be switched on first. */
    readonly isCheckOff?: true
  }
  /** It is on its endpoint already: give it its traffic (back). `isReady`: it left maintenance before. */
  readonly Resume: Step & {
    readonly endpoint: Endpoint
    readonly prove: boolean
    readonly isReady: boolean
    /** As for `Arrive`. */
    readonly isCheckOff?: true
  }
  /** Balance nothing new onto it; its sessions go on. */
  readonly Drain: Step & { readonly endpoint: Endpoint }
  /** Into maintenance: nothing reaches it any more; `shutdown` ends the sessions that it still has. */
  readonly Stop: Step & { readonly shutdown: boolean }
  /** Idle and in maintenance: onto the placeholder, without the mark, free for the next endpoint. */
  readonly Free: Step
  /** A free slot that the pool need not keep: HAProxy forgets it. */
  readonly Remove: Step
}>
export const Action = Data.taggedEnum<Action>()

interface Step {
  readonly socket: string
  readonly server: string
}

/** What has to be known over time. It goes into `make` and the next one comes out; times are Unix milliseconds. */
export interface Memory {
  /** When a wanted endpoint was first on its way, until it has been up once: then `undefined`. */
  readonly arrivals: ReadonlyMap<string, number | undefined>
  /** When a leaving server began to drain, by `socket server`. */
  readonly drains: ReadonlyMap<string, number>
}

/** What is known when ep2 starts: nothing is on its way. */
export const emptyMemory: Memory = { arrivals: new Map(), drains: new Map() }

/** How servers come and go. Times are milliseconds. */
export interface Options {
  /** New servers take traffic only after their health checks passed. */
  readonly prove: boolean
  readonly drainTimeoutMillis: number
  /** What happens to sessions that outlive the drain. */
  readonly drainTimeoutAction: "wait" | "shutdown"
  /** How long leaving servers wait for an arriving one to come up. */
  readonly proveTimeoutMillis: number
  /**
   * How the pool gets larger than it is. Without it, what finds no slot waits.
   *
   * - `add`: by servers that are added while HAProxy runs; those above `keep` are removed when they are free.
   * - `reload`: by the caller, soon. Nothing is drained to make room.
   */
  readonly growth?: { readonly by: "add"; readonly keep: number } | { readonly by: "reload" } | undefined
  readonly nowMillis: number
}

/** A wanted endpoint and the server it has, in all processes alike. */
export interface Placed extends Wanted {
  readonly server: string
}

/** A wanted server that the operator keeps out of service. */
export interface Held extends Placed {
  readonly admin: "maint" | "drain"
}

/** What to do now, and what to know the next time. */
export interface Plan {
  readonly backend: string
  /** In the order to apply, per process: capacity is added before any is taken away. */
  readonly actions: ReadonlyArray<Action>
  /** Where every wanted endpoint is, or will be; by server number. */
  readonly placed: ReadonlyArray<Placed>
  /** Wanted endpoints without a server to go to. Data, not an error: HAProxy serves what fits. */
  readonly unplaced: ReadonlyArray<Wanted>
  /** Some process lacks the server of an endpoint that others have. */
  readonly isIncomplete: boolean
  readonly held: ReadonlyArray<Held>
  /** Something is still on its way, so look again soon although nothing changes outside. */
  readonly isMoving: boolean
  readonly memory: Memory
}

/** Plans one backend. */
export const make = (desired: DesiredState, observed: ObservedState, memory: Memory, options: Options): Plan => {
  const { growth } = options
  const { placed, unplaced } = Assignment.make(desired.wanted, observed, { canAdd: growth?.by === "add" })
  const target = new Map(placed.map((one) => [one.server, one]))
  const slots = observed.processes.flatMap(({ socket, servers }) =>
    servers.filter(({ name }) => slotNumber(name) !== undefined).map((server) => ({ socket, server }))
  )
  const bySocket = new Map(observed.processes.map(({ socket, servers }) => [socket, nameMap(servers)]))
  const everywhere = (name: string, holds: (server: Server) => boolean) =>
    bySocket.size > 0 &&
    [...bySocket.values()].every((servers) => {
      const server = servers.get(name)
      return server !== undefined && holds(server)
    })

  const arrivals = nextArrivals(placed, memory, options, {
    hasServer: (one) => everywhere(one.server, () => true),
    isThere: (one) =>
      everywhere(one.server, (server) => isOn(server, one.endpoint) && !server.isMarked && !isArriving(server))
  })
  const awaited = new Set(
    [...arrivals].flatMap(([key, since]) => (since === undefined || isOver(since, options) ? [] : [key]))
  )
  const drainedFor = (socket: string, server: Server) =>
    options.nowMillis - (memory.drains.get(`${socket} ${server.name}`) ?? options.nowMillis)
  const mayDrain = new Set(
    observed.processes.flatMap((process) =>
      Retirement.make({
        process,
        placed,
        unplaced: unplaced.length,
        isGrowing: growth !== undefined,
        awaited,
        isOverdue: (server) => drainedFor(process.socket, server) >= options.drainTimeoutMillis
      }).map((name) => `${process.socket} ${name}`)
    )
  )

  const actions: Array<Action> = []
  const drains = new Map<string, number>()
  const held = new Map<string, Held>()
  let isMoving = awaited.size > 0
  const absent = [...bySocket].flatMap(([socket, servers]) =>
    placed.filter(({ server }) => !servers.has(server)).map(({ server }) => ({ socket, server }))
  )
  if (growth?.by === "add") for (const step of absent) actions.push(Action.Add(step))

  for (const { socket, server } of slots) {
    const step = { socket, server: server.name }
    const goal = target.get(server.name)
    const at = server.endpoint
    const off = server.isCheckOff ? ({ isCheckOff: true } as const) : {}
    const mayProve = options.prove && (server.hasCheck || server.isCheckOff === true)
    if (goal !== undefined && isOn(server, goal.endpoint)) {
      if (server.isMarked) {
        const isReady = server.admin !== "maint"
        const isUnproven = !isReady || server.health === "unproven" || server.isCheckOff === true
        const prove = mayProve && isUnproven
        actions.push(Action.Resume({ ...step, endpoint: goal.endpoint, prove, isReady, ...off }))
      } else if (server.admin !== "ready" && !held.has(server.name)) {
        held.set(server.name, { ...goal, admin: server.admin })
      }
    } else if (goal !== undefined && isFree(server)) {
      actions.push(Action.Arrive({ ...step, endpoint: goal.endpoint, prove: mayProve, ...off }))
    } else if (at === undefined) {
      // Its host name was never resolved, so HAProxy will not take an address for it either.
    } else if (isPlaceholder(at)) {
      if (server.admin !== "maint") actions.push(Action.Stop({ ...step, shutdown: false }))
      else if (server.isMarked) actions.push(Action.Free(step))
      else if (growth?.by === "add" && (slotNumber(server.name) ?? 0) > growth.keep) actions.push(Action.Remove(step))
    } else if (!server.isMarked) {
      if (server.admin !== "ready" || server.health === "down" || mayDrain.has(`${socket} ${server.name}`)) {
        actions.push(Action.Drain({ ...step, endpoint: at }))
      }
      isMoving = true
    } else {
      const key = `${socket} ${server.name}`
      const since = memory.drains.get(key) ?? options.nowMillis
      const isIdle = server.sessions === 0
      const isLate = drainedFor(socket, server) >= options.drainTimeoutMillis
      const shutdown = isLate && !isIdle && options.drainTimeoutAction === "shutdown"
      drains.set(key, since)
      isMoving = true
      if (server.admin === "maint") {
        if (isIdle) actions.push(Action.Free(step))
        else if (shutdown) actions.push(Action.Stop({ ...step, shutdown }))
      } else if (isIdle || isLate) {
        actions.push(Action.Stop({ ...step, shutdown }))
      }
    }
  }

  return {
    backend: desired.backend,
    actions: actions.toSorted((one, other) => order(one) - order(other)),
    placed,
    unplaced,
    isIncomplete: absent.length > 0,
    held: [...held.values()],
    isMoving: isMoving || actions.length > 0,
    memory: { arrivals, drains }
  }
}

/** The plan of a backend of which nothing is known to be wanted yet: nothing is done. */
export const none = (backend: string): Plan => ({
  backend,
  actions: [],
  placed: [],
  unplaced: [],
  isIncomplete: false,
  held: [],
  isMoving: false,
  memory: emptyMemory
})

/** Wanted endpoints, by key, that did not come up in their time. */
export const overdue = (
  memory: Memory,
  times: Pick<Options, "nowMillis" | "proveTimeoutMillis">
): ReadonlySet<string> =>
  new Set([...memory.arrivals].flatMap(([key, since]) => (since !== undefined && isOver(since, times) ? [key] : [])))

/** Whether nothing is left to do or to wait for. */
export const isSettled = (plan: Plan): boolean => plan.actions.length === 0 && !plan.isMoving

/**
 * Whether nothing is left to do or to wait for but sessions that have outlived
 * their drain: those may take as long as they like.
 */
export const isLevel = (
  { actions, memory, unplaced }: Plan,
  times: Pick<Options, "nowMillis" | "proveTimeoutMillis" | "drainTimeoutMillis">
): boolean => {
  const isLate = (since: number) => times.nowMillis - since >= times.drainTimeoutMillis
  const isAwaited = [...memory.arrivals.values()].some((since) => since !== undefined && !isOver(since, times))
  return actions.length === 0 && unplaced.length === 0 && !isAwaited && [...memory.drains.values()].every(isLate)
}

const nameMap = (servers: ReadonlyArray<Server>) => new Map(servers.map((server) => [server.name, server]))

const order = Action.$match({
  Resume: () => 0,
  Add: () => 1,
  Arrive: () => 2,
  Drain: () => 3,
  Stop: () => 4,
  Free: () => 5,
  Remove: () => 6
})

const isOn = (server: Server, { address, port }: Endpoint): boolean =>
  server.endpoint?.address === address && server.endpoint.port === port

const isFree = (server: Server): boolean =>
  server.admin === "maint" && !server.isMarked && server.endpoint !== undefined && isPlaceholder(server.endpoint)

/** Ready, but its checks are still to pass. What the operator holds is not waited for. */
const isArriving = (server: Server): boolean => server.admin === "ready" && server.health === "down"

const isOver = (
  since: number,
  { nowMillis, proveTimeoutMillis }: Pick<Options, "nowMillis" | "proveTimeoutMillis">
): boolean => nowMillis - since >= proveTimeoutMillis

const nextArrivals = (
  placed: ReadonlyArray<Placed>,
  memory: Memory,
  { nowMillis }: Options,
  { hasServer, isThere }: { readonly [_ in "hasServer" | "isThere"]: (one: Placed) => boolean }
): ReadonlyMap<string, number | undefined> =>
  new Map(
    placed.map((one) => {
      const key = endpointKey(one.endpoint)
      const hasBeenUp = memory.arrivals.has(key) && memory.arrivals.get(key) === undefined
      // Its time to come up begins when it can: a server that is still to be added, or loaded, has not had any.
      const since = hasServer(one) ? (memory.arrivals.get(key) ?? nowMillis) : nowMillis
      return [key, hasBeenUp || isThere(one) ? undefined : since]
    })
  )
