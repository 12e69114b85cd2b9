/**
 * What HAProxy says on its runtime API, version by version. Pure.
 *
 * Source: replies of 2.2, 2.6, 3.0 and 3.2, recorded in `test/fixtures/runtime-api`.
 * `srv_time_since_last_change` is always 0, and `show info` and `show stat` have
 * only some of their lines and columns: what reads them finds these by name.
 */
import { type Endpoint, endpointKey } from "../domain/State.ts"
import type { SimulatedServer } from "./SimulatedServer.ts"

/** Versions that differ in what they can do, or in how they say it. */
export type Version = "2.2" | "2.6" | "3.0" | "3.2"

const releases: Readonly<Record<Version, string>> = {
  "2.2": "2.2.9-2+deb11u6",
  "2.6": "2.6.12-1+deb12u3",
  "3.0": "3.0.11-1+deb13u4",
  "3.2": "3.2.26-1"
}

/** Whether it has `add server` and `del server`. */
export const canAdd = (version: Version): boolean => version !== "2.2"

/** 2.2 and 2.6 set an address whose port they refuse. */
export const appliesBeforeThePort = (version: Version): boolean => version === "2.2" || version === "2.6"

const isOld = appliesBeforeThePort
const by = " by 'stats socket command'"

/** The reply to `show info`. */
export const info = (one: {
  readonly version: Version
  readonly pid: number
  readonly number: number
  readonly uptimeMillis: number
  readonly isStopping: boolean
}): string =>
  [
    "Name: HAProxy",
    `Version: ${releases[one.version]}`,
    `Process_num: ${one.number}`,
    `Pid: ${one.pid}`,
    `Uptime_sec: ${Math.floor(one.uptimeMillis / 1000)}`,
    "node: simulated",
    `Stopping: ${one.isStopping ? 1 : 0}`
  ].join("\n")

/** The reply to a command that it does not know. */
export const unknown = (version: Version, word: string): string => {
  if (version === "2.2") return "Unknown command. Please enter one of the following commands only :"
  const named = version === "2.6" ? "" : `: '${word}'`
  return `Unknown command${named}, but maybe one of the following ones is a better match:`
}

/** The reply to an address that is none. */
export const invalidAddress = (version: Version, text: string): string =>
  `Invalid addr '${text}'${isOld(version) ? by : ""}`

/** The reply to an address for a server that has none. */
export const neverResolved = (version: Version): string =>
  `Update for the current server address family is only supported through configuration file${isOld(version) ? by : "."}`

/** The reply to `set server … addr … port …`; `port` is what was asked for, `undefined` where nothing was. */
export const moved = (
  version: Version,
  how: { readonly from: Endpoint; readonly to: Endpoint; readonly port: string | undefined }
): string => {
  const { from, port, to } = how
  const isMoved = from.address !== to.address
  const badPort = port !== undefined && !/^\d+$/.test(port) ? `problem converting port '${port}' to an int` : undefined
  if (badPort !== undefined && !isOld(version)) return badPort
  const address = isMoved
    ? [`IP changed from '${from.address}' to '${to.address}'`]
    : isOld(version)
      ? ["no need to change the addr"]
      : []
  const ports =
    from.port !== to.port
      ? [`port changed from '${from.port}' to '${to.port}'`]
      : badPort !== undefined
        ? [badPort]
        : isOld(version) && port !== undefined
          ? ["no need to change the port"]
          : []
  const parts = [...address, ...ports]
  return parts.length === 0 ? "nothing changed" : `${parts.join(", ")}${by}`
}

const oldColumns =
  "be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight " +
  "srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state " +
  "bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord"
const newColumns = " srv_use_ssl srv_check_port srv_check_addr srv_agent_addr srv_agent_port"

/** The first two lines of `show servers state`. */
export const serversHead = (version: Version): string => `1\n# ${oldColumns}${version === "2.2" ? "" : newColumns}`

/** The rows of one backend in `show servers state`, each behind a line feed. */
export const servers = (
  version: Version,
  backend: { readonly id: number; readonly name: string },
  all: ReadonlyArray<SimulatedServer>
): string => {
  const end = version === "2.2" ? "" : " 0 0 - - 0"
  const rows = all.map((one) => {
    const admin = (one.isMaint ? 1 : 0) | (one.isDisabled ? 4 : 0) | (one.isDrain ? 8 : 0)
    const [status, result] = { none: [1, 0], passed: [6, 3], failed: [8, 2] }[one.lastCheck]
    const check = (one.check === undefined ? 0 : 2) | (one.isCheckOn ? 4 : 0) | (one.isPaused ? 8 : 0)
    return [
      `\n${backend.id} ${backend.name} ${one.id} ${one.name} ${one.address ?? "-"} ${one.isUp ? 2 : 0} ${admin}`,
      `${one.weight} ${one.initialWeight} 0 ${status} ${result} ${one.health} ${check} 0 0 0 - ${one.port} -${end}`
    ].join(" ")
  })
  return rows.join("")
}

/** The reply to `show stat <backend> 4 -1`. */
export const stats = (backend: string, all: ReadonlyArray<SimulatedServer>, nowMillis: number): string => {
  const rows = all.map((one) => {
    const isChecked = one.isCheckOn && !one.isPaused
    const check = isChecked ? `${one.rise},${one.fall},${one.health}` : ",,"
    const address = one.endpoint === undefined ? "" : endpointKey(one.endpoint)
    return `${backend},${one.name},0,${one.sessionsAt(nowMillis)},${statusOf(one)},${one.weight},${check},${address}`
  })
  return ["# pxname,svname,qcur,scur,status,weight,check_rise,check_fall,check_health,addr", ...rows].join("\n")
}

const statusOf = (one: SimulatedServer): string => {
  if (one.isMaint) return "MAINT"
  if (!one.isUp) return one.health === 0 ? "DOWN" : `DOWN ${one.health}/${one.rise}`
  if (one.isDrain) return "DRAIN"
  if (!one.isCheckOn) return "no check"
  const proven = one.rise + one.fall - 1
  return one.health === proven ? "UP" : `UP ${one.health - one.rise + 1}/${one.fall}`
}
