/**
 * One connection to HAProxy's runtime socket, in its interactive mode.
 *
 * On Node's own socket: a pass at rest is mostly this, and the fibers, streams and
 * scopes of `effect/socket` were much of what it cost.
 */
import { createConnection } from "node:net"
import { Duration, Result } from "effect"
import { quoted } from "./RuntimeApi.ts"

/** What went wrong. `Connect`: nobody was asked. `Closed` and `Timeout`: before the last reply was whole. */
export interface Broken {
  readonly reason: "Connect" | "Timeout" | "Closed"
  /** In one line: the system's error, how many replies came of how many, HAProxy's last words. */
  readonly detail: string
  readonly cause?: unknown
}

/** Takes what came of an exchange, which it is told once. */
export type Heard = (heard: Result.Result<ReadonlyArray<string>, Broken>) => void

/** A connection that is made with the first exchange. One exchange at a time. */
export interface CliConnection {
  /**
   * Writes commands, one line each, and reads one reply for each, in their order,
   * without the prompt and the line ends around it. Returns what gives the exchange
   * up, and the connection with it. A connection on which an exchange broke, or on
   * which more was said than was asked for, is closed for good.
   */
  readonly exchange: (commands: ReadonlyArray<string>, done: Heard) => () => void
  /** Whether it is open, so that the next exchange is with the process of the last one. */
  readonly isOpen: () => boolean
  readonly close: () => void
}

const connectTimeout = Duration.seconds(2)

/**
 * What ends a reply in HAProxy's interactive mode. A blank line will not do: 2.6
 * ends several replies without one.
 */
const promptText = "\n> "

interface Exchange {
  /** How many replies are due. */
  readonly count: number
  /** How many have no commands of ours: the first prompt is a greeting. */
  readonly greetings: number
  readonly done: Heard
  readonly chunks: Array<string>
  /** What a prompt may have begun with that is cut in two by the read: two characters are too few to hold a whole one. */
  tail: string
  /** How many replies have come. */
  prompts: number
}

/** Not connected yet. `replyTimeout` is how long HAProxy may be silent while a reply is due. */
export const make = (socket: string, replyTimeout: Duration.Duration): CliConnection => {
  let state: "new" | "connecting" | "open" | "closed" = "new"
  let current: Exchange | undefined
  let connection: ReturnType<typeof createConnection> | undefined
  /** How long the connection is waited for, and then each reply. It stays, and is heeded while one is due. */
  let timer: NodeJS.Timeout | undefined
  /** That it cannot be had, or was given up, is final: another try might find another process, or an answer to this one. */
  let refused: Broken | undefined

  const close = () => {
    state = "closed"
    clearTimeout(timer)
    connection?.destroy()
  }
  /** Says what came of the exchange that is on its way, if there is one. */
  const end = (heard: Result.Result<ReadonlyArray<string>, Broken>) => {
    const done = current?.done
    current = undefined
    done?.(heard)
  }
  const breakOff = (broken: Broken) => {
    close()
    end(Result.fail(broken))
  }
  const notConnected = (words: string, cause?: unknown) => {
    refused = { reason: "Connect", detail: `cannot connect: ${words}`, cause }
    breakOff(refused)
  }
  const cutOff = (reason: "Timeout" | "Closed", what: string) => {
    const { chunks = [], count = 0, prompts = 0 } = current ?? {}
    const words = chunks.join("").split(promptText).at(-1)?.trim().slice(0, 200) ?? ""
    const last = words === "" ? "" : `, its last words: ${quoted(words)}`
    const detail = `HAProxy ${what} after ${prompts} of ${count} replies${last}`
    breakOff({ reason, detail, cause: connection?.errored ?? undefined })
  }
  const isClosed = () => {
    if (state !== "closed") cutOff("Closed", "closed the connection")
  }

  const hear = (chunk: string) => {
    if (current === undefined) return close()
    timer?.refresh()
    const { chunks, count, greetings } = current
    chunks.push(chunk)
    current.prompts += countPrompts(current.tail + chunk)
    current.tail = (current.tail + chunk).slice(-2)
    if (current.prompts < count) return
    const parts = chunks.join("").split(promptText)
    // What it says beyond that would be taken for the next reply.
    if (parts.length > count + 1 || parts[count] !== "") close()
    end(Result.succeed(parts.slice(greetings, count).map(trimmed)))
  }

  const connect = () => {
    state = "connecting"
    const waited = `connect ${socket}: no answer within ${Duration.toSeconds(connectTimeout)} s`
    timer = setTimeout(() => notConnected(waited), Duration.toMillis(connectTimeout))
    connection = createConnection({ path: socket })
      .setEncoding("utf8")
      // What goes wrong later is seen by its close.
      .on("error", (cause) => {
        if (state === "connecting") notConnected(cause.message, cause)
      })
      .on("data", hear)
      .on("end", isClosed)
      .on("close", isClosed)
  }
  const waitForReplies = () => {
    clearTimeout(timer)
    const silent = `was silent for ${Duration.toSeconds(replyTimeout)} s`
    timer = setTimeout(() => current !== undefined && cutOff("Timeout", silent), Duration.toMillis(replyTimeout))
  }
  const write = (text: string) => {
    timer?.refresh()
    // As bytes: Node writes a long text several times slower than what it takes to encode it.
    connection?.write(Buffer.from(text))
  }

  /** Reads while it writes, since HAProxy stops reading while its replies are not read. */
  const exchange = (commands: ReadonlyArray<string>, done: Heard) => {
    const greetings = state === "new" ? 1 : 0
    current = { count: commands.length + greetings, greetings, done, chunks: [], tail: "", prompts: 0 }
    const text = `${commands.join("\n")}\n`
    if (state === "new") {
      connect()
      connection?.once("connect", () => {
        if (state !== "connecting") return
        state = "open"
        waitForReplies()
        write(`prompt\n${text}`)
      })
    } else if (state === "open") write(text)
    else if (refused !== undefined) breakOff(refused)
    else cutOff("Closed", "closed the connection")
    return () => {
      refused ??= { reason: "Closed", detail: "an exchange was given up" }
      current = undefined
      close()
    }
  }

  return { exchange, isOpen: () => state === "open", close }
}

const countPrompts = (text: string): number => {
  let count = 0
  for (let at = text.indexOf(promptText); at !== -1; at = text.indexOf(promptText, at + promptText.length)) count++
  return count
}

/** Without the line ends around it. */
const trimmed = (reply: string): string => {
  let [from, to] = [0, reply.length]
  while (reply[from] === "\n") from++
  while (to > from && reply[to - 1] === "\n") to--
  return reply.slice(from, to)
}
