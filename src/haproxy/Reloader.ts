/**
 * Starts HAProxy and reloads it, and knows when that is done.
 *
 * Each of the waits and looks here answers something that was seen to go wrong
 * on HAProxy 2.2 to 3.2: a pid file that is empty for some milliseconds, a pid in
 * it that is another program's, a signal that is lost, a socket that still
 * answers from the old process, a port that another program has.
 */
import { Clock, Context, Duration, Effect, Layer, Option, Ref, Result, Schedule, Semaphore } from "effect"
import * as BindConflict from "./BindConflict.ts"
import { ConfigFile, ReloadError } from "./ConfigFile.ts"
import { HaproxySocket } from "./HaproxySocket.ts"
import * as LoadCommand from "./LoadCommand.ts"
import * as MasterProcess from "./MasterProcess.ts"
import * as RuntimeApi from "./RuntimeApi.ts"

/** A process that answers on its socket. */
export interface Answering {
  readonly socket: string
  readonly pid: number
  /** `EP2_CONFIG` of the config that it runs; `undefined` when ep2 did not render that. */
  readonly mark: string | undefined
}

/** A socket that does not answer, and why not. */
export interface Silent {
  readonly socket: string
  readonly detail: string
}

/** Who answers on the sockets now, and who does not. */
export interface State {
  /** Some socket answers, or a master of our config file is there. */
  readonly isRunning: boolean
  readonly answering: ReadonlyArray<Answering>
  readonly silent: ReadonlyArray<Silent>
}

/** HAProxy runs what was rendered, on every socket. */
export interface Loaded {
  readonly answering: ReadonlyArray<Answering>
  /** Masters of before that still finish their sessions; they accept nothing new. */
  readonly leaving: ReadonlyArray<number>
}

/** Starts and reloads one HAProxy. `ReloadError`: what it was to run, it does not run on every socket. */
export class Reloader extends Context.Service<
  Reloader,
  {
    /** Whether HAProxy runs, and what. Never fails: what does not answer is `silent`. */
    readonly state: Effect.Effect<State>
    /**
     * Starts HAProxy on the config file and waits until every socket answers
     * with `mark`. One that runs already is reloaded instead.
     */
    readonly start: (mark: string) => Effect.Effect<Loaded, ReloadError>
    /**
     * Lets HAProxy take over the config file and waits until every socket
     * answers with `mark`, from a new process. Reloads run one at a time and
     * at least `reloadInterval` apart; callers wait for that.
     *
     * On success the file is marked good. When it fails while the old process
     * serves on, `.lkg` is put back in place.
     */
    readonly reload: (mark: string) => Effect.Effect<Loaded, ReloadError>
    /** Waits until `reload` would begin at once, so that what is rendered then has all that came meanwhile. */
    readonly turn: Effect.Effect<void>
  }
>()("ep2/haproxy/Reloader") {
  /** `start_by = binary`: `haproxy` itself, handing over with `-x` and `-sf`. */
  static readonly layerBinary = (options: BinaryOptions) => layerOf(options, LoadCommand.byBinary)

  /** `start_by = master`: the `reload` of the master's own CLI. */
  static readonly layerMaster = (options: MasterOptions) =>
    layerOf(options, (ours) => LoadCommand.byMaster(ours, options.masterSocket))

  /** `start_by = systemd`: `systemctl start` and `systemctl reload`. */
  static readonly layerSystemd = (options: SystemdOptions) =>
    layerOf(options, () => LoadCommand.bySystemd(options.service))
}

const layerOf = <R>(
  options: BinaryOptions,
  command: (ours: MasterProcess.Ours) => Effect.Effect<LoadCommand.LoadCommand, never, R>
) =>
  Layer.effect(
    Reloader,
    Effect.gen(function* () {
      const configFile = yield* ConfigFile
      const ours = { configFile: configFile.path, pidFile: options.pidFile, binary: options.binary }
      return yield* make(options, ours, yield* command(ours))
    })
  )

