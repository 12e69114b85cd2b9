/**
 * The UNIX sockets of the HAProxy processes: commands go in, a reply each comes out.
 *
 * This is the lowest edge ep2 has towards HAProxy. Tests and the simulation
 * replace this service and nothing above it.
 */
import { Context, type Effect, Schema, type Scope } from "effect"

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
>()("ep2/haproxy/HaproxySocket") {}
