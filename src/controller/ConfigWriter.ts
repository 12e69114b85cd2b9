/**
 * Keeps the config file level with the runtime: one writer for all backends,
 * beside the passes, so that a check by `haproxy -c` never delays a change.
 */
import { Context, type Duration, Effect, Layer, Queue, Ref, Result, Schedule } from "effect"
import { ConfigFile, type ReloadError } from "../haproxy/ConfigFile.ts"
import { type BackendServers, type RenderError, TemplateRenderer } from "../haproxy/TemplateRenderer.ts"
import * as Report from "./Report.ts"

export class ConfigWriter extends Context.Service<
  ConfigWriter,
  {
    /** Says what the file should hold for one backend. Returns at once; what comes together is written once. */
    readonly offer: (servers: BackendServers) => Effect.Effect<void>
    /** Renders and writes the file now, if every backend has been offered. */
    readonly write: Effect.Effect<void, RenderError | ReloadError>
    /** Writes whenever something new was offered, for as long as ep2 runs. What fails is said once and tried again. */
    readonly run: Effect.Effect<never>
  }
>()("ep2/controller/ConfigWriter") {
  static readonly layer = (options: {
    /** All backends of the template, in the order of `ep2.conf`. */
    readonly backends: ReadonlyArray<string>
    /** How long to wait before a write that failed is tried again. */
    readonly retryEvery: Duration.Duration
  }) => Layer.effect(ConfigWriter, make(options))
}

const make = Effect.fnUntraced(function* (options: {
  readonly backends: ReadonlyArray<string>
  readonly retryEvery: Duration.Duration
}) {
  const renderer = yield* TemplateRenderer
  const file = yield* ConfigFile
  const standing = yield* Report.makeStanding
  const warnings = yield* Report.makeStanding
  const latest = yield* Ref.make<ReadonlyMap<string, BackendServers>>(new Map())
  const isStale = yield* Ref.make(false)
  const wake = yield* Queue.sliding<void>(1)

  const offer = Effect.fnUntraced(function* (servers: BackendServers) {
    const before = yield* Ref.get(latest)
    if (sameServers(before.get(servers.backend), servers)) return
    yield* Ref.set(latest, new Map([...before, [servers.backend, servers]]))
    yield* Ref.set(isStale, true)
    yield* Queue.offer(wake, undefined)
  })

  const write = Effect.gen(function* () {
    const known = yield* Ref.get(latest)
    const all = options.backends.flatMap((name) => known.get(name) ?? [])
    if (all.length < options.backends.length) return
    yield* Ref.set(isStale, false)
    const installed = yield* renderer.render(all).pipe(
      Effect.flatMap(file.install),
      Effect.onError(() => Ref.set(isStale, true))
    )
    if (!installed.isChanged) return
    yield* Effect.logDebug("config file written")
    yield* warnings.say(new Map(installed.warnings.map((one) => [one, one])), (one) => `no longer: ${one}`)
  }).pipe(Effect.withSpan("ConfigWriter.write"))

  const attempt = Effect.gen(function* () {
    const result = yield* Effect.result(write)
    const facts = Result.isFailure(result)
      ? new Map([["config", `the config file is behind the runtime: ${result.failure.message}`]])
      : new Map<string, string>()
    yield* standing.say(facts, () => "the config file is level with the runtime again")
    return Result.isSuccess(result)
  })

  const run = Effect.gen(function* () {
    yield* Queue.take(wake)
    yield* attempt.pipe(Effect.repeat({ schedule: Schedule.spaced(options.retryEvery), until: (isDone) => isDone }))
  }).pipe(Effect.forever)

  // What was offered and not yet written is not lost by a stop.
  yield* Effect.addFinalizer(() => Ref.get(isStale).pipe(Effect.flatMap((stale) => (stale ? attempt : Effect.void))))
  return ConfigWriter.of({ offer, write, run })
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
