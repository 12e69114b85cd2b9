/**
 * The life of the process behind `ep2 start`: stands by for the lock, brings HAProxy
 * up, and keeps it level; on HUP with new settings and a new template, if they are
 * good.
 *
 * What the settings decide lives in a scope of its own, which HUP replaces. The
 * sources and what is known of them, what the passes remember and the operator's
 * overrides outlive it, so that what did not change goes on undisturbed.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Cause, Duration, Effect, Equal, Exit, Fiber, Layer, Option, Queue } from "effect"
import * as Lock from "../controller/Lock.ts"
import { Memories } from "../controller/Memories.ts"
import { Overrides } from "../controller/Overrides.ts"
import { SourceReport } from "../controller/SourceReport.ts"
import * as TemplateRenderer from "../haproxy/TemplateRenderer.ts"
import * as Settings from "../settings/Settings.ts"
import * as Live from "./Live.ts"
import type * as Log from "./Log.ts"
import { Sources } from "./Sources.ts"
import * as Stack from "./Stack.ts"
import { SystemdNotify } from "./SystemdNotify.ts"

/** What is in force. */
interface Current {
  readonly settings: Settings.Settings
  /** The text of the template; `undefined` while nobody has needed it. */
  readonly template: string | undefined
}

/** Runs until it is interrupted. Fails where the lock cannot be taken, or HAProxy cannot be brought up at the start. */
export const run = Effect.fn("Daemon.run")(function* (settings: Settings.Settings, log: Log.Log) {
  const systemd = yield* SystemdNotify
  const hangups = yield* makeHangups
  const lock = { dir: settings.lock.dir, configFile: settings.haproxy.configFile }
  let current: Current = { settings, template: undefined }

  /** The next settings and template that are good and differ. */
  const awaitNext = Effect.gen(function* () {
    while (true) {
      yield* Queue.take(hangups)
      // Whoever comes next reads it, where something else came first. Ready again once it is known what is in force,
      // since a source that is out may hold up what comes of it.
      const next = yield* Effect.andThen(systemd.reloading, reread(current, log)).pipe(
        Effect.onInterrupt(() => Queue.offer(hangups, undefined)),
        Effect.ensuring(systemd.ready)
      )
      if (next !== undefined) return next
    }
  })

  const standBy = Effect.gen(function* () {
    while (true) current = yield* awaitNext
  })
  const { lost } = yield* Effect.raceFirst(
    Lock.acquire({ ...lock, retryEvery: settings.lock.retryInterval }),
    Effect.andThen(standBy, Effect.never)
  )

  /** Another ep2 has taken the lock: nothing is changed any more. */
  let isLost = false
  const overrides = Overrides.layer({ ...lock, isOver: () => isLost })
  return yield* Effect.gen(function* () {
    /** What was in force before `current`, until that has brought HAProxy up. */
    let before: Current | undefined
    let hasStarted = false
    let pause = leastRetry
    while (true) {
      // From here on an edit counts when it is asked for.
      const template = current.template ?? (yield* readTemplate(current.settings))
      current = { ...current, template }
      const onUp = Effect.sync(() => {
        before = undefined
        hasStarted = true
        pause = leastRetry
      })
      const edges = Live.edges(current.settings)
      const following = yield* Effect.forkChild(
        Stack.follow(current.settings, template, { edges, mayStart: !hasStarted, onUp })
      )
      const changing = yield* Effect.forkChild(awaitNext)
      const [ended, next] = yield* Effect.raceFirst(
        Effect.map(Fiber.await(following), (exit) => [exit, undefined] as const),
        Effect.map(Fiber.join(changing), (good) => [undefined, good] as const)
      ).pipe(
        // The old one ends before a new one begins, and before ep2 does.
        Effect.ensuring(Fiber.interruptAll([changing, following]))
      )
      if (next !== undefined) {
        before ??= hasStarted ? current : undefined
        current = next
        yield* Effect.logInfo("the new settings and template take the place of the old ones")
      } else if (ended !== undefined && Exit.isFailure(ended)) {
        if (!hasStarted || Cause.hasDies(ended.cause)) return yield* Effect.failCause(ended.cause)
        const error = Cause.squash(ended.cause)
        const why = error instanceof Error ? error.message : String(error)
        if (before === undefined) {
          yield* Effect.logError(`HAProxy goes on as it is, and is tried again: ${why}`)
          current = Option.getOrElse(yield* Effect.timeoutOption(awaitNext, pause), () => current)
          pause = Duration.min(Duration.times(pause, 2), longestRetry)
        } else {
          yield* Effect.logError(`the old settings and template are in force again: ${why}`)
          yield* log.reopen(before.settings.log).pipe(Effect.ignore)
          current = before
          before = undefined
        }
      }
    }
  }).pipe(
    Effect.raceFirst(
      Effect.tapError(lost, () =>
        Effect.sync(() => {
          isLost = true
        })
      )
    ),
    Effect.provide(Layer.mergeAll(Sources.layer, SourceReport.layer, Memories.layer, overrides))
  )
}, Effect.scoped)

