/**
 * The connection to one Consul agent: a path goes in, status, headers and text
 * come out. All that can go wrong below HTTP is turned into words here.
 *
 * `node:http` itself, since the answer has to be bounded while it is read and
 * the TLS files have to be read anew while ep2 runs.
 */
import { createHash } from "node:crypto"
import * as http from "node:http"
import type * as https from "node:https"
import { Duration, Effect, Schema } from "effect"
import * as ConsulTls from "./ConsulTls.ts"
import { FetchError, oneLine } from "./Fetcher.ts"

/** Where a Consul agent listens, and what to trust there. */
export interface ConsulAddress extends ConsulTls.TlsFiles {
  /** Address or host name of the agent (`consul_ip`). */
  readonly address: string
  readonly port: number
  readonly scheme: "http" | "https"
}

/** What the agent said, whatever it was. */
export interface Answer {
  readonly status: number
  /** Header by its name in lower case. */
  readonly header: (name: string) => string | undefined
  /** Of the body: SHA-256, in hexadecimal digits. */
  readonly hash: string
  /** `undefined` where it is the one that is known. */
  readonly body: string | undefined
}

/** One agent, asked over connections that are kept. */
export interface ConsulHttp {
  /** `http://127.0.0.1:8500`, for messages. */
  readonly url: string
  /**
   * One GET on a kept-alive connection. Any status is an answer.
   *
   * - `Unavailable`: refused, reset, unreachable, or no whole answer within `timeout`.
   * - `Unauthorized`: TLS files that are missing or wrong, a certificate that one of the two sides does not trust.
   * - `BadResponse`: no HTTP, no TLS, an answer that is cut short or larger than 64 MiB.
   */
  readonly get: (request: {
    /** The target of a `FetchError`. */
    readonly target: string
    /** Path and query. */
    readonly path: string
    readonly token: string | undefined
    readonly timeout: Duration.Duration
    /** The `hash` of a body that is known and need not be read again. */
    readonly known?: string | undefined
  }) => Effect.Effect<Answer, FetchError>
}

const maxBodyBytes = 64 * 1024 * 1024

/** How long a connection is kept for the next request. */
const idleMillis = 120_000

/** Opens nothing yet; what is opened is closed with the scope. */
export const make = Effect.fnUntraced(function* (source: ConsulAddress) {
  // TLS takes 5 MiB, which a plain connection has no use for.
  const module = source.scheme === "https" ? yield* Effect.promise(() => import("node:https")) : http
  const agent = yield* Effect.acquireRelease(
    Effect.sync(() => new module.Agent({ keepAlive: true, timeout: idleMillis })),
    (one) => Effect.sync(() => one.destroy())
  )
  const host = source.address.replace(/^\[(.*)\]$/, "$1")
  const url = `${source.scheme}://${host.includes(":") ? `[${host}]` : host}:${source.port}`

  const readTls = (target: string) =>
    ConsulTls.read(source).pipe(
      Effect.mapError(({ detail }) => new FetchError({ target, reason: "Unauthorized", detail }))
    )

  const beginBody = makeBodies()

  const get: ConsulHttp["get"] = Effect.fnUntraced(function* ({ known, path, target, timeout, token }) {
    // Read at each request, so that certificates can be renewed while ep2 runs. The agent keeps connections apart by
    // the certificates that they were made with.
    const tls = source.scheme === "https" ? yield* readTls(target) : {}
    const options: https.RequestOptions = {
      ...tls,
      host,
      port: source.port,
      path,
      headers: { accept: "application/json", ...(token === undefined ? {} : { "x-consul-token": token }) }
    }
    const once = (how: http.Agent | false) => exchange(module.request, { ...options, agent: how }, beginBody, known)
    return yield* once(agent).pipe(
      Effect.catchIf(
        ({ wasKept }) => wasKept,
        () => once(false)
      ),
      Effect.catchTag("Broken", (broken) => describe(target, broken, source)),
      Effect.timeoutOrElse({
        duration: timeout,
        orElse: () =>
          new FetchError({
            target,
            reason: "Unavailable",
            detail: `no whole answer within ${Duration.toSeconds(timeout)} s: see whether the agent is overloaded or the network drops packets`
          })
      })
    )
  })

  return { url, get } satisfies ConsulHttp
})

class Broken extends Schema.TaggedError<Broken>()("Broken", {
  /** Node's code of the error: `ECONNREFUSED`. */
  code: Schema.String,
  /** - `before`: no answer began. - `within`: it was cut short. - `tooLarge`: it passed the bound. */
  when: Schema.Literals(["before", "within", "tooLarge"]),
  /** The connection was kept from an earlier request and died before an answer, as those do when the agent restarts. */
  wasKept: Schema.Boolean,
  cause: Schema.Defect()
}) {}

