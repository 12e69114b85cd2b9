/**
 * Whether the sources answer, with what they have. Each is asked once, in the way
 * in which ep2 asks it.
 */
import { Duration, Effect, Result } from "effect"
import type { DesiredState } from "../domain/State.ts"
import * as AwsAsgFetcher from "../orchestrator/AwsAsgFetcher.ts"
import * as ConsulFetcher from "../orchestrator/ConsulFetcher.ts"
import { FetchError } from "../orchestrator/Fetcher.ts"
import type { BackendSettings } from "../settings/Settings.ts"
import { type Finding, ok, placed, problem, warning } from "./CheckReport.ts"
import { describe, Sources } from "./Sources.ts"

/** A call of AWS with all of its pages and tries ends by then, and everything else long before. */
const patience = Duration.seconds(50)

/** Asks the sources of these backends, all at once. */
export const sources = Effect.fnUntraced(function* (backends: ReadonlyArray<BackendSettings>) {
  const { fetcherOf } = yield* Sources
  const { fetch } = yield* fetcherOf(backends)
  const each = yield* Effect.forEach(
    backends,
    Effect.fnUntraced(function* (backend) {
      const late = new FetchError({ target: backend.name, reason: "Unavailable", detail: "no answer in time" })
      const asked = fetch(backend.name).pipe(
        Effect.timeoutOrElse({ duration: patience, orElse: () => late }),
        Effect.result
      )
      const [answer, more] = yield* Effect.all([asked, besides(backend)], { concurrency: 2 })
      if (Result.isFailure(answer)) return errorsOf([...more, answer.failure])
      return more.length > 0 ? errorsOf(more) : yield* answered(backend, answer.success)
    }),
    { concurrency: "unbounded" }
  )
  // Backends of one account have the same trouble.
  return [...new Map(each.flat().map((finding) => [JSON.stringify(finding), finding])).values()]
}, Effect.scoped)

const errorsOf = (errors: ReadonlyArray<FetchError>): ReadonlyArray<Finding> =>
  [...new Set(errors.map(({ message }) => message))].map((message) => placed("problem", message))

/** What an answer does not show. */
const besides = ({ source }: BackendSettings): Effect.Effect<ReadonlyArray<FetchError>> =>
  source._tag === "Aws" ? AwsAsgFetcher.obstacles(source) : Effect.succeed([])

const answered = Effect.fnUntraced(function* (backend: BackendSettings, answer: DesiredState) {
  const { name, port, source } = backend
  const { pending, refused, wanted } = answer
  const place = `${name} (${nameOf(backend)})`
  const told = [
    ...refused.map(({ origin, reason }) => warning(place, `not served: ${origin} ${reason}`)),
    ...pending.map(({ origin, reason }) => warning(place, `not yet: ${origin} ${reason}`))
  ]
  if (wanted.length > 0) return [ok(place, `names ${wanted.length} endpoint${wanted.length === 1 ? "" : "s"}`), ...told]
  if (told.length > 0) return told
  if (source._tag !== "Consul") return [warning(place, "answers, and names no endpoint")]
  const known = yield* Effect.result(ConsulFetcher.registered({ ...source, portOf: port }))
  if (Result.isFailure(known)) return errorsOf([known.failure])
  if (known.success > 0) {
    const what = source.tags.length > 0 ? "passes and has all of the tags" : "passes"
    return [warning(place, `names no endpoint: of ${known.success} that are registered none ${what}`)]
  }
  const token = source.token === undefined && source.tokenFile === undefined ? "there is no token" : "with this token"
  return [
    problem(
      place,
      `Consul knows no such service, or does not show it (${token}): correct service_name, register the service, or give the token service:read and node:read`
    )
  ]
})

/** What it is called where its kind has to be said along. */
const nameOf = (backend: BackendSettings): string => {
  const { target } = describe(backend)
  switch (backend.source._tag) {
    case "Aws":
      return `Auto Scaling group ${target}`
    case "Consul":
      return `Consul service ${target}`
    case "File":
    case "Custom":
      return target
  }
}
