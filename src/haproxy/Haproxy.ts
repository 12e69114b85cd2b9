/**
 * Every running HAProxy process as one thing to observe and change.
 *
 * With `nbproc` > 1 each process has its own socket and its own servers. All are
 * observed and changed at once, and each on its own observed state; one that
 * fails does not hold the others back and is level again when it returns.
 */
import { Clock, Context, Duration, Effect, Layer, Result } from "effect"
import type { Action, Plan } from "../domain/Plan.ts"
import {
  type Endpoint,
  endpointKey,
  type ObservedState,
  type ProcessState,
  type Server,
  type Unobserved
} from "../domain/State.ts"
import { HaproxySocket, type Session, type SocketError } from "./HaproxySocket.ts"
import * as RuntimeApi from "./RuntimeApi.ts"
import type { BackendServers } from "./ServerRegion.ts"
import * as ServerTable from "./ServerTable.ts"

/** Something of a plan that was not done. The next pass plans afresh. */
export interface Failure {
  readonly socket: string
  /** What was not done, or not wholly; `undefined` when the whole process could not be reached. */
  readonly action: Action | undefined
  readonly error: SocketError | RuntimeApi.CommandRejected
}

/** All processes of one HAProxy. What one of them does not answer holds the others up no longer than its time-out. */
export class Haproxy extends Context.Service<
  Haproxy,
  {
    /** Socket paths, one per process, in the order of `ep2.conf`. Never empty. */
    readonly sockets: ReadonlyArray<string>
    /**
     * The pid of one process: is it there, and the same as before? One that was silent is
     * observed again once it has answered this.
     */
    readonly pidOf: (socket: string) => Effect.Effect<number, SocketError | RuntimeApi.CommandRejected>
    /**
     * Reads the servers of one backend in every process. Never fails: what could not
     * be observed says why. A process that let a time-out pass is not asked again
     * before it has answered something else, so that it does not hold the others back.
     */
    readonly observe: (backend: string) => Effect.Effect<ObservedState>
    /**
     * Carries the actions out, in order, in every process at once. Returns what
     * was not done; an action that fails does not hold the others back, but the
     * rest of itself: a server whose address was refused is never made ready.
     *
     * A process that is no longer the one that was observed is left alone.
     */
    readonly apply: (plan: Plan, observed: ObservedState) => Effect.Effect<ReadonlyArray<Failure>>
    /**
     * Tells every process that has loaded a config with these servers what the
     * config cannot say (`ServerLine.afterLoad`), where the server is still as the
     * config has it. Processes of `others` have not loaded it, or know it already,
     * and are told nothing.
     */
    readonly afterLoad: (servers: ReadonlyArray<BackendServers>, others: ReadonlySet<number>) => Effect.Effect<Told>
  }
>()("ep2/haproxy/Haproxy") {
  /** Over the sockets of `HaproxySocket`. Nothing is asked before the first call. */
  static readonly layer = (options: Options) => Layer.effect(Haproxy, make(options))
}

/** What came of `afterLoad`. */
export interface Told {
  /** Processes that now know all of it. */
  readonly pids: ReadonlyArray<number>
  /** Who answered, by socket; `undefined` where nobody did. */
  readonly seen: ReadonlyArray<number | undefined>
  readonly failures: ReadonlyArray<SocketError | RuntimeApi.CommandRejected>
}

/** What is the same for every process. */
export interface Options {
  /** Where free slots point. */
  readonly placeholder: Endpoint
  /** What a server line has behind its address, by backend: servers that are added at runtime get it too. `check`. */
  readonly lineOptions?: ReadonlyMap<string, string>
}

