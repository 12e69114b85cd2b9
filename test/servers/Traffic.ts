/**
 * Clients that keep asking through HAProxy, and count what they get. Runs on
 * real time: under `it.live`.
 */
import { Agent, type ClientRequest, type IncomingMessage, request } from "node:http"
import { Deferred, Effect, Fiber, type Scope } from "effect"

/** One answer, whatever its status. */
export interface Answer {
  readonly status: number
  /** The header `x-served-by`; `undefined` where HAProxy answered itself. */
  readonly server: string | undefined
  /** When it was complete, since the start of the traffic. */
  readonly atMillis: number
  readonly tookMillis: number
}

/** A request that a user would have seen fail. */
export interface Failure {
  /** `status 503`, `ECONNREFUSED`, `ECONNRESET`, `cut after 3 bytes`, `no answer in 10000 ms` … */
  readonly reason: string
  readonly isKeepAlive: boolean
  readonly atMillis: number
}

export interface Report {
  /** Requests that were answered or failed. One that was sent again after an idle close counts once. */
  readonly requests: number
  readonly answers: ReadonlyArray<Answer>
  /** Answers of each status. */
  readonly byStatus: Readonly<Record<string, number>>
  /** Answers with status 2xx of each server. */
  readonly byServer: Readonly<Record<string, number>>
  /** Requests without an answer, and answers that are not 2xx. Tests ask that there are none. */
  readonly failures: ReadonlyArray<Failure>
  /**
   * How often a kept connection turned out to be closed before a byte of the
   * answer came. A browser sends such a request again on a new connection, and
   * so do these clients; only what becomes of that counts.
   *
   * Source: RFC 9112, 9.3.1 "Retrying Requests".
   */
  readonly idleCloses: number
}

export interface Traffic {
  /** What was counted up to now. */
  readonly report: Effect.Effect<Report>
  /** Lets the requests on their way end, and reports. */
  readonly stop: Effect.Effect<Report>
}

export interface Options {
  readonly host?: string
  readonly port: number
  /** `/traffic` unless it is named. */
  readonly path?: string
  /** Clients that open a connection per request. Default 2. */
  readonly closing?: number
  /** Clients that keep their connection. Default 2. */
  readonly keeping?: number
  /** Between the answer and the next request of one client. Default 10. */
  readonly pauseMillis?: number
  /** The longest that one request may take. Default 10 000. */
  readonly timeoutMillis?: number
  /** After so many requests the clients stop by themselves. Default 1 000 000. */
  readonly maxRequests?: number
  /** After so long the clients stop by themselves. Default 300. */
  readonly maxSeconds?: number
}

