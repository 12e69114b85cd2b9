/**
 * The real edges: the one place where settings meet the world.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Effect, Layer } from "effect"
import { Commands } from "../haproxy/Commands.ts"
import { ConfigFile } from "../haproxy/ConfigFile.ts"
import { HaproxySocket } from "../haproxy/HaproxySocket.ts"
import { Reloader } from "../haproxy/Reloader.ts"
import * as ServerRegion from "../haproxy/ServerRegion.ts"
import { TemplateRenderer } from "../haproxy/TemplateRenderer.ts"
import { Fetcher } from "../orchestrator/Fetcher.ts"
import type { HaproxySettings, Settings } from "../settings/Settings.ts"
import { Sources } from "./Sources.ts"
import * as Stack from "./Stack.ts"

/**
 * The real world, as these settings name it. The sources go on when other settings
 * take the place of these.
 */
export const edges = ({ backends, haproxy }: Settings): Stack.Edges<Sources> => ({
  sockets: HaproxySocket.layer({ sockets: haproxy.sockets }),
  reloader: reloaderOf(haproxy),
  commands: Commands.layer,
  files: NodeServices.layer,
  fetcher: Layer.effect(
    Fetcher,
    Effect.flatMap(Sources, ({ fetcherOf }) => fetcherOf(backends))
  )
})

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
  }).pipe(
    Effect.provide(Stack.configLayer(settings, template, { commands: Commands.layer, files: NodeServices.layer }))
  )

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
