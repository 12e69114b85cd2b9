/** What the tests of the Consul source share: a fetcher of one service, and a wait that has to end by a change. */
import { assert } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { endpointKey } from "../../src/domain/State.ts"
import * as ConsulFetcher from "../../src/orchestrator/ConsulFetcher.ts"
import type { ConsulTarget } from "../../src/orchestrator/ConsulHealth.ts"

/** A fetcher of one service, asked as `[CONSUL]` is by default, with the ports that Consul reports. */
export const start = Effect.fnUntraced(function* (
  at: { readonly host: string; readonly port: number },
  service: string,
  target: Partial<ConsulTarget> = {},
  options: ConsulFetcher.Options = {}
) {
  const { host, port } = at
  const base = { scheme: "http", onlyPassing: true, tags: [], stale: false, portOf: "service" } as const
  const targets = new Map([["app", { ...base, service, address: host, port, ...target }]])
  const fetcher = yield* ConsulFetcher.make(targets, options)
  const state = fetcher.fetch("app")
  const fetch = Effect.map(state, ({ wanted }) => wanted.map(({ endpoint }) => endpointKey(endpoint)).sort())
  /** Fetches until these are wanted: what an agent is told takes a moment to reach the catalogue. */
  const until = (...keys: ReadonlyArray<string>) =>
    fetch.pipe(
      Effect.tap(() => Effect.sleep("10 millis")),
      Effect.repeat({ until: (found) => found.join() === [...keys].sort().join() }),
      Effect.timeout("10 seconds")
    )
  return { fetch, state, until, awaitChange: fetcher.awaitChange("app") }
})

/** Does something while `awaitChange` waits, which has to return for it and not before. */
export const noticed = Effect.fnUntraced(function* (
  awaitChange: Effect.Effect<void, unknown>,
  action: Effect.Effect<void>
) {
  const waiting = yield* Effect.forkChild(awaitChange, { startImmediately: true })
  yield* Effect.sleep("100 millis")
  assert.isUndefined(waiting.pollUnsafe(), "returned without a change")
  yield* action
  yield* Fiber.join(waiting).pipe(Effect.timeout("2 seconds"))
})