const make = Effect.fnUntraced(function* (options: Options) {
  const { session, sockets } = yield* HaproxySocket
  /** By socket and backend. */
  const lastSeen = new Map<string, Observed>()
  /** Processes that let a time-out pass and have not answered since, with what was seen first. */
  const silent = new Map<string, SocketError>()

  /** What each process and backend was just told to point where. */
  const given = new Map<string, Given>()

  const once = Effect.fnUntraced(function* <A>(
    socket: string,
    body: (session: Session) => Effect.Effect<A, SocketError | RuntimeApi.CommandRejected>
  ) {
    const result = yield* session(socket, { keep: true }).pipe(Effect.flatMap(body), Effect.scoped, Effect.result)
    const error = Result.isFailure(result) && result.failure._tag === "SocketError" ? result.failure : undefined
    if (error?.reason !== "Timeout") {
      silent.delete(socket)
      return result
    }
    // One silence is said in the words of who met it first.
    const first = silent.get(socket) ?? error
    silent.set(socket, first)
    return Result.fail(first)
  })

  const inEvery = <A>(
    body: (session: Session) => Effect.Effect<A, SocketError | RuntimeApi.CommandRejected>,
    among: ReadonlyArray<string> = sockets
  ) =>
    // One alone needs no fiber of its own.
    Effect.forEach(among, (socket) => once(socket, body), {
      concurrency: among.length === 1 ? 1 : "unbounded"
    }).pipe(Effect.map((results) => among.map((socket, index) => [socket, results[index]!] as const)))

  const observe = Effect.fn("Haproxy.observe")(function* (backend: string) {
    const processes: Array<ProcessState> = []
    const unobserved: Array<Unobserved> = []
    const seen = new Map<string, string>()
    const waited = new Map(silent)
    const asked = new Map(
      yield* inEvery(
        observeOne(backend, (socket) => ({
          last: lastSeen.get(`${socket} ${backend}`),
          given: given.get(`${socket} ${backend}`)
        })),
        sockets.filter((socket) => !waited.has(socket))
      )
    )
    for (const socket of sockets) {
      const result = asked.get(socket) ?? Result.fail(waited.get(socket)!)
      const other = Result.isSuccess(result) ? seen.get(result.success.identity) : undefined
      if (Result.isFailure(result)) {
        unobserved.push({
          socket,
          reason: result.failure.message,
          lastSeen: lastSeen.get(`${socket} ${backend}`)?.state
        })
      } else if (other !== undefined) {
        const reason = `${socket} is another socket of the process behind ${other}: name one socket per process in haproxy_socket_file`
        unobserved.push({ socket, reason, lastSeen: undefined })
      } else {
        processes.push(result.success.state)
        lastSeen.set(`${socket} ${backend}`, result.success)
        given.delete(`${socket} ${backend}`)
        seen.set(result.success.identity, socket)
      }
    }
    return { backend, processes, unobserved }
  })

  const apply = Effect.fn("Haproxy.apply")(function* (plan: Plan, observed: ObservedState) {
    const actions = Map.groupBy(plan.actions, ({ socket }) => socket)
    const among = observed.processes.filter(({ socket }) => actions.has(socket))
    const pids = new Map(among.map(({ pid, socket }) => [socket, pid]))
    const isObserved = Effect.fnUntraced(function* (open: Session) {
      const { connection, state } = lastSeen.get(`${open.socket} ${plan.backend}`) ?? {}
      const pid = pids.get(open.socket)
      if (open.connection?.isOld() === true && open.connection.number() === connection) return state?.pid === pid
      return (yield* askPid(open)) === pid
    })
    const results = yield* inEvery(
      Effect.fnUntraced(function* (open) {
        if (!(yield* isObserved(open))) return []
        return yield* applyOne(open, plan.backend, actions.get(open.socket) ?? [], options)
      }),
      among.map(({ socket }) => socket)
    )
    const untilMillis = (yield* Clock.currentTimeMillis) + longestStaleMillis
    for (const [socket, result] of results) {
      if (Result.isFailure(result)) continue
      const addresses = addressesOf(actions.get(socket) ?? [], result.success, options.placeholder)
      given.set(`${socket} ${plan.backend}`, { pid: pids.get(socket), addresses, untilMillis })
    }
    return results.flatMap(([socket, result]) =>
      Result.isSuccess(result) ? result.success : [{ socket, action: undefined, error: result.failure }]
    )
  })

  const afterLoad = Effect.fn("Haproxy.afterLoad")(function* (
    servers: ReadonlyArray<BackendServers>,
    others: ReadonlySet<number>
  ) {
    const results = yield* inEvery(
      Effect.fnUntraced(function* (open) {
        const info = yield* Effect.result(askFirst(open))
        const pid = Result.isSuccess(info) ? (RuntimeApi.parsePid(info.success[0]) ?? 0) : undefined
        if (pid === undefined || others.has(pid)) return { pid, pids: [], failures: [] }
        const failures = (yield* Effect.forEach(servers, (one) => afterLoadOf(open, one))).flat()
        return { pid, pids: failures.length === 0 ? [pid] : [], failures }
      })
    )
    const told = results.map(([, result]) => {
      if (Result.isSuccess(result)) return result.success
      // Nobody is there to be told.
      const isSilent = result.failure._tag === "SocketError" && result.failure.reason === "Connect"
      return { pid: undefined, pids: [], failures: isSilent ? [] : [result.failure] }
    })
    return {
      pids: told.flatMap(({ pids }) => pids),
      seen: told.map(({ pid }) => pid),
      failures: told.flatMap(({ failures }) => failures)
    }
  })

  const pidOf = (socket: string) => Effect.flatMap(once(socket, askPid), Effect.fromResult)

  return Haproxy.of({ sockets, pidOf, observe, apply, afterLoad })
})

