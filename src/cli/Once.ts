/**
 * `ep2 start --once`: brings HAProxy level and ends, for cron and for the build of an
 * image.
 *
 * | what is found | what is done | exit code |
 * | --- | --- | --- |
 * | another ep2 has the lock | nothing | `lock` |
 * | HAProxy does not run | it is started, as `ep2 start` does | |
 * | new servers are to prove themselves | waited for, for as long as they may take | |
 * | servers drain | waited for until `drain_timeout`; sessions that last longer are left on servers in maintenance, which the next run, or the loop, frees | |
 * | the guard holds servers until it is confirmed | the source is asked again, as by the loop, until it is | |
 * | the guard holds against an empty answer | the rest is done | `notLevel` |
 * | a source does not answer | the other backends are brought level | `source` |
 * | all is level | | `done` |
 * | something keeps HAProxy from it | | `notLevel` |
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Clock, Duration, Effect, Layer, Option, Ref } from "effect"
import * as Bootstrap from "../controller/Bootstrap.ts"
import { ConfigWriter } from "../controller/ConfigWriter.ts"
import * as Controller from "../controller/Controller.ts"
import * as Lock from "../controller/Lock.ts"
import { Memories } from "../controller/Memories.ts"
import { Overrides } from "../controller/Overrides.ts"
import { type BackendOptions, Reconciler } from "../controller/Reconciler.ts"
import * as Report from "../controller/Report.ts"
import { SourceReport } from "../controller/SourceReport.ts"
import * as Plan from "../domain/Plan.ts"
import * as TemplateRenderer from "../haproxy/TemplateRenderer.ts"
import type { Settings } from "../settings/Settings.ts"
import { exitCodes } from "./exitCodes.ts"
import * as Live from "./Live.ts"
import { Sources } from "./Sources.ts"
import * as Stack from "./Stack.ts"
import { Stop, stopWith } from "./Stop.ts"

/** How often it is looked whether all is level. */
const lookEvery = Duration.millis(100)

/** For what a reload and its checks may take, beyond what the settings say of each wait. */
const slack = Duration.minutes(1)

/** Runs to its end. Fails with what it could not do. */
export const run = Effect.fn("Once.run")(function* (settings: Settings) {
  const lock = { dir: settings.lock.dir, configFile: settings.haproxy.configFile }
  const { lost } = yield* Lock.acquire({ ...lock, retryEvery: settings.lock.retryInterval, standsBy: false }).pipe(
    Effect.mapError(stopWith(exitCodes.lock))
  )
  let isLost = false
  const memories = Layer.mergeAll(
    Sources.layer,
    SourceReport.layer,
    Memories.layer,
    Overrides.layer({ ...lock, isOver: () => isLost })
  )
  const losing = Effect.tapError(Effect.mapError(lost, stopWith(exitCodes.lock)), () =>
    Effect.sync(() => {
      isLost = true
    })
  )
  const leveling = makeLevel(settings).pipe(
    Effect.provide(memories),
    Effect.catchTag("LockError", (error) => Effect.fail(stopWith(exitCodes.lock)(error)))
  )
  return yield* Effect.raceFirst(leveling, losing)
}, Effect.scoped)

const makeLevel = Effect.fnUntraced(function* (settings: Settings) {
  const backends = Stack.backendsOf(settings)
  const template = yield* TemplateRenderer.read(settings.haproxy.templateFile).pipe(
    Effect.provide(NodeServices.layer),
    Effect.mapError(stopWith(exitCodes.bootstrap))
  )
  return yield* Effect.gen(function* () {
    const { isPaused } = yield* Overrides
    const obstacle = yield* Bootstrap.once(backends).pipe(Effect.mapError(stopWith(exitCodes.bootstrap)))
    if (yield* isPaused) return yield* notLevel("ep2 is paused: nothing is changed until `ep2 resume`")
    if (obstacle !== undefined) return yield* notLevel(obstacle)
    const answered = yield* Effect.filter(backends, hasAnswered)
    if (answered.length > 0) yield* follow(backends, answered)
    const mute = yield* Effect.filter(backends, (one) => Effect.map(hasAnswered(one), (has) => !has))
    if (mute.length === 0) return yield* Effect.logInfo("level: that is all for now")
    const why = yield* Effect.forEach(mute, ({ name }) => whyMute(name))
    return yield* new Stop({ message: why.join("; "), exitCode: exitCodes.source })
  }).pipe(Effect.provide(Stack.layer(settings, template, Live.edges(settings))))
})

