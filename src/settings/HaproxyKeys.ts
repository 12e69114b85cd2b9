/**
 * The section `[haproxy]`: what ep2 changes, how, and how carefully.
 */
import { Schema } from "effect"
import * as Key from "./Key.ts"
import * as Value from "./Value.ts"

/** Every key of `[haproxy]`, in the order of the documentation. */
export const Haproxy = Schema.Struct({
  orchestrator: Key.withDefault(
    "aws",
    {
      meaning:
        "Where the wanted servers come from: aws, consul or file, each with a section of its own, or custom, a program's own source",
      example: "consul"
    },
    Value.oneOf(["aws", "consul", "file", "custom"])
  ),
  haproxy_config_file: Key.withDefault(
    "/etc/haproxy/haproxy.cfg",
    { meaning: "HAProxy's config file, which ep2 writes", example: "/etc/haproxy/haproxy.cfg" },
    Value.path("HAProxy's config file")
  ),
  template_file: Key.withDefault(
    "/etc/ep2/haproxy.cfg.template",
    { meaning: "The template that the config file is made from", example: "/etc/ep2/haproxy.cfg.template" },
    Value.path("the template")
  ),
  haproxy_binary: Key.withDefault(
    "/usr/sbin/haproxy",
    { meaning: "HAProxy's program", example: "/usr/local/sbin/haproxy" },
    Value.path("HAProxy's program")
  ),
  start_by: Key.withDefault(
    "binary",
    { meaning: "How HAProxy is started and reloaded: systemd, binary or master", example: "systemd" },
    Value.oneOf(["systemd", "binary", "master"])
  ),
  haproxy_socket_file: Key.withDefault(
    "/var/run/haproxy/haproxy.sock",
    {
      meaning: "UNIX socket of HAProxy at level admin; with nbproc one per process, separated by commas",
      example: "/run/haproxy/1.sock, /run/haproxy/2.sock"
    },
    Value.sockets
  ),
  haproxy_master_socket: Key.optional(
    {
      meaning: "UNIX socket of HAProxy's master process; required with start_by = master",
      example: "/run/haproxy/master.sock"
    },
    Value.socket
  ),
  pid_file: Key.withDefault(
    "/run/haproxy.pid",
    { meaning: "HAProxy's pid file", example: "/run/haproxy.pid" },
    Value.path("a pid file")
  ),
  service_name: Key.withDefault(
    "haproxy",
    { meaning: "HAProxy's systemd unit, for start_by = systemd", example: "haproxy" },
    Value.unit
  ),
  update_type: Key.withDefault(
    "update_by_runtime",
    {
      meaning: "How a change is made: update_by_runtime (over the socket) or update_by_config (by a reload)",
      example: "update_by_runtime"
    },
    Value.oneOf(["update_by_runtime", "update_by_config"])
  ),
  reload_interval: Key.withDefault(
    "5",
    { meaning: "Least time between two reloads", unit: "s", example: "10" },
    Value.seconds
  ),
  backend_name: Key.withDefault(
    "haproxynode",
    { meaning: "The backend or listen whose servers ep2 keeps", example: "web" },
    Value.proxyName
  ),
  backend_port: Key.withDefault(
    "6003",
    { meaning: "Port of every server, or service for the port that the source reports", example: "service" },
    Value.portOrService
  ),
  backend_maxconn: Key.optional(
    { meaning: "Most connections to one server at a time (maxconn of its line); 0 is no limit", example: "200" },
    Value.whole(0, 1_000_000)
  ),
  check_interval: Key.optional(
    {
      meaning: "Time between two health checks of a server (inter of its line), as HAProxy writes it",
      unit: "ms, or the unit written behind it",
      example: "2s"
    },
    Value.haproxyTime
  ),
  server_options: Key.optional(
    {
      meaning: "More options for every server line; not disabled, enabled or weight, which ep2 sets itself",
      example: "rise 2 fall 3"
    },
    Value.serverOptions
  ),
  node_slots: Key.withDefault(
    "50",
    {
      meaning: "Servers that are set up in advance, so that a new endpoint needs no reload; 0: dynamic servers only",
      example: "100"
    },
    Value.whole(0, 4096)
  ),
  new_servers: Key.optional(
    {
      meaning:
        "Whether a new server takes traffic at once (trusted) or once its health checks pass (checked); without the key, trusted for consul with only_passing, else checked",
      example: "checked"
    },
    Value.oneOf(["trusted", "checked"])
  ),
  drain_timeout: Key.withDefault(
    "30",
    {
      meaning: "How long sessions on a leaving server may last before drain_timeout_action",
      unit: "s",
      example: "120"
    },
    Value.seconds
  ),
  drain_timeout_action: Key.withDefault(
    "wait",
    {
      meaning: "What happens then: wait (maintenance, and the sessions end by themselves) or shutdown (they are ended)",
      example: "shutdown"
    },
    Value.oneOf(["wait", "shutdown"])
  ),
  sleep_before_next_run: Key.withDefault(
    "5",
    { meaning: "Longest time between two looks at the source and at HAProxy", unit: "s", example: "0.5" },
    Value.seconds
  ),
  allow_empty: Key.withDefault(
    "False",
    { meaning: "Whether an answer without any server may take away the last ones", example: "True" },
    Value.boolean
  ),
  min_servers: Key.withDefault(
    "1",
    { meaning: "A change that leaves fewer servers than this has to be confirmed", example: "2" },
    Value.whole(0, 4096)
  ),
  max_removal_percent: Key.withDefault(
    "50",
    {
      meaning:
        "A change that takes away more than this part of the most that was served within guard_window has to be confirmed",
      unit: "%",
      example: "30"
    },
    Value.whole(0, 100)
  ),
  guard_confirmations: Key.withDefault(
    "3",
    { meaning: "How many answers in a row have to miss a server before such a change is made", example: "5" },
    Value.whole(1, 100)
  ),
  guard_window: Key.withDefault(
    "60",
    { meaning: "How far back max_removal_percent looks", unit: "s", example: "300" },
    Value.seconds
  ),
  lock_dir: Key.withDefault(
    "/run",
    { meaning: "Folder for the lock that keeps a second ep2 off the same config file", example: "/run/ep2" },
    Value.path("a folder")
  ),
  sleep_before_next_lock_attempt: Key.withDefault(
    "5",
    { meaning: "Time between two tries to get the lock", unit: "s", example: "1" },
    Value.seconds
  ),
  log_file: Key.withDefault(
    "/var/log/ep2/ep2.log",
    { meaning: "File for the log, or - for standard output", example: "-" },
    Value.pathOrDash
  ),
  log_format: Key.withDefault(
    "text",
    { meaning: "Form of the log's lines: text or json", example: "json" },
    Value.oneOf(["text", "json"])
  ),
  log_level: Key.withDefault(
    "info",
    { meaning: "Least grave lines in the log: debug, info, warning or error", example: "warning" },
    Value.oneOf(["debug", "info", "warning", "error"])
  )
})