/**
 * `show info`, which is asked before anything else in a session, and with it what may be
 * asked twice. A connection that was kept may be over, or lead to a process that a reload
 * has replaced: then whoever is there now is asked.
 */
const askFirst = Effect.fnUntraced(function* (session: Session, further: ReadonlyArray<string> = []) {
  const { ask, connection, socket } = session
  const { showInfo } = RuntimeApi
  const asking = ask([showInfo.text, ...further])
  const isOld = connection?.isOld() === true
  let replies = yield* isOld
    ? Effect.catchTag(asking, "SocketError", (error) =>
        error.reason === "Closed" ? Effect.andThen(connection.renew, asking) : error
      )
    : asking
  // Asked again: it may have been renewed just now.
  if (connection?.isOld() === true && RuntimeApi.parseIsStopping(replies[0] ?? "")) {
    yield* connection.renew
    replies = yield* asking
  }
  const [first = "", ...others] = replies
  return [yield* Effect.fromResult(RuntimeApi.judge(socket, showInfo, first)), ...others] as const
})

/** Tells one process about the servers of one backend. Returns what it refused. */
const afterLoadOf = Effect.fnUntraced(function* (session: Session, { backend, servers }: BackendServers) {
  const lines = servers.filter(({ afterLoad }) => afterLoad !== undefined)
  if (lines.length === 0) return []
  const found = new Map((yield* askServers(session, backend)).map((one) => [one.name, one]))
  const commands = lines.flatMap(({ afterLoad, endpoint, name }) => {
    const server = found.get(name)
    // Whoever has touched it since then knows better.
    if (server?.admin !== "maint" || server.isMarked || server.endpoint === undefined) return []
    if (afterLoad === undefined || endpointKey(server.endpoint) !== endpointKey(endpoint)) return []
    return RuntimeApi.encodeAfterLoad(`${backend}/${name}`, afterLoad, server)
  })
  const replies = yield* session.ask(commands.map(({ text }) => text))
  return commands
    .map((command, index) => RuntimeApi.judge(session.socket, command, replies[index] ?? ""))
    .filter(Result.isFailure)
    .map(({ failure }) => failure)
})

const askServers = Effect.fnUntraced(function* (session: Session, backend: string) {
  const command = RuntimeApi.showServers(backend)
  const [reply = ""] = yield* session.ask([command.text])
  return (yield* tableIn(session.socket, backend, reply)).servers
})

/** The table in a reply, or the refusal that it is. */
const tableIn = Effect.fnUntraced(function* (
  socket: string,
  backend: string,
  reply: string,
  last?: ServerTable.ServerTable
) {
  const table = ServerTable.read(backend, reply, last)
  if (table !== undefined) return table
  return yield* new RuntimeApi.CommandRejected({ socket, command: RuntimeApi.showServers(backend).text, reply })
})

const askStats = Effect.fnUntraced(function* (session: Session, backend: string) {
  const command = RuntimeApi.showSessions(backend)
  const [reply = ""] = yield* session.ask([command.text])
  const stats = RuntimeApi.readStats(backend, reply)
  if (stats !== undefined) return stats
  return yield* new RuntimeApi.CommandRejected({ socket: session.socket, command: command.text, reply })
})

const askPid = (session: Session) => Effect.map(askFirst(session), ([info]) => RuntimeApi.parsePid(info) ?? 0)

/** What is known of one process and backend. */
interface Observed {
  readonly identity: string
  /** Over which connection it was observed. */
  readonly connection: number | undefined
  readonly state: ProcessState
  readonly table: ServerTable.ServerTable
}

