/**
 * `ep2 init`: a first ep2.conf with its template, and units for systemd, where EP2
 * 1.0 had them or in a folder. A file that is there is never written over: it is
 * named, and the others are written all the same.
 */
import { mkdir, writeFile } from "node:fs/promises"
import { dirname, join, resolve } from "node:path"
import { Console, Effect, Option } from "effect"
import { Command, Flag } from "effect/cli"
import * as Example from "../settings/Example.ts"
import * as ConfFlag from "./ConfFlag.ts"
import { exitCodes } from "./exitCodes.ts"
import { Stop } from "./Stop.ts"
import * as Units from "./Units.ts"

const flags = {
  dir: Flag.String("dir").pipe(
    Flag.withAlias("d"),
    Flag.withDescription("Folder for all of it (default: /etc/ep2, and /etc/systemd/system for the units)"),
    Flag.optional
  ),
  orchestrator: Flag.Literals("orchestrator", Example.orchestrators).pipe(
    Flag.withAlias("o"),
    Flag.withDescription("Where the servers come from (default: consul)"),
    Flag.withDefault("consul" as const)
  )
}

/** The command, for the root. */
export const command = Command.make("init", flags, ({ dir, orchestrator }) =>
  init(Option.getOrUndefined(Option.map(dir, (path) => resolve(path))), orchestrator).pipe(
    Effect.tapError((stop) => Console.error(`ep2: ${stop.message}`))
  )
).pipe(
  Command.withDescription("Write a first ep2.conf, a template and units for systemd; what is there already stays"),
  Command.withExamples([
    { command: "ep2 init --orchestrator aws", description: "Into /etc/ep2 and /etc/systemd/system" },
    { command: "ep2 init --dir ./ep2 --orchestrator file", description: "Into a folder, to look at it first" }
  ])
)

interface Planned {
  readonly path: string
  readonly text: string
  readonly mode: number
}

/** Where each file goes. */
const placesOf = (dir: string | undefined) => {
  const units = dir ?? "/etc/systemd/system"
  const etc = dir ?? dirname(ConfFlag.defaultConf)
  return {
    conf: join(etc, "ep2.conf"),
    template: join(etc, "haproxy.cfg.template"),
    service: join(units, "ep2.service"),
    dropIn: join(units, "haproxy.service.d", "ep2.conf")
  }
}

const init = Effect.fn("Init.init")(function* (dir: string | undefined, orchestrator: Example.Orchestrator) {
  const places = placesOf(dir)
  const planned: ReadonlyArray<Planned> = [
    // A token or a key may come to stand in it.
    { path: places.conf, text: confOf(orchestrator, places.template, dir), mode: 0o640 },
    { path: places.template, text: template, mode: 0o644 },
    { path: places.service, text: Units.service.replace(ConfFlag.defaultConf, () => places.conf), mode: 0o644 },
    { path: places.dropIn, text: Units.dropIn, mode: 0o644 }
  ]
  const failed: Array<string> = []
  for (const file of planned) {
    const outcome = yield* write(file)
    if (outcome === undefined) yield* Console.log(`wrote ${file.path}`)
    else if (outcome === "EEXIST") yield* Console.log(`kept  ${file.path}: it is there already, and stays as it is`)
    else failed.push(`${file.path} cannot be written: ${outcome}`)
  }
  if (failed.length > 0) {
    const message = `${failed.join("\n")}\nrun this as root, or with --dir and a folder that you may write`
    return yield* new Stop({ message, exitCode: exitCodes.unexpected })
  }
  for (const line of nextSteps(places, dir)) yield* Console.log(line)
})

/** Only where nothing is. Returns the system's reason why not; `EEXIST` where the file itself is there. */
const write = ({ mode, path, text }: Planned) =>
  Effect.promise(async () => {
    try {
      await mkdir(dirname(path), { recursive: true })
    } catch (cause) {
      return wordsOf(cause)
    }
    try {
      await writeFile(path, text, { flag: "wx", mode })
      return undefined
    } catch (cause) {
      return cause instanceof Error && "code" in cause && cause.code === "EEXIST" ? "EEXIST" : wordsOf(cause)
    }
  })

const wordsOf = (cause: unknown): string => (cause instanceof Error ? cause.message : String(cause))

const socket = "/run/haproxy/admin.sock"

const confOf = (orchestrator: Example.Orchestrator, templateFile: string, dir: string | undefined): string =>
  Example.conf(orchestrator, {
    haproxy_config_file: "/etc/haproxy/haproxy.cfg",
    template_file: templateFile,
    haproxy_binary: "/usr/sbin/haproxy",
    start_by: "systemd",
    haproxy_socket_file: socket,
    pid_file: "/run/haproxy.pid",
    backend_name: "web",
    backend_port: orchestrator === "aws" ? "8080" : "service",
    node_slots: "50",
    log_file: "-",
    ...(orchestrator === "aws" ? { ip_type: "private" } : {}),
    ...(orchestrator === "file" ? { path: join(dir ?? dirname(ConfFlag.defaultConf), "targets.json") } : {})
  })

const template = `# The template of HAProxy's config: change things here and not there, where ep2 writes over them.
# The servers go where {% raw %}{{nodes}}{% endraw %} stands, alone on its line.

global
    log /dev/log local0
    user haproxy
    group haproxy
    # The socket over which ep2 changes the servers, and by which a reload takes the listeners over.
    stats socket ${socket} mode 660 group haproxy level admin expose-fd listeners
    stats timeout 30s

defaults
    mode http
    log global
    option httplog
    option dontlognull
    # A request that finds its server gone goes to another one.
    option redispatch
    retries 3
    timeout connect 5s
    timeout client 50s
    timeout server 50s
    timeout queue 30s

listen web
    bind :80
    balance roundrobin
    option httpchk
    option forwardfor
    {{nodes}}
`

const nextSteps = (
  { conf, dropIn, service, template: templateFile }: ReturnType<typeof placesOf>,
  dir: string | undefined
): ReadonlyArray<string> => {
  const install =
    dir === undefined
      ? []
      : [`   copy ${service} to /etc/systemd/system/,`, `   and ${dropIn} to /etc/systemd/system/haproxy.service.d/`]
  return [
    "",
    "What comes next:",
    `1. ${conf}: say where the servers come from (its last section), and which backend and port they have`,
    `2. ${templateFile}: make it your HAProxy config; what ep2 needs is {{nodes}} and the stats socket`,
    `3. ep2 check --conf ${conf}`,
    "4. start it:",
    ...install,
    "   systemctl daemon-reload && systemctl enable --now ep2"
  ]
}
