/**
 * Keeps the config file level with the runtime, and lets HAProxy load it where a
 * change needs that: one writer for all backends, beside the passes, so that a
 * check by `haproxy -c` or a reload never delays a change.
 */
import { Context, Duration, Effect, Layer, Queue, Ref, Result } from "effect"
import { ConfigFile, type ReloadError } from "../haproxy/ConfigFile.ts"
import { Haproxy } from "../haproxy/Haproxy.ts"
import { Reloader } from "../haproxy/Reloader.ts"
import type { BackendServers } from "../haproxy/ServerRegion.ts"
import { type RenderError, TemplateRenderer } from "../haproxy/TemplateRenderer.ts"
import * as Report from "./Report.ts"

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
    /**
     * While a load is under way, the processes of before. Another one that answers
     * meanwhile has not been told everything yet, and is not to be judged.
     */
    readonly loadingFrom: Effect.Effect<ReadonlySet<number> | undefined>
  }
>()("ep2/controller/ConfigWriter") {
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

export interface Options {
  /** All backends of the template, in the order of `ep2.conf`. */
  readonly backends: ReadonlyArray<string>
  /** How long to wait before a write that failed is tried again; twice as long each time, up to a minute. */
  readonly retryEvery: Duration.Duration
}

const longestRetry = Duration.minutes(1)
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
  /** Processes that a load of ours has replaced. */
  const replaced = yield* Ref.make<ReadonlySet<number>>(new Set())
  const loadingFrom = yield* Ref.make<ReadonlySet<number> | undefined>(undefined)
  const wake = yield* Queue.sliding<void>(1)

  const isNeeded = Effect.fnUntraced(function* (load: Load | undefined) {
    const gone = yield* Ref.get(replaced)
    return load?.pids.some((pid) => !gone.has(pid)) === true
  })

  const offer = Effect.fnUntraced(function* (given: Offer) {
    const { backend } = given.servers
    const before = (yield* Ref.get(latest)).get(backend)
    yield* Ref.update(latest, (known) => new Map([...known, [backend, given]]))
    const isNew = !sameServers(before?.servers, given.servers)
    if (isNew) yield* Ref.set(isStale, true)
    const isLoad = !(yield* isNeeded(before?.load)) && (yield* isNeeded(given.load))
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

  const load = Effect.fn("ConfigWriter.load")(function* ({ reason }: Load) {
    const { answering: old, isRunning } = yield* reloader.state
    // A HAProxy that stopped is started by whoever owns it, and from this file.
    if (!isRunning) return yield* write
    const before = new Set(old.map(({ pid }) => pid))
    const lines = ((yield* offers) ?? []).map(({ forLoad }) => forLoad)
    const mark = yield* put(lines)
    yield* Ref.set(isStale, true)
    yield* Effect.logInfo(`reloading HAProxy: ${reason}`)
    yield* Ref.set(loadingFrom, before)
    yield* Effect.gen(function* () {
      const result = yield* Effect.result(reloader.reload(mark))
      const { answering } = yield* reloader.state
      const hasTakenOver = answering.some((one) => one.mark === mark && !before.has(one.pid))
      if (Result.isFailure(result) && !hasTakenOver) return yield* result.failure
      const failures = (yield* Effect.forEach(lines, haproxy.afterLoad)).flat()
      yield* Ref.set(replaced, before)
      const leaving = Result.isSuccess(result) ? result.success.leaving : []
      const finishing =
        leaving.length === 0 ? "" : `; the one of before finishes its sessions: pid ${leaving.join(", ")}`
      yield* Effect.logInfo(
        `HAProxy runs the new config: pid ${answering.map(({ pid }) => pid).join(", ")}${finishing}`
      )
      if (Result.isFailure(result)) yield* Effect.logWarning(`not all of HAProxy does: ${result.failure.message}`)
      for (const { error } of failures) yield* Effect.logWarning(`after the reload: ${error.message}`)
    }).pipe(
      Effect.ensuring(Ref.set(loadingFrom, undefined)),
      // A stop of ep2 waits for it: a HAProxy that was not told everything would serve less than it could.
      Effect.uninterruptible
    )
    yield* write
  })

  const attempt = Effect.fnUntraced(function* ({ onLoaded, refresh }: Parameters<ConfigWriter["Service"]["run"]>[0]) {
    if ((yield* wantedLoad) !== undefined) {
      // What comes during the wait is loaded along, and what is no longer needed is not loaded at all.
      yield* reloader.turn
      yield* refresh
    }
    const wanted = yield* wantedLoad
    const result = yield* Effect.result(wanted === undefined ? write : load(wanted))
    const facts = Result.isFailure(result)
      ? new Map([["config", `the config file is behind the runtime: ${result.failure.message}`]])
      : new Map<string, string>()
    yield* standing.say(facts, () => "the config file is level with the runtime again")
    if (wanted !== undefined) yield* Ref.set(isStuck, Result.isFailure(result))
    if (wanted !== undefined && Result.isSuccess(result)) yield* onLoaded
    return Result.isSuccess(result)
  })

  const run: ConfigWriter["Service"]["run"] = (calls) =>
    Effect.gen(function* () {
      yield* Queue.take(wake)
      let pause = options.retryEvery
      while (!(yield* attempt(calls))) {
        // Something new may be what helps.
        yield* Effect.sleep(Duration.min(leastRetry, pause))
        yield* Effect.timeoutOption(Queue.take(wake), pause)
        pause = Duration.min(Duration.times(pause, 2), longestRetry)
      }
    }).pipe(Effect.forever)

  // What was offered and not yet written is not lost by a stop, unless HAProxy refused to load it.
  const writeLast = write.pipe(
    Effect.catch((error) => Effect.logWarning(`the config file is left behind the runtime: ${error.message}`))
  )
  yield* Effect.addFinalizer(() =>
    Effect.gen(function* () {
      if ((yield* Ref.get(isStale)) && !(yield* Ref.get(isStuck))) yield* writeLast
    })
  )
  return ConfigWriter.of({ offer, put, run, isStuck: Ref.get(isStuck), loadingFrom: Ref.get(loadingFrom) })
})

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
