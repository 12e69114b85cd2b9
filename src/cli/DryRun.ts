/**
 * `ep2 start --dry-run`: the loop that only says it. The sources and HAProxy are
 * watched as by `ep2 start`; what would be done is logged when it begins to be so,
 * and again when it no longer is.
 */
import { Duration, Effect, Queue } from "effect"
import * as Controller from "../controller/Controller.ts"
import * as Preview from "../controller/Preview.ts"
import { Reconciler } from "../controller/Reconciler.ts"
import * as Report from "../controller/Report.ts"
import * as Plan from "../domain/Plan.ts"
import type { Settings } from "../settings/Settings.ts"
import * as Foresight from "./Foresight.ts"
import * as Stack from "./Stack.ts"

/** What comes so close together is looked at once. */
const settle = Duration.millis(100)

/** Runs until it is interrupted. Fails where the template cannot be rendered. */
export const run = Effect.fn("DryRun.run")(function* (settings: Settings) {
  yield* Effect.logInfo("a dry run: what would be done is said here, and nothing is changed; no lock is taken")
  const looking = yield* Foresight.lookingOnly(settings)
  return yield* Effect.gen(function* () {
    const reconciler = yield* Reconciler
    const wake = yield* Queue.sliding<void>(1)
    // The loop decides when; in place of a pass, all is looked at.
    const pass = (backend: string) =>
      Effect.as(Queue.offer(wake, undefined), { plan: Plan.none(backend), hasActed: false, errors: [] })
    const loop = Controller.run(Stack.backendsOf(settings)).pipe(
      Effect.provideService(Reconciler, Reconciler.of({ ...reconciler, pass }))
    )
    return yield* Effect.raceFirst(loop, sayEach(settings, wake))
  }).pipe(Effect.provide(looking))
}, Effect.scoped)

const sayEach = Effect.fnUntraced(function* (settings: Settings, wake: Queue.Queue<void>) {
  const notices = yield* Report.makeNotices
  while (true) {
    yield* Queue.take(wake)
    yield* Effect.sleep(settle)
    const found = yield* Foresight.preview(settings).pipe(Effect.mapError(Foresight.cannotBeRendered))
    const facts = Preview.lines(found)
    yield* notices.say(facts.size === 0 ? new Map([["nothing to do", "nothing to do"]]) : facts, noLonger)
  }
})

const noLonger = (what: string): string => `no longer: ${what}`
