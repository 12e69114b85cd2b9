/**
 * A HAProxy that is a value: processes with their servers in virtual time, behind
 * the services that ep2 knows HAProxy by. It passes the contract that the real ones
 * pass (`RuntimeContract.test.ts`), and breaks where it is told to.
 *
 * One process per socket, all from one config (`nbproc`). Nothing happens between
 * two calls: time goes by as `advance` says, which each answer does by itself.
 */
import { Clock, type Duration, Effect, Layer, Semaphore } from "effect"
import { CommandError, Commands } from "../haproxy/Commands.ts"
import { HaproxySocket, type Session, SocketError } from "../haproxy/HaproxySocket.ts"
import type { Fleet, Listener, ProcessView, SimulatedHaproxy } from "./Edges.ts"
import { HaproxyProcess } from "./HaproxyProcess.ts"
import type { Version } from "./HaproxyWords.ts"
import * as LoadedConfig from "./LoadedConfig.ts"
import * as SimulatedReloader from "./SimulatedReloader.ts"

/** What HAProxy is simulated, and how long its reloads take. */
export interface Options {
  /** Socket paths, one per process. Never empty. */
  readonly sockets: ReadonlyArray<string>
  readonly version: Version
  /** What answers the health checks. */
  readonly fleet: Fleet
  /** `reload_interval`: the least time from one reload to the next; 5 s. */
  readonly reloadInterval?: Duration.Duration
  /** How long a reload takes until the new processes answer; 150 ms. */
  readonly reloadTime?: Duration.Duration
  /** The virtual time at which it is made; 0. */
  readonly nowMillis?: number
}

/** HAProxy closes a connection to its socket that was idle for so long (`stats timeout`). */
const idleMillis = 10_000

/** How long `HaproxySocket` waits for a reply. */
const replyMillis = 5000

/** Commands that wait behind a silence, and what came of them. */
interface Late {
  readonly process: HaproxyProcess
  readonly commands: ReadonlyArray<string>
  readonly atMillis: number
  replies?: ReadonlyArray<string>
}

/** A socket, who is behind it, and what it is to do wrong. */
interface Place {
  readonly socket: string
  process: HaproxyProcess | undefined
  silentUntil: number
  /** Commands until the reply that is cut short. */
  untilCut: number | undefined
  refusals: number
}

