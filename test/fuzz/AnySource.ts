/** Generated answers of every source, good and hurtful, through the source's own decoder to a desired state. */
import { Duration, Effect, Result, Schema } from "effect"
import { parse, stringify } from "yaml"
import type { DesiredState } from "../../src/domain/State.ts"
import * as AwsAsgFetcher from "../../src/orchestrator/AwsAsgFetcher.ts"
import { vet } from "../../src/orchestrator/Candidate.ts"
import * as ConsulHealth from "../../src/orchestrator/ConsulHealth.ts"
import { FetchError } from "../../src/orchestrator/Fetcher.ts"
import * as FileSd from "../../src/orchestrator/FileSd.ts"
import * as HostNames from "../../src/orchestrator/HostNames.ts"
import { AnyAddress, AnyName, AnyPort, Edits, knownNames, mutate } from "./Hostile.ts"

/** What a source said, and what came of it. */
export interface Asked {
  /** The texts and numbers that the answer has, wherever they stand in it. */
  readonly leaves: ReadonlyArray<unknown>
  readonly outcome: Result.Result<DesiredState, FetchError>
}

/** Knows the names of the tests and no other. */
const lookup: HostNames.Lookup = (name) => {
  const addresses = knownNames.get(name.toLowerCase())
  return addresses === undefined
    ? Promise.reject(Object.assign(new Error(name), { code: "ENOTFOUND" }))
    : Promise.resolve(addresses.map((address) => ({ address, family: address.includes(":") ? 6 : 4 })))
}

/** None, often enough for answers to be whole; else some. */
const SomeEdits = Schema.Union([Schema.Tuple([]), Schema.Tuple([]), Edits])

const SomePort = Schema.Union([Schema.Literal("service"), Schema.Literals([80, 6003])])

/** `/v1/health/service`. Its texts are edited before and as JSON. */
export const AnyConsul = Schema.Struct({
  instances: Schema.Array(
    Schema.Struct({
      node: AnyName,
      nodeAddress: AnyAddress,
      id: AnyName,
      address: Schema.Union([Schema.Literal(""), AnyAddress, AnyAddress]),
      port: AnyPort,
      tags: Schema.Array(AnyName).check(Schema.isMaxLength(2))
    })
  ).check(Schema.isMaxLength(6)),
  portOf: SomePort,
  edits: SomeEdits
})

export const askConsul = Effect.fnUntraced(function* ({ edits, instances, portOf }: (typeof AnyConsul)["Type"]) {
  const body = mutate(
    JSON.stringify(
      instances.map(({ address, id, node, nodeAddress, port, tags }) => ({
        Node: { Node: node, Address: nodeAddress },
        Service: { ID: id, Address: address, Port: port, Tags: tags },
        Checks: []
      }))
    ),
    edits,
    jsonWords
  )
  const answer = { status: 200, header: () => undefined, hash: "", body }
  const http = { url: "http://127.0.0.1:8500", get: () => Effect.succeed(answer) }
  const hostNames = yield* HostNames.make({ lookup })
  const outcome = yield* ConsulHealth.ask(http, { ...agent, portOf }, { timeout: Duration.seconds(1) }).pipe(
    Effect.flatMap(({ named }) => vet(named, { backend: "web", target: "consul", hostNames })),
    Effect.result
  )
  return { leaves: [...leavesOf(parsed(body)), portOf], outcome } satisfies Asked
}, Effect.scoped)

const agent: Omit<ConsulHealth.ConsulTarget, "portOf"> = {
  ...{ address: "127.0.0.1", port: 8500, service: "web", onlyPassing: true, tags: [], stale: false },
  scheme: "http"
}

const jsonWords = [
  '"10.0.0.66"',
  "null",
  "[]",
  "{}",
  "-1",
  "1e400",
  '"Address":"10.0.0.67"',
  "80",
  '"80"',
  '"',
  "\\u0000"
]

