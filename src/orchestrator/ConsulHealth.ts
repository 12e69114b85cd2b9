/**
 * One question to Consul's health endpoint, and what its answers mean.
 *
 * Source: Consul HTTP API, "Health HTTP Endpoint", "Blocking Queries" and
 * "Consistency Modes"; answers as recorded from Consul 1.8.
 */
import { readFile } from "node:fs/promises"
import { Duration, Effect, Redacted, Schema } from "effect"
import type { Refused } from "../domain/State.ts"
import type { Candidate, Named } from "./Candidate.ts"
import type { Answer, ConsulAddress, ConsulHttp } from "./ConsulHttp.ts"
import { FetchError, oneLine } from "./Fetcher.ts"

/** One service in one Consul: what `[CONSUL]` says for a backend. */
export interface ConsulTarget extends ConsulAddress {
  readonly service: string
  /**
   * `true`: instances all of whose checks pass, of the service and of its node; maintenance and warning do not.
   * `false`: all that are registered, whatever their checks say and in maintenance too, as EP2 1.0 meant it.
   */
  readonly onlyPassing: boolean
  /** An instance must have all of them; Consul compares without regard to case. Blank ones are left out. */
  readonly tags: ReadonlyArray<string>
  readonly token?: Redacted.Redacted<string> | undefined
  /** Goes before `token` and is read at each request, so that the token can be changed while ep2 runs. */
  readonly tokenFile?: string | undefined
  readonly datacenter?: string | undefined
  /** Consul Enterprise only. */
  readonly namespace?: string | undefined
  /** Takes the answer of any server, which may be a little old, and not only of the leader. */
  readonly stale: boolean
  /** The port of every endpoint, or `service`: the one that Consul reports for each. */
  readonly portOf: number | "service"
}

/** An answer of Consul. */
export interface Health {
  /** `X-Consul-Index`; `undefined` where there is none, or one that cannot be waited on. */
  readonly index: number | undefined
  readonly named: Named
  /** Of the body that says it. */
  readonly hash: string
}

/** Asks to be answered only when something has happened since `index`, or `wait` is over. */
export interface Block {
  readonly index: number
  readonly wait: Duration.Duration
}

/** The target of a `FetchError`. */
export const nameOf = (target: ConsulTarget, url: string): string =>
  `Consul service ${JSON.stringify(oneLine(target.service))} at ${url}`

/**
 * Asks once. What is said in the very words of an answer before it (`known`) is the very same `named`: nothing is read again.
 *
 * - `Unavailable`: no connection, no answer in time, no leader, 5xx.
 * - `Throttled`: 429, or Consul's own rate limit.
 * - `Unauthorized`: 401, 403, an answer that was filtered by ACL, a token file that cannot be used, TLS.
 * - `TargetMissing`: no such datacenter.
 * - `BadResponse`: anything else that is no list of instances. An unknown service is an empty list to Consul, and so here.
 */
export const ask = Effect.fn("ConsulHealth.ask")(function* (
  http: ConsulHttp,
  target: ConsulTarget,
  options: {
    readonly timeout: Duration.Duration
    readonly block?: Block | undefined
    readonly known?: Health | undefined
  }
) {
  const name = nameOf(target, http.url)
  const token = yield* tokenOf(target, name)
  const path = pathOf(target, options.block)
  const { known, timeout } = options
  const answer = yield* http.get({ target: name, path, token, timeout, known: known?.hash })
  if (answer.status !== 200) return yield* refusal(target, name, answer)
  if (answer.header("x-consul-results-filtered-by-acls") === "true") {
    return yield* new FetchError({
      target: name,
      reason: "Unauthorized",
      detail: `Consul left out what the token may not see: ${grant(target)}`
    })
  }
  if (answer.header("x-consul-knownleader") === "false") {
    return yield* new FetchError({
      target: name,
      reason: "Unavailable",
      detail: "the servers have no leader, so their answer may be old: see `consul operator raft list-peers`"
    })
  }
  const given = Number(answer.header("x-consul-index"))
  const index = Number.isFinite(given) && given > 0 ? given : undefined
  const { body = "", hash } = answer
  if (hash === known?.hash) return { ...known, index } satisfies Health
  const instances = yield* decode(body).pipe(
    Effect.mapError(
      (cause) =>
        new FetchError({
          target: name,
          reason: "BadResponse",
          detail: `not the answer of Consul's health endpoint: ${oneLine(cause.message)}, in ${body.length} characters that begin ${JSON.stringify(oneLine(body, 60))}`,
          cause
        })
    )
  )
  return { index, hash, named: candidatesOf(instances, target) } satisfies Health
})