/** Starts the clients. They end with `stop`, or are cut off when the scope ends. */
export const start = (options: Options): Effect.Effect<Traffic, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { closing = 2, keeping = 2, maxRequests = 1_000_000, maxSeconds = 300, pauseMillis = 10 } = options
    const began = performance.now()
    const now = () => performance.now() - began
    const answers: Array<Answer> = []
    const failures: Array<Failure> = []
    const counted = { requests: 0, idleCloses: 0 }
    const stopping = yield* Deferred.make<void>()
    const isOver = () => Deferred.isDoneUnsafe(stopping) || counted.requests >= maxRequests || now() > maxSeconds * 1000

    const one = Effect.fnUntraced(function* (agent: Agent, isKeepAlive: boolean) {
      const asked = now()
      let outcome = yield* ask(agent, options)
      for (; outcome._tag === "IdleClose"; outcome = yield* ask(agent, options)) counted.idleCloses++
      counted.requests++
      const atMillis = now()
      if (outcome._tag === "Answer") {
        answers.push({ status: outcome.status, server: outcome.server, atMillis, tookMillis: atMillis - asked })
      }
      const reason = outcome._tag === "Answer" ? refusal(outcome.status) : outcome.reason
      if (reason !== undefined) failures.push({ reason, isKeepAlive, atMillis })
    })

    const client = (isKeepAlive: boolean) =>
      Effect.scoped(
        Effect.gen(function* () {
          // One socket per client, so that a client never has two requests on their way.
          const agent = yield* Effect.acquireRelease(
            Effect.sync(() => new Agent({ keepAlive: isKeepAlive, maxSockets: 1 })),
            (made) => Effect.sync(() => made.destroy())
          )
          while (!isOver()) {
            yield* one(agent, isKeepAlive)
            yield* Deferred.await(stopping).pipe(Effect.timeoutOption(pauseMillis))
          }
        })
      )

    const kinds = [...Array<boolean>(closing).fill(false), ...Array<boolean>(keeping).fill(true)]
    const clients = yield* Effect.forEach(kinds, (isKeepAlive) => Effect.forkScoped(client(isKeepAlive)))
    const report = Effect.sync(
      (): Report => ({
        requests: counted.requests,
        answers: [...answers],
        byStatus: tally(answers.map(({ status }) => String(status))),
        byServer: tally(answers.filter(isGood).map(({ server }) => server ?? "none")),
        failures: [...failures],
        idleCloses: counted.idleCloses
      })
    )
    return {
      report,
      stop: Deferred.succeed(stopping, undefined).pipe(Effect.andThen(Fiber.joinAll(clients)), Effect.andThen(report))
    }
  })

type Outcome =
  | { readonly _tag: "Answer"; readonly status: number; readonly server: string | undefined }
  | { readonly _tag: "Failure"; readonly reason: string }
  | { readonly _tag: "IdleClose" }

const ask = (agent: Agent, options: Options): Effect.Effect<Outcome> =>
  Effect.callback<Outcome>((resume) => {
    const { host = "127.0.0.1", path = "/traffic", port, timeoutMillis = 10_000 } = options
    const end = (outcome: Outcome) => {
      clearTimeout(timer)
      resume(Effect.succeed(outcome))
    }
    // Hears of errors also after the end, so that a late one does not end the process.
    const sent = request({ host, port, path, agent }).on("error", (cause: NodeJS.ErrnoException) =>
      end(broken(sent, cause))
    )
    let bytesBefore = 0
    sent.on("socket", (socket) => {
      bytesBefore = socket.bytesRead
    })
    const broken = (from: ClientRequest, cause: NodeJS.ErrnoException): Outcome =>
      from.reusedSocket && (from.socket?.bytesRead ?? bytesBefore) === bytesBefore
        ? { _tag: "IdleClose" }
        : { _tag: "Failure", reason: cause.code ?? cause.message }
    const timer = setTimeout(() => {
      end({ _tag: "Failure", reason: `no answer in ${timeoutMillis} ms` })
      sent.destroy()
    }, timeoutMillis)
    sent.on("response", (response) => whole(response, end))
    sent.end()
    return Effect.sync(() => {
      clearTimeout(timer)
      sent.destroy()
    })
  })

// The agent has the socket back, or closed, by the time of "close"; the next request must not come before it.
const whole = (response: IncomingMessage, end: (outcome: Outcome) => void) => {
  let bytes = 0
  response.on("data", (data: Buffer) => {
    bytes += data.length
  })
  response.on("error", () => undefined)
  response.on("close", () => {
    const server = response.headers["x-served-by"]
    end(
      response.complete
        ? { _tag: "Answer", status: response.statusCode ?? 0, server: typeof server === "string" ? server : undefined }
        : { _tag: "Failure", reason: `cut after ${bytes} bytes` }
    )
  })
}

const isGood = ({ status }: { readonly status: number }) => status >= 200 && status < 300

const refusal = (status: number) => (isGood({ status }) ? undefined : `status ${status}`)

const tally = (names: ReadonlyArray<string>): Record<string, number> => {
  const counts: Record<string, number> = {}
  for (const name of names) counts[name] = (counts[name] ?? 0) + 1
  return counts
}