/** A file_sd document, as JSON or YAML. */
export const AnyDocument = Schema.Struct({
  groups: Schema.Array(
    Schema.Struct({
      targets: Schema.Array(
        Schema.Struct({
          address: AnyAddress,
          port: Schema.Union([AnyPort, AnyName]),
          form: Schema.Literals(["plain", "plain", "brackets", "brackets", "alone"])
        })
      ).check(Schema.isMaxLength(4)),
      labels: Schema.Record(Schema.String, Schema.Union([AnyName, Schema.Finite, Schema.Boolean, Schema.Null]))
    })
  ).check(Schema.isMaxLength(3)),
  isJson: Schema.Boolean,
  portOf: SomePort,
  edits: SomeEdits
})

export const askFile = Effect.fnUntraced(function* (document: (typeof AnyDocument)["Type"]) {
  const { edits, groups, isJson, portOf } = document
  const value = groups.map(({ labels, targets }) => ({
    targets: targets.map(({ address, form, port }) =>
      form === "alone" ? address : form === "plain" ? `${address}:${port}` : `[${address}]:${port}`
    ),
    labels
  }))
  const text = mutate(isJson ? JSON.stringify(value) : stringify(value), edits, [...jsonWords, ...yamlWords])
  const hostNames = yield* HostNames.make({ lookup })
  const path = isJson ? "targets.json" : "targets.yml"
  const decoded = FileSd.decode(text, { path, portOf })
  const outcome = yield* Effect.fromResult(
    Result.mapError(decoded, (detail) => new FetchError({ target: path, reason: "BadResponse", detail }))
  ).pipe(
    Effect.flatMap((named) => vet(named, { backend: "web", target: path, hostNames })),
    Effect.result
  )
  return { leaves: [...leavesOf(parsed(text)), portOf], outcome } satisfies Asked
}, Effect.scoped)

const yamlWords = [
  ...["&a ", "*a", "<<: *a", "!!binary ", "!!set ", "!!js/function ", "- ", "? ", ": ", "|\n", ">\n", "---\n", "...\n"],
  ...["%YAML 1.1\n", "{", "}", "[", "0x10", "1_000", "2001-01-01", "~", ".inf", "'", '"', "\t", "# "]
]

const mostly = (usual: string, others: ReadonlyArray<string>) =>
  Schema.Union([...Array.from({ length: 8 }, () => Schema.Literal(usual)), Schema.Literals(others), AnyName])

/** The groups of AWS and their instances. */
export const AnyGroups = Schema.Struct({
  members: Schema.Array(
    Schema.Struct({
      id: AnyName,
      zone: AnyName,
      lifecycle: mostly("InService", ["Standby", "Pending:Wait"]),
      health: mostly("Healthy", ["Unhealthy"]),
      state: mostly("running", ["stopping"]),
      address: Schema.Union([AnyAddress, AnyAddress, AnyAddress, Schema.Undefined])
    })
  ).check(Schema.isMaxLength(6)),
  ipType: Schema.Literals(["private", "public", "ipv6"])
})

export const askAws = Effect.fnUntraced(function* ({ ipType, members }: (typeof AnyGroups)["Type"]) {
  const instances = members.map(({ address, id, state }) => ({
    ...{ id, state, private: undefined, public: undefined, ipv6: undefined },
    [ipType]: address
  }))
  const api = {
    groups: (names: ReadonlyArray<string>) => Effect.succeed(names.map((name) => ({ name, members }))),
    instances: () => Effect.succeed(instances),
    someNames: Effect.succeed([]),
    clockOffMillis: Effect.succeed(0)
  }
  const target = { region: "eu-central-1", groups: ["web"], ipType, port: 8080, interval: Duration.seconds(5) }
  const fetcher = yield* AwsAsgFetcher.make(new Map([["web", target]]), { api: () => Effect.succeed(api), lookup })
  const outcome = yield* Effect.result(fetcher.fetch("web"))
  return { leaves: [...members.map(({ address }) => address), 8080], outcome } satisfies Asked
}, Effect.scoped)

const parsed = (text: string): unknown =>
  [
    () => JSON.parse(text) as unknown,
    () => parse(text.replace(/^\uFEFF/, ""), { merge: true, logLevel: "silent" }) as unknown
  ]
    .map((read) => Result.try(read))
    .find(Result.isSuccess)?.success

const leavesOf = (value: unknown): ReadonlyArray<unknown> =>
  typeof value === "object" && value !== null ? Object.values(value).flatMap(leavesOf) : [value]
