/**
 * The sources of all backends as one `Fetcher`. A source outlives the settings that
 * named it by a moment: settings that name it again, in the same words, find its
 * watch and its connections as they are.
 *
 * A `Fetcher` that is there when the layer is built is asked for the backends of
 * `orchestrator = custom`: a program of one's own provides it around `Start.run`.
 */
import { createHash } from "node:crypto"
import { Context, Duration, Effect, Layer, Option, RcMap, Redacted, type Scope } from "effect"
import * as AwsAsgFetcher from "../orchestrator/AwsAsgFetcher.ts"
import * as ConsulFetcher from "../orchestrator/ConsulFetcher.ts"
import type * as ConsulHealth from "../orchestrator/ConsulHealth.ts"
import { FetchError, Fetcher } from "../orchestrator/Fetcher.ts"
import type * as FileFetcher from "../orchestrator/FileFetcher.ts"
import type { BackendSettings } from "../settings/Settings.ts"

/** Gives each settings the `Fetcher` of their backends. */
export class Sources extends Context.Service<
  Sources,
  {
    /** The one to ask for these backends, for as long as the scope lasts. Asking for another one is a defect. */
    readonly fetcherOf: (
      backends: ReadonlyArray<BackendSettings>
    ) => Effect.Effect<Fetcher["Service"], never, Scope.Scope>
  }
>()("ep2/cli/Sources") {
  /** The real sources. `orchestrator = custom` is the `Fetcher` that is provided here, if any. */
  static readonly layer = Layer.effect(
    Sources,
    Effect.gen(function* () {
      const custom = Option.getOrElse(yield* Effect.serviceOption(Fetcher), () => noFetcher)
      const given = new Map<string, ReadonlyArray<BackendSettings>>()
      const fetchers = yield* RcMap.make({
        lookup: (key: string) => open(given.get(key) ?? [], custom),
        idleTimeToLive
      })
      const fetcherOf = Effect.fnUntraced(function* (backends: ReadonlyArray<BackendSettings>) {
        const byBackend = new Map<string, Fetcher["Service"]>()
        for (const [key, group] of Map.groupBy(backends, (backend) => groupOf(backend))) {
          const whole = JSON.stringify([key, group.map(keyOf)])
          given.set(whole, group)
          const fetcher = yield* RcMap.get(fetchers, whole)
          for (const { name } of group) byBackend.set(name, fetcher)
        }
        const one = (backend: string) => {
          const fetcher = byBackend.get(backend)
          return fetcher === undefined
            ? Effect.die(new Error(`no source of backend ${backend}`))
            : Effect.succeed(fetcher)
        }
        return Fetcher.of({
          fetch: (backend) => Effect.flatMap(one(backend), ({ fetch }) => fetch(backend)),
          awaitChange: (backend) => Effect.flatMap(one(backend), ({ awaitChange }) => awaitChange(backend))
        })
      })
      return Sources.of({ fetcherOf })
    })
  )
}

/** Long enough for the reload of HAProxy that new settings may begin with. */
const idleTimeToLive = Duration.minutes(1)

/** What a source is known by: settings with equal keys have the same one. */
export const keyOf = ({ interval, name, port, source }: BackendSettings): string =>
  JSON.stringify([name, port, source._tag === "Aws" ? Duration.toMillis(interval) : 0, plain(source)])

/** Secrets become what tells them from others and no more. */
const plain = (value: unknown): unknown => {
  if (Redacted.isRedacted(value))
    return createHash("sha256")
      .update(String(Redacted.value(value)))
      .digest("hex")
  if (Array.isArray(value)) return value.map(plain)
  if (typeof value !== "object" || value === null) return value
  return Object.entries(value).map(([key, one]) => [key, plain(one)])
}

/** Backends that are asked for together: those of one AWS account and region share its calls. */
const groupOf = ({ name, source }: BackendSettings): string =>
  source._tag === "Aws" ? AwsAsgFetcher.accountOf(source) : `backend ${name}`

/** Stands where `orchestrator = custom` is and nobody has provided a source. */
const noFetcher = Fetcher.of({
  fetch: (backend) =>
    new FetchError({
      target: `the source of ${backend}`,
      reason: "TargetMissing",
      detail:
        "orchestrator = custom is for a program that brings its own source, and this ep2 has none: start that program, or set orchestrator to aws, consul or file"
    }),
  awaitChange: () => Effect.never
})

/** The source of a group, all of which have the same kind. */
const open = (backends: ReadonlyArray<BackendSettings>, custom: Fetcher["Service"]) => {
  const aws = new Map<string, AwsAsgFetcher.AwsTarget>()
  const consul = new Map<string, ConsulHealth.ConsulTarget>()
  const file = new Map<string, FileFetcher.FileTarget>()
  for (const { interval, name, port, source } of backends) {
    if (source._tag === "Custom") return Effect.succeed(custom)
    if (source._tag === "Consul") consul.set(name, { ...source, portOf: port })
    else if (source._tag === "File") file.set(name, { path: source.path, portOf: port })
    else if (port !== "service") aws.set(name, { ...source, port, interval })
    // Settings refuse it.
    else throw new Error("a group reports no port")
  }
  if (aws.size > 0) return AwsAsgFetcher.make(aws)
  if (consul.size > 0) return ConsulFetcher.make(consul)
  // Loaded only where it is used, with the reader of YAML.
  return Effect.flatMap(
    Effect.promise(() => import("../orchestrator/FileFetcher.ts")),
    ({ make }) => make(file)
  )
}

/** What an operator calls the source of a backend: its kind, and which one of that kind. */
export const describe = ({ source }: BackendSettings): { readonly kind: string; readonly target: string } => {
  switch (source._tag) {
    case "Aws":
      return { kind: "aws", target: `${source.groups.join(", ")} in ${source.region}` }
    case "Consul":
      return {
        kind: "consul",
        target: `${source.service} at ${source.scheme}://${hostOf(source.address)}:${source.port}`
      }
    case "File":
      return { kind: "file", target: source.path }
    case "Custom":
      return { kind: "custom", target: "the source that this program brings" }
  }
}

const hostOf = (address: string): string => (address.includes(":") ? `[${address}]` : address)
