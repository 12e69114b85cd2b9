/**
 * Keeps the config file level with the runtime, and lets HAProxy load it where a
 * change needs that: one writer for all backends, beside the passes, so that a
 * check by `haproxy -c` or a reload never delays a change.
 */
import { Context, type Duration, Effect, Layer, Queue, Ref, Result, Schedule } from "effect"
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
     * Says what the file should hold for one backend, and with `load` that HAProxy
     * has to load it. Returns at once whether that is something new; what comes
     * together is written and loaded once.
     */
    readonly offer: (servers: BackendServers, load?: Load) => Effect.Effect<boolean>
    /** Renders and writes the file now, if every backend has been offered. */
    readonly write: Effect.Effect<void, RenderError | ReloadError>
    /**
     * Writes whenever something new was offered, for as long as ep2 runs, and calls
     * `onLoaded` after each load. What fails is said once and tried again.
     */
    readonly run: (onLoaded: Effect.Effect<void>) => Effect.Effect<never>
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
  /** How long to wait before a write that failed is tried again. */
  readonly retryEvery: Duration.Duration
}

const make = Effect.fnUntraced(function* (options: Options) {
  const renderer = yield* TemplateRenderer
  const file = yield* ConfigFile
  const reloader = yield* Reloader
  const haproxy = yield* Haproxy
  const standing = yield* Report.makeStanding
  const warnings = yield* Report.makeStanding
  const latest = yield* Ref.make<ReadonlyMap<string, BackendServers>>(new Map())
  const isStale = yield* Ref.make(false)
  const isStuck = yield* Ref.make(false)
  const wanted = yield* Ref.make<Load | undefined>(undefined)
  /** Processes that a load of ours has replaced. */
  const replaced = yield* Ref.make<ReadonlySet<number>>(new Set())
  const loadingFrom = yield* Ref.make<ReadonlySet<number> | undefined>(undefined)
  const wake = yield* Queue.sliding<void>(1)

  const offer = Effect.fnUntraced(function* (servers: BackendServers, load?: Load) {
    const gone = yield* Ref.get(replaced)
    const isLoad = load?.pids.some((pid) => !gone.has(pid)) === true && (yield* Ref.get(wanted)) === undefined
    if (isLoad) yield* Ref.set(wanted, load)
    const before = yield* Ref.get(latest)
    const isNew = !sameServers(before.get(servers.backend), servers)
    if (isNew) {
      yield* Ref.set(latest, new Map([...before, [servers.backend, servers]]))
      yield* Ref.set(isStale, true)
    }
    if (isNew || isLoad) yield* Queue.offer(wake, undefined)
    return isNew
  })

  const all = Effect.map(Ref.get(latest), (known) => options.backends.flatMap((name) => known.get(name) ?? []))

  /** The mark of what is in place now; `undefined` where some backend has said nothing yet. */
  const put = Effect.gen(function* () {
    const servers = yield* all
    if (servers.length < options.backends.length) return undefined
    yield* Ref.set(isStale, false)
    const rendered = yield* renderer.render(servers)
    const installed = yield* file.install(rendered)
    if (installed.isChanged) {
      yield* Effect.logDebug("config file written")
      yield* warnings.say(new Map(installed.warnings.map((one) => [one, one])), (one) => `no longer: ${one}`)
    }
    return { servers, mark: rendered.mark }
  }).pipe(Effect.onError(() => Ref.set(isStale, true)))

  const write = Effect.asVoid(put).pipe(Effect.withSpan("ConfigWriter.write"))

  const load = Effect.fn("ConfigWriter.load")(function* ({ reason }: Load) {
    const ready = yield* put
    if (ready === undefined) return
    const before = new Set((yield* reloader.state).answering.map(({ pid }) => pid))
    yield* Effect.logInfo(`reloading HAProxy: ${reason}`)
    yield* Ref.set(loadingFrom, before)
    const [{ answering, leaving }, failures] = yield* reloader.reload(ready.mark).pipe(
      Effect.flatMap((loaded) =>
        Effect.map(Effect.forEach(ready.servers, haproxy.afterLoad), (failed) => [loaded, failed] as const)
      ),
      Effect.ensuring(Ref.set(loadingFrom, undefined)),
      // A stop of ep2 waits for it: a HAProxy that was not told everything would have servers that were not proven.
      Effect.uninterruptible
    )
    yield* Ref.set(replaced, before)
    yield* Ref.set(wanted, undefined)
    const old = leaving.length === 0 ? "" : `; the one of before finishes its sessions: pid ${leaving.join(", ")}`
    yield* Effect.logInfo(`HAProxy runs the new config: pid ${answering.map(({ pid }) => pid).join(", ")}${old}`)
    for (const { error } of failures.flat()) yield* Effect.logWarning(`after the reload: ${error.message}`)
  })

  const attempt = Effect.fnUntraced(function* (onLoaded: Effect.Effect<void>) {
    const isLoad = (yield* Ref.get(wanted)) !== undefined
    // What is offered during the wait is loaded along.
    if (isLoad) yield* reloader.turn
    const how = yield* Ref.get(wanted)
    const result = yield* Effect.result(how === undefined ? write : load(how))
    const facts = Result.isFailure(result)
      ? new Map([["config", `the config file is behind the runtime: ${result.failure.message}`]])
      : new Map<string, string>()
    yield* standing.say(facts, () => "the config file is level with the runtime again")
    if (how !== undefined) yield* Ref.set(isStuck, Result.isFailure(result))
    if (how !== undefined && Result.isSuccess(result)) yield* onLoaded
    return Result.isSuccess(result)
  })

  const run = (onLoaded: Effect.Effect<void>) => {
    const retries = Schedule.min([Schedule.exponential(options.retryEvery), Schedule.spaced("1 minute")])
    return Effect.gen(function* () {
      yield* Queue.take(wake)
      yield* attempt(onLoaded).pipe(Effect.repeat({ schedule: retries, until: (isDone) => isDone }))
    }).pipe(Effect.forever)
  }

  // What was offered and not yet written is not lost by a stop. Whatever has to be loaded is when ep2 is back.
  const writeLast = write.pipe(
    Effect.catch((error) => Effect.logWarning(`the config file is left behind the runtime: ${error.message}`))
  )
  yield* Effect.addFinalizer(() => Effect.flatMap(Ref.get(isStale), (stale) => (stale ? writeLast : Effect.void)))
  return ConfigWriter.of({ offer, write, run, isStuck: Ref.get(isStuck), loadingFrom: Ref.get(loadingFrom) })
})

const sameServers = (one: BackendServers | undefined, other: BackendServers): boolean =>
  one !== undefined &&
  one.servers.length === other.servers.length &&
  one.servers.every((server, index) => {
    const match = other.servers[index]!
    return (
      server.name === match.name &&
      server.isDisabled === match.isDisabled &&
      server.endpoint.address === match.endpoint.address &&
      server.endpoint.port === match.endpoint.port
    )
  })
