/**
 * Small HTTP servers for HAProxy to balance over. Each says who it is, answers
 * its health checks as it is told to, and counts what it is asked.
 */
import { once } from "node:events"
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { Effect, type Scope } from "effect"
import type { Endpoint } from "../../src/domain/State.ts"
import * as Ports from "./Ports.ts"

/** What a server was asked since it was made. */
export interface Counts {
  /** Requests that are not health checks, answered or not. */
  readonly requests: number
  /** `OPTIONS`, and `GET` or `HEAD` of `/` and `/health`. */
  readonly checks: number
  /** Requests without an answer yet, checks included. */
  readonly inFlight: number
}

/**
 * One server. It answers `200` with its name as the header `x-served-by` and as
 * the body; on `/` and `/health`, and to `OPTIONS`, `503` while it is not
 * healthy. A request with `?millis=N` is answered N milliseconds later than
 * others. Its connections stay open until the other side closes them.
 */
export interface HttpBackend {
  readonly name: string
  readonly endpoint: Endpoint
  readonly counts: Effect.Effect<Counts>
  /** Decides how health checks are answered from now on. It begins healthy. */
  readonly setHealthy: (isHealthy: boolean) => Effect.Effect<void>
  /** Delays every answer from now on, those to checks included; 0 at first. */
  readonly setDelayMillis: (millis: number) => Effect.Effect<void>
  /** Dies: cuts its connections, and refuses new ones. */
  readonly stop: Effect.Effect<void>
  /** Comes back on the same address and port. */
  readonly start: Effect.Effect<void>
}

/**
 * Starts a server for as long as the scope lasts. The address is `127.0.0.1`
 * unless another one of `127.0.0.0/8` or `::1` is named, the port a free one.
 */
export const make = (options: {
  readonly name: string
  readonly address?: string
  readonly port?: number
}): Effect.Effect<HttpBackend, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { address = "127.0.0.1", name } = options
    const port = options.port ?? (yield* Ports.freePort)
    const state = { isHealthy: true, delayMillis: 0, requests: 0, checks: 0, inFlight: 0 }
    const answer = (request: IncomingMessage, response: ServerResponse) => {
      const url = new URL(request.url ?? "/", "http://backend")
      const isCheck = request.method === "OPTIONS" || url.pathname === "/" || url.pathname === "/health"
      if (isCheck) state.checks++
      else state.requests++
      state.inFlight++
      response.once("close", () => state.inFlight--)
      const millis = state.delayMillis + Number(url.searchParams.get("millis") ?? 0)
      const respond = () => {
        const status = isCheck && !state.isHealthy ? 503 : 200
        response.writeHead(status, { "x-served-by": name, "content-type": "text/plain", "content-length": name.length })
        response.end(request.method === "HEAD" ? undefined : name)
      }
      if (millis > 0) setTimeout(respond, millis)
      else respond()
    }
    let running: Server | undefined
    const stop = Effect.suspend(() => {
      const stopped = running
      running = undefined
      return Effect.promise(() => close(stopped))
    })
    const first = yield* Effect.acquireRelease(
      Effect.promise(async () => {
        running = await listen(answer, address, port)
        return running
      }),
      () => stop
    )
    const endpoint: Endpoint = { address, port: (first.address() as AddressInfo).port }
    return {
      name,
      endpoint,
      counts: Effect.sync(() => ({ requests: state.requests, checks: state.checks, inFlight: state.inFlight })),
      setHealthy: (isHealthy) =>
        Effect.sync(() => {
          state.isHealthy = isHealthy
        }),
      setDelayMillis: (millis) =>
        Effect.sync(() => {
          state.delayMillis = millis
        }),
      stop,
      start: Effect.promise(async () => {
        running ??= await listen(answer, endpoint.address, endpoint.port)
      })
    }
  })

/** Starts a server per name, on `127.0.0.1` unless `address` tells otherwise, each on a free port. */
export const makeAll = (
  names: ReadonlyArray<string>,
  address: (index: number) => string = () => "127.0.0.1"
): Effect.Effect<ReadonlyArray<HttpBackend>, never, Scope.Scope> =>
  Effect.forEach(names, (name, index) => make({ name, address: address(index) }))

const listen = async (
  answer: (request: IncomingMessage, response: ServerResponse) => void,
  host: string,
  port: number
) => {
  // HAProxy keeps connections for reuse: a server that closes idle ones would lose requests of its own accord.
  const server = createServer({ keepAliveTimeout: 0, requestTimeout: 0, headersTimeout: 0 }, answer)
  server.listen({ host, port })
  await once(server, "listening")
  return server
}

const close = async (server: Server | undefined) => {
  if (server === undefined) return
  const closed = once(server, "close")
  server.close()
  server.closeAllConnections()
  await closed
}