interface Timing {
  /** `reload_interval`: the least time from one reload to the next. */
  readonly reloadInterval: Duration.Duration
  /** How long the new processes may take to answer; 15 s. */
  readonly readyTimeout?: Duration.Duration
}

/** For `start_by = binary`. */
export interface BinaryOptions extends Timing {
  /** `haproxy_binary`. */
  readonly binary: string
  /** `pid_file`. */
  readonly pidFile: string
}

/** For `start_by = master`. */
export interface MasterOptions extends BinaryOptions {
  /** `haproxy_master_socket`. */
  readonly masterSocket: string
}

/** For `start_by = systemd`. */
export interface SystemdOptions extends BinaryOptions {
  /** `service_name`. */
  readonly service: string
}

const pollEvery = Duration.millis(15)

/** How often a reload looks whether the old masters have left, before it reports them as leaving. */
const briefly = Schedule.max([Schedule.spaced(pollEvery), Schedule.recurs(12)])

/** A master that was told to reload and shows no sign of it after that is told once more: such signals get lost. */
const tellAgainAfter = Duration.seconds(3)

/** After that a master that did not leave gets its signal again. */
const nudgeAfter = Duration.seconds(1)

/** What the sockets say now. */
type Looked = Pick<State, "answering" | "silent">

const pidsOf = ({ answering }: Looked): string => answering.map(({ pid, socket }) => `${socket} ${pid}`).join()

/** HAProxy before a reload. */
interface Before {
  readonly masters: ReadonlyArray<MasterProcess.Process>
  readonly answering: ReadonlyArray<Answering>
}

