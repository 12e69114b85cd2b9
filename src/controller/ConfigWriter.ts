/**
 * Keeps the config file level with the runtime, and lets HAProxy load it where a
 * change needs that: one writer for all backends, beside the passes, so that a
 * check by `haproxy -c` or a reload never delays a change.
 */
import { Clock, Context, Duration, Effect, Layer, Option, Queue, Ref, Result } from "effect"
import { ConfigFile, type ReloadError } from "../haproxy/ConfigFile.ts"
import { Haproxy } from "../haproxy/Haproxy.ts"
import { Reloader } from "../haproxy/Reloader.ts"
import type { BackendServers } from "../haproxy/ServerRegion.ts"
import { type RenderError, TemplateRenderer } from "../haproxy/TemplateRenderer.ts"
import * as Progress from "./Progress.ts"
import * as Report from "./Report.ts"

/** Takes what each backend wants of the config file, and writes and loads it. */
export class ConfigWriter extends Context.Service<
  ConfigWriter,
  {
    /**
     * Says what the file should hold for one backend. Returns at once whether that
     * is something new; what comes together is written and loaded once. Without
     * `load`, what the backend wanted loaded before is no longer.
     */
    readonly offer: (offer: Offer) => Effect.Effect<boolean>
    /** Renders and writes these servers, of all backends, and says what HAProxy warns of. Returns the mark. */
    readonly put: (servers: ReadonlyArray<BackendServers>) => Effect.Effect<string, RenderError | ReloadError>
    /**
     * Writes and loads what is offered, for as long as ep2 runs. Before a load it
     * calls `refresh`, after which every backend has offered what it wants now, and
     * after it `onLoaded`. What fails is said once and tried again.
     */
    readonly run: (calls: {
      readonly refresh: Effect.Effect<void>
      readonly onLoaded: Effect.Effect<void>
    }) => Effect.Effect<never>
    /** The last load failed, and none has succeeded since. */
    readonly isStuck: Effect.Effect<boolean>
    /** All that was offered stands in the file, is loaded where it has to be, and HAProxy was told the rest. */
    readonly isLevel: Effect.Effect<boolean>
    /**
     * Whether a process, by its pid, is of a load of ours and has not been told yet
     * what no config can say. It is not to be judged until then.
     */
    readonly isUntold: Effect.Effect<(pid: number) => boolean>
    /** Such a process was seen. */
    readonly attend: Effect.Effect<void>
  }
>()("ep2/controller/ConfigWriter") {
  /** One per config file. Nothing is written before `run` or `put`. */
  static readonly layer = (options: Options) => Layer.effect(ConfigWriter, make(options))
}

/** What one backend wants of the config file. */
export interface Offer {
  /** What the file is to hold. */
  readonly servers: BackendServers
  /** What it is to hold when HAProxy loads it, for whatever reason. */
  readonly forLoad: BackendServers
  /** That HAProxy has to load it. */
  readonly load: Load | undefined
}

/** Why HAProxy has to load the file. */
export interface Load {
  /** For the log: `the pool grows from 8 to 16 slots`. */
  readonly reason: string
  /** The processes that were seen to need it: once others have taken their place, it is over. */
  readonly pids: ReadonlyArray<number>
}

/** For whom the file is written, and when not. */
export interface Options {
  /** All backends of the template, in the order of `ep2.conf`. */
  readonly backends: ReadonlyArray<string>
  /** How long to wait before a write that failed is tried again; twice as long each time, up to a minute. */
  readonly retryEvery: Duration.Duration
  /** While it is so, nothing is written or loaded. Never, if it is not given. */
  readonly isPaused?: Effect.Effect<boolean>
}

/** A load, until the processes that made it have been told the rest. */
interface Owed {
  readonly lines: ReadonlyArray<BackendServers>
  /** The processes that it was to replace. */
  readonly before: ReadonlySet<number>
  readonly told: ReadonlySet<number>
  /** Every process has been told. */
  readonly isDone: boolean
  readonly untilMillis: number
}

/** For as long a process of a load may come late. After that it is somebody else's. */
const longestOwed = Duration.minutes(2)
/** For as long a pass may still speak of a process that is gone. After that its pid may be another one's. */
const longestGone = Duration.seconds(30)
const longestRetry = Duration.minutes(1)
/** What comes so close together is written together; for a second at most. */
const settle = Duration.millis(25)
const mostSettles = 40
const leastRetry = Duration.seconds(1)

