/**
 * The runtime API's words: actions to commands, replies to servers. Pure; the
 * replies in `test/fixtures` are recorded from real processes.
 *
 * Source: HAProxy management guide, 9.3 "Unix Socket commands", and what 2.2,
 * 2.6, 3.0 and 3.2 answered when tried.
 */
import { Result, Schema } from "effect"
import type { Action } from "../domain/Plan.ts"
import { type Endpoint, type Server, slotNumber } from "../domain/State.ts"
import * as ReplyTable from "./ReplyTable.ts"
import * as ServerTable from "./ServerTable.ts"

/** HAProxy said no, or something that is not on the list of known replies. The same command will be refused again. */
export class CommandRejected extends Schema.TaggedError<CommandRejected>()("CommandRejected", {
  socket: Schema.String,
  command: Schema.String,
  /** HAProxy's reply, verbatim. */
  reply: Schema.String
}) {
  override get message() {
    const reply = this.reply === "" ? "nothing" : quoted(this.reply.slice(0, 300))
    return `${this.socket}: HAProxy answered "${this.command}" with ${reply}${advice(this.reply)}`
  }
}

/** Words of HAProxy, or of what stands in its place, in quotes and on one line. */
export const quoted = (text: string): string =>
  JSON.stringify(text).replace(
    /[\u007f-\u009f\u2028\u2029]/g,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`
  )

const advice = (reply: string): string => {
  if (/permission denied/i.test(reply)) return '; the socket needs "level admin" on its "stats socket" line'
  if (reply.startsWith("Can't find backend") || reply.startsWith("No such backend")) {
    return "; the HAProxy that runs does not have this backend"
  }
  return ""
}

/** One line for the socket, and which replies mean that it was done. */
export interface Command {
  readonly text: string
  readonly isGood: (reply: string) => boolean
}

const silent = (text: string): Command => ({ text, isGood: (reply) => reply === "" })

/** The two halves of an action: the second is sent only once every reply of the first was good. */
export interface Commands {
  readonly first: ReadonlyArray<Command>
  readonly second: ReadonlyArray<Command>
}

/**
 * The commands that carry out one action on one process, in order. `options` is
 * what a server line has behind its address: servers that are added inherit
 * nothing, so that all of it has to be in the command.
 */
export const encode = (backend: string, action: Action, placeholder: Endpoint, options = "check"): Commands => {
  const name = `${backend}/${action.server}`
  const server = `set server ${name}`
  const toTraffic = (isReady: boolean, prove: boolean) => [
    ...(isReady ? [] : [silent(`${server} state ready`)]),
    // Only after `ready`, which forgets it; and the weight last, so that nothing reaches a server in between.
    ...(prove ? [silent(`${server} health down`)] : []),
    silent(`${server} weight 100%`)
  ]
  switch (action._tag) {
    case "Add":
      return {
        first: [addServer(name, placeholder, options)],
        second: [enableHealth(name), ...(/\bagent-check\b/.test(options) ? [silent(`enable agent ${name}`)] : [])]
      }
    case "Remove":
      return { first: [deleteServer(name)], second: [] }
    case "Arrive":
      return {
        first: [
          silent(`${server} state maint`),
          silent(`${server} weight 0%`),
          setAddress(name, action.endpoint),
          ...(action.isCheckOff ? [enableHealth(name)] : [])
        ],
        second: toTraffic(false, action.prove)
      }
    case "Resume": {
      const check = action.isCheckOff ? [enableHealth(name)] : []
      return { first: [...check, ...toTraffic(action.isReady, action.prove)], second: [] }
    }
    case "Drain":
      return { first: [silent(`${server} weight 0%`)], second: [] }
    case "Stop":
      return {
        first: [
          silent(`${server} state maint`),
          ...(action.shutdown ? [silent(`shutdown sessions server ${name}`)] : [])
        ],
        second: []
      }
    case "Free":
      return { first: [setAddress(name, placeholder)], second: [silent(`${server} weight 100%`)] }
  }
}

/**
 * What a server of a config that was just loaded, and is in maintenance there, is
 * told besides: the operator's drain, or that it is to prove itself.
 */
export const encodeAfterLoad = (
  name: string,
  what: "drain" | "prove",
  { hasCheck }: { readonly hasCheck: boolean }
): ReadonlyArray<Command> => {
  const server = `set server ${name}`
  if (what === "drain") return [silent(`${server} state drain`)]
  const down = hasCheck ? [silent(`${server} health down`)] : []
  return [silent(`${server} weight 0%`), silent(`${server} state ready`), ...down, silent(`${server} weight 100%`)]
}

/**
 * The new server is in maintenance, at full weight, without its check running: a
 * free slot. On 2.6 it keeps no idle connection unless it is told to, as those of
 * a config do.
 */
const addServer = (name: string, { address, port }: Endpoint, options: string): Command => ({
  text: `add server ${name} ${address}:${port} ${options}${/\bpool-max-conn\b/.test(options) ? "" : " pool-max-conn -1 pool-purge-delay 5s"}`,
  isGood: (reply) => reply === "New server registered."
})

const enableHealth = (name: string): Command => silent(`enable health ${name}`)

/** A server that still has idle connections is not deleted; they go by themselves, and the next pass tries again. */
const deleteServer = (name: string): Command => ({
  text: `del server ${name}`,
  isGood: (reply) => reply === "Server deleted." || reply.startsWith("Server still has connections attached to it")
})

/**
 * HAProxy's own reply must say that it has the address *and* the port: 2.2 and
 * 2.6 apply an address whose port they refuse.
 */
const setAddress = (name: string, { address, port }: Endpoint): Command => ({
  text: `set server ${name} addr ${address} port ${port}`,
  isGood: (reply) => addressReply.test(reply)
})

const addressReply = new RegExp(
  "^(?:nothing changed" +
    "|(?:IP changed from '[^']*' to '[^']*'|no need to change the addr)" +
    "(?:, (?:port changed from '[^']*' to '[^']*'|no need to change the port))?" +
    "(?: by '[^']*')?" +
    "|port changed from '[^']*' to '[^']*'(?: by '[^']*')?)$"
)

/** The reply, or the refusal that it is. */
export const judge = (socket: string, command: Command, reply: string): Result.Result<string, CommandRejected> =>
  command.isGood(reply)
    ? Result.succeed(reply)
    : Result.fail(new CommandRejected({ socket, command: command.text, reply }))

/** Asks which process this is. The reply is read by `parsePid`. */
export const showInfo: Command = { text: "show info", isGood: (reply) => parsePid(reply) !== undefined }

/** Asks what this socket allows: `user`, `operator` or `admin`, which is the reply. Since HAProxy 1.9. */
export const showLevel: Command = { text: "show cli level", isGood: (reply) => /^(?:user|operator|admin)$/.test(reply) }

/** Asks for the mark of the config that runs; `parseMark` reads the reply. */
export const showMark: Command = {
  text: "show env EP2_CONFIG",
  isGood: (reply) => reply.startsWith("EP2_CONFIG=") || reply === "Variable not found"
}

/** Asks for the servers of a backend. `ServerTable` reads the reply, of which only a whole one is good. */
export const showServers = (backend: string): Command => ({
  text: `show servers state ${backend}`,
  isGood: (reply) => ServerTable.read(backend, reply) !== undefined
})

/** Asks for what goes on in each server of a backend: 4 stands for servers, -1 for all of them. Good as for `showServers`. */
export const showSessions = (backend: string): Command => ({
  text: `show stat ${backend} 4 -1`,
  isGood: (reply) => readStats(backend, reply) !== undefined
})

const isCount = (text: string): boolean => /^\d{1,15}$/.test(text)

const isCountOrNone = (text: string): boolean => text === "" || isCount(text)

/** The process id out of `show info`. */
export const parsePid = (reply: string): number | undefined => {
  const pid = /^Pid: ([1-9]\d{0,9})$/m.exec(reply)?.[1]
  return pid === undefined ? undefined : Number(pid)
}

/**
 * What tells one process from another, whatever the socket: two hosts or
 * containers may each have a process 7.
 */
export const parseIdentity = (reply: string): string =>
  [parsePid(reply), /^node: (.*)$/m.exec(reply)?.[1], /^Process_num: (.*)$/m.exec(reply)?.[1]].join(" ")

/** Whether a process has been told to end once its sessions are over, as a reload does: another one takes what comes. */
export const parseIsStopping = (reply: string): boolean => /^Stopping: 1$/m.test(reply)

/** The version out of `show info`: `3.2.26-1`. */
export const parseVersion = (reply: string): string | undefined => /^Version: (\S+)/m.exec(reply)?.[1]

/** Whether this HAProxy has `add server`: 2.6 and later. Its backend may refuse it all the same. */
export const parseCanAdd = (reply: string): boolean => {
  const [, major, minor] = /^Version: (\d+)\.(\d+)/m.exec(reply) ?? []
  return Number(major) > 2 || (Number(major) === 2 && Number(minor) >= 6)
}

/** The mark out of `show env EP2_CONFIG`; `undefined` where the config that runs has none. */
export const parseMark = (reply: string): string | undefined => /^EP2_CONFIG=(.*)$/m.exec(reply)?.[1]

/** What `show stat` adds to a server. */
export interface Stat {
  readonly sessions: number
  /** Whether a check has passed since the server left maintenance; `undefined` where HAProxy does not say. */
  readonly isProven: boolean | undefined
}

/** The servers of a table, with what `show stat` adds. */
export const withStats = (servers: ReadonlyArray<Server>, stats: ReadonlyMap<string, Stat>): ReadonlyArray<Server> =>
  servers.map((server) => {
    const stat = stats.get(server.name)
    const isUnproven = server.health !== "down" && stat?.isProven === false
    return { ...server, health: isUnproven ? "unproven" : server.health, sessions: stat?.sessions }
  })

/** Whether a server of ep2's is on its way in or out, so that its sessions must be known. */
export const isAnyMoving = (servers: ReadonlyArray<Server>): boolean =>
  servers.some(({ isMarked, name }) => isMarked && slotNumber(name) !== undefined)

/** Sessions and proof of health per server from `show stat`. */
export const parseStats = (reply: string): ReadonlyMap<string, Stat> =>
  new Map(ReplyTable.ofStats(reply, statColumns).rows.map((row) => [row[1]!, statOf(row)]))

/** The same; `undefined` where it is not a whole reply about the servers of this backend. */
export const readStats = (backend: string, reply: string): ReadonlyMap<string, Stat> | undefined => {
  if (!reply.startsWith("# pxname,svname,")) return undefined
  const { isWhole, rows } = ReplyTable.ofStats(reply, statColumns)
  if (!isWhole) return undefined
  const stats = new Map<string, Stat>()
  for (const row of rows) {
    const [proxy, name, queued, sessions, ...health] = row as StatRow
    const isGood = proxy === backend && isCount(queued) && isCount(sessions) && health.every(isCountOrNone)
    if (!isGood || stats.has(name) || !/^[A-Za-z0-9_.:-]+$/.test(name)) return undefined
    stats.set(name, statOf(row))
  }
  return stats
}

const statColumns = ["pxname", "svname", "qcur", "scur", "check_rise", "check_fall", "check_health"] as const

type StatRow = [proxy: string, name: string, queued: string, sessions: string, ...health: Array<string>]

const statOf = (row: ReadonlyArray<string>): Stat => {
  const [, , queued, sessions, rise, fall, health] = row
  const full = Number(rise) + Number(fall) - 1
  return {
    sessions: Number(sessions) + Number(queued),
    isProven: health === "" ? undefined : Number(health) >= full
  }
}
