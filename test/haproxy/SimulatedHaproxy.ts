/**
 * A HAProxy process that is a value, behind the text of the runtime API: the model
 * of `test/domain`, asked and answered in HAProxy's words. It passes the contract
 * that the real ones pass (`RuntimeContract.test.ts`).
 */
import { Effect, Layer } from "effect"
import { isPlaceholder } from "../../src/domain/State.ts"
import { HaproxySocket } from "../../src/haproxy/HaproxySocket.ts"
import * as HaproxyModel from "../domain/HaproxyModel.ts"

export interface SimulatedHaproxy {
  readonly socket: string
  /** Lets so many seconds go by: a health check of each server, and each session nearer to its end. */
  readonly pass: (seconds: number) => void
  /** Endpoints that answer no health check: `127.0.0.1:9`. */
  readonly dead: Set<string>
  /** A session begins on a server, and lasts so many seconds. */
  readonly open: (server: string, seconds: number) => void
  readonly layer: Layer.Layer<HaproxySocket>
}

export const make = (options: {
  readonly socket: string
  readonly servers: ReadonlyArray<HaproxyModel.ModelServer>
  readonly mark?: string
  /** Before 2.6 servers cannot be added. */
  readonly version?: string
}): SimulatedHaproxy => {
  const { mark, socket, version = "3.2.26" } = options
  let process: HaproxyModel.ModelProcess = { socket, servers: options.servers }
  const dead = new Set<string>()
  const canAdd = Number(version.split(".")[0]) > 2 || Number(version.split(".")[1]) >= 6

  const answer = (command: string): string => {
    if (command === "show info") return `Name: HAProxy\nVersion: ${version}\nProcess_num: 1\nPid: 4242\nnode: simulated`
    if (command === "show env EP2_CONFIG") return mark === undefined ? "Variable not found" : `EP2_CONFIG=${mark}`
    if (command === "show servers state web") return servers(process)
    if (command === "show stat web 4 -1") return stats(process)
    if (/^show (?:servers state|stat) /.test(command)) return "Can't find backend."
    if (!canAdd && /^(?:add|del) server /.test(command))
      return "Unknown command. Please enter one of the following commands only :"
    return change(command)
  }

  const change = (command: string): string => {
    const [, name] =
      /^(?:set server|enable health|shutdown sessions server|del server|add server) web\/(\S+)/.exec(command) ?? []
    if (name === undefined) return /\bserver \S+\/|health \S+\//.test(command) ? "No such backend." : "Unknown command."
    const server = process.servers.find((one) => one.name === name)
    const isAdd = command.startsWith("add server ")
    if (server === undefined && !isAdd) return "No such server."
    const refusal = refusalOf(command, server)
    if (refusal !== undefined) return refusal
    const before = server?.endpoint
    process = HaproxyModel.run(
      process,
      command.replace(/^(add server \S+ \S+) .*$/, "$1 check pool-max-conn -1 pool-purge-delay 5s")
    )
    if (isAdd) return "New server registered."
    if (command.startsWith("del server ")) return "Server deleted."
    const to = / addr (\S+) port (\d+)$/.exec(command)
    if (to === null || before === undefined) return ""
    if (before.address === to[1] && before.port === Number(to[2])) return "nothing changed"
    return before.address === to[1]
      ? `port changed from '${before.port}' to '${to[2]}' by 'stats socket command'`
      : `IP changed from '${before.address}' to '${to[1]}', port changed from '${before.port}' to '${to[2]}' by 'stats socket command'`
  }

  const layer = Layer.succeed(HaproxySocket, {
    sockets: [socket],
    session: () => Effect.succeed({ socket, ask: (commands) => Effect.sync(() => commands.map(answer)) })
  })
  return {
    socket,
    dead,
    layer,
    pass: (seconds) => {
      for (let second = 0; second < seconds; second++) process = HaproxyModel.step(process, dead)
    },
    open: (name, seconds) => {
      const servers = process.servers.map((one) =>
        one.name === name ? { ...one, sessions: [...one.sessions, seconds] } : one
      )
      process = { ...process, servers }
    }
  }
}

const refusalOf = (command: string, server: HaproxyModel.ModelServer | undefined): string | undefined => {
  const [, address] = / addr (\S+) port /.exec(command) ?? []
  if (address !== undefined && !/^[0-9.]+$|^[0-9a-f:]*:[0-9a-f:.]*$/i.test(address)) return `Invalid addr '${address}'`
  if (/ port (?!\d+$)\S+$/.test(command)) return "problem converting port to an int"
  if (/ state (?!ready$|drain$|maint$)/.test(command))
    return "'set server <srv> state' expects 'ready', 'drain' and 'maint'."
  if (command.startsWith("add server ") && server !== undefined)
    return "Already exists a server with the same name in backend."
  if (command.startsWith("del server ") && server?.isMaint === false)
    return "Only servers in maintenance mode can be deleted."
  if (command.startsWith("del server ") && server !== undefined && server.sessions.length > 0) {
    return "Server still has connections attached to it, cannot remove it."
  }
  if (command.startsWith("enable health ") && server?.hasCheck === false) {
    return "Health check was not configured on this server, cannot enable."
  }
  return undefined
}

const columns =
  "be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_check_state srv_port"

const servers = (process: HaproxyModel.ModelProcess): string =>
  [
    "1",
    `# ${columns}`,
    ...process.servers.map((one, index) => {
      const check = !one.hasCheck ? 0 : one.isCheckOff ? 2 : 6
      const admin = (one.isMaint ? 1 : 0) | (one.isDrain ? 8 : 0)
      const isUp = !one.isMaint && one.isUp
      const weight = one.weight === 0 ? 0 : 1
      return `2 web ${index + 1} ${one.name} ${one.endpoint.address} ${isUp ? 2 : 0} ${admin} ${weight} 1 ${check} ${one.endpoint.port}`
    })
  ].join("\n")

const stats = (process: HaproxyModel.ModelProcess): string =>
  [
    "# pxname,svname,qcur,scur,check_rise,check_fall,check_health",
    ...process.servers.map((one) => {
      const health =
        !one.hasCheck || one.isCheckOff ? "" : one.unproven === 0 && !isPlaceholder(one.endpoint) ? "4" : "2"
      return `web,${one.name},0,${one.sessions.length},2,3,${health}`
    })
  ].join("\n")
