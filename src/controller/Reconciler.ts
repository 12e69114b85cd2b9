/**
 * One pass over one backend: fetch the desired state, observe HAProxy, plan, apply,
 * and hand the end state to the writer of the config file.
 *
 * A pass is level-based: it looks at the two states as they are now, never at
 * what changed or at what an earlier pass did. A failed pass needs no undo; the
 * next one starts from what it finds. What must be known over time is the last
 * good answer of the source and the planner's memory.
 */
import { Clock, Context, Effect, Layer, Result } from "effect"
import * as Guard from "../domain/Guard.ts"
import * as Plan from "../domain/Plan.ts"
import type { DesiredState } from "../domain/State.ts"
import * as EndState from "../haproxy/EndState.ts"
import { type Failure, Haproxy } from "../haproxy/Haproxy.ts"
import type { SocketError } from "../haproxy/HaproxySocket.ts"
import type { CommandRejected } from "../haproxy/RuntimeApi.ts"
import { type FetchError, Fetcher } from "../orchestrator/Fetcher.ts"
import { ConfigWriter } from "./ConfigWriter.ts"
import * as Report from "./Report.ts"

/** What can go wrong in a pass. */
export type PassError = FetchError | SocketError | CommandRejected

/** How one backend is reconciled. */
export interface BackendOptions {
  readonly name: string
  /** How many slots the config file has at least. */
  readonly nodeSlots: number
  readonly guard: Guard.Options
  readonly plan: Omit<Plan.Options, "nowMillis">
}

export interface Outcome {
  readonly plan: Plan.Plan
  /** Commands were sent, so the next pass should look at once what they led to. */
  readonly hasActed: boolean
  /** The source answered in this pass. */
  readonly hasFetched: boolean
  /** What went wrong. Whatever could be done in spite of it was done. */
  readonly errors: ReadonlyArray<PassError>
}

export class Reconciler extends Context.Service<
  Reconciler,
  {
    /**
     * Runs one pass. With `fetch`, the source is asked first; where it has no
     * answer, or is not asked, the last good one stands. Never fails: errors
     * are part of the outcome. Passes of one backend must not overlap.
     */
    readonly pass: (backend: string, how: { readonly fetch: boolean }) => Effect.Effect<Outcome>
    /** Hands over the answer that the bootstrap got, so that a source that fails right after it loses nothing. */
    readonly remember: (answer: DesiredState) => Effect.Effect<void>
  }
>()("ep2/controller/Reconciler") {
  static readonly layer = (backends: ReadonlyArray<BackendOptions>) => Layer.effect(Reconciler, make(backends))
}

/** What one backend's passes remember. */
interface Memory {
  answer: DesiredState | undefined
  plan: Plan.Memory
  origins: Report.Origins
}

interface State {
  readonly options: BackendOptions
  readonly memory: Memory
  readonly standing: Report.Standing
  readonly notices: Report.Standing
}

const make = Effect.fnUntraced(function* (backends: ReadonlyArray<BackendOptions>) {
  const fetcher = yield* Fetcher
  const haproxy = yield* Haproxy
  const writer = yield* ConfigWriter
  const states = new Map<string, State>()
  for (const options of backends) {
    const [standing, notices] = [yield* Report.makeStanding, yield* Report.makeNotices]
    const memory = { answer: undefined, plan: Plan.emptyMemory, origins: new Map() }
    states.set(options.name, { options, standing, notices, memory })
  }

  const stateOf = (backend: string) => {
    const state = states.get(backend)
    return state === undefined ? Effect.die(new Error(`no backend ${backend}`)) : Effect.succeed(state)
  }

  const pass = Effect.fn("Reconciler.pass")(function* (backend: string, how: { readonly fetch: boolean }) {
    const { memory, notices, options, standing } = yield* stateOf(backend)
    const errors: Array<PassError> = []
    if (how.fetch) {
      const fetched = yield* Effect.result(fetcher.fetch(backend))
      if (Result.isSuccess(fetched)) memory.answer = fetched.success
      else errors.push(fetched.failure)
    }
    const hasFetched = how.fetch && errors.length === 0

    const observed = yield* haproxy.observe(backend)
    const answer = memory.answer
    if (answer === undefined) {
      return { plan: Plan.none(backend), hasActed: false, hasFetched, errors }
    }
    const { desired, held } = Guard.judge(answer, Guard.served(observed), options.guard)
    const nowMillis = yield* Clock.currentTimeMillis
    const plan = Plan.make(desired, observed, memory.plan, { ...options.plan, nowMillis })
    if (options.plan.prove) yield* Report.logProven(plan, memory.plan, nowMillis)
    memory.plan = plan.memory
    yield* standing.say(Report.standingFacts(answer, held, plan, observed), Report.over)
    yield* notices.say(Report.pendingFacts(answer), (origin) => `has what it lacked, or is gone: ${origin}`)
    memory.origins = Report.nextOrigins(memory.origins, answer, observed)
    yield* Report.logActions(plan, observed, { origins: memory.origins, leaving: answer.leaving })

    const failures: ReadonlyArray<Failure> = plan.actions.length === 0 ? [] : yield* haproxy.apply(plan, observed)
    errors.push(...failures.map(({ error }) => error))
    // Without a process to look at, the file on disk is the best that is known: it stays.
    if (observed.processes.length > 0) yield* writer.offer(EndState.make(plan, observed, options.nodeSlots))
    return { plan, hasActed: plan.actions.length > 0, hasFetched, errors }
  })

  const remember = (answer: DesiredState) =>
    stateOf(answer.backend).pipe(
      Effect.map(({ memory }) => {
        memory.answer = answer
      })
    )

  return Reconciler.of({ pass, remember })
})
