/**
 * The UNIX sockets of the HAProxy processes: commands go in, a reply each comes out.
 *
 * This is the lowest edge ep2 has towards HAProxy. Tests and the simulation
 * replace this service and nothing above it.
 */
import * as NodeSocket from "@effect/platform-node/NodeSocket"
import { Context, Duration, Effect, Layer, Schema, type Scope, Semaphore } from "effect"
import { Socket } from "effect/socket"
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
     * Connects to one process for as long as the scope lasts. Sessions on one
     * socket run one at a time, in the order of the calls (`stats maxconn` is
     * 10, and the eleventh connection would get no answer).
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

  const session = Effect.fnUntraced(function* (socket: string) {
    const turn = turns.get(socket)
    if (turn !== undefined) yield* Effect.acquireRelease(turn.take(1), () => turn.release(1))
    return yield* connect(socket, replyTimeout)
  })

  return HaproxySocket.of({ sockets, session })
})

const connect = Effect.fnUntraced(function* (socket: string, replyTimeout: Duration.Duration) {
  const connection = yield* NodeSocket.makeNet({ path: socket, openTimeout: connectTimeout })
  const pull = yield* Socket.readerString(connection).pipe(
    Effect.mapError(
      (cause) => new SocketError({ socket, reason: "Connect", detail: `cannot connect: ${systemError(cause)}`, cause })
    )
  )
  const { write } = yield* connection.writer
  let greeting = "prompt\n"

  const read = Effect.fnUntraced(function* (count: number) {
    const chunks: Array<string> = []
    let tail = ""
    let prompts = 0
    const lastWords = () => {
      const words = chunks.join("").split(promptText).at(-1)?.trim().slice(0, 200) ?? ""
      return `after ${prompts} of ${count} replies${words === "" ? "" : `, its last words: ${quoted(words)}`}`
    }
    while (prompts < count) {
      const strings = yield* pull.pipe(
        Effect.mapError(
          (cause) =>
            new SocketError({ socket, reason: "Closed", detail: `HAProxy closed the connection ${lastWords()}`, cause })
        ),
        Effect.timeoutOrElse({
          duration: replyTimeout,
          orElse: () =>
            new SocketError({
              socket,
              reason: "Timeout",
              detail: `HAProxy was silent for ${Duration.toSeconds(replyTimeout)} s ${lastWords()}`
            })
        })
      )
      for (const chunk of strings) {
        chunks.push(chunk)
        prompts += countPrompts(tail + chunk)
        // A prompt may be cut in two by the read; two characters are too few to hold a whole one.
        tail = (tail + chunk).slice(-2)
      }
    }
    return chunks.join("").split(promptText).slice(0, count)
  })

  const ask = Effect.fnUntraced(function* (commands: ReadonlyArray<string>) {
    if (commands.length === 0) return []
    const greetings = greeting === "" ? 0 : 1
    // As bytes: Node writes a long text several times slower than what it takes to encode it.
    const sent = write(Buffer.from(`${greeting}${commands.join("\n")}\n`)).pipe(
      Effect.mapError(
        (cause) => new SocketError({ socket, reason: "Closed", detail: `cannot write: ${systemError(cause)}`, cause })
      )
    )
    greeting = ""
    // HAProxy stops reading while its replies are not read, so both go on at once. When it is silent, the write is
    // given up with the read, also where the caller may not be interrupted.
    const [, replies] = yield* Effect.all([Effect.interruptible(sent), read(commands.length + greetings)], {
      concurrency: 2
    })
    return replies.slice(greetings).map((reply) => reply.replace(/^\n+|\n+$/g, ""))
  })

  return { socket, ask } satisfies Session
})

const countPrompts = (text: string): number => {
  let count = 0
  for (let at = text.indexOf(promptText); at !== -1; at = text.indexOf(promptText, at + promptText.length)) count++
  return count
}

/** The system's own words (`connect ENOENT /run/…`) out of Effect's wrapping. */
const systemError = (error: Socket.SocketError): string => {
  const cause = "cause" in error.reason ? error.reason.cause : undefined
  return cause instanceof Error && cause.message !== "" ? cause.message : error.message
}