const notLevel = (why: string) => new Stop({ message: `HAProxy is not level: ${why}`, exitCode: exitCodes.notLevel })

const hasAnswered = ({ name, source }: BackendOptions) =>
  Effect.map(Memories, ({ of }) => of(name, source).answer !== undefined)

const whyMute = Effect.fnUntraced(function* (backend: string) {
  const { failing } = yield* (yield* SourceReport).state(backend)
  return `the source of ${backend} has not answered, and it keeps what it has: ${failing?.error.message ?? "it takes too long"}`
})

/** The loop, until these backends are level, or cannot be made so in their time. */
const follow = Effect.fnUntraced(function* (
  all: ReadonlyArray<BackendOptions & Controller.BackendOptions>,
  among: ReadonlyArray<BackendOptions & Controller.BackendOptions>
) {
  const last = yield* Ref.make("nothing was seen of it")
  const untilLevel = Effect.gen(function* () {
    while (true) {
      yield* Effect.sleep(lookEvery)
      const behind = yield* behindOf(among)
      if (behind === undefined) return undefined
      yield* Ref.set(last, behind.why)
      if (behind.isFinal) return behind.why
    }
  })
  const longest = Math.max(...among.map(longestMillis))
  const limit = Duration.sum(Duration.millis(longest), slack)
  const ended = yield* Effect.raceFirst(
    Effect.timeoutOption(untilLevel, limit),
    // It ends by itself where the operator ends a pause: all is looked at anew then, by the next run.
    Effect.andThen(Controller.run(all), Effect.succeedSome("a pause of ep2 came in between"))
  )
  const why = Option.isNone(ended) ? yield* Ref.get(last) : ended.value
  if (why !== undefined) return yield* notLevel(why)
})

/** All that one change after the other may have to wait for. */
const longestMillis = ({ guard, interval, plan }: BackendOptions & Controller.BackendOptions): number =>
  guard.confirmations * Duration.toMillis(interval) + plan.proveTimeoutMillis + plan.drainTimeoutMillis

/** What is not level yet; `isFinal` where no wait can help. */
interface Behind {
  readonly why: string
  readonly isFinal: boolean
}

const behindOf = Effect.fnUntraced(function* (backends: ReadonlyArray<BackendOptions>) {
  const writer = yield* ConfigWriter
  const { isPaused } = yield* Overrides
  const wait = (why: string): Behind => ({ why, isFinal: false })
  // Before and after: what a reload still owes to HAProxy looks level and is not.
  const isWritten = yield* writer.isLevel
  const found = yield* Effect.forEach(backends, behindOfOne)
  if (yield* isPaused) return { why: "paused meanwhile, until `ep2 resume`", isFinal: true } satisfies Behind
  const open = found.filter((one) => one !== undefined)
  const first = open.find(({ isFinal }) => !isFinal)
  if (first !== undefined) return first
  if (!isWritten || !(yield* writer.isLevel))
    return wait("the config file is not written and loaded yet; the log says why")
  return open[0]
})

const behindOfOne = Effect.fnUntraced(function* (
  options: BackendOptions
): Effect.fn.Return<Behind | undefined, never, Reconciler> {
  const { look } = yield* Reconciler
  const { answer, held, load, observed, plan } = yield* look(options.name)
  const nowMillis = yield* Clock.currentTimeMillis
  const [silent] = observed.unobserved
  if (silent !== undefined) return { why: `HAProxy cannot be observed: ${silent.reason}`, isFinal: false }
  if (answer === undefined) return undefined
  if (load !== undefined) return { why: load.reason, isFinal: false }
  if (!Plan.isLevel(plan, { ...options.plan, nowMillis })) {
    const places = plan.unplaced.length === 0 ? "" : `: ${plan.unplaced.length} endpoints have no place`
    return { why: `servers of ${options.name} are on their way${places}`, isFinal: false }
  }
  if (held === undefined) return undefined
  return { why: Report.holdLine(answer, held, options.guard), isFinal: held.reason === "empty" }
})
