/**
 * What ep2 begins with: HAProxy started or reloaded, with what servers, or left as it
 * is. Only decided here; `Bootstrap` does it, and `Preview` tells it.
 */
import { Clock, Effect } from "effect"
import * as Guard from "../domain/Guard.ts"
import * as Plan from "../domain/Plan.ts"
import {
  type DesiredState,
  type Endpoint,
  isPlaceholder,
  largestSlot,
  type ObservedState,
  slotNumber
} from "../domain/State.ts"
import { ConfigFile, markOf } from "../haproxy/ConfigFile.ts"
import * as ConfigText from "../haproxy/ConfigText.ts"
import * as EndState from "../haproxy/EndState.ts"
import { Haproxy } from "../haproxy/Haproxy.ts"
import { Reloader, type State } from "../haproxy/Reloader.ts"
import type { BackendServers } from "../haproxy/ServerRegion.ts"
import * as ServerRegion from "../haproxy/ServerRegion.ts"
import { type RenderError, type Rendered, TemplateRenderer } from "../haproxy/TemplateRenderer.ts"
import { Memories } from "./Memories.ts"
import type { BackendOptions } from "./Reconciler.ts"
import * as Report from "./Report.ts"

/** What brings HAProxy to where the loop takes over. */
export type Step =
  /** It is left as it is for now, and looked at again. */
  | { readonly _tag: "Wait"; readonly why: string }
  /** It runs what would be rendered. */
  | { readonly _tag: "Nothing" }
  | {
      readonly _tag: "Start" | "Reload"
      /** In the order of `ep2.conf`. */
      readonly backends: ReadonlyArray<First>
      /** The config that it gets. */
      readonly rendered: Rendered
    }

/** What one backend begins with, and what that comes from. */
export interface First {
  readonly servers: BackendServers
  readonly desired: DesiredState
  readonly held: Guard.Hold | undefined
  readonly observed: ObservedState
}

/** What a start of ep2 would do with the answers that are known. Changes nothing. */
export const next = Effect.fn("FirstStep.next")(function* (backends: ReadonlyArray<BackendOptions>) {
  const file = yield* ConfigFile
  const reloader = yield* Reloader
  const { of } = yield* Memories
  const onDisk = (yield* file.read) ?? ""
  const answers = new Map(
    backends.flatMap(({ name, source }) => {
      const { answer } = of(name, source)
      return answer === undefined ? [] : [[name, answer] as const]
    })
  )
  const state = yield* reloader.state
  if (answers.size === 0 && (state.isRunning || markOf(onDisk) === undefined)) {
    const what = state.isRunning
      ? "HAProxy is left as it is"
      : "HAProxy does not run, and there is no file of a last run"
    return { _tag: "Wait", why: `no source has answered: ${what} until one does` } satisfies Step
  }
  return yield* make(backends, answers, onDisk, state)
})

/** What is to be done now. Of a backend without an answer nothing is changed. */
export const make = Effect.fnUntraced(function* (
  backends: ReadonlyArray<BackendOptions>,
  answers: ReadonlyMap<string, DesiredState>,
  onDisk: string,
  state: State
): Effect.fn.Return<Step, RenderError, Haproxy | Memories | TemplateRenderer> {
  const renderer = yield* TemplateRenderer
  const { answering, isRunning } = state
  const deaf = deafOf(state)
  if (deaf !== undefined) {
    const why = `HAProxy runs and does not answer: ${deaf.socket}: ${deaf.detail}; it is left as it is until it does`
    return { _tag: "Wait", why }
  }
  const firsts = yield* Effect.forEach(backends, (options) => firstServers(options, answers.get(options.name), onDisk))
  const rendered = yield* renderer.render(firsts.map(({ servers }) => servers))
  if (answering.length > 0 && answering.every(({ mark }) => mark === rendered.mark)) return { _tag: "Nothing" }
  for (const [index, options] of backends.entries()) {
    const why = yield* lostServers(options, firsts[index]!.servers, rendered.text)
    if (why !== undefined) return { _tag: "Wait", why }
  }
  return { _tag: isRunning ? "Reload" : "Start", backends: firsts, rendered }
})

/** Whose socket is there and cannot be asked. */
export const deafOf = ({ isRunning, silent }: State) =>
  isRunning ? silent.find(({ detail }) => cannotBeAsked.test(detail)) : undefined

/** A socket that is there and cannot be asked: who is behind it may well serve, and a reload would mend nothing. */
const cannotBeAsked = /EACCES|EPERM|was silent|closed the connection/

