/**
 * An HTTP proxy in front of a real server that does harm when it is told to: what
 * a real server cannot be made to do, done to its real answers.
 */
import * as http from "node:http"
import { Effect } from "effect"
import * as Ports from "./Ports.ts"

export type Fault =
  /** Passes everything on. */
  | { readonly kind: "none" }
  /** Does not listen: connections are refused. What was connected is cut. */
  | { readonly kind: "refuse" }
  /** Takes the request and resets the connection. */
  | { readonly kind: "reset" }
  /** Resets a connection when it sends its second request, as a restarted server does to a kept one. */
  | { readonly kind: "resetKept" }
  /** Passes the answer on after a while. */
  | { readonly kind: "delay"; readonly millis: number }
  /** Answers by itself. */
  | {
      readonly kind: "answer"
      readonly status: number
      readonly body: string
      readonly headers?: http.OutgoingHttpHeaders
    }
  /** Sends half of the answer's body, and nothing more. */
  | { readonly kind: "stall" }
  /** Sends half of the answer's body and closes the connection; in chunks, without having said how long it is. */
  | { readonly kind: "truncate"; readonly isChunked?: boolean }
  /** Sets headers of the answer; `undefined` removes one. */
  | { readonly kind: "headers"; readonly headers: Readonly<Record<string, string | undefined>> }
  /** Changes the answer's body. */
  | { readonly kind: "rewrite"; readonly change: (body: string) => string }
  /** Changes the request's body. */
  | { readonly kind: "alter"; readonly change: (body: string) => string }

/** A fault for the requests that `only` picks. */
export interface Rule {
  readonly fault: Fault
  readonly only: (request: Seen) => boolean
}

/** A request, whole. */
export interface Seen {
  /** Path with query. */
  readonly url: string
  readonly headers: http.IncomingHttpHeaders
  readonly body: string
}

export interface FaultProxy {
  readonly host: string
  readonly port: number
  /** Holds from the next request on, for those that `only` picks; without it, for all. */
  readonly set: (fault: Fault, only?: (request: Seen) => boolean) => Effect.Effect<void>
  /** Several at once: of those that pick a request, the first one counts. `refuse` is for `set`. */
  readonly setRules: (...rules: ReadonlyArray<Rule>) => Effect.Effect<void>
  /** Paths with queries of all requests so far, in the order of their arrival. */
  readonly requests: () => ReadonlyArray<string>
  /** The same requests, whole. */
  readonly seen: () => ReadonlyArray<Seen>
  /** How many connections are open to it now. */
  readonly connections: Effect.Effect<number>
}

/** How many connections are open to it, once that is none; fails if it is not within two seconds. */
export const untilClosed = ({ connections }: FaultProxy) =>
  connections.pipe(
    Effect.tap(() => Effect.sleep("10 millis")),
    Effect.repeat({ until: (count) => count === 0 }),
    Effect.timeout("2 seconds")
  )

/** Listens on a free port of 127.0.0.1 until the scope ends. */
export const make = (upstream: { readonly host: string; readonly port: number }) =>
  Effect.acquireRelease(
    Effect.promise(() => Listener.create(upstream)),
    (proxy) => Effect.promise(() => proxy.close())
  ).pipe(
    Effect.map(
      (proxy): FaultProxy => ({
        host: "127.0.0.1",
        port: proxy.port,
        set: (fault, only = () => true) => Effect.promise(() => proxy.set({ fault, only })),
        setRules: (...rules) => Effect.promise(() => proxy.set(...rules)),
        requests: () => proxy.seen.map(({ url }) => url),
        seen: () => proxy.seen,
        connections: Effect.promise(() => proxy.connections())
      })
    )
  )

class Listener {
  port = 0
  readonly seen: Array<Seen> = []
  private rules: ReadonlyArray<Rule> = []
  private readonly upstream: { readonly host: string; readonly port: number }
  private readonly server: http.Server
  private readonly used = new WeakSet<object>()

