/**
 * One pass over one backend: observe HAProxy, plan what brings it to the last good
 * answer of the source, apply that, and hand the end state to the writer of the
 * config file. The source is asked beside the passes, so that a slow one holds up
 * nothing that is on its way.
 *
 * A pass is level-based: it looks at the two states as they are now, never at
 * what changed or at what an earlier pass did. A failed pass needs no undo; the
 * next one starts from what it finds. What must be known over time is the last
 * good answer of the source and the planner's memory.
 */
import { Clock, Context, Effect, Layer, Semaphore } from "effect"
import * as Guard from "../domain/Guard.ts"
import * as Plan from "../domain/Plan.ts"
import { type DesiredState, endpointKey, isSameAnswer, type ObservedState } from "../domain/State.ts"
import * as EndState from "../haproxy/EndState.ts"
import { type Failure, Haproxy } from "../haproxy/Haproxy.ts"
import type { SocketError } from "../haproxy/HaproxySocket.ts"
import type { CommandRejected } from "../haproxy/RuntimeApi.ts"
import { type FetchError, Fetcher } from "../orchestrator/Fetcher.ts"
import { ConfigWriter, type Load, type Offer } from "./ConfigWriter.ts"
import * as Growth from "./Growth.ts"
import { Memories, type Memory } from "./Memories.ts"
import { Overrides } from "./Overrides.ts"
import * as Report from "./Report.ts"
import * as Status from "./Status.ts"

/** What can go wrong in a pass. */
export type PassError = SocketError | CommandRejected

/** How one backend is reconciled. */
export interface BackendOptions {
  readonly name: string
  /** Tells its source from another one. */
  readonly source: string
  /** How many slots the config file has at least; 0: only servers that are in use. */
  readonly nodeSlots: number
  /** Over the sockets, or by a config that HAProxy loads for each change. */
  readonly updateBy: "runtime" | "config"
  readonly guard: Guard.Options
  readonly plan: Omit<Plan.Options, "nowMillis" | "growth">
}

/** What one pass has done. */
export interface Outcome {
  readonly plan: Plan.Plan
  /** Commands were sent, so the next pass should look at once what they led to. */
  readonly hasActed: boolean
  /** What went wrong. Whatever could be done in spite of it was done. */
  readonly errors: ReadonlyArray<PassError>
}

/** What a pass would decide now. */
export interface Look {
  readonly observed: ObservedState
  /** `undefined` until the source has answered; then nothing is planned. */
  readonly answer: DesiredState | undefined
  /** What the guard would hold. */
  readonly held: Guard.Hold | undefined
  readonly plan: Plan.Plan
  readonly growth: Growth.Way
  /** That HAProxy would have to load another config. */
  readonly load: Load | undefined
}

/** Makes passes. Asking about a backend that it was not made for is a defect. */
export class Reconciler extends Context.Service<
  Reconciler,
  {
    /** Asks the source. Its answer counts from the next pass on; where it fails, the last good one stands. */
    readonly fetch: (backend: string) => Effect.Effect<void, FetchError>
    /**
     * Runs one pass. Never fails: errors are part of the outcome. Passes of one
     * backend are made one after the other, in the order of the calls.
     */
    readonly pass: (backend: string) => Effect.Effect<Outcome>
    /**
     * What the next pass would decide. Nothing is changed but the guard's memory of
     * the answers that it has seen; passes of the backend wait for it.
     */
    readonly look: (backend: string) => Effect.Effect<Look>
    /** Hands over the answer that the bootstrap got, so that a source that fails right after it loses nothing. */
    readonly remember: (answer: DesiredState) => Effect.Effect<void>
  }
>()("ep2/controller/Reconciler") {
  /** For these backends, which may not change while it lives. */
  static readonly layer = (backends: ReadonlyArray<BackendOptions>) => Layer.effect(Reconciler, make(backends))
}

