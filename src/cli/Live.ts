/**
 * The live layers: the one place where settings meet the services. A source
 * more is one case in `fetcherOf`.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Duration, Layer } from "effect"
import { ConfigWriter } from "../controller/ConfigWriter.ts"
import type * as Controller from "../controller/Controller.ts"
import { type BackendOptions, Reconciler } from "../controller/Reconciler.ts"
import { Commands } from "../haproxy/Commands.ts"
import { ConfigFile } from "../haproxy/ConfigFile.ts"
import * as EndState from "../haproxy/EndState.ts"
import { Haproxy } from "../haproxy/Haproxy.ts"
import { HaproxySocket } from "../haproxy/HaproxySocket.ts"
import { Reloader } from "../haproxy/Reloader.ts"
import * as ServerRegion from "../haproxy/ServerRegion.ts"
import { TemplateRenderer } from "../haproxy/TemplateRenderer.ts"
import * as AwsAsgFetcher from "../orchestrator/AwsAsgFetcher.ts"
import * as ConsulFetcher from "../orchestrator/ConsulFetcher.ts"
import * as FileFetcher from "../orchestrator/FileFetcher.ts"
import type { HaproxySettings, Settings } from "../settings/Settings.ts"

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

/** Everything that the controller asks for, on the real world. */
export const layer = (settings: Settings) => {
  const { backends, haproxy } = settings
  const edges = Layer.mergeAll(
    HaproxySocket.layer({ sockets: haproxy.sockets }),
    ConfigFile.layer(haproxy),
    TemplateRenderer.layer({ templateFile: haproxy.templateFile, backends, sockets: haproxy.sockets })
  ).pipe(Layer.provideMerge(Commands.layer), Layer.provideMerge(NodeServices.layer))
  const lineOptions = new Map(backends.map((backend) => [backend.name, ServerRegion.optionsText(backend)]))
  const services = Layer.mergeAll(
    Haproxy.layer({ placeholder: EndState.placeholder, lineOptions }),
    reloaderOf(haproxy),
    fetcherOf(settings)
  )
  const writer = ConfigWriter.layer({ backends: backends.map(({ name }) => name), retryEvery: rewriteEvery })
  return Reconciler.layer(backendsOf(settings)).pipe(
    Layer.provideMerge(writer),
    Layer.provideMerge(services),
    Layer.provideMerge(edges)
  )
}

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

const fetcherOf = ({ backends: [{ interval, name, port, source }] }: Settings) => {
  switch (source._tag) {
    case "Consul":
      return ConsulFetcher.layer(new Map([[name, { ...source, portOf: port }]]))
    case "File":
      return FileFetcher.layer(new Map([[name, { path: source.path, portOf: port }]]))
    case "Aws":
      // Settings refuse it: a group reports no port.
      if (port === "service") throw new Error("no port for an Auto Scaling group")
      return AwsAsgFetcher.layer(new Map([[name, { ...source, port, interval }]]))
  }
}