  private constructor(upstream: { readonly host: string; readonly port: number }) {
    this.upstream = upstream
    this.server = http.createServer((request, response) => {
      this.handle(request, response).catch(() => response.destroy())
    })
  }

  static async create(upstream: { readonly host: string; readonly port: number }): Promise<Listener> {
    const proxy = new Listener(upstream)
    proxy.port = await Ports.free()
    await proxy.listen()
    return proxy
  }

  async set(...rules: ReadonlyArray<Rule>): Promise<void> {
    this.rules = rules
    if (rules.some(({ fault }) => fault.kind === "refuse")) await this.close()
    else if (!this.server.listening) await this.listen()
  }

  connections(): Promise<number> {
    return new Promise((done, failed) => {
      this.server.getConnections((cause, count) => (cause === null ? done(count) : failed(cause)))
    })
  }

  async close(): Promise<void> {
    if (!this.server.listening) return
    const closed = new Promise((done) => this.server.close(done))
    this.server.closeAllConnections()
    await closed
  }

  private listen(): Promise<void> {
    return new Promise((done, failed) => {
      this.server.once("error", failed)
      this.server.listen(this.port, "127.0.0.1", () => {
        this.server.off("error", failed)
        done()
      })
    })
  }

  private async handle(request: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const body = Buffer.concat(await request.toArray())
    const seen = { url: request.url ?? "", headers: request.headers, body: body.toString("utf8") }
    this.seen.push(seen)
    const fault = this.faultOf(seen)
    const wasUsed = this.used.has(request.socket)
    this.used.add(request.socket)
    if (fault.kind === "reset" || (fault.kind === "resetKept" && wasUsed)) {
      request.socket.resetAndDestroy()
    } else if (fault.kind === "answer") {
      response.writeHead(fault.status, fault.headers).end(fault.body)
    } else this.pass(request, seen, response, fault)
  }

  private faultOf(seen: Seen): Fault {
    return this.rules.find(({ only }) => only(seen))?.fault ?? { kind: "none" }
  }

  private pass(request: http.IncomingMessage, seen: Seen, response: http.ServerResponse, first: Fault): void {
    const { method, url } = request
    const sent = Buffer.from(seen.body)
    const asked = first.kind === "alter" ? Buffer.from(first.change(seen.body)) : sent
    const headers = asked === sent ? request.headers : { ...request.headers, "content-length": String(asked.length) }
    const onward = http.request({ ...this.upstream, method, path: url, headers, agent: false }, async (answer) => {
      try {
        const whole = Buffer.concat(await answer.toArray())
        // A query that waited when the fault began is met by it too.
        const fault = first.kind === "none" ? this.faultOf(seen) : first
        if (fault.kind === "answer") return void response.writeHead(fault.status, fault.headers).end(fault.body)
        if (fault.kind === "reset") return void request.socket.resetAndDestroy()
        const body = fault.kind === "rewrite" ? Buffer.from(fault.change(whole.toString("utf8"))) : whole
        if (fault.kind === "delay") await new Promise((done) => setTimeout(done, fault.millis))
        const { "transfer-encoding": _, connection: __, ...kept } = answer.headers
        const changed = fault.kind === "headers" ? { ...kept, ...fault.headers } : kept
        const kind = Object.fromEntries(Object.entries(changed).filter(([, value]) => value !== undefined))
        const { "content-length": ___, ...withoutLength } = kind
        const isChunked = fault.kind === "truncate" && fault.isChunked === true
        const lengths = isChunked ? {} : { "content-length": body.length }
        response.writeHead(answer.statusCode ?? 502, { ...withoutLength, ...lengths })
        if (fault.kind === "stall") response.write(body.subarray(0, body.length / 2))
        else if (fault.kind !== "truncate") response.end(body)
        else response.write(body.subarray(0, body.length / 2), () => response.destroy())
      } catch {
        response.destroy()
      }
    })
    onward.on("error", () => response.destroy())
    response.on("close", () => onward.destroy())
    onward.end(asked)
  }
}
