/**
 * The production stack on whatever edges: everything from the passes down to where
 * ep2 touches the world. `Live` has the real edges; the simulation brings its own,
 * and nothing here knows which it is.
 */
import { Duration, Effect, type FileSystem, Layer } from "effect"
import * as Bootstrap from "../controller/Bootstrap.ts"
import { ConfigWriter } from "../controller/ConfigWriter.ts"
import * as Controller from "../controller/Controller.ts"
import { Memories } from "../controller/Memories.ts"
import { Overrides } from "../controller/Overrides.ts"
import { type BackendOptions, Reconciler } from "../controller/Reconciler.ts"
import { SourceReport } from "../controller/SourceReport.ts"
import * as Status from "../controller/Status.ts"
import type { Commands } from "../haproxy/Commands.ts"
import { ConfigFile } from "../haproxy/ConfigFile.ts"
import * as EndState from "../haproxy/EndState.ts"
import { Haproxy } from "../haproxy/Haproxy.ts"
import type { HaproxySocket } from "../haproxy/HaproxySocket.ts"
import type { Reloader } from "../haproxy/Reloader.ts"
import * as ServerRegion from "../haproxy/ServerRegion.ts"
import { TemplateRenderer } from "../haproxy/TemplateRenderer.ts"
import type { Fetcher } from "../orchestrator/Fetcher.ts"
import type { Settings } from "../settings/Settings.ts"
import * as Sources from "./Sources.ts"

/** Where ep2 touches the world. */
export interface Edges<R = never> {
  readonly sockets: Layer.Layer<HaproxySocket>
  readonly reloader: Layer.Layer<Reloader, never, ConfigFile | HaproxySocket | Commands>
  readonly commands: Layer.Layer<Commands>
  readonly files: Layer.Layer<FileSystem.FileSystem>
  readonly fetcher: Layer.Layer<Fetcher, never, R>
}

/** How long leaving servers wait for arriving ones whose health checks are still to pass. */
export const proveTimeoutMillis = 30_000

/** How long a config file that could not be written waits before it is tried again. */
const rewriteEvery = Duration.seconds(5)

/** How each backend is reconciled, and how often at the least. */
export const backendsOf = ({
  backends,
  haproxy
}: Settings): ReadonlyArray<BackendOptions & Controller.BackendOptions> =>
  backends.map((backend) => ({
    name: backend.name,
    source: Sources.keyOf(backend),
    interval: backend.interval,
    nodeSlots: backend.nodeSlots,
    updateBy: haproxy.updateType === "update_by_config" ? "config" : "runtime",
    guard: {
      ...backend.guard,
      windowMillis: Duration.toMillis(backend.guard.window),
      // Asked each interval, and by AWS a little sooner.
      confirmEveryMillis: Duration.toMillis(backend.interval) * 0.75
    },
    plan: {
      prove: backend.newServers === "checked",
      drainTimeoutMillis: Duration.toMillis(backend.drainTimeout),
      drainTimeoutAction: backend.drainTimeoutAction,
      proveTimeoutMillis
    }
  }))

/** Everything that the controller asks for: with these settings, and this text of the template. */
export const layer = <R>(settings: Settings, template: string, edges: Edges<R>) => {
  const { backends } = settings
  const services = Layer.mergeAll(haproxyLayer(settings), edges.reloader, edges.fetcher)
  const writer = Layer.unwrap(
    Effect.map(Overrides, ({ isPaused }) =>
      ConfigWriter.layer({ backends: backends.map(({ name }) => name), retryEvery: rewriteEvery, isPaused })
    )
  )
  return Reconciler.layer(backendsOf(settings)).pipe(
    Layer.provideMerge(writer),
    Layer.provideMerge(services),
    Layer.provideMerge(edges.sockets),
    Layer.provideMerge(configLayer(settings, template, edges))
  )
}

/** What outlives the settings, for a `follow` that runs by itself: it begins with nothing, and no operator overrules it. */
export const layerAlone = Layer.mergeAll(SourceReport.layer, Memories.layer, Overrides.layerNone)

/** The processes of HAProxy, by their sockets. */
export const haproxyLayer = ({ backends }: Settings) =>
  Haproxy.layer({
    placeholder: EndState.placeholder,
    lineOptions: new Map(backends.map((backend) => [backend.name, ServerRegion.optionsText(backend)]))
  })

/** The config file and what is rendered into it. */
export const configLayer = (
  { backends, haproxy }: Settings,
  source: string,
  { commands, files }: Pick<Edges, "commands" | "files">
) => {
  const { sockets, templateFile } = haproxy
  return Layer.mergeAll(
    ConfigFile.layer(haproxy),
    TemplateRenderer.layer({ templateFile, source, backends, sockets })
  ).pipe(Layer.provideMerge(Layer.merge(commands, files)))
}

/** Keeps HAProxy level with these settings. Ends where the operator ends a pause: then it has to begin anew. */
export const follow = Effect.fnUntraced(function* <R>(
  settings: Settings,
  template: string,
  { edges, onUp, ...options }: Bootstrap.Options & { readonly edges: Edges<R>; readonly onUp: Effect.Effect<void> }
) {
  const backends = backendsOf(settings)
  yield* Status.follow(backends.map(({ name }) => name))
  yield* Effect.gen(function* () {
    if (yield* Bootstrap.run(backends, options)) yield* onUp
    yield* Effect.logInfo(`following the source of ${backends.map(({ name }) => name).join(", ")}`)
    yield* Controller.run(backends)
  }).pipe(Effect.provide(layer(settings, template, edges)))
})
