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
export const backendsOf = ({ backends }: Settings): ReadonlyArray<BackendOptions & Controller.BackendOptions> =>
  backends.map((backend) => ({
    name: backend.name,
    interval: backend.interval,
    nodeSlots: backend.nodeSlots,
    guard: { allowEmpty: backend.guard.allowEmpty },
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
  const services = Layer.mergeAll(
    Haproxy.layer({ placeholder: EndState.placeholder }),
    reloaderOf(haproxy),
    fetcherOf(settings),
    ConfigWriter.layer({ backends: backends.map(({ name }) => name), retryEvery: rewriteEvery })
  )
  return Reconciler.layer(backendsOf(settings)).pipe(Layer.provideMerge(services), Layer.provideMerge(edges))
}

const reloaderOf = ({ binary, pidFile, reloadInterval, serviceName, startBy }: HaproxySettings) =>
  startBy === "systemd"
    ? Reloader.layerSystemd({ binary, pidFile, reloadInterval, service: serviceName })
    : Reloader.layerBinary({ binary, pidFile, reloadInterval })

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

/** What ep2.conf may ask for and this version cannot do, one line each. Nothing is started with any of them. */
export const unsupported = ({ backends, file, haproxy }: Settings): ReadonlyArray<string> => {
  const not = (key: string, instead: string) => `${file}: [haproxy] ${key} is not in this version yet: ${instead}`
  return [
    ...backends.flatMap(({ nodeSlots }) =>
      nodeSlots === 0 ? [not("node_slots = 0", "give it as many slots as the group can have servers")] : []
    ),
    ...(haproxy.startBy === "master" ? [not("start_by = master", "use binary or systemd")] : []),
    ...(haproxy.updateType === "update_by_config"
      ? [not("update_type = update_by_config", "use update_by_runtime")]
      : [])
  ]
}