/** A HAProxy that does not run yet: `start` it. */
export const make = (options: Options): SimulatedHaproxy => {
  const { fleet, version } = options
  const places = options.sockets.map(
    (socket): Place => ({ socket, process: undefined, silentUntil: 0, untilCut: undefined, refusals: 0 })
  )
  const counts = { commands: 0, reloads: 0 }
  let nowMillis = options.nowMillis ?? 0
  let leaving: ReadonlyArray<HaproxyProcess> = []
  let late: ReadonlyArray<Late> = []
  const listeners: Array<Listener> = []
  let lastPid = 1000
  let isRefusing = false
  let lostReloads = 0

  const running = () => places.flatMap(({ process }) => process ?? [])

  const nextCheck = () => {
    let next = Number.POSITIVE_INFINITY
    for (const { process } of places) if (process !== undefined) next = Math.min(next, process.nextChange())
    return next
  }

  const advance = (toMillis: number): void => {
    if (late.length > 0) runLate(toMillis)
    // Each check by itself, so that nobody sees two of them as one.
    for (let next = nextCheck(); next <= toMillis; next = nextCheck()) changing(next, () => advanceAll(next))
    if (toMillis > nowMillis) advanceAll(toMillis)
  }

  const advanceAll = (toMillis: number): void => {
    if (toMillis > nowMillis) nowMillis = toMillis
    for (const { process } of places) process?.advance(nowMillis)
    if (leaving.length === 0) return
    for (const process of leaving) process.advance(nowMillis)
    leaving = leaving.filter(({ sessions }) => sessions > 0)
  }

  const changing = <A>(atMillis: number, body: () => A): A => {
    for (const { before } of listeners) before(atMillis)
    const result = body()
    for (const { after } of listeners) after(atMillis)
    return result
  }

  /** Carries out one command. What only asks changes nothing. */
  const runOn = (process: HaproxyProcess, command: string): string =>
    command.startsWith("show ") ? process.run(command) : changing(nowMillis, () => process.run(command))

  /** What was sent to a silent process is carried out when it goes on, whether or not anybody still waits for it. */
  const runLate = (toMillis: number): void => {
    const due = late.filter(({ atMillis }) => atMillis <= toMillis)
    late = late.filter(({ atMillis }) => atMillis > toMillis)
    for (const one of due.toSorted((first, second) => first.atMillis - second.atMillis)) {
      one.process.advance(one.atMillis)
      if (isAlive(one.process)) one.replies = one.commands.map((command) => runOn(one.process, command))
    }
  }

  /** Leaving ones answer whoever is connected to them, until they are killed. */
  const killed = new WeakSet<HaproxyProcess>()
  const isAlive = (process: HaproxyProcess) => !killed.has(process)

  const replace = (configText: string): ReadonlyArray<HaproxyProcess> => {
    const config = LoadedConfig.read(configText)
    const old = running()
    for (const [index, place] of places.entries()) {
      const pid = ++lastPid
      place.process = new HaproxyProcess({ version, pid, number: index + 1, config, fleet, startedMillis: nowMillis })
    }
    return old
  }

  const start = (configText: string): void => {
    killProcess()
    changing(nowMillis, () => replace(configText))
  }

  const reload = (configText: string): ReadonlyArray<HaproxyProcess> => {
    const old = changing(nowMillis, () => replace(configText))
    for (const process of old) process.isLeaving = true
    leaving = [...leaving, ...old].filter(({ sessions }) => sessions > 0)
    return leaving
  }

  const killProcess = (index?: number): void => changing(nowMillis, () => kill(index))

  const kill = (index: number | undefined): void => {
    for (const place of index === undefined ? places : [placeAt(index)]) {
      if (place.process !== undefined) killed.add(place.process)
      place.process = undefined
    }
    if (index !== undefined) return
    for (const process of leaving) killed.add(process)
    leaving = []
  }

  const placeAt = (index: number): Place => {
    const place = places[index]
    if (place === undefined)
      throw new Error(`there is no process ${index}: the first is 0, and there are ${places.length}`)
    return place
  }

  const connect = Effect.fnUntraced(function* (socket: string) {
    advance(yield* Clock.currentTimeMillis)
    const place = places.find((one) => one.socket === socket)
    const refuse = (why: string) =>
      new SocketError({ socket, reason: "Connect", detail: `cannot connect: connect ${why} ${socket}` })
    if (place === undefined) return yield* refuse("ENOENT")
    if (place.refusals > 0) place.refusals--
    else if (place.process !== undefined) return yield* open(place, place.process)
    return yield* refuse("ECONNREFUSED")
  })

  const open = Effect.fnUntraced(function* (place: Place, process: HaproxyProcess) {
    let askedMillis = yield* Clock.currentTimeMillis
    let isClosed = false
    const close = (count: number, of: number, lastWords = "") => {
      isClosed = true
      const words = lastWords === "" ? "" : `, its last words: ${JSON.stringify(lastWords)}`
      const detail = `HAProxy closed the connection after ${count} of ${of} replies${words}`
      return new SocketError({ socket: place.socket, reason: "Closed", detail })
    }

    const ask = Effect.fnUntraced(function* (commands: ReadonlyArray<string>) {
      if (commands.length === 0) return []
      const now = yield* Clock.currentTimeMillis
      advance(now)
      if (isClosed || !isAlive(process) || now - askedMillis >= idleMillis) return yield* close(0, commands.length)
      askedMillis = now
      counts.commands += commands.length
      if (now < place.silentUntil) return yield* askLate(commands)
      if (place.untilCut !== undefined && place.untilCut <= commands.length) {
        const done = commands.slice(0, place.untilCut).map((command) => runOn(process, command))
        place.untilCut = undefined
        const half = done.at(-1) ?? ""
        return yield* close(done.length - 1, commands.length, half.slice(0, half.length / 2))
      }
      if (place.untilCut !== undefined) place.untilCut -= commands.length
      return commands.map((command) => runOn(process, command))
    })

    const askLate = Effect.fnUntraced(function* (commands: ReadonlyArray<string>) {
      const one: Late = { process, commands, atMillis: place.silentUntil }
      late = [...late, one]
      yield* Effect.sleep(Math.min(replyMillis, place.silentUntil - askedMillis))
      advance(yield* Clock.currentTimeMillis)
      if (one.replies !== undefined) return one.replies
      if (!isAlive(process)) return yield* close(0, commands.length)
      isClosed = true
      const detail = `HAProxy was silent for ${replyMillis / 1000} s after 0 of ${commands.length} replies`
      return yield* new SocketError({ socket: place.socket, reason: "Timeout", detail })
    })

    return { socket: place.socket, ask } satisfies Session
  })

  const sockets = Effect.gen(function* () {
    const turns = new Map<string, Semaphore.Semaphore>()
    for (const socket of options.sockets) turns.set(socket, yield* Semaphore.make(1))
    const session = Effect.fnUntraced(function* (socket: string) {
      const turn = turns.get(socket)
      if (turn !== undefined) yield* Effect.acquireRelease(turn.take(1), () => turn.release(1))
      return yield* connect(socket)
    })
    return HaproxySocket.of({ sockets: options.sockets, session })
  })

  const run: Commands["Service"]["run"] = (program, args) => {
    const command = [program, ...args].join(" ")
    if (args[0] !== "-c") {
      const detail = `cannot run ${program}: a simulation has no such program`
      return Effect.fail(new CommandError({ command, reason: "NotRunnable", detail, output: "" }))
    }
    if (isRefusing) return Effect.succeed({ exitCode: 1, output: refusal(args.at(-1) ?? "") })
    const output = version === "2.2" || version === "2.6" ? "Configuration file is valid\n" : ""
    return Effect.succeed({ exitCode: 0, output })
  }

  const reloader = SimulatedReloader.layer(options, {
    sockets: options.sockets,
    connect,
    isAnyThere: () => running().length > 0,
    load: (configText) => {
      if (isRefusing) return { _tag: "Refused", output: refusal("the config file") }
      if (lostReloads > 0) {
        lostReloads--
        return { _tag: "Lost" }
      }
      return { _tag: "Loaded", leaving: reload(configText).map(({ pid }) => pid) }
    },
    succeeded: () => counts.reloads++
  })

  return {
    sockets: Layer.effect(HaproxySocket, sockets),
    reloader,
    commands: Layer.succeed(Commands, { run }),
    advance,
    nextMillis: () => Math.min(nextCheck(), ...late.map(({ atMillis }) => atMillis)),
    hear: (listener) => void listeners.push(listener),
    processes: () => places.flatMap(({ process, socket }) => (process === undefined ? [] : [viewOf(socket, process)])),
    open: (socket, backend, server, untilMillis) => {
      const process = places.find((one) => one.socket === socket)?.process
      if (process === undefined) throw new Error(`no process is behind ${socket} to open a session on`)
      process.open(backend, server, untilMillis)
    },
    sessions: (socket, backend, server) =>
      places.find((one) => one.socket === socket)?.process?.sessionsOf(backend, server) ?? 0,
    counts: () => ({ ...counts }),
    start,
    reload,
    killProcess,
    silence: (index, untilMillis) => {
      placeAt(index).silentUntil = untilMillis
    },
    cutReplyAt: (index, command) => {
      placeAt(index).untilCut = Math.max(1, command)
    },
    failNextConnections: (index, count) => {
      placeAt(index).refusals = count
    },
    failNextReloads: (count) => {
      lostReloads = count
    },
    refuseConfigs: (isRefused) => {
      isRefusing = isRefused
    },
    type: (command) => {
      // Everywhere at once.
      changing(nowMillis, () => {
        for (const process of running()) process.run(command)
      })
    }
  }
}

/** As little as is asked for: what nobody looks at is not put together. */
const viewOf = (socket: string, process: HaproxyProcess): ProcessView => ({
  socket,
  pid: process.pid,
  mark: process.mark,
  get servers() {
    return process.view()
  },
  serversOf: (backend) => process.viewOf(backend)
})

/** What `haproxy -c` says of a config that it does not take. */
const refusal = (file: string): string =>
  [
    `[ALERT]    (1000) : config : parsing [${file}:1] : unknown keyword 'simulated-refusal' out of section.`,
    `[ALERT]    (1000) : config : Error(s) found in configuration file : ${file}`,
    "[ALERT]    (1000) : config : Fatal errors found in configuration."
  ].join("\n")