interface State {
  readonly options: BackendOptions
  readonly memory: Memory
  readonly growth: Growth.Growth
  /** Passes of one backend do not overlap. */
  readonly turn: Semaphore.Semaphore
  readonly standing: Report.Standing
  readonly notices: Report.Standing
  readonly intentions: Report.Standing
  /** What the last pass saw and made of it, if it was let do that. */
  last: Last | undefined
}

/** What one pass saw, and its plan. */
interface Last {
  readonly answer: DesiredState
  readonly observed: ObservedState
  readonly plan: Plan.Plan
  /** The same was seen before, and there was nothing to do: while it is seen again, nothing has to be decided anew. */
  readonly isAtRest: boolean
}

const isSameProcesses = (one: ObservedState, other: ObservedState): boolean =>
  one.processes.length === other.processes.length &&
  one.processes.every((process, index) => process === other.processes[index]) &&
  one.unobserved.length === 0 &&
  other.unobserved.length === 0

const make = Effect.fnUntraced(function* (backends: ReadonlyArray<BackendOptions>) {
  const fetcher = yield* Fetcher
  const haproxy = yield* Haproxy
  const writer = yield* ConfigWriter
  const memories = yield* Memories
  const overrides = yield* Overrides
  const processes = yield* Report.makeProcesses
  const states = new Map<string, State>()
  for (const options of backends) {
    const [standing, notices, intentions] = [
      yield* Report.makeStanding,
      yield* Report.makeNotices,
      yield* Report.makeNotices
    ]
    const growth = yield* Growth.make(options)
    const memory = memories.of(options.name, options.source)
    const turn = yield* Semaphore.make(1)
    states.set(options.name, { options, growth, turn, standing, notices, intentions, memory, last: undefined })
  }

  const stateOf = (backend: string) => {
    const state = states.get(backend)
    return state === undefined ? Effect.die(new Error(`no backend ${backend}`)) : Effect.succeed(state)
  }

  const fetch = Effect.fn("Reconciler.fetch")(function* (backend: string) {
    const { memory } = yield* stateOf(backend)
    const answer = yield* fetcher.fetch(backend)
    const isSame = memory.answer !== undefined && isSameAnswer(memory.answer, answer)
    // The same one stays, so that a pass sees at a glance that nothing is new.
    if (!isSame) memory.answer = answer
    memory.number++
  })

  const pass = (backend: string) =>
    Effect.flatMap(stateOf(backend), (state) =>
      state.turn.withPermit(passOne(backend, state)).pipe(Effect.annotateLogs({ backend }))
    )

  const passOne = Effect.fn("Reconciler.pass")(function* (backend: string, state: State) {
    const { intentions, memory, notices, options, standing } = state
    const isUntoldBefore = yield* writer.isUntold
    const observed = yield* haproxy.observe(backend)
    const isUntold = yield* writer.isUntold
    yield* processes.say(observed)
    const answer = memory.answer
    const isPaused = yield* overrides.isPaused
    const isBetween = observed.processes.some(({ pid }) => isUntoldBefore(pid) || isUntold(pid))
    // The writer calls for another pass once it has told that process everything.
    if (isBetween) yield* writer.attend
    const nothing: Outcome = { plan: Plan.none(backend), hasActed: false, errors: [] }
    if (isBetween) return nothing
    // A pause leaves it for later; who has no answer yet has nothing that could be let go.
    const isReleased = isPaused ? false : yield* overrides.takeRelease(backend)
    if (answer === undefined) {
      if (observed.processes.length > 0 && !isPaused) yield* offerAsIs(state, observed)
      return nothing
    }
    const { last } = state
    const isAsBefore = last?.answer === answer && isSameProcesses(last.observed, observed)
    if (last?.isAtRest === true && isAsBefore && !isPaused && !isReleased) {
      memory.guard = Guard.unchanged(memory.guard, { nowMillis: yield* Clock.currentTimeMillis, number: memory.number })
      return { plan: last.plan, hasActed: false, errors: [] }
    }
    state.last = undefined
    const { desired, held, nowMillis, plan, way } = yield* decide(state, answer, observed, isReleased)
    yield* Status.pass(desired, observed)
    yield* standing.say(
      Report.standingFacts({ answer, hold: held, guard: options.guard, plan, growth: way }),
      Report.over
    )
    yield* notices.say(Report.pendingFacts(answer), (origin) => `has what it lacked, or is gone: ${origin}`)
    memory.origins = Report.nextOrigins(memory.origins, answer, observed)
    const names = { origins: memory.origins, leaving: answer.leaving }
    if (isPaused) {
      // Nothing of the plan is done, so nothing of it is on its way: the memory stays as it was.
      yield* intentions.say(Report.intentionsOf(plan, observed, names), (what) => `no longer: ${what}`)
      return nothing
    }
    yield* intentions.say(new Map(), () => "")
    if (options.plan.prove) yield* Report.logProven(plan, memory.plan, nowMillis)
    memory.plan = plan.memory

    // Without a process to look at, the file on disk is the best that is known: it stays.
    if (observed.processes.length === 0) return { plan, hasActed: false, errors: [] }
    const failures =
      options.updateBy === "config"
        ? yield* byConfig(state, plan, observed, names)
        : yield* byRuntime(state, plan, observed, names)
    const errors = failures.filter((failure) => !Growth.isRefusal(failure)).map(({ error }) => error)
    const isLevel = Plan.isSettled(plan) && plan.unplaced.length === 0 && !plan.isIncomplete
    const isHeld = held !== undefined || memory.guard.missing.size > 0
    // What this pass has learnt (who came up, above all) counts from the next one on: only that one can be the last.
    const isAtRest = isAsBefore && isLevel && failures.length === 0 && !isHeld
    state.last = { answer, observed, plan, isAtRest }
    return { plan, hasActed: options.updateBy === "runtime" && plan.actions.length > 0, errors }
  })

  /** What the guard lets through of an answer, and the plan for it. */
  const decide = Effect.fnUntraced(function* (
    state: State,
    answer: DesiredState,
    observed: ObservedState,
    isReleased: boolean
  ) {
    const { growth, memory, options } = state
    const nowMillis = yield* Clock.currentTimeMillis
    const { desired, held } = yield* judge(state, answer, observed, { nowMillis, isReleased })
    const way = yield* growth.way(observed)
    const plan = Plan.make(desired, observed, memory.plan, { ...options.plan, nowMillis, growth: way.growth })
    return { desired, held, nowMillis, plan, way }
  })

  const lookAt = Effect.fnUntraced(function* (backend: string, state: State) {
    const observed = yield* haproxy.observe(backend)
    const { answer } = state.memory
    if (answer === undefined) {
      const growth = yield* state.growth.way(observed)
      return { observed, answer, held: undefined, plan: Plan.none(backend), growth, load: undefined } satisfies Look
    }
    const { held, plan, way } = yield* decide(state, answer, observed, false)
    // As in a pass: without a process to look at, nothing is loaded.
    const load = observed.processes.length === 0 ? undefined : (yield* offerOf(state, plan, observed)).load
    return { observed, answer, held, plan, growth: way, load } satisfies Look
  })

  const look = (backend: string) =>
    Effect.flatMap(stateOf(backend), (state) => state.turn.withPermit(lookAt(backend, state)))

  /** What the file is to hold after this plan, and whether HAProxy has to load it. */
  const offerOf = ({ growth, options }: State, plan: Plan.Plan, observed: ObservedState): Effect.Effect<Offer> => {
    if (options.updateBy === "runtime") return growth.endState(plan, observed)
    const servers = EndState.byConfig(plan, observed)
    const pids = observed.processes.map(({ pid }) => pid)
    return Effect.succeed({
      servers,
      forLoad: EndState.forLoad(servers, plan, observed, options.plan),
      load: EndState.differs(servers, observed) ? { reason: "update_by_config, servers changed", pids } : undefined
    })
  }

  /** What the guard says, and what the operator has released of it. */
  const judge = Effect.fnUntraced(function* (
    { memory, options }: State,
    answer: DesiredState,
    observed: ObservedState,
    { isReleased, nowMillis }: { readonly nowMillis: number; readonly isReleased: boolean }
  ) {
    const overdue = Plan.overdue(memory.plan, { ...options.plan, nowMillis })
    const input = { answer, number: memory.number, served: Guard.served(observed), overdue, nowMillis }
    const verdict = Guard.judge({ ...input, isReleased: false }, memory.guard, options.guard)
    memory.guard = verdict.memory
    if (!isReleased) return verdict
    if (verdict.held === undefined) {
      yield* Effect.logInfo("released by the operator: nothing was held")
      return verdict
    }
    const names = Report.someOf(verdict.held.endpoints.map(endpointKey))
    yield* Effect.logWarning(`released by the operator, and taken away: ${names}`)
    const released = Guard.judge({ ...input, isReleased: true }, memory.guard, options.guard)
    memory.guard = released.memory
    return released
  })

  /** A backend whose source has not answered yet keeps what it has, in the file too. */
  const offerAsIs = Effect.fnUntraced(function* ({ growth, options }: State, observed: ObservedState) {
    const nowMillis = yield* Clock.currentTimeMillis
    const wanted = Guard.served(observed).map((endpoint) => ({ endpoint, origin: "its source has not answered yet" }))
    const desired = { backend: options.name, wanted, refused: [], pending: [], leaving: [] }
    const times = { ...options.plan, nowMillis, growth: { by: "add", keep: options.nodeSlots } } as const
    const plan = { ...Plan.make(desired, observed, Plan.emptyMemory, times), actions: [] }
    yield* growth.way(observed)
    const servers =
      options.updateBy === "config"
        ? EndState.byConfig(plan, observed)
        : (yield* growth.endState(plan, observed)).servers
    const forLoad = EndState.forLoad(servers, plan, observed, { prove: false })
    yield* writer.offer({ servers, forLoad, load: undefined })
  })

  const byRuntime = Effect.fnUntraced(function* (
    state: State,
    plan: Plan.Plan,
    observed: ObservedState,
    names: Report.Names
  ) {
    const failures: ReadonlyArray<Failure> = plan.actions.length === 0 ? [] : yield* haproxy.apply(plan, observed)
    // What was refused is said as such, once; it did not happen, however often it is tried.
    const undone = new Set(failures.map(({ action, socket }) => action ?? socket))
    const actions = plan.actions.filter((action) => !undone.has(action) && !undone.has(action.socket))
    yield* Report.logActions({ ...plan, actions }, observed, names)
    if (yield* state.growth.heed(failures)) return failures
    yield* writer.offer(yield* offerOf(state, plan, observed))
    return failures
  })

  const byConfig = Effect.fnUntraced(function* (
    state: State,
    plan: Plan.Plan,
    observed: ObservedState,
    names: Report.Names
  ) {
    const isNew = yield* writer.offer(yield* offerOf(state, plan, observed))
    if (isNew) yield* Report.logConfigActions(plan, observed, names)
    // What leaves gets no new request from now on, and what was left on its way in gets its traffic: no config says that.
    const now = { ...plan, actions: plan.actions.filter(isBesideConfig) }
    return now.actions.length === 0 ? [] : yield* haproxy.apply(now, observed)
  })

  const remember = (answer: DesiredState) =>
    stateOf(answer.backend).pipe(
      Effect.map(({ memory }) => {
        memory.answer = answer
        memory.number++
      })
    )

  return Reconciler.of({ fetch, pass, look, remember })
})

/** Whether an action is carried out over the socket although a config makes the changes. */
export const isBesideConfig = ({ _tag }: Plan.Action): boolean => _tag === "Resume" || _tag === "Drain"