const pathOf = (target: ConsulTarget, block: Block | undefined): string => {
  const query = new URLSearchParams()
  if (target.onlyPassing) query.append("passing", "true")
  for (const tag of target.tags) if (tag.trim() !== "") query.append("tag", tag.trim())
  if (target.datacenter !== undefined) query.append("dc", target.datacenter)
  if (target.namespace !== undefined) query.append("ns", target.namespace)
  if (target.stale) query.append("stale", "")
  if (block !== undefined) {
    query.append("index", String(block.index))
    query.append("wait", `${Math.ceil(Duration.toMillis(block.wait))}ms`)
  }
  return `/v1/health/service/${encodeURIComponent(target.service)}?${query}`
}

const Instances = Schema.Array(
  Schema.Struct({
    Node: Schema.Struct({ Node: Schema.String, Address: Schema.String }),
    Service: Schema.Struct({ ID: Schema.String, Address: Schema.String, Port: Schema.Finite })
  })
)

const decode = Schema.decodeUnknownEffect(Schema.fromJsonString(Instances))

const candidatesOf = (instances: typeof Instances.Type, target: ConsulTarget): Named => {
  const candidates: Array<Candidate> = []
  const refused: Array<Refused> = []
  for (const { Node, Service } of instances) {
    const origin = `${Service.ID} on ${Node.Node}`
    if (target.portOf === "service" && Service.Port === 0) {
      const remedy = "register it with its port, or set backend_port to a number"
      refused.push({ origin, reason: `is registered without a port, and backend_port is "service": ${remedy}` })
    } else {
      const address = Service.Address === "" ? Node.Address : Service.Address
      candidates.push({ origin, address, port: target.portOf === "service" ? Service.Port : target.portOf })
    }
  }
  return { candidates, refused }
}

const tokenOf = Effect.fnUntraced(function* ({ token, tokenFile }: ConsulTarget, target: string) {
  if (tokenFile === undefined) {
    return token === undefined ? undefined : yield* checkToken(Redacted.value(token), "token", target)
  }
  const text = yield* Effect.tryPromise({
    try: (signal) => readFile(tokenFile, { encoding: "utf8", signal }),
    catch: (cause) =>
      new FetchError({
        target,
        reason: "Unauthorized",
        detail: `token_file ${tokenFile} cannot be read (${oneLine(String((cause as NodeJS.ErrnoException).code))}): correct the path or its permissions`
      })
  })
  return yield* checkToken(text, `token_file ${tokenFile}`, target)
})

// Says nothing about the token itself, which must not reach a log.
const checkToken = (text: string, place: string, target: string): Effect.Effect<string, FetchError> => {
  const token = text.trim()
  if (/^[\x21-\x7e]+$/.test(token)) return Effect.succeed(token)
  const found =
    token === "" ? "is empty" : "holds more than one token: there are spaces, line ends or special characters in it"
  return new FetchError({ target, reason: "Unauthorized", detail: `${place} ${found}, expected one ACL token` })
}

const grant = ({ service, token, tokenFile }: ConsulTarget): string => {
  const whose = token === undefined && tokenFile === undefined ? "set a token" : "give the token's policy"
  return `${whose} with service:read on ${JSON.stringify(oneLine(service))} and node:read on its nodes`
}

const refusal = (target: ConsulTarget, name: string, { body = "", status }: Answer): FetchError => {
  const said = body.trim() === "" ? `${status}` : `${status} ${JSON.stringify(oneLine(body))}`
  const fail = (reason: FetchError["reason"], detail: string) => new FetchError({ target: name, reason, detail })
  if (status === 429 || /rate limit/i.test(body)) {
    return fail("Throttled", `Consul answered ${said}: it is asked too often, ep2 waits longer`)
  }
  if (status === 401 || status === 403 || /ACL not found|Permission denied/i.test(body)) {
    return fail("Unauthorized", `Consul answered ${said}: ${grant(target)}`)
  }
  if (/No path to datacenter/i.test(body)) {
    return fail(
      "TargetMissing",
      `Consul answered ${said}: there is no datacenter ${JSON.stringify(oneLine(target.datacenter ?? ""))}, see \`consul catalog datacenters\``
    )
  }
  if (status >= 500) return fail("Unavailable", `Consul answered ${said}: see the agent's log`)
  if (status === 400 && target.namespace !== undefined && /namespace|"ns"/i.test(body)) {
    return fail("BadResponse", `Consul answered ${said}: namespaces need Consul Enterprise, leave out namespace`)
  }
  if (status === 400 && /HTTP request to an HTTPS server/i.test(body)) {
    return fail("BadResponse", `Consul answered ${said}: set scheme = https`)
  }
  return fail("BadResponse", `expected 200 and a list of instances, got ${said}: is this a Consul agent?`)
}