/** A process that answers as it did before gives the very same state, so that who compares two states need not look into them. */
const observeOne = (
  backend: string,
  before: (socket: string) => { readonly last: Observed | undefined; readonly given: Given | undefined }
) =>
  Effect.fnUntraced(function* (session: Session) {
    const { socket } = session
    const { given, last } = before(socket)
    const command = RuntimeApi.showServers(backend)
    const read = Effect.gen(function* () {
      const [info, reply = ""] = yield* askFirst(session, [command.text])
      return { info, table: yield* tableIn(socket, backend, reply, last?.table) }
    })
    let { info, table } = yield* read
    while (given !== undefined && given.pid === RuntimeApi.parsePid(info) && isStale(table.servers, given)) {
      if ((yield* Clock.currentTimeMillis) >= given.untilMillis) break
      yield* Effect.sleep(staleEvery)
      ;({ info, table } = yield* read)
    }
    // Sessions are asked for only where somebody waits for them: `show stat` costs five times as much as the rest.
    const servers = RuntimeApi.isAnyMoving(table.servers)
      ? RuntimeApi.withStats(table.servers, yield* askStats(session, backend))
      : table.servers
    const identity = RuntimeApi.parseIdentity(info)
    const pid = RuntimeApi.parsePid(info) ?? 0
    const able = RuntimeApi.parseCanAdd(info) ? ({ canAdd: true } as const) : {}
    const isSame = last?.identity === identity && last.state.canAdd === able.canAdd && last.state.servers === servers
    const state: ProcessState = isSame ? last.state : { socket, pid, ...able, servers }
    return { identity, connection: session.connection?.number(), table, state } satisfies Observed
  })

/** Addresses that were given to servers, by name, and until when an older one may still be shown. */
interface Given {
  readonly pid: number | undefined
  readonly addresses: ReadonlyMap<string, string>
  readonly untilMillis: number
}

/**
 * 3.2 shows a new address a moment after it has said that it has it (tried: 600 of
 * 3,000 tables that were asked for right behind it had the old one, and none of
 * those that were asked for once more). Who took that for the truth would take back
 * what was done. Somebody else's address is believed after so long.
 */
const longestStaleMillis = 500
const staleEvery = Duration.millis(5)

const isStale = (servers: ReadonlyArray<Server>, { addresses }: Given): boolean =>
  addresses.size > 0 &&
  servers.some(({ endpoint, name }) => {
    const address = addresses.get(name)
    return address !== undefined && endpoint !== undefined && endpointKey(endpoint) !== address
  })

/** Where the servers of these actions point once they are done. */
const addressesOf = (
  actions: ReadonlyArray<Action>,
  failures: ReadonlyArray<Failure>,
  placeholder: Endpoint
): ReadonlyMap<string, string> => {
  const undone = new Set(failures.map(({ action }) => action))
  return new Map(
    actions.flatMap((action) => {
      if (undone.has(action) || (action._tag !== "Arrive" && action._tag !== "Free")) return []
      return [[action.server, endpointKey(action._tag === "Arrive" ? action.endpoint : placeholder)]]
    })
  )
}

const applyOne = Effect.fnUntraced(function* (
  session: Session,
  backend: string,
  actions: ReadonlyArray<Action>,
  { lineOptions, placeholder }: Options
) {
  const words = lineOptions?.get(backend)
  const steps = actions.map((action) => ({ action, ...RuntimeApi.encode(backend, action, placeholder, words) }))
  const failures: Array<Failure> = []
  const send = Effect.fnUntraced(function* (half: "first" | "second", among: typeof steps) {
    const replies = yield* session.ask(among.flatMap((step) => step[half].map(({ text }) => text)))
    let at = 0
    return among.filter((step) => {
      const results = step[half].map((command) => RuntimeApi.judge(session.socket, command, replies[at++] ?? ""))
      const failed = results.find(Result.isFailure)
      if (failed === undefined) return true
      failures.push({ socket: session.socket, action: step.action, error: failed.failure })
      return false
    })
  })
  const whole = (among: typeof steps) => Effect.flatMap(send("first", among), (good) => send("second", good))
  const isAdding = ({ action: { _tag } }: (typeof steps)[number]) =>
    _tag === "Add" || _tag === "Arrive" || _tag === "Resume"
  // What arrives has its traffic before anything loses it. A stop of ep2 waits for the end, so that it leaves servers whole.
  yield* Effect.uninterruptible(
    Effect.andThen(whole(steps.filter(isAdding)), whole(steps.filter((step) => !isAdding(step))))
  )
  return failures
})
