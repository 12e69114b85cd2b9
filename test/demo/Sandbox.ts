/**
 * The demo's own folder: the files that ep2 and HAProxy are given, free ports,
 * and the list of servers that ep2 follows. All of it is gone with the scope.
 */
import { mkdtemp, rename, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect, Schema, type Scope } from "effect"
import { type Endpoint, endpointKey } from "../../src/domain/State.ts"
import * as Ports from "../servers/Ports.ts"

/** The demo cannot go on; the message says what to do. */
export class DemoError extends Schema.TaggedError<DemoError>()("DemoError", { message: Schema.String }) {}

/** A server as the list names it. */
export interface Listed {
  readonly name: string
  readonly endpoint: Endpoint
}

export interface Sandbox {
  readonly folder: string
  /** `ep2.conf` */
  readonly conf: string
  readonly template: string
  /** The list of servers, a file_sd document. */
  readonly targets: string
  /** The config file that ep2 writes. */
  readonly haproxyConfig: string
  readonly socket: string
  readonly pidFile: string
  /** ep2's log. */
  readonly log: string
  /** Where HAProxy takes requests, and where it shows its statistics, on 127.0.0.1. */
  readonly port: number
  readonly statsPort: number
  /** Writes a list under its own name in the folder, whole or not at all, as a writer of file_sd should. */
  readonly writeList: (file: string, servers: ReadonlyArray<Listed>) => Effect.Effect<void>
}

/** The backend that ep2 keeps. */
export const backend = "web"

/** How long a server goes on running after it was taken off the list, as an orchestrator's termination delay. */
export const terminationMillis = 1500

/** Makes the folder and the files; HAProxy is the program that ep2 is to start. */
export const make = (haproxy: string): Effect.Effect<Sandbox, never, Scope.Scope> =>
  Effect.gen(function* () {
    const folder = yield* Effect.acquireRelease(
      Effect.promise(() => mkdtemp(join(tmpdir(), "ep2-demo-"))),
      (made) => Effect.promise(() => rm(made, { recursive: true, force: true, maxRetries: 3 }))
    )
    const [port, statsPort] = yield* Effect.promise(() => Promise.all([Ports.unused(), Ports.unused()]))
    const files = {
      conf: join(folder, "ep2.conf"),
      template: join(folder, "haproxy.cfg.template"),
      targets: join(folder, "targets.json"),
      haproxyConfig: join(folder, "haproxy.cfg"),
      socket: join(folder, "haproxy.sock"),
      pidFile: join(folder, "haproxy.pid"),
      log: join(folder, "ep2.log")
    }
    yield* Effect.promise(() => writeFile(files.template, template({ socket: files.socket, port, statsPort })))
    yield* Effect.promise(() => writeFile(files.conf, conf({ folder, haproxy, ...files })))
    const writeList = (file: string, servers: ReadonlyArray<Listed>) =>
      Effect.promise(async () => {
        await writeFile(`${file}.new`, list(servers))
        await rename(`${file}.new`, file)
      })
    return { folder, ...files, port, statsPort, writeList }
  })

const template = (at: { readonly socket: string; readonly port: number; readonly statsPort: number }) => `global
    stats socket ${at.socket} mode 600 level admin expose-fd listeners

defaults
    mode http
    timeout connect 1s
    timeout client 10s
    timeout server 10s
    # A server may die in the middle of a request: another one answers in its place.
    retries 3
    option redispatch 1
    retry-on all-retryable-errors

frontend demo
    bind 127.0.0.1:${at.port}
    default_backend ${backend}

frontend statistics
    bind 127.0.0.1:${at.statsPort}
    stats enable
    stats uri /
    stats refresh 1s

backend ${backend}
    balance roundrobin
    option httpchk GET /health
    {{ nodes }}
`

const conf = (
  at: Pick<Sandbox, "folder" | "haproxyConfig" | "template" | "socket" | "pidFile" | "log" | "targets"> & {
    readonly haproxy: string
  }
) => `[haproxy]
orchestrator = file
template_file = ${at.template}
haproxy_config_file = ${at.haproxyConfig}
haproxy_binary = ${at.haproxy}
haproxy_socket_file = ${at.socket}
pid_file = ${at.pidFile}
start_by = binary
backend_name = ${backend}
node_slots = 12
check_interval = 250ms
server_options = fall 2 rise 1
# Whoever writes the list starts a server before naming it, so it may take traffic at once.
new_servers = trusted
lock_dir = ${at.folder}
log_file = ${at.log}

[FILE]
path = ${at.targets}
`

const list = (servers: ReadonlyArray<Listed>) => {
  const groups = servers.map(({ endpoint, name }) =>
    JSON.stringify({ targets: [endpointKey(endpoint)], labels: { name } })
  )
  return `[\n  ${groups.join(",\n  ")}\n]\n`
}
