/**
 * What a pass does that finds everything as it was, which is to look at nothing more:
 * whatever comes, it has to decide just what a whole pass would have.
 */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Layer, Logger, Schema } from "effect"
import { TestClock } from "effect/testing"
import { ConfigWriter, type Offer } from "../../src/controller/ConfigWriter.ts"
import { Memories } from "../../src/controller/Memories.ts"
import { Overrides } from "../../src/controller/Overrides.ts"
import { type BackendOptions, Reconciler } from "../../src/controller/Reconciler.ts"
import * as Status from "../../src/controller/Status.ts"
import type { DesiredState } from "../../src/domain/State.ts"
import * as EndState from "../../src/haproxy/EndState.ts"
import { Haproxy } from "../../src/haproxy/Haproxy.ts"
import { TemplateRenderer } from "../../src/haproxy/TemplateRenderer.ts"
import { Fetcher } from "../../src/orchestrator/Fetcher.ts"
import { checkOptions } from "../domain/AnyStates.ts"
import * as Processes from "../simulation/Processes.ts"

const options: BackendOptions = {
  name: "web",
  source: "consul",
  nodeSlots: 4,
  updateBy: "runtime",
  guard: {
    allowEmpty: false,
    minServers: 1,
    maxRemovalPercent: 40,
    confirmations: 2,
    windowMillis: 60_000,
    confirmEveryMillis: 4000
  },
  plan: { prove: true, drainTimeoutMillis: 10_000, drainTimeoutAction: "wait", proveTimeoutMillis: 30_000 }
}

const sockets = ["/one.sock", "/two.sock"]

const endpointOf = (number: number) => ({ address: `10.0.0.${number}`, port: 80 })

const answerOf = (numbers: ReadonlyArray<number>, others: Partial<DesiredState> = {}): DesiredState => ({
  backend: "web",
  wanted: numbers.map((number) => ({ endpoint: endpointOf(number), origin: `i-${number}` })),
  refused: [],
  pending: [],
  leaving: [],
  ...others
})

/** Passes over a simulated HAProxy of two processes. `isNew`: what they observe never is what they observed before. */
const makeWorld = Effect.fnUntraced(function* ({
  isNew = false,
  updateBy = "runtime"
}: Partial<Pick<BackendOptions, "updateBy">> & { readonly isNew?: boolean } = {}) {
  const { fleet, haproxy } = Processes.make({ sockets, nowMillis: yield* Clock.currentTimeMillis })
  const say = { answer: answerOf([1, 2, 3]), isPaused: false, isReleased: false }
  const seen: { offer?: Offer; offers: number; status: number; lines: Array<string> } = {
    offers: 0,
    status: 0,
    lines: []
  }
  const real = yield* Layer.build(
    Layer.provide(Haproxy.layer({ placeholder: EndState.placeholder }), haproxy.sockets)
  ).pipe(Effect.flatMap((context) => Effect.provide(Haproxy, context)))
  const edges = Layer.mergeAll(
    Layer.succeed(Haproxy, {
      ...real,
      observe: (backend) => Effect.map(real.observe(backend), (state) => (isNew ? structuredClone(state) : state))
    }),
    Layer.mock(Fetcher, { fetch: () => Effect.sync(() => say.answer) }),
    Layer.mock(ConfigWriter, {
      isStuck: Effect.succeed(false),
      isUntold: Effect.succeed(() => false),
      offer: (offer) =>
        Effect.sync(() => {
          seen.offers++
          seen.offer = offer
          return true
        })
    }),
    Layer.mock(TemplateRenderer, { addObstacle: () => Effect.undefined }),
    Memories.layer,
    Layer.mock(Overrides, {
      isPaused: Effect.sync(() => say.isPaused),
      takeRelease: () =>
        Effect.sync(() => {
          const { isReleased } = say
          say.isReleased = false
          return isReleased
        })
    })
  )
  const context = yield* Layer.build(Layer.provide(Reconciler.layer([{ ...options, updateBy }]), edges))
  const reconciler = yield* Effect.provide(Reconciler, context)
  const status = { ...(yield* Status.Status), pass: () => Effect.sync(() => void seen.status++) }
  const logger = Logger.make<unknown, void>(({ message }) => {
    seen.lines.push(String(message))
  })
  const pass = Effect.andThen(Effect.orDie(reconciler.fetch("web")), reconciler.pass("web")).pipe(
    Effect.provideService(Status.Status, status),
    Effect.provide(Logger.layer([logger]))
  )
  return { fleet, haproxy, pass, say, seen }
})

type World = Effect.Success<ReturnType<typeof makeWorld>>

/** Passes until nothing is on its way. */
const settle = Effect.fnUntraced(function* (world: World) {
  for (let round = 0; round < 60; round++) {
    const { hasActed, plan } = yield* world.pass
    if (!hasActed && !plan.isMoving) return plan
    yield* TestClock.adjust("1 second")
  }
  throw new Error("it does not settle")
})

