/**
 * The live layers: the one place where settings meet the services.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Duration, Effect, Layer } from "effect"
import { ConfigWriter } from "../controller/ConfigWriter.ts"
import type * as Controller from "../controller/Controller.ts"
import { Overrides } from "../controller/Overrides.ts"
import { type BackendOptions, Reconciler } from "../controller/Reconciler.ts"
import { Commands } from "../haproxy/Commands.ts"
import { ConfigFile } from "../haproxy/ConfigFile.ts"
import * as EndState from "../haproxy/EndState.ts"
import { Haproxy } from "../haproxy/Haproxy.ts"
import { HaproxySocket } from "../haproxy/HaproxySocket.ts"
import { Reloader } from "../haproxy/Reloader.ts"
import * as ServerRegion from "../haproxy/ServerRegion.ts"
import { TemplateRenderer } from "../haproxy/TemplateRenderer.ts"
import { Fetcher } from "../orchestrator/Fetcher.ts"
import type { HaproxySettings, Settings } from "../settings/Settings.ts"
import * as Sources from "./Sources.ts"

/** How long leaving servers wait for arriving ones whose health checks are still to pass. */
const proveTimeoutMillis = 30_000

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

/**
 * Everything that the controller asks for, on the real world: with these settings,
 * and this text of the template. `Sources`, `Memories` and `Overrides` go on when
 * other settings take their place.
 */
export const layer = (settings: Settings, template: string) => {
  const { backends, haproxy } = settings
  const lineOptions = new Map(backends.map((backend) => [backend.name, ServerRegion.optionsText(backend)]))
  const services = Layer.mergeAll(
    Haproxy.layer({ placeholder: EndState.placeholder, lineOptions }),
    reloaderOf(haproxy),
    Layer.effect(
      Fetcher,
      Effect.flatMap(Sources.Sources, ({ fetcherOf }) => fetcherOf(backends))
    )
  )
  const writer = Layer.unwrap(
    Effect.map(Overrides, ({ isPaused }) =>
      ConfigWriter.layer({ backends: backends.map(({ name }) => name), retryEvery: rewriteEvery, isPaused })
    )
  )
  return Reconciler.layer(backendsOf(settings)).pipe(
    Layer.provideMerge(writer),
    Layer.provideMerge(services),
    Layer.provideMerge(HaproxySocket.layer({ sockets: haproxy.sockets })),
    Layer.provideMerge(configLayer(settings, template))
  )
}

/** The config file and what is rendered into it. */
const configLayer = ({ backends, haproxy }: Settings, source: string) => {
  const { sockets, templateFile } = haproxy
  return Layer.mergeAll(
    ConfigFile.layer(haproxy),
    TemplateRenderer.layer({ templateFile, source, backends, sockets })
  ).pipe(Layer.provideMerge(Commands.layer), Layer.provideMerge(NodeServices.layer))
}

/** Whether HAProxy takes these settings and this template, with the servers that the file on disk has. Changes nothing. */
export const check = (settings: Settings, template: string) =>
  Effect.gen(function* () {
    const renderer = yield* TemplateRenderer
    const file = yield* ConfigFile
    const onDisk = (yield* file.read) ?? ""
    const servers = settings.backends.map(({ name }) => ({
      backend: name,
      servers: ServerRegion.read(onDisk, name)
    }))
    yield* file.check(yield* renderer.render(servers))
  }).pipe(Effect.provide(configLayer(settings, template)))

const reloaderOf = ({ binary, masterSocket, pidFile, reloadInterval, serviceName, startBy }: HaproxySettings) => {
  const options = { binary, pidFile, reloadInterval }
  switch (startBy) {
    case "binary":
      return Reloader.layerBinary(options)
    case "systemd":
      return Reloader.layerSystemd({ ...options, service: serviceName })
    case "master":
      // Settings ask for it.
      if (masterSocket === undefined) throw new Error("no haproxy_master_socket with start_by = master")
      return Reloader.layerMaster({ ...options, masterSocket })
  }
}