const make = Effect.fnUntraced(function* (timing: Timing, ours: MasterProcess.Ours, way: LoadCommand.LoadCommand) {
  const configFile = yield* ConfigFile
  const haproxy = yield* HaproxySocket
  const scope = yield* Effect.scope
  const turn = yield* Semaphore.make(1)
  const notBefore = yield* Ref.make(0)
  const readyTimeout = timing.readyTimeout ?? Duration.seconds(15)

  const ask = Effect.fnUntraced(function* (socket: string) {
    const session = yield* haproxy.session(socket)
    const [info = "", mark = ""] = yield* session.ask([RuntimeApi.showInfo.text, RuntimeApi.showMark.text])
    const pid = RuntimeApi.parsePid(info)
    if (pid === undefined) return Result.fail(`answers ${JSON.stringify(info)} to \`show info\``)
    return Result.succeed<Answering>({ socket, pid, mark: RuntimeApi.parseMark(mark) })
  }, Effect.scoped)

  const look = Effect.gen(function* () {
    const answering: Array<Answering> = []
    const silent: Array<Silent> = []
    const replies = yield* Effect.forEach(
      haproxy.sockets,
      (socket) => ask(socket).pipe(Effect.catch((error) => Effect.succeed(Result.fail(error.detail)))),
      { concurrency: "unbounded" }
    )
    for (const [index, reply] of replies.entries()) {
      if (Result.isSuccess(reply)) answering.push(reply.success)
      else silent.push({ socket: haproxy.sockets[index]!, detail: reply.failure })
    }
    return { answering, silent } satisfies Looked
  })

  const withMasters = Effect.fnUntraced(function* (looked: Looked) {
    const masters = yield* MasterProcess.find(
      ours,
      looked.answering.map(({ pid }) => pid)
    )
    return { ...looked, masters }
  })

  /**
   * Two looks that agree. Just after a reload an old worker may still take a
   * connection off the socket that it shares with the new one, and be gone before
   * anybody can tell whose it was (seen on 2.2).
   */
  const settled = Effect.gen(function* () {
    let last = yield* look
    for (let round = 0; round < 20; round++) {
      yield* Effect.sleep(pollEvery)
      const next = yield* look
      const parents = yield* Effect.forEach(next.answering, ({ pid }) => MasterProcess.parentOf(pid))
      const isSame = pidsOf(last) === pidsOf(next)
      last = next
      if (isSame && !parents.includes(undefined)) break
    }
    return last
  })

  const refuseConflicts = Effect.fnUntraced(function* ({ answering, masters }: Before) {
    const [next, running] = [yield* configFile.read, yield* configFile.readGood]
    const pids = [...answering, ...masters].map(({ pid }) => pid)
    const conflict = yield* BindConflict.find(next ?? "", running ?? "", pids)
    if (conflict === undefined) return
    return yield* new ReloadError({
      configFile: configFile.path,
      reason: "BindConflict",
      detail: `${conflict}; a reload would cost two seconds without any listener, and fail: free the port or change the bind line`,
      output: ""
    })
  })

  /** The socket answers from a process that was not there before, and runs what was rendered. */
  const isNew = (mark: string, from: Before) => (one: Answering) =>
    one.mark === mark && !from.answering.some(({ pid }) => pid === one.pid)

  /** The pid file must name the new master, the parent of who answers, or the next reload would miss it. */
  const isListed = Effect.fnUntraced(function* (from: Before, answering: ReadonlyArray<Answering>) {
    if (!way.hasNewMaster) return true
    const listed = (yield* MasterProcess.listed(ours)).filter((one) => !from.masters.some(({ pid }) => pid === one.pid))
    const parents = yield* Effect.forEach(answering, ({ pid }) => MasterProcess.parentOf(pid))
    return listed.length > 0 && parents.every((parent) => listed.some(({ pid }) => pid === parent))
  })

  const awaitReady = Effect.fnUntraced(function* (mark: string, from: Before) {
    const last = yield* Ref.make<ReadonlyArray<Answering | Silent>>([])
    const began = yield* Clock.currentTimeMillis
    let isToldAgain = way.hasNewMaster || from.answering.length === 0
    const ready = Effect.gen(function* () {
      // Twice in a row: an old worker may answer in between, until it has read its signal.
      let inRow = 0
      while (true) {
        const { answering, silent } = yield* look
        yield* Ref.set(last, [...silent, ...answering.filter((one) => !isNew(mark, from)(one))])
        const isDone = silent.length === 0 && answering.every(isNew(mark, from)) && (yield* isListed(from, answering))
        inRow = isDone ? inRow + 1 : 0
        if (inRow === 2) return answering
        const waited = (yield* Clock.currentTimeMillis) - began
        if (!isToldAgain && waited > Duration.toMillis(tellAgainAfter)) {
          isToldAgain = true
          if (pidsOf({ answering, silent }) === pidsOf({ ...from, silent })) yield* way.load(from)
        }
        yield* Effect.sleep(pollEvery)
      }
    })
    const answering = yield* Effect.timeoutOption(ready, readyTimeout)
    if (Option.isSome(answering)) return answering.value
    return yield* new ReloadError({
      configFile: configFile.path,
      reason: "TimedOut",
      detail: `HAProxy does not run the new config ${Duration.toSeconds(readyTimeout)} s after the command: ${stillMissing(yield* Ref.get(last), ours)}`,
      output: ""
    })
  })

  /**
   * A master that was just born loses a signal. One that is still there after a
   * while gets it again, which does nothing to one that only finishes its sessions.
   */
  const nudge = (masters: ReadonlyArray<MasterProcess.Process>) =>
    Effect.forEach(
      masters,
      Effect.fnUntraced(function* (master) {
        if (yield* MasterProcess.isAlive(master)) yield* Effect.sync(() => softStop(master.pid))
      }),
      { discard: true }
    )

  /** Old masters, but never one that now has the new workers: a master that reloads itself keeps its pid. */
  const stillThere = Effect.fnUntraced(function* (from: Before, answering: ReadonlyArray<Answering>) {
    const now = yield* MasterProcess.find(
      ours,
      answering.map(({ pid }) => pid)
    )
    const old = from.masters.filter((one) => !now.some(({ pid }) => pid === one.pid))
    return yield* Effect.filter(old, MasterProcess.isAlive).pipe(
      Effect.repeat({ until: (alive) => alive.length === 0, schedule: briefly })
    )
  })

  const load = Effect.fnUntraced(function* (mark: string, from: Before) {
    yield* way.load(from)
    const answering = yield* awaitReady(mark, from)
    yield* configFile.markGood.pipe(
      Effect.catch((error) =>
        Effect.logWarning(`HAProxy runs the new config, but it is not kept as good: ${error.message}`)
      )
    )
    const leaving = yield* way.hasNewMaster ? stillThere(from, answering) : Effect.succeed([])
    if (leaving.length > 0) {
      yield* Effect.sleep(nudgeAfter).pipe(Effect.ensuring(nudge(leaving)), Effect.forkIn(scope))
    }
    return { answering, leaving: leaving.map(({ pid }) => pid) } satisfies Loaded
  })

  /** The old one serves on, so the file has to be the old one again, for whoever starts HAProxy next. */
  const putBack = Effect.fnUntraced(function* (mark: string, from: Before) {
    const { answering } = yield* look
    const tookOver = answering.some(isNew(mark, from)) || (way.hasNewMaster && (yield* isListed(from, [])))
    if (!tookOver) yield* configFile.restore
  })

  const untilAllowed = Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    yield* Effect.sleep(Duration.millis(Math.max(0, (yield* Ref.get(notBefore)) - now)))
  })

  const inTurn = Effect.fnUntraced(function* (mark: string) {
    yield* untilAllowed
    const from = yield* Effect.flatMap(settled, withMasters)
    const body = Effect.gen(function* () {
      if (from.masters.length + from.answering.length > 0) {
        yield* refuseConflicts(from)
        yield* Ref.set(notBefore, (yield* Clock.currentTimeMillis) + Duration.toMillis(timing.reloadInterval))
      }
      return yield* load(mark, from)
    })
    return yield* body.pipe(
      Effect.tapError((error) => putBack(mark, from).pipe(Effect.catch((second) => andAlso(error, second))))
    )
  })

  const reload = (mark: string) => turn.withPermit(inTurn(mark)).pipe(Effect.withSpan("Reloader.reload"))
  return Reloader.of({
    state: Effect.map(Effect.flatMap(look, withMasters), ({ answering, masters, silent }) => ({
      isRunning: answering.length + masters.length > 0,
      answering,
      silent
    })),
    start: reload,
    reload,
    turn: turn.withPermit(untilAllowed)
  })
})

/** SIGUSR1: finish the sessions, accept nothing new, then leave. Source: HAProxy management guide, 4. */
const softStop = (pid: number): void => {
  try {
    process.kill(pid, "SIGUSR1")
  } catch {
    // It has just left by itself.
  }
}

/** What a new HAProxy still owed when the time was over. */
const stillMissing = (last: ReadonlyArray<Answering | Silent>, ours: MasterProcess.Ours): string => {
  const [first] = last
  if (first === undefined) return `${ours.pidFile} does not name the new process`
  if (!("pid" in first)) {
    return `${first.socket}: ${first.detail}; does a \`stats socket\` line of the template name this path, with \`level admin\`?`
  }
  return first.mark === undefined
    ? `${first.socket}: pid ${first.pid} does not say its mark; the \`stats socket\` line needs \`level admin\``
    : `${first.socket}: pid ${first.pid} still answers, with the mark ${first.mark}`
}

/** The first error, and that the old config could not be put back either. */
const andAlso = (error: ReloadError, second: ReloadError) =>
  new ReloadError({ ...error, detail: `${error.detail}; and the config before it is not put back: ${second.detail}` })
