/** How often AWS is asked by the loop itself, whatever goes wrong: on virtual time, with an API that is told what to do. */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Layer } from "effect"
import { TestClock } from "effect/testing"
import { ConfigWriter } from "../../src/controller/ConfigWriter.ts"
import * as Controller from "../../src/controller/Controller.ts"
import { Overrides } from "../../src/controller/Overrides.ts"
import { Reconciler } from "../../src/controller/Reconciler.ts"
import { SourceReport } from "../../src/controller/SourceReport.ts"
import * as Plan from "../../src/domain/Plan.ts"
import { Haproxy } from "../../src/haproxy/Haproxy.ts"
import * as AwsAsgFetcher from "../../src/orchestrator/AwsAsgFetcher.ts"
import { FetchError, Fetcher } from "../../src/orchestrator/Fetcher.ts"

const interval = Duration.seconds(5)

const failing = (reason: FetchError["reason"]) => new FetchError({ target: "AWS", reason, detail: "as told" })

/** The loop over so many backends of one account. */
const makeLoop = Effect.fnUntraced(function* (backends: number, latencyMillis = 50) {
  const aws = { error: undefined as FetchError | undefined, groupCalls: 0, instanceCalls: 0 }
  const names = Array.from({ length: backends }, (_, index) => `web-${index}`)
  const member = { id: "i-1", zone: "eu-central-1a", lifecycle: "InService", health: "Healthy" }
  const fetcher = yield* AwsAsgFetcher.make(
    new Map(
      names.map((name) => [
        name,
        { region: "eu-central-1", groups: [name], ipType: "private" as const, port: 80, interval }
      ])
    ),
    {
      api: () =>
        Effect.succeed({
          groups: (asked) =>
            Effect.gen(function* () {
              aws.groupCalls++
              yield* Effect.sleep(Duration.millis(latencyMillis))
              return aws.error === undefined ? asked.map((name) => ({ name, members: [member] })) : yield* aws.error
            }),
          instances: (ids) =>
            Effect.sync(() => {
              aws.instanceCalls++
              return ids.map((id) => ({
                id,
                state: "running",
                private: "10.0.0.1",
                public: undefined,
                ipv6: undefined
              }))
            }),
          someNames: Effect.succeed([]),
          clockOffMillis: Effect.succeed(0)
        })
    }
  )
  const edges = Layer.mergeAll(
    Layer.succeed(Fetcher, fetcher),
    Layer.mock(Reconciler, {
      fetch: (backend) => Effect.asVoid(fetcher.fetch(backend)),
      pass: (backend) => Effect.succeed({ plan: Plan.none(backend), hasActed: false, errors: [] })
    }),
    Layer.mock(ConfigWriter, { run: () => Effect.never }),
    Layer.mock(Overrides, { awaitChange: Effect.never }),
    SourceReport.layer,
    Layer.mock(Haproxy, { sockets: ["/s"], pidOf: () => Effect.succeed(1) })
  )
  yield* Controller.run(names.map((name) => ({ name, interval }))).pipe(Effect.provide(edges), Effect.forkChild)
  const during = Effect.fnUntraced(function* (time: Duration.Input) {
    const before = aws.groupCalls
    yield* TestClock.adjust(time)
    return aws.groupCalls - before
  })
  return { aws, during }
})

/** Polls of ten minutes: each 4 to 4.75 s and the time that it takes. */
const steady = (calls: number) => calls >= 110 && calls <= 150

describe("the loop, with AWS as its source", () => {
  it.effect.each([1, 5])("asks once per interval for %i backends, and for addresses once", (backends) =>
    Effect.gen(function* () {
      const { aws, during } = yield* makeLoop(backends)

      const calls = yield* during("10 minutes")

      assert.isTrue(steady(calls), `${calls} calls`)
      assert.equal(aws.instanceCalls, 1)
    })
  )

  it.effect.each([1, 5])("asks no more often for %i backends after a failure is over", (backends) =>
    Effect.gen(function* () {
      const { aws, during } = yield* makeLoop(backends)
      yield* during("1 minute")
      for (const reason of ["Unavailable", "Unauthorized", "Throttled"] as const) {
        aws.error = failing(reason)
        yield* during("20 seconds")
        aws.error = undefined
        yield* during("2 minutes")

        const calls = yield* during("10 minutes")

        assert.isTrue(steady(calls), `${calls} calls after ${reason}`)
      }
    })
  )

  it.effect.each([
    { reason: "Throttled", backends: 1, most: 20 },
    { reason: "Throttled", backends: 5, most: 60 },
    { reason: "Unavailable", backends: 5, most: 60 },
    // Waiting does not help, and the operator wants to see at once that it is mended.
    { reason: "Unauthorized", backends: 5, most: 130 }
  ] as const)("backs off while AWS answers $reason, with $backends backends", ({ backends, most, reason }) =>
    Effect.gen(function* () {
      const { aws, during } = yield* makeLoop(backends)
      yield* during("1 minute")
      aws.error = failing(reason)
      yield* during("5 minutes")

      const calls = yield* during("10 minutes")

      assert.isTrue(calls >= 5 && calls <= most, `${calls} calls`)
    })
  )
})
