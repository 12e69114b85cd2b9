/** What the tests of the AWS source share: a fetcher of some groups behind a proxy that sees every call. */
import { Duration, Effect, Redacted } from "effect"
import { endpointKey } from "../../src/domain/State.ts"
import * as AwsApi from "../../src/orchestrator/AwsApi.ts"
import * as AwsAsgFetcher from "../../src/orchestrator/AwsAsgFetcher.ts"
import * as FaultProxy from "../servers/FaultProxy.ts"
import { MotoServer, region } from "../servers/MotoServer.ts"

/** The access key that the tests use, in two parts. */
export const accessKey = { id: Redacted.make("AKIATEST"), secret: Redacted.make("not-a-secret") }

/** `ep2.conf`'s defaults for tests: private addresses, port 80, polled each 5 s. */
export const targetOf = (url: string, some: Partial<AwsAsgFetcher.AwsTarget> = {}): AwsAsgFetcher.AwsTarget => ({
  region,
  accessKey,
  endpointUrl: url,
  groups: ["web"],
  ipType: "private",
  port: 80,
  interval: Duration.seconds(5),
  ...some
})

/** The API call that a request is. */
export const actionOf = ({ body }: FaultProxy.Seen): string => new URLSearchParams(body).get("Action") ?? ""

export const isAction = (action: string) => (request: FaultProxy.Seen) => actionOf(request) === action

/** The group `web` with two instances, made by whoever needs it first. */
export const web = Effect.gen(function* () {
  const moto = yield* MotoServer
  if ((yield* moto.instances("web")).length === 0) yield* moto.makeGroup("web", 2)
  return moto
})

/** A fetcher of one backend, and what it asked. */
export const start = Effect.fnUntraced(function* (
  some: Partial<AwsAsgFetcher.AwsTarget> = {},
  options: AwsAsgFetcher.Options & AwsApi.Options = {}
) {
  const moto = yield* MotoServer
  const proxy = yield* FaultProxy.make(moto)
  const target = targetOf(`http://127.0.0.1:${proxy.port}`, some)
  let api: AwsApi.AwsApi | undefined
  const fetcher = yield* AwsAsgFetcher.make(new Map([["app", target]]), {
    api: (access) =>
      Effect.tap(AwsApi.make(access, options), (made) =>
        Effect.sync(() => {
          api = made
        })
      ),
    ...options
  })
  const state = fetcher.fetch("app")
  return {
    moto,
    proxy,
    target,
    state,
    /** The endpoints, in order. */
    fetch: Effect.map(state, ({ wanted }) => wanted.map(({ endpoint }) => endpointKey(endpoint)).sort()),
    awaitChange: fetcher.awaitChange("app"),
    api: () => api!,
    /** The API calls so far, by name. */
    calls: () => proxy.seen().map(actionOf)
  }
})