const AnyStep = Schema.Struct({
  kind: Schema.Literals([
    "answer",
    "answer",
    "leaving",
    "none",
    "fleet",
    "operator",
    "pause",
    "release",
    "kill",
    "silence",
    "time"
  ]),
  numbers: Schema.Array(Schema.Literals([1, 2, 3, 4, 5, 6])).check(Schema.isMaxLength(6)),
  state: Schema.Literals(["ready", "drain", "maint"]),
  isOn: Schema.Boolean,
  seconds: Schema.Literals([0, 1, 5, 5, 20, 90])
})

const take = (
  { isOn, kind, numbers, state }: typeof AnyStep.Type,
  { fleet, haproxy, say }: World,
  nowMillis: number
) => {
  haproxy.advance(nowMillis)
  const named = [...new Set(numbers)]
  switch (kind) {
    case "answer":
      for (const number of named) fleet.set(endpointOf(number), true)
      say.answer = answerOf(named)
      return
    case "leaving": {
      const [endpoint, ...others] = say.answer.wanted
      if (endpoint !== undefined) {
        const leaving = [{ ...endpoint, reason: "is in Standby" }]
        say.answer = { ...say.answer, wanted: others, leaving: isOn ? leaving : [] }
      }
      return
    }
    case "none":
      say.answer = answerOf([])
      return
    case "fleet":
      for (const number of named) fleet.set(endpointOf(number), isOn)
      return
    case "operator":
      return haproxy.type(`set server web/node${named[0] ?? 1} state ${state}`)
    case "pause":
      say.isPaused = isOn
      return
    case "release":
      say.isReleased = true
      return
    case "kill":
      return isOn ? haproxy.killProcess(1) : haproxy.start(Processes.config("one"))
    case "silence":
      return haproxy.failNextConnections(1, 1)
    case "time":
      return
  }
}

describe("a pass that finds everything as it was", () => {
  it.effect("looks at nothing more and offers nothing", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld()
      yield* settle(world)
      yield* world.pass
      const before = { ...world.seen }

      const { hasActed, plan } = yield* world.pass

      assert.deepStrictEqual([hasActed, plan.isMoving, plan.placed.length], [false, false, 3])
      assert.deepStrictEqual(world.seen, before)
    })
  )

  it.effect("does nothing at all while the operator has paused it", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld()
      yield* settle(world)
      for (let round = 0; round < 3; round++) yield* world.pass
      world.say.isPaused = true

      const { plan } = yield* world.pass

      assert.deepStrictEqual(plan.placed, [])
      assert.deepStrictEqual(world.seen.lines, [])
    })
  )

  it.effect.prop(
    "decides what a whole pass decides, whatever happened before",
    [Schema.Array(AnyStep).check(Schema.isBetweenLength(1, 25)), Schema.Literals(["runtime", "config"])],
    ([steps, updateBy]) =>
      Effect.gen(function* () {
        const [resting, looking] = [yield* makeWorld({ updateBy }), yield* makeWorld({ updateBy, isNew: true })]
        for (const world of [resting, looking]) for (let round = 0; round < 3; round++) yield* world.pass
        for (const step of steps) {
          const nowMillis = yield* Clock.currentTimeMillis
          for (const world of [resting, looking]) take(step, world, nowMillis)
          for (let round = 0; round < 4; round++) {
            const [one, other] = [yield* resting.pass, yield* looking.pass]

            assert.deepStrictEqual(one, other)
            assert.deepStrictEqual(resting.seen.lines, looking.seen.lines)
            assert.deepStrictEqual(resting.seen.offer, looking.seen.offer)
            yield* TestClock.adjust("250 millis")
          }
          yield* TestClock.adjust(Duration.seconds(step.seconds))
        }
      }),
    checkOptions(60)
  )

  it.effect("knows in the guard's window who came up last, after all others", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld()
      yield* settle(world)
      world.say.answer = answerOf([1, 2, 3, 4])
      world.fleet.set(endpointOf(4), false)
      yield* world.pass
      yield* TestClock.adjust("31 seconds")
      yield* settle(world)
      world.fleet.set(endpointOf(4), true)
      yield* TestClock.adjust("20 seconds")
      for (let pass = 0; pass < 3; pass++) yield* world.pass
      // It is not in the config that HAProxy begins anew with, so that nobody sees it any more.
      world.haproxy.start(Processes.config("one"))
      world.say.answer = answerOf([1, 2])

      const { plan } = yield* world.pass

      assert.deepStrictEqual(plan.actions, [])
      assert.match(world.seen.lines.at(-1) ?? "", /max_removal_percent is 40 of the 4 that were served within 60 s/)
    })
  )

  it.effect("keeps what was served in the guard's window, however long nothing happens", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld()
      world.say.answer = answerOf([1, 2, 3, 4])
      world.fleet.set(endpointOf(4), true)
      yield* settle(world)
      for (let minute = 0; minute < 10; minute++) {
        yield* TestClock.adjust("1 minute")
        yield* world.pass
      }
      yield* TestClock.adjust("50 seconds")
      world.haproxy.start(Processes.config("one"))
      world.say.answer = answerOf([1, 2])

      const { plan } = yield* world.pass

      assert.deepStrictEqual(plan.actions, [])
      assert.match(world.seen.lines.at(-1) ?? "", /max_removal_percent is 40 of the 4 that were served within 60 s/)
    })
  )
})