/**
 * Where bodies are gathered. Most say what the one before said and are never read: were
 * each made of memory of its own, that would stay until V8 next cleans up what is old.
 */
const makeBodies = () => {
  const free: Array<Buffer> = []
  return () => {
    let bytes = free.pop() ?? Buffer.allocUnsafeSlow(65_536)
    let size = 0
    const add = (chunk: Buffer) => {
      if (size + chunk.length > bytes.length) {
        const larger = Buffer.allocUnsafeSlow(2 * (size + chunk.length))
        bytes.copy(larger, 0, 0, size)
        bytes = larger
      }
      size += chunk.copy(bytes, size)
    }
    const end = () => {
      if (free.length < 2 && bytes.length <= maxKeptBytes) free.push(bytes)
    }
    return { add, end, size: () => size, text: () => bytes.toString("utf8", 0, size) }
  }
}

const maxKeptBytes = 8 * 1024 * 1024

const exchange = (
  open: typeof https.request,
  options: https.RequestOptions,
  beginBody: ReturnType<typeof makeBodies>,
  known: string | undefined
) =>
  Effect.callback<Answer, Broken>((resume) => {
    const request = open(options, (response) => {
      const body = beginBody()
      const hashing = createHash("sha256")
      response.once("close", body.end)
      response.on("data", (chunk: Buffer) => {
        if (body.size() + chunk.length <= maxBodyBytes) {
          body.add(chunk)
          hashing.update(chunk)
        } else {
          resume(new Broken({ code: "", when: "tooLarge", wasKept: false, cause: undefined }))
          request.destroy()
        }
      })
      response.on("error", (cause) =>
        resume(new Broken({ code: codeOf(cause), when: "within", wasKept: false, cause }))
      )
      response.on("end", () => {
        const header = (name: string) => {
          const value = response.headers[name]
          return typeof value === "string" ? value : value?.[0]
        }
        const hash = hashing.digest("hex")
        const text = hash === known ? undefined : body.text()
        resume(Effect.succeed({ status: response.statusCode ?? 0, header, hash, body: text }))
      })
    })
    request.on("error", (cause) => {
      const code = codeOf(cause)
      const wasKept = request.reusedSocket && (code === "ECONNRESET" || code === "EPIPE")
      resume(new Broken({ code, when: "before", wasKept, cause }))
    })
    request.end()
    return Effect.sync(() => request.destroy())
  })

const codeOf = (cause: unknown): string => (cause as NodeJS.ErrnoException).code ?? oneLine(String(cause))

const describe = (target: string, { cause, code, when }: Broken, source: ConsulAddress) => {
  const fail = (reason: FetchError["reason"], detail: string) => new FetchError({ target, reason, detail, cause })
  if (when === "tooLarge") return fail("BadResponse", "the answer is larger than 64 MiB: is this a Consul agent?")
  if (when === "within") return fail("BadResponse", `the answer was cut short (${code}): ep2 asks again`)
  switch (code) {
    case "ECONNREFUSED":
      return fail("Unavailable", "connection refused: see whether the agent runs, and consul_ip and consul_port")
    case "ECONNRESET":
    case "EPIPE":
      return fail("Unavailable", "the connection was reset before an answer: see the agent's log")
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return fail("Unavailable", `the host name of the agent cannot be looked up (${code}): see consul_ip`)
    case "EHOSTUNREACH":
    case "ENETUNREACH":
    case "ETIMEDOUT":
      return fail("Unavailable", `no way to the agent (${code}): see consul_ip, routes and firewalls`)
  }
  if (source.scheme === "https") {
    if (/^(?:CERT_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|ERR_TLS_CERT_|HOSTNAME_MISMATCH|INVALID_CA)/.test(code)) {
      const expected = `a certificate for ${source.address} signed by ${source.caFile ?? "a public CA"}`
      return fail("Unauthorized", `Consul's certificate is not trusted (${code}), expected ${expected}: see ca_file`)
    }
    if (/^ERR_SSL_.*(?:ALERT|CERTIFICATE)/.test(code)) {
      return fail("Unauthorized", `Consul refused the TLS connection (${code}): see cert_file and key_file`)
    }
    if (/^(?:EPROTO|ERR_SSL_)/.test(code)) {
      return fail("BadResponse", `no TLS on this port (${code}): set scheme = http, or the agent's HTTPS port`)
    }
  }
  if (code.startsWith("HPE_")) {
    return fail("BadResponse", `what answers does not speak HTTP (${code}): see consul_port and scheme`)
  }
  return fail("Unavailable", `the request failed (${code}): see the agent's log`)
}
