/**
 * The UNIX sockets of the HAProxy processes: commands go in, a reply each comes out.
 *
 * This is the lowest edge ep2 has towards HAProxy. Tests and the simulation
 * replace this service and nothing above it.
 */
import { statSync } from "node:fs"
import { Context, Duration, Effect, Layer, Result, Schema, type Scope, Semaphore } from "effect"
import * as CliConnection from "./CliConnection.ts"

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

/** One connection to one process. It stays with that process, also when a reload puts another one behind the path, unless it is renewed. */
export interface Session {
  readonly socket: string
  /**
   * Sends commands, one line each, and returns one reply per command, in order,
   * without the prompt and the closing blank lines. A refusal is a reply too:
   * `RuntimeApi` knows which replies are good.
   */
  readonly ask: (commands: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<string>, SocketError>
  /** Where the session may have the connection of an earlier one. */
  readonly connection?: Connection
}

/** The connection of a session that keeps it for the next one. The process behind it may have been replaced meanwhile. */
export interface Connection {
  /** Another number for each connection: the same one means the same process. */
  readonly number: () => number
  /** Whether an earlier session made it. */
  readonly isOld: () => boolean
  /** Lets go of it: the next `ask` connects anew. */
  readonly renew: Effect.Effect<void>
}

/** The sockets of all processes of one HAProxy. */
export class HaproxySocket extends Context.Service<
  HaproxySocket,
  {
    /** Socket paths, one per HAProxy process (`nbproc`), in the order of `ep2.conf`. Never empty. */
    readonly sockets: ReadonlyArray<string>
    /**
     * One process for as long as the scope lasts, unless it is renewed; the connection is made by the first
     * `ask`. Sessions on one socket run one at a time, in the order of the calls
     * (`stats maxconn` is 10, and the eleventh connection would get no answer).
     *
     * Keep it short: a held connection keeps an old process alive after a reload. With
     * `keep` the connection stays open for two seconds after the session, and the next
     * one with `keep` goes on with it, as long as nobody has put another socket in its
     * place; one without closes it first.
     */
    readonly session: (
      socket: string,
      options?: { readonly keep: boolean }
    ) => Effect.Effect<Session, SocketError, Scope.Scope>
  }
>()("ep2/haproxy/HaproxySocket") {
  /** The real sockets, in the order of `ep2.conf`. */
  static readonly layer = (options: {
    readonly sockets: ReadonlyArray<string>
    /** How long HAProxy may be silent while a reply is due. */
    readonly replyTimeout?: Duration.Duration
  }) => Layer.effect(HaproxySocket, makeSockets(options.sockets, options.replyTimeout ?? Duration.seconds(5)))
}

/** How long a connection is kept that nobody uses: longer than from one look at a process to the next. */
const keptFor = Duration.seconds(2)

/** A connection, and the file that it was made through. */
interface Made {
  readonly connection: CliConnection.CliConnection
  readonly number: number
  readonly file: string | undefined
}

/** What is known of one socket between its sessions. */
interface Place {
  readonly turn: Semaphore.Semaphore
  kept: Made | undefined
  /** Closes what is kept. */
  timer: NodeJS.Timeout | undefined
}

const makeSockets = Effect.fnUntraced(function* (sockets: ReadonlyArray<string>, replyTimeout: Duration.Duration) {
  const places = new Map<string, Place>()
  for (const socket of sockets) {
    places.set(socket, { turn: yield* Semaphore.make(1), kept: undefined, timer: undefined })
  }
  let isOver = false
  yield* Effect.addFinalizer(() =>
    Effect.sync(() => {
      isOver = true
      for (const { kept, timer } of places.values()) {
        kept?.connection.close()
        clearTimeout(timer)
      }
    })
  )

  let count = 0
  const connect = (socket: string): Made => {
    const file = fileAt(socket)
    return { connection: CliConnection.make(socket, replyTimeout), number: ++count, file }
  }
  const takeKept = (socket: string, place: Place, mayGoOn: boolean): Made | undefined => {
    const { kept } = place
    place.kept = undefined
    if (mayGoOn && kept?.connection.isOpen() === true && kept.file === fileAt(socket)) return kept
    kept?.connection.close()
    return undefined
  }
  const keep = (place: Place, made: Made) => {
    place.kept = made
    const closeKept = () => {
      place.kept?.connection.close()
      place.kept = undefined
    }
    place.timer ??= setTimeout(closeKept, Duration.toMillis(keptFor)).unref()
    place.timer.refresh()
  }

  const begin = (socket: string, place: Place, mayKeep: boolean) => {
    const old = takeKept(socket, place, mayKeep)
    let made = old ?? connect(socket)
    const renew = Effect.sync(() => {
      made.connection.close()
      made = connect(socket)
    })
    const connection: Connection = { number: () => made.number, isOld: () => made === old, renew }
    const session: Session = { socket, connection, ask: ask(socket, () => made.connection) }
    const end = () => {
      if (mayKeep && !isOver && made.connection.isOpen()) keep(place, made)
      else made.connection.close()
    }
    return { session, end }
  }

  const session = (socket: string, { keep: mayKeep } = { keep: false }) =>
    Effect.suspend(() => {
      const place = places.get(socket)
      if (place === undefined) return Effect.die(new Error(`${socket} is none of ${sockets.join(", ")}`))
      return Effect.acquireRelease(
        Effect.map(place.turn.take(1), () => begin(socket, place, mayKeep)),
        ({ end }) => {
          end()
          return place.turn.release(1)
        }
      )
    }).pipe(Effect.map(({ session }) => session))

  return HaproxySocket.of({ sockets, session })
})

const ask =
  (socket: string, connection: () => CliConnection.CliConnection): Session["ask"] =>
  (commands) => {
    if (commands.length === 0) return Effect.succeed([])
    return Effect.callback((resume) => {
      const giveUp = connection().exchange(commands, (heard) =>
        resume(Effect.fromResult(Result.mapError(heard, (broken) => new SocketError({ socket, ...broken }))))
      )
      return Effect.sync(giveUp)
    })
  }

/** Which file is there, without reading it: another one has another name in the file system, or another time. */
const fileAt = (path: string): string | undefined => {
  try {
    const { ctimeMs, dev, ino } = statSync(path)
    return `${dev}:${ino}:${ctimeMs}`
  } catch {
    return undefined
  }
}