/** Waits before HAProxy is tried again that cannot be brought up where it could before; doubled each time. */
const leastRetry = Duration.seconds(5)
const longestRetry = Duration.minutes(1)

const readTemplate = ({ haproxy }: Settings.Settings) =>
  TemplateRenderer.read(haproxy.templateFile).pipe(Effect.provide(NodeServices.layer))

/** Reopens the log, and reads ep2.conf and the template again. `undefined` where they are bad, which is said, or as before. */
const reread = Effect.fnUntraced(function* (current: Current, log: Log.Log) {
  const { settings } = current
  yield* log
    .reopen(settings.log)
    .pipe(Effect.catch((error) => Effect.logError(`goes on with the log as it was: ${error.message}`)))
  yield* Effect.logInfo(`HUP: reading ${settings.file} and its template again`)
  return yield* Effect.gen(function* () {
    const next = yield* Settings.load(settings.file).pipe(Effect.provide(NodeServices.layer))
    yield* refuseFixed(settings, next.settings)
    const template = yield* readTemplate(next.settings)
    if (Equal.equals(settings, next.settings) && template === current.template) {
      yield* Effect.logInfo("nothing has changed in them")
      return undefined
    }
    yield* Live.check(next.settings, template)
    for (const warning of next.warnings) yield* Effect.logWarning(warning)
    yield* log.reopen(next.settings.log)
    return { settings: next.settings, template } satisfies Current
  }).pipe(
    Effect.catch((error) =>
      Effect.logError(`the old settings and template stay in force: ${error.message}`).pipe(Effect.as(undefined))
    )
  )
})

/** What the lock is made of cannot change under it. */
const refuseFixed = Effect.fnUntraced(function* (now: Settings.Settings, next: Settings.Settings) {
  for (const [key, before, after] of [
    ["haproxy_config_file", now.haproxy.configFile, next.haproxy.configFile],
    ["lock_dir", now.lock.dir, next.lock.dir]
  ] as const) {
    if (before === after) continue
    return yield* Effect.fail({
      message: `${now.file}: [haproxy] ${key} = "${after}": it was "${before}", and the lock hangs on it: restart ep2 to change it`
    })
  }
})

/** HUP, as often as it comes; several that nobody has taken yet count once. Until the scope ends it does not end the process. */
const makeHangups = Effect.gen(function* () {
  const hangups = yield* Queue.sliding<void>(1)
  const onHangup = () => void Queue.offerUnsafe(hangups, undefined)
  yield* Effect.acquireRelease(
    Effect.sync(() => process.on("SIGHUP", onHangup)),
    () => Effect.sync(() => process.removeListener("SIGHUP", onHangup))
  )
  return hangups
})