/**
 * Servers that are not ep2's (yet): HAProxy has them in a backend of which the
 * source names nothing, and the new config does not have them. To load it would
 * empty the backend.
 */
const lostServers = Effect.fnUntraced(function* (
  { guard, name }: BackendOptions,
  { servers }: BackendServers,
  text: string
) {
  if (guard.allowEmpty || servers.some(({ endpoint }) => !isPlaceholder(endpoint))) return undefined
  const haproxy = yield* Haproxy
  const { processes } = yield* haproxy.observe(name)
  const kept = new Set(ConfigText.serverNames(text, name))
  const lost = new Set(
    processes.flatMap((process) =>
      process.servers.flatMap((one) =>
        slotNumber(one.name) === undefined && one.admin === "ready" && one.health !== "down" && !kept.has(one.name)
          ? [one.name]
          : []
      )
    )
  )
  if (lost.size === 0) return undefined
  return (
    `the source of ${name} names nothing, and HAProxy serves ${Report.someOf([...lost])} there, which the new config ` +
    "does not have: HAProxy is left as it is; look whether the source is the right one, or set allow_empty = True"
  )
})

/**
 * What the config file is to hold at first: what is wanted, under the names that
 * HAProxy, or else the file, has for it. Without an answer, what these have.
 *
 * Where HAProxy serves already it is a config to be loaded: what has to prove itself
 * is held back in it, unless it is asked for what the file has once that is done.
 */
export const firstServers = Effect.fnUntraced(function* (
  options: BackendOptions,
  answer: DesiredState | undefined,
  onDisk: string,
  isLoaded = false
) {
  const haproxy = yield* Haproxy
  const observed = yield* haproxy.observe(options.name)
  const [process] = observed.processes
  const served = process === undefined ? endpointsIn(onDisk, options.name) : Guard.served(observed)
  const { desired, held } =
    answer === undefined
      ? { desired: asServed(options.name, served), held: undefined }
      : yield* guarded(options, answer, served)
  const nodeSlots = options.updateBy === "config" ? 0 : options.nodeSlots
  const of = (servers: BackendServers): First => ({ servers, desired, held, observed })
  if (process !== undefined && served.length > 0)
    return of(yield* whileServing({ ...options, nodeSlots }, desired, observed, isLoaded))
  const inFile = ServerRegion.read(onDisk, options.name)
  const known = { backend: options.name, servers: process === undefined ? inFile : [] }
  return of(EndState.fresh({ backend: options.name, wanted: desired.wanted, known, nodeSlots }))
})

/** The endpoints that the file has of a backend. */
const endpointsIn = (onDisk: string, backend: string): ReadonlyArray<Endpoint> =>
  ServerRegion.read(onDisk, backend).flatMap(({ endpoint }) => (isPlaceholder(endpoint) ? [] : [endpoint]))

const asServed = (backend: string, served: ReadonlyArray<Endpoint>): DesiredState => ({
  backend,
  wanted: served.map((endpoint) => ({ endpoint, origin: "its source has not answered yet" })),
  refused: [],
  pending: [],
  leaving: []
})

const guarded = Effect.fnUntraced(function* (
  options: BackendOptions,
  answer: DesiredState,
  served: ReadonlyArray<Endpoint>
) {
  const nowMillis = yield* Clock.currentTimeMillis
  const { of } = yield* Memories
  const memory = of(options.name, options.source)
  const overdue = Plan.overdue(memory.plan, { ...options.plan, nowMillis })
  const input = { answer, number: memory.number, served, overdue, isReleased: false, nowMillis }
  const { desired, held, ...judged } = Guard.judge(input, memory.guard, options.guard)
  memory.guard = judged.memory
  return { desired, held }
})

/** For a HAProxy that serves already: a reload takes nothing away before its replacement is up, and proves what is new. */
const whileServing = Effect.fnUntraced(function* (
  options: BackendOptions,
  desired: DesiredState,
  observed: ObservedState,
  isLoaded: boolean
) {
  const nowMillis = yield* Clock.currentTimeMillis
  const growth = { by: "add", keep: options.nodeSlots } as const
  const plan = Plan.make(desired, observed, Plan.emptyMemory, { ...options.plan, nowMillis, growth })
  const present = largestSlot(observed.processes.flatMap(({ servers }) => servers))
  const size = EndState.grown(Math.max(options.nodeSlots, present), desired.wanted.length)
  const servers =
    options.updateBy === "config"
      ? EndState.byConfig(plan, observed)
      : EndState.make(plan, observed, { size, isElastic: false })
  return isLoaded ? servers : EndState.forLoad(servers, plan, observed, options.plan)
})