const make = Effect.fnUntraced(function* (options: Options) {
  const renderer = yield* TemplateRenderer
  const file = yield* ConfigFile
  const reloader = yield* Reloader
  const haproxy = yield* Haproxy
  const standing = yield* Report.makeStanding
  const warnings = yield* Report.makeStanding
  const latest = yield* Ref.make<ReadonlyMap<string, Offer>>(new Map())
  const isStale = yield* Ref.make(false)
  const isStuck = yield* Ref.make(false)
  /** Processes that the last load has replaced, and when. */
  const replaced = yield* Ref.make<{ readonly pids: ReadonlySet<number>; readonly atMillis: number }>({
    pids: new Set(),
    atMillis: 0
  })
  const owed = yield* Ref.make<Owed | undefined>(undefined)
  const wake = yield* Queue.sliding<void>(1)

  const isNeeded = Effect.fnUntraced(function* (load: Load | undefined) {
    const gone = yield* Ref.get(replaced)
    const isOld = (yield* Clock.currentTimeMillis) > gone.atMillis + Duration.toMillis(longestGone)
    return load?.pids.some((pid) => isOld || !gone.pids.has(pid)) === true
  })

  const offer = Effect.fnUntraced(function* (given: Offer) {
    const { backend } = given.servers
    const before = (yield* Ref.get(latest)).get(backend)
    yield* Ref.update(latest, (known) => new Map([...known, [backend, given]]))
    const isNew = !sameServers(before?.servers, given.servers)
    if (isNew) yield* Ref.set(isStale, true)
    const isOther = given.load?.pids.some((pid) => before?.load?.pids.includes(pid) !== true) === true
    const isLoad = (yield* isNeeded(given.load)) && (isOther || !(yield* isNeeded(before?.load)))
    if (isNew || isLoad) yield* Queue.offer(wake, undefined)
    return isNew
  })

  /** In the order of `ep2.conf`; `undefined` where some backend has said nothing yet. */
  const offers = Effect.map(Ref.get(latest), (known) => {
    const all = options.backends.flatMap((name) => known.get(name) ?? [])
    return all.length < options.backends.length ? undefined : all
  })

  const wantedLoad = Effect.gen(function* () {
    for (const { load } of (yield* offers) ?? []) if (load !== undefined && (yield* isNeeded(load))) return load
    return undefined
  })

  const put = Effect.fn("ConfigWriter.put")(function* (servers: ReadonlyArray<BackendServers>) {
    const rendered = yield* renderer.render(servers)
    const installed = yield* file.install(rendered)
    if (installed.isChanged) {
      yield* Effect.logDebug("config file written")
      yield* warnings.say(new Map(installed.warnings.map((one) => [one, one])), (one) => `no longer: ${one}`)
    }
    return rendered.mark
  })

  const write = Effect.gen(function* () {
    const all = yield* offers
    if (all === undefined) return
    yield* Ref.set(isStale, false)
    yield* put(all.map(({ servers }) => servers))
  }).pipe(
    Effect.onError(() => Ref.set(isStale, true)),
    Effect.withSpan("ConfigWriter.write")
  )

  /** Tells what is owed to the processes that have not been told. Returns what they refused. */
  const tell = Effect.fnUntraced(function* (onTold: Effect.Effect<void>) {
    const now = yield* Ref.get(owed)
    if (now === undefined) return []
    if ((yield* Clock.currentTimeMillis) > now.untilMillis) {
      yield* Ref.set(owed, undefined)
      return []
    }
    const { failures, pids, seen } = yield* haproxy.afterLoad(now.lines, new Set([...now.before, ...now.told]))
    const told = new Set([...now.told, ...pids])
    const isDone = seen.every((pid) => pid !== undefined && told.has(pid))
    yield* Ref.set(owed, { ...now, told, isDone })
    if (pids.length > 0) yield* onTold
    return failures
  })

  const load = Effect.fn("ConfigWriter.load")(function* ({ reason }: Load, onLoaded: Effect.Effect<void>) {
    const { answering: old, isRunning } = yield* reloader.state
    // A HAProxy that stopped is started by whoever owns it, and from this file.
    if (!isRunning) return yield* write
    const before = new Set(old.map(({ pid }) => pid))
    const lines = ((yield* offers) ?? []).map(({ forLoad }) => forLoad)
    yield* Ref.set(isStale, true)
    const mark = yield* put(lines)
    yield* Effect.logInfo(`reloading HAProxy: ${reason}`)
    const untilMillis = (yield* Clock.currentTimeMillis) + Duration.toMillis(longestOwed)
    yield* Ref.set(owed, { lines, before, told: new Set<number>(), isDone: false, untilMillis })
    yield* Effect.gen(function* () {
      const result = yield* Effect.result(reloader.reload(mark))
      const { answering } = yield* reloader.state
      const hasTakenOver = answering.some((one) => one.mark === mark && !before.has(one.pid))
      if (Result.isFailure(result) && !hasTakenOver) return yield* result.failure
      const there = new Set(answering.map(({ pid }) => pid))
      const gone = new Set([...before].filter((pid) => !there.has(pid)))
      yield* Ref.set(replaced, { pids: gone, atMillis: yield* Clock.currentTimeMillis })
      yield* Ref.update(latest, (known) => new Map([...known].map(([name, one]) => [name, without(one, gone)])))
      const leaving = Result.isSuccess(result) ? result.success.leaving : []
      const finishing =
        leaving.length === 0 ? "" : `; the one of before finishes its sessions: pid ${leaving.join(", ")}`
      yield* Effect.logInfo(`HAProxy runs the new config: pid ${[...there].join(", ")}${finishing}`)
      const failures = yield* tell(onLoaded)
      if (Result.isFailure(result)) return yield* result.failure
      yield* Ref.set(isStuck, false)
      if (failures[0] !== undefined) return yield* failures[0]
    }).pipe(
      // A stop of ep2 waits for it: a HAProxy that was not told everything would serve less than it could.
      Effect.uninterruptible
    )
    yield* write
  })

  const isPaused = options.isPaused ?? Effect.succeed(false)

  const attempt = Effect.fnUntraced(function* (
    { onLoaded, refresh }: Parameters<ConfigWriter["Service"]["run"]>[0],
    beat: Progress.Beat
  ) {
    yield* beat(Duration.zero)
    // Whoever ends the pause wakes the writer.
    if (yield* isPaused) return true
    const isOver = () => "the config file is level with the runtime again"
    const [untold] = yield* tell(onLoaded)
    if (untold !== undefined) {
      // Until it is done the file keeps saying what is owed.
      const line = `HAProxy has not taken all that it is told after a reload: ${untold.message}`
      yield* standing.say(new Map([["config", line]]), isOver)
      return false
    }
    if ((yield* wantedLoad) !== undefined) {
      // What comes during the wait is loaded along, and what is no longer needed is not loaded at all.
      // As long as the operator's `reload_interval`, whatever that is.
      yield* beat(Duration.infinity)
      yield* reloader.turn
      yield* beat(Duration.zero)
      yield* refresh
    }
    const wanted = yield* wantedLoad
    const result = yield* Effect.result(wanted === undefined ? write : load(wanted, onLoaded))
    const facts = Result.isFailure(result)
      ? new Map([["config", `the config file is behind the runtime: ${result.failure.message}`]])
      : new Map<string, string>()
    yield* standing.say(facts, isOver)
    if (Result.isSuccess(result)) {
      yield* Ref.set(isStuck, false)
      yield* Ref.update(owed, (now) => (now?.isDone === true ? undefined : now))
    } else if (wanted !== undefined && (yield* wantedLoad) !== undefined) yield* Ref.set(isStuck, true)
    return Result.isSuccess(result)
  })

  const run: ConfigWriter["Service"]["run"] = (calls) =>
    Effect.gen(function* () {
      const beat = yield* Progress.register("the writer of the config file")
      yield* beat(Duration.infinity)
      yield* Queue.take(wake)
      for (let more = 0; more < mostSettles; more++) {
        if (Option.isNone(yield* Effect.timeoutOption(Queue.take(wake), settle))) break
      }
      let pause = options.retryEvery
      while (!(yield* attempt(calls, beat))) {
        yield* beat(Duration.sum(leastRetry, pause))
        // Something new may be what helps.
        yield* Effect.sleep(Duration.min(leastRetry, pause))
        yield* Effect.timeoutOption(Queue.take(wake), pause)
        pause = Duration.min(Duration.times(pause, 2), longestRetry)
      }
    }).pipe(Effect.scoped, Effect.forever)

  // What was offered and not yet written is not lost by a stop, unless HAProxy refused to load it.
  const writeLast = write.pipe(
    Effect.catch((error) => Effect.logWarning(`the config file is left behind the runtime: ${error.message}`))
  )
  yield* Effect.addFinalizer(() =>
    Effect.gen(function* () {
      const isWanted = (yield* Ref.get(isStale)) && !(yield* Ref.get(isStuck)) && !(yield* isPaused)
      // While something is owed the file says so, for the next ep2.
      if (isWanted && (yield* Ref.get(owed)) === undefined) yield* writeLast
    })
  )
  const isLevel = Effect.gen(function* () {
    const isWritten = (yield* offers) !== undefined && !(yield* Ref.get(isStale))
    return isWritten && (yield* wantedLoad) === undefined && (yield* Ref.get(owed)) === undefined
  })
  const isUntold = Effect.gen(function* () {
    const now = yield* Ref.get(owed)
    const isOver = now === undefined || (yield* Clock.currentTimeMillis) > now.untilMillis
    return (pid: number) => !isOver && !now.before.has(pid) && !now.told.has(pid)
  })
  return ConfigWriter.of({
    offer,
    put,
    run,
    isStuck: Ref.get(isStuck),
    isLevel,
    isUntold,
    attend: Queue.offer(wake, undefined)
  })
})

/** The offer, without a load that is over with these processes. */
const without = (offer: Offer, gone: ReadonlySet<number>): Offer =>
  offer.load?.pids.every((pid) => gone.has(pid)) === true ? { ...offer, load: undefined } : offer

const sameServers = (one: BackendServers | undefined, other: BackendServers): boolean =>
  one !== undefined &&
  one.servers.length === other.servers.length &&
  one.servers.every((server, index) => {
    const match = other.servers[index]!
    return (
      server.name === match.name &&
      server.isDisabled === match.isDisabled &&
      server.afterLoad === match.afterLoad &&
      server.endpoint.address === match.endpoint.address &&
      server.endpoint.port === match.endpoint.port
    )
  })
