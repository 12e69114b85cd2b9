/**
 * What HAProxy does with ep2's commands, as far as the planner can see it, in a
 * few pure functions. Time goes in steps of one second.
 *
 * Modelled after what 2.2 to 3.2 did when tried: `ready` after maintenance makes
 * a server UP before its first check, `health down` before `ready` is forgotten,
 * an address change leaves health alone, maintenance and weight 0 cut no session.
 */
import { type Endpoint, endpointKey, type ProcessState, slotNumber } from "../../src/domain/State.ts"

export interface ModelServer {
  readonly name: string
  readonly endpoint: Endpoint
  readonly isMaint: boolean
  readonly isDrain: boolean
  readonly weight: 0 | 100
  readonly hasCheck: boolean
  /** A server that was added at runtime has its check off at first. */
  readonly isCheckOff: boolean
  readonly isUp: boolean
  /** Good checks that are still to come before it is proven; bad ones count them up again. */
  readonly unproven: number
  /** How long each session in progress goes on, in steps. */
  readonly sessions: ReadonlyArray<number>
}

export interface ModelProcess {
  readonly socket: string
  readonly servers: ReadonlyArray<ModelServer>
}

/** `rise` of the checks, one a step. */
export const rise = 3

export const freeServer = (name: string, endpoint: Endpoint, hasCheck: boolean): ModelServer => ({
  name,
  endpoint,
  isMaint: true,
  isDrain: false,
  weight: 100,
  hasCheck,
  isCheckOff: false,
  isUp: false,
  unproven: rise,
  sessions: []
})

/** Whether new requests reach it. */
export const takesTraffic = ({ isDrain, isMaint, isUp, weight }: ModelServer): boolean =>
  !isMaint && !isDrain && weight > 0 && isUp

/** The process after one of ep2's commands. Throws at a command that HAProxy would refuse. */
export const run = (process: ModelProcess, command: string): ModelProcess => {
  const [, added, address, port] =
    /^add server web\/(\S+) (\S+):(\d+) check pool-max-conn -1 pool-purge-delay 5s$/.exec(command) ?? []
  if (added !== undefined && address !== undefined) {
    if (process.servers.some(({ name }) => name === added)) throw new Error(`refused: ${command}`)
    const fresh = freeServer(added, { address, port: Number(port) }, true)
    return { ...process, servers: [...process.servers, { ...fresh, isCheckOff: true }] }
  }
  const deleted = /^del server web\/(\S+)$/.exec(command)?.[1]
  if (deleted !== undefined) {
    const isFree = process.servers.some(
      ({ isMaint, name, sessions }) => name === deleted && isMaint && sessions.length === 0
    )
    if (!isFree) throw new Error(`refused: ${command}`)
    return { ...process, servers: process.servers.filter(({ name }) => name !== deleted) }
  }
  const checked = /^enable health web\/(\S+)$/.exec(command)?.[1]
  if (checked !== undefined) {
    // Switching a check on shows the server as up, whatever it is.
    const servers = process.servers.map((one) => (one.name === checked ? { ...one, isCheckOff: false } : one))
    return { ...process, servers }
  }
  const [, name, rest] =
    /^set server web\/(\S+) (.*)$/.exec(command) ?? /^shutdown sessions server web\/(\S+)()$/.exec(command) ?? []
  const index = process.servers.findIndex((one) => one.name === name)
  const server = process.servers[index]
  if (server === undefined || rest === undefined) throw new Error(`refused: ${command}`)
  return { ...process, servers: process.servers.with(index, { ...server, ...change(server, rest) }) }
}

const change = (server: ModelServer, rest: string): Partial<ModelServer> => {
  const to = /^addr (\S+) port (\d+)$/.exec(rest)
  if (to !== null) return { endpoint: { address: to[1]!, port: Number(to[2]) } }
  switch (rest) {
    case "":
      return { sessions: [] }
    case "state maint":
      return { isMaint: true, isUp: false, unproven: rise }
    case "state drain":
      return { isMaint: false, isDrain: true, isUp: server.isMaint || server.isUp }
    case "state ready":
      return { isMaint: false, isDrain: false, isUp: server.isMaint || server.isUp }
    case "health down":
      return server.isMaint ? {} : { isUp: false, unproven: rise }
    case "weight 0%":
      return { weight: 0 }
    case "weight 100%":
      return { weight: 100 }
    default:
      throw new Error(`refused: ${rest}`)
  }
}

/** One step of time: a check of each server, and each session a step nearer to its end. */
export const step = (process: ModelProcess, dead: ReadonlySet<string>): ModelProcess => ({
  ...process,
  servers: process.servers.map((server) => {
    const sessions = server.sessions.map((left) => left - 1).filter((left) => left > 0)
    if (server.isMaint || !server.hasCheck || server.isCheckOff) return { ...server, sessions }
    const isAlive = !dead.has(endpointKey(server.endpoint))
    const unproven = isAlive ? Math.max(0, server.unproven - 1) : rise
    const isUp = isAlive ? server.isUp || unproven === 0 : false
    return { ...server, sessions, unproven, isUp }
  })
})

/** What `Haproxy.observe` would report of it. */
export const observe = ({ servers, socket }: ModelProcess): ProcessState => {
  const isAnyMoving = servers.some(({ name, weight }) => weight === 0 && slotNumber(name) !== undefined)
  return {
    socket,
    pid: 1,
    servers: servers.map((one) => {
      const { endpoint, isCheckOff, isDrain, isMaint, isUp, name, sessions, unproven, weight } = one
      const hasCheck = one.hasCheck && !isCheckOff
      return {
        name,
        endpoint,
        admin: isMaint ? "maint" : isDrain ? "drain" : "ready",
        isMarked: weight === 0,
        hasCheck,
        ...(isCheckOff ? ({ isCheckOff } as const) : {}),
        health: !isUp ? "down" : isAnyMoving && hasCheck && unproven > 0 ? "unproven" : "up",
        sessions: isAnyMoving ? sessions.length : undefined
      }
    })
  }
}
