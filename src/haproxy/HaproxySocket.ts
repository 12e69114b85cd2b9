/**
 * The UNIX sockets of the HAProxy processes: commands go in, a reply each comes out.
 *
 * This is the lowest edge ep2 has towards HAProxy. Tests and the simulation
 * replace this service and nothing above it.
 */
import { createConnection, type Socket } from "node:net"
import { Context, Duration, Effect, Layer, Result, Schema, type Scope, Semaphore } from "effect"
import { quoted } from "./RuntimeApi.ts"

/** The exchange with a socket broke. Whether HAProxy carried out the commands in flight is unknown: observe again. */
export class SocketError extends Schema.TaggedError<SocketError>()("SocketError", {
  /** Socket path, e.g. `/run/haproxy/admin-1.sock`. */
  socket: Schema.String,
  /**
   * - `Connect`: nobody listens, no such file, or no permission.
   * - `Timeout`: no full reply in time.
   * - `Closed`: HAProxy closed the connection before the last reply was whole.
   */
  reason: Schema.Literals(["Connect", "Timeout", "Closed"]),
  /** What was seen, in one line: the system's error, how many replies came of how many, HAProxy's last words. */
  detail: Schema.String,
  cause: Schema.optional(Schema.Defect())
}) {
  override get message() {
    return `${this.socket}: ${this.detail}`
  }
}

