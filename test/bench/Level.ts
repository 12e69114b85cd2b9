/** ep2's own stack, passes and all, on a real HAProxy that is level with its source: each backend is served by so many servers. */
import { join } from "node:path"
import { Effect, Layer, Logger, Result } from "effect"
import * as Live from "../../src/cli/Live.ts"
import * as Stack from "../../src/cli/Stack.ts"
import { Reconciler } from "../../src/controller/Reconciler.ts"
import { Haproxy } from "../../src/haproxy/Haproxy.ts"
import { Fetcher } from "../../src/orchestrator/Fetcher.ts"
import * as Settings from "../../src/settings/Settings.ts"
import type * as Binaries from "../servers/Binaries.ts"
import * as PooledHaproxy from "./PooledHaproxy.ts"

export interface Options {
  readonly version: Binaries.HaproxyVersion
  readonly backends: number
  /** Of each backend. */
  readonly servers: number
}

export interface Level {
  readonly socket: string
  readonly backends: ReadonlyArray<string>
  /** One pass of each backend, one after the other. */
  readonly passes: Effect.Effect<void>
  /**
   * Lets more than a second go by, with the look at the process in it: the time since each
   * server's last change is in HAProxy's answer, so that afterwards no row is what it was.
   */
  readonly untilRowsDiffer: Effect.Effect<void>
  /** What the passes took that brought it there, in milliseconds of this process's processor time. */
  readonly firstCpu: number
}

const mostPasses = 10

export const make = Effect.fnUntraced(
  function* (options: Options) {
    const { servers, version } = options
    const backends = Array.from({ length: options.backends }, (_, index) => `b${index + 1}`)
    const server = yield* PooledHaproxy.make({ version, processes: 1, slots: servers, backends })
    const { settings, template } = settingsOf(server, backends, servers)
    const fetcher = Layer.succeed(Fetcher, {
      fetch: (backend) =>
        Effect.succeed({
          backend,
          wanted: PooledHaproxy.endpoints(1, servers).map((endpoint) => ({ endpoint, origin: "bench" })),
          refused: [],
          pending: [],
          leaving: []
        }),
      awaitChange: () => Effect.never
    })
    const stack = Stack.layer(settings, template, { ...Live.edges(settings), fetcher })
    const services = yield* Layer.build(Layer.provideMerge(stack, Stack.layerAlone))
    const { fetch, pass } = yield* Effect.provide(Reconciler, services)
    const { pidOf } = yield* Effect.provide(Haproxy, services)
    const began = process.cpuUsage()
    for (const backend of backends) {
      yield* Effect.orDie(fetch(backend))
      for (let pass_ = 1; ; pass_++) {
        const { errors, hasActed, plan } = yield* pass(backend)
        if (errors.length > 0) return yield* Effect.die(errors[0])
        if (!hasActed && !plan.isMoving) break
        if (pass_ === mostPasses) return yield* Effect.die(new Error(`${backend} is not level after ${pass_} passes`))
      }
    }
    const { system, user } = process.cpuUsage(began)
    return {
      socket: server.socket,
      backends,
      passes: Effect.forEach(backends, (backend) => pass(backend), { discard: true }),
      untilRowsDiffer: Effect.sleep("600 millis").pipe(
        Effect.andThen(Effect.orDie(pidOf(server.socket))),
        Effect.andThen(Effect.sleep("450 millis"))
      ),
      firstCpu: (system + user) / 1000
    } satisfies Level
  },
  Effect.provide(Logger.layer([]))
)

const settingsOf = (
  { binary, dir, pidFile, socket }: { readonly [_ in "binary" | "dir" | "pidFile" | "socket"]: string },
  backends: ReadonlyArray<string>,
  slots: number
) => {
  const [first, ...others] = backends
  const text = `[haproxy]
haproxy_config_file = ${join(dir, "ep2.cfg")}
template_file = ${join(dir, "template")}
haproxy_binary = ${binary}
haproxy_socket_file = ${socket}
pid_file = ${pidFile}
backend_name = ${first}
backend_port = 8080
node_slots = ${Math.min(slots, 4096)}
new_servers = trusted
orchestrator = file
[FILE]
path = ${join(dir, "targets.json")}
${others.map((name) => `[backend ${name}]\nbackend_port = 8080\n`).join("")}`
  const template = `global
  stats socket ${socket} level admin
defaults
  mode http
  timeout connect 1s
  timeout client 5s
  timeout server 5s
${backends.map((name) => `listen ${name}\n  bind ${dir}/${name}.sock\n  {{ backends.${name}.nodes }}\n`).join("")}`
  const { settings } = Result.getOrThrowWith(Settings.decode("ep2.conf", text), (error) => error)
  return { settings, template }
}
