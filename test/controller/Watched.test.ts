/** The loops of ep2 as the watchdog sees them: alive through all that may rightly take long, and overdue when one hangs. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Layer, Scope } from "effect"
import { TestClock } from "effect/testing"
import { ConfigWriter } from "../../src/controller/ConfigWriter.ts"
import * as Controller from "../../src/controller/Controller.ts"
import * as Lock from "../../src/controller/Lock.ts"
import { Overrides } from "../../src/controller/Overrides.ts"
import * as Progress from "../../src/controller/Progress.ts"
import { type Outcome, Reconciler } from "../../src/controller/Reconciler.ts"
import { SourceReport } from "../../src/controller/SourceReport.ts"
import * as Plan from "../../src/domain/Plan.ts"
import { Haproxy } from "../../src/haproxy/Haproxy.ts"
import { SocketError } from "../../src/haproxy/HaproxySocket.ts"
import { FetchError, Fetcher } from "../../src/orchestrator/Fetcher.ts"

const unavailable = new FetchError({ target: "source", reason: "Unavailable", detail: "refused" })
const closed = new SocketError({ socket: "/s", reason: "Closed", detail: "closed" })
const outcome: Outcome = { plan: Plan.none("web"), hasActed: false, errors: [] }

/** The loop of one backend, with what its edges do; says what is overdue. */
const makeLoop = Effect.fnUntraced(function* (edges: {
  readonly interval?: Duration.Duration
  readonly pass?: Effect.Effect<Outcome>
  readonly fetch?: Effect.Effect<void, FetchError>
  readonly pidOf?: Effect.Effect<number>
}) {
  const progress = yield* Progress.make
  const { interval = Duration.seconds(5) } = edges
  const services = Layer.mergeAll(
    Layer.mock(Reconciler, {
      pass: () => edges.pass ?? Effect.succeed(outcome),
      fetch: () => edges.fetch ?? Effect.void
    }),
    Layer.mock(Fetcher, { awaitChange: () => Effect.never }),
    Layer.mock(ConfigWriter, { run: () => Effect.never }),
    Layer.mock(Overrides, { awaitChange: Effect.never }),
    SourceReport.layer,
    Layer.mock(Haproxy, {
      sockets: ["/s"],
      pidOf: () => edges.pidOf ?? Effect.succeed(1)
    }),
    Layer.succeed(Progress.Progress, progress)
  )
  yield* Controller.run([{ name: "web", interval }]).pipe(Effect.provide(services), Effect.forkChild)
  return progress
})

/** Looks each minute for 80 of them. */
const everOverdue = Effect.fnUntraced(function* ({ overdue }: Progress.Progress) {
  const names = new Set<string>()
  for (let look = 0; look < 80; look++) {
    yield* TestClock.adjust("1 minute")
    for (const name of yield* overdue) names.add(name)
  }
  return [...names]
})

describe("the loops, watched", () => {
  it.effect.each<{ what: string; edges: Parameters<typeof makeLoop>[0] }>([
    { what: "nothing happens", edges: {} },
    { what: "passes are an hour apart", edges: { interval: Duration.hours(1) } },
    {
      what: "the source is out and answers after a minute that it is",
      edges: { fetch: Effect.delay(unavailable, "1 minute") }
    },
    {
      what: "HAProxy does not answer",
      edges: { pass: Effect.delay(Effect.succeed({ ...outcome, errors: [closed] }), "20 seconds") }
    },
    { what: "each pass takes five minutes", edges: { pass: Effect.delay(Effect.succeed(outcome), "5 minutes") } }
  ])("are alive while $what", ({ edges }) =>
    Effect.gen(function* () {
      const progress = yield* makeLoop(edges)

      const overdue = yield* everOverdue(progress)

      assert.deepStrictEqual(overdue, [])
    })
  )

  it.effect.each<{ what: string; edges: Parameters<typeof makeLoop>[0] }>([
    { what: "the passes of web", edges: { pass: Effect.never } },
    { what: "the source of web", edges: { fetch: Effect.never } },
    { what: "the look at /s", edges: { pidOf: Effect.never } }
  ])("are not when just $what hangs", ({ edges, what }) =>
    Effect.gen(function* () {
      const progress = yield* makeLoop(edges)

      const overdue = yield* everOverdue(progress)

      assert.deepStrictEqual(overdue, [what])
    })
  )

  it.live("are one more while ep2 stands by, which is forgotten once the lock is ours", () =>
    Effect.gen(function* () {
      const dir = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "ep2-watched-"))),
        (made) => Effect.sync(() => rmSync(made, { recursive: true }))
      )
      const events: Array<string> = []
      const spy: Progress.Progress = {
        ...(yield* Progress.make),
        register: (name) =>
          Effect.gen(function* () {
            events.push(`begins: ${name}`)
            yield* Effect.addFinalizer(() => Effect.sync(() => events.push("ends")))
            return (rest) => Effect.sync(() => events.push(`rests ${Duration.toMillis(rest)}`))
          })
      }
      const options = { dir, configFile: join(dir, "haproxy.cfg"), retryEvery: Duration.millis(50) }
      const holder = yield* Scope.make()
      yield* Lock.acquire(options).pipe(Scope.provide(holder))

      const next = yield* Lock.acquire(options).pipe(
        Effect.provideService(Progress.Progress, spy),
        Effect.forkChild({ startImmediately: true })
      )
      yield* Effect.sleep("200 millis")
      yield* Scope.close(holder, Exit.void)
      yield* Fiber.join(next)

      assert.deepStrictEqual([...new Set(events)], ["begins: the wait for the lock", "rests 50", "ends"])
      assert.isAtLeast(events.length, 4)
    })
  )
})