/** One connection to one process. It stays with that process, also when a reload puts another one behind the path. */
export interface Session {
  readonly socket: string
  /**
   * Sends commands, one line each, and returns one reply per command, in order,
   * without the prompt and the closing blank lines. A refusal is a reply too:
   * `RuntimeApi` knows which replies are good.
   */
  readonly ask: (commands: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<string>, SocketError>
}

/** The sockets of all processes of one HAProxy. */
export class HaproxySocket extends Context.Service<
  HaproxySocket,
  {
    /** Socket paths, one per HAProxy process (`nbproc`), in the order of `ep2.conf`. Never empty. */
    readonly sockets: ReadonlyArray<string>
    /**
     * One process for as long as the scope lasts; the connection is made here or by the
     * first `ask`. Sessions on one socket run one at a time, in the order of the calls
     * (`stats maxconn` is 10, and the eleventh connection would get no answer).
     *
     * Keep it short: a held connection keeps an old process alive after a reload.
     */
    readonly session: (socket: string) => Effect.Effect<Session, SocketError, Scope.Scope>
  }
>()("ep2/haproxy/HaproxySocket") {
  /** The real sockets, in the order of `ep2.conf`. */
  static readonly layer = (options: {
    readonly sockets: ReadonlyArray<string>
    /** How long HAProxy may be silent while a reply is due. */
    readonly replyTimeout?: Duration.Duration
  }) => Layer.effect(HaproxySocket, makeSockets(options.sockets, options.replyTimeout ?? Duration.seconds(5)))
}

const connectTimeout = Duration.seconds(2)

/**
 * What ends a reply in HAProxy's interactive mode. A blank line will not do: 2.6
 * ends several replies without one.
 */
const promptText = "\n> "

const makeSockets = Effect.fnUntraced(function* (sockets: ReadonlyArray<string>, replyTimeout: Duration.Duration) {
  const turns = new Map<string, Semaphore.Semaphore>()
  for (const socket of sockets) turns.set(socket, yield* Semaphore.make(1))

  const session = (socket: string) =>
    Effect.suspend(() => {
      const turn = turns.get(socket)
      const { close, ...opened } = makeSession(socket, replyTimeout)
      return Effect.acquireRelease(
        turn === undefined ? Effect.succeed(opened) : Effect.as(turn.take(1), opened),
        () => {
          close()
          return turn === undefined ? Effect.void : turn.release(1)
        }
      )
    })

  return HaproxySocket.of({ sockets, session })
})

/**
 * On Node's own socket, and connecting only with the first exchange: a pass at rest is
 * mostly this, and the fibers, streams and scopes of `effect/socket` were much of what
 * it cost.
 */
const makeSession = (socket: string, replyTimeout: Duration.Duration): Session & { readonly close: () => void } => {
  let connection: Socket | undefined
  /** That it cannot be had, or was given up, is final: another try might find another process, or an answer to this one. */
  let refused: SocketError | undefined

  const close = () => connection?.destroy()
  const givingUp = (letGo: () => void) =>
    Effect.sync(() => {
      letGo()
      close()
      refused ??= new SocketError({ socket, reason: "Closed", detail: "an exchange was given up" })
    })

  const ask = (commands: ReadonlyArray<string>) => {
    if (commands.length === 0) return Effect.succeed([])
    if (refused !== undefined) return refused
    return Effect.callback<ReadonlyArray<string>, SocketError>((resume) => {
      if (connection !== undefined) {
        const exchange = { socket, text: `${commands.join("\n")}\n`, count: commands.length, replyTimeout }
        return givingUp(converse(connection, exchange, (heard) => resume(Effect.map(heard, eachTrimmed))))
      }
      let letGo = connect(socket, (made) => {
        if (Result.isFailure(made)) {
          refused = made.failure
          return resume(refused)
        }
        connection = made.success
        const text = `prompt\n${commands.join("\n")}\n`
        const exchange = { socket, text, count: commands.length + 1, replyTimeout }
        letGo = converse(connection, exchange, (heard) =>
          resume(Effect.map(heard, ([, ...replies]) => eachTrimmed(replies)))
        )
      })
      return givingUp(() => letGo())
    })
  }
  return { socket, ask, close }
}

const eachTrimmed = (replies: ReadonlyArray<string>) => replies.map(trimmed)

/** Says what came of it, once. Returns what gives it up. */
const connect = (socket: string, done: (made: Result.Result<Socket, SocketError>) => void): (() => void) => {
  const connection = createConnection({ path: socket }).setEncoding("utf8")
  let isDone = false
  const fail = (words: string, cause?: unknown) => {
    if (isDone) return
    isDone = true
    clearTimeout(timer)
    connection.destroy()
    done(Result.fail(new SocketError({ socket, reason: "Connect", detail: `cannot connect: ${words}`, cause })))
  }
  const waited = `connect ${socket}: no answer within ${Duration.toSeconds(connectTimeout)} s`
  const timer = setTimeout(() => fail(waited), Duration.toMillis(connectTimeout))
  connection.once("connect", () => {
    isDone = true
    clearTimeout(timer)
    done(Result.succeed(connection))
  })
  // Stays for as long as the connection does: what goes wrong later is seen by its close.
  connection.on("error", (cause) => fail(cause.message, cause))
  return () => {
    isDone = true
    clearTimeout(timer)
    connection.destroy()
  }
}

interface Exchange {
  readonly socket: string
  /** Commands, one a line. */
  readonly text: string
  /** How many replies they have. */
  readonly count: number
  readonly replyTimeout: Duration.Duration
}

/**
 * Writes and reads at once, since HAProxy stops reading while its replies are not
 * read. Says what came of it, once; a connection on which it broke is closed. Returns
 * what gives it up.
 */
const converse = (
  connection: Socket,
  { count, replyTimeout, socket, text }: Exchange,
  done: (heard: Effect.Effect<ReadonlyArray<string>, SocketError>) => void
): (() => void) => {
  const chunks: Array<string> = []
  let tail = ""
  let prompts = 0

  const letGo = () => {
    clearTimeout(timer)
    connection.off("data", hear).off("end", closed).off("close", closed).pause()
  }
  const fail = (reason: "Timeout" | "Closed", what: string) => {
    letGo()
    const words = chunks.join("").split(promptText).at(-1)?.trim().slice(0, 200) ?? ""
    const last = words === "" ? "" : `, its last words: ${quoted(words)}`
    const detail = `HAProxy ${what} after ${prompts} of ${count} replies${last}`
    const cause = connection.errored ?? undefined
    connection.destroy()
    done(new SocketError({ socket, reason, detail, cause }))
  }
  const closed = () => fail("Closed", "closed the connection")
  const silent = () => fail("Timeout", `was silent for ${Duration.toSeconds(replyTimeout)} s`)
  const hear = (chunk: string) => {
    timer.refresh()
    chunks.push(chunk)
    prompts += countPrompts(tail + chunk)
    // A prompt may be cut in two by the read; two characters are too few to hold a whole one.
    tail = (tail + chunk).slice(-2)
    if (prompts < count) return
    letGo()
    done(Effect.succeed(chunks.join("").split(promptText).slice(0, count)))
  }

  const timer = setTimeout(silent, Duration.toMillis(replyTimeout))
  if (connection.destroyed) closed()
  else {
    connection.on("data", hear).once("end", closed).once("close", closed).resume()
    // As bytes: Node writes a long text several times slower than what it takes to encode it.
    connection.write(Buffer.from(text))
  }
  return letGo
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
