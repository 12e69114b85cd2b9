/**
 * From nothing to a HAProxy that serves what is wanted: the first answer of each
 * source, the config file with its pool of slots, and HAProxy started or, where
 * it runs something else, reloaded. A HAProxy that runs what would be rendered
 * is left alone.
 *
 * | HAProxy | sources that have answered | what is done |
 * | --- | --- | --- |
 * | runs | none | it is left alone until one answers |
 * | runs | some | the others' backends keep what HAProxy has of them |
 * | does not run | none, and there is a file that ep2 has written | it is started with that |
 * | does not run | none, and there is none | one is waited for |
 * | does not run | some | the others' backends begin with what the file has of them |
 *
 * HAProxy is also left alone, and looked at again, where it runs and cannot be asked,
 * and where the new config would take servers away that are not ep2's, from a backend
 * of which the source names nothing. It is started once, when ep2 starts: one that
 * stops later is its owner's.
 *
 * While ep2 is paused no source is asked: a HAProxy that runs is left alone, and one
 * that does not run is started with what the file has.
 */
import { Clock, Duration, Effect, Option, Schedule } from "effect"
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
import { ConfigFile, markOf, type ReloadError } from "../haproxy/ConfigFile.ts"
import * as ConfigText from "../haproxy/ConfigText.ts"
import * as EndState from "../haproxy/EndState.ts"
import { Haproxy } from "../haproxy/Haproxy.ts"
import { Reloader } from "../haproxy/Reloader.ts"
import type { BackendServers } from "../haproxy/ServerRegion.ts"
import * as ServerRegion from "../haproxy/ServerRegion.ts"
import { type RenderError, TemplateRenderer } from "../haproxy/TemplateRenderer.ts"
import { Fetcher } from "../orchestrator/Fetcher.ts"
import { ConfigWriter } from "./ConfigWriter.ts"
import { troubleOf } from "./Controller.ts"
import { Memories } from "./Memories.ts"
import { Overrides } from "./Overrides.ts"
import * as Progress from "./Progress.ts"
import { type BackendOptions, Reconciler } from "./Reconciler.ts"
import * as Report from "./Report.ts"
import { SourceReport } from "./SourceReport.ts"
import * as Status from "./Status.ts"

/** What keeps ep2 from starting its loop. A HAProxy that runs goes on as it is. */
export type BootstrapError = RenderError | ReloadError

/** How long sources that are slow are waited for, if another one has answered or the file on disk can serve. */
const patience = Duration.seconds(5)

/** Under a second to a minute, with jitter: where nothing can be done without a source, it is waited for as long as it takes. */
const fetchRetries = Schedule.min([Schedule.exponential("500 millis"), Schedule.spaced("1 minute")]).pipe(
  Schedule.jittered
)

/** No wait of `fetchRetries` is longer: jitter adds a fifth at most. */
const longestRetry = Duration.seconds(72)

/** How long a HAProxy that must be left alone for now is left alone, before all is looked at anew. */
const lookAgainAfter = Duration.seconds(5)

export interface Options {
  /** HAProxy may be started. Without it one that does not run is its owner's to start. */
  readonly mayStart: boolean
}

/** With what `bringUp` is called where a pause is no reason to stop. */
interface Forced extends Options {
  readonly isForced?: true
}

/** Brings HAProxy to where the loop takes over. Returns whether it has; not, where a pause came first. */
export const run = Effect.fn("Bootstrap.run")(function* (
  backends: ReadonlyArray<BackendOptions>,
  { mayStart }: Options
) {
  const file = yield* ConfigFile
  const reloader = yield* Reloader
  const { isPaused } = yield* Overrides
  const standing = yield* Report.makeStanding

  let isFirst = true
  while (true) {
    const onDisk = (yield* file.read) ?? ""
    const canStartFromFile = mayStart && markOf(onDisk) !== undefined
    if (yield* isPaused) {
      const { isRunning } = yield* reloader.state
      if (!isRunning && canStartFromFile) yield* startFromFile(backends, onDisk)
      return false
    }
    const answers = new Map(yield* firstAnswers(backends, isFirst))
    isFirst = false
    if (answers.size === 0) {
      const { isRunning } = yield* reloader.state
      if (!isRunning && canStartFromFile) {
        yield* Effect.logWarning(
          `no source has answered, and HAProxy does not run: it gets the servers that ${file.path} has`
        )
        yield* startFromFile(backends, onDisk)
        return true
      }
      if (isRunning) yield* Effect.logInfo("HAProxy is left as it is until a source answers")
      const answer = yield* Effect.raceFirst(anyAnswer(backends), untilPaused)
      if (answer === undefined) continue
      answers.set(...answer)
    }
    const obstacle = yield* bringUp(backends, answers, onDisk, { mayStart })
    yield* standing.say(obstacle === undefined ? new Map() : new Map([["obstacle", obstacle]]), () => "it can go on")
    if (obstacle === undefined && !(yield* isPaused)) return true
    if (obstacle !== undefined) yield* Effect.raceFirst(Effect.sleep(lookAgainAfter), untilPaused)
  }
})

const untilPaused = Effect.gen(function* () {
  const { isPaused } = yield* Overrides
  yield* isPaused.pipe(Effect.repeat({ schedule: Schedule.spaced("1 second"), until: (is) => is }))
  return undefined
})

/** Without anything that a source says: what the file has, in the template's words, or as it is where the template is bad. */
const startFromFile = Effect.fnUntraced(function* (backends: ReadonlyArray<BackendOptions>, onDisk: string) {
  const file = yield* ConfigFile
  const reloader = yield* Reloader
  const mark = markOf(onDisk)
  yield* bringUp(backends, new Map(), onDisk, { mayStart: true, isForced: true }).pipe(
    Effect.catchIf(
      (error) => mark !== undefined && (error._tag === "RenderError" || error.reason === "ConfigInvalid"),
      Effect.fnUntraced(function* (error) {
        yield* Effect.logError(`HAProxy is started with ${file.path} as it is: ${error.message}`)
        yield* file.check({ text: onDisk })
        yield* Effect.uninterruptible(reloader.start(mark ?? ""))
      })
    )
  )
})

/**
 * Starts or reloads HAProxy, unless it runs what is rendered. Of a backend without
 * an answer nothing is changed. Returns why it has to wait, where it has.
 */
const bringUp = Effect.fnUntraced(function* (
  backends: ReadonlyArray<BackendOptions>,
  answers: ReadonlyMap<string, DesiredState>,
  onDisk: string,
  { isForced, mayStart }: Forced
) {
  const renderer = yield* TemplateRenderer
  const reloader = yield* Reloader
  const writer = yield* ConfigWriter
  const { isPaused } = yield* Overrides
  const { answering, isRunning, silent } = yield* reloader.state
  const deaf = silent.find(({ detail }) => cannotBeAsked.test(detail))
  if (isRunning && deaf !== undefined) {
    return `HAProxy runs and does not answer: ${deaf.socket}: ${deaf.detail}; it is left as it is until it does`
  }
  // What an ep2 that was killed in the middle of a load did not come to.
  const left = backends.map(({ name }) => ({ backend: name, servers: unprovenIn(onDisk, name) }))
  if (answering.length > 0) yield* tell(left, new Set())
  const servers = yield* Effect.forEach(backends, (options) => firstServers(options, answers.get(options.name), onDisk))
  const rendered = yield* renderer.render(servers)

  if (answering.length > 0 && answering.every(({ mark }) => mark === rendered.mark)) {
    yield* Effect.logInfo("HAProxy already runs this template with these settings: no reload")
    return undefined
  }
  for (const [index, options] of backends.entries()) {
    const lost = yield* lostServers(options, servers[index]!, rendered.text)
    if (lost !== undefined) return lost
  }
  // The sources may have taken long.
  if (isForced !== true && (yield* isPaused)) return undefined
  const mark = yield* writer.put(servers)
  if (!isRunning && !mayStart) {
    yield* Effect.logInfo("HAProxy does not run: it is left to its owner, and its file is ready")
    return undefined
  }
  const pids = answering.map(({ pid }) => pid).join(", ")
  yield* Effect.logInfo(
    isRunning ? `HAProxy runs another configuration: reloading it (pid ${pids})` : "HAProxy does not run: starting it"
  )
  const { leaving } = yield* (isRunning ? reloader.reload(mark) : reloader.start(mark)).pipe(
    Effect.tap(() => tell(servers, new Set(answering.map(({ pid }) => pid)))),
    Effect.uninterruptible
  )
  if (leaving.length > 0)
    yield* Effect.logInfo(`the HAProxy of before finishes its sessions: pid ${leaving.join(", ")}`)
  return undefined
})

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

/** Tells HAProxy what the config that it has loaded cannot say; what it does not take for five seconds goes to the log. */
const tell = Effect.fnUntraced(function* (servers: ReadonlyArray<BackendServers>, before: ReadonlySet<number>) {
  const haproxy = yield* Haproxy
  const lines = servers.filter((one) => one.servers.some(({ afterLoad }) => afterLoad !== undefined))
  if (lines.length === 0) return
  const { failures } = yield* haproxy
    .afterLoad(lines, before)
    .pipe(
      Effect.repeat({ schedule: Schedule.spaced("500 millis"), times: 10, until: (told) => told.failures.length === 0 })
    )
  for (const error of failures) yield* Effect.logWarning(`after the start: ${error.message}`)
})

/** What is known already, or is answered at the first try and in time. Each counts for the loop too. */
const firstAnswers = Effect.fnUntraced(function* (backends: ReadonlyArray<BackendOptions>, isKnownEnough: boolean) {
  const answers = new Map<string, DesiredState>()
  yield* Effect.forEach(
    backends,
    Effect.fnUntraced(function* (options: BackendOptions) {
      const { of } = yield* Memories
      const known = isKnownEnough ? of(options.name, options.source).answer : undefined
      const answer = known === undefined ? yield* Effect.option(ask(options)) : Option.some(known)
      if (Option.isSome(answer)) answers.set(options.name, answer.value)
    }),
    { concurrency: "unbounded", discard: true }
  ).pipe(Effect.timeoutOption(patience))
  return answers
})

/** The first source that answers, waited for without limit. */
const anyAnswer = (backends: ReadonlyArray<BackendOptions>) =>
  Effect.raceAll(
    backends.map((options) =>
      Effect.gen(function* () {
        const beat = yield* Progress.register(`the first answer for ${options.name}`)
        const answer = yield* Effect.andThen(beat(longestRetry), ask(options)).pipe(
          Effect.retry(fetchRetries),
          // The schedule has no end.
          Effect.orDie
        )
        return [options.name, answer] as const
      }).pipe(Effect.scoped)
    )
  )

const ask = Effect.fnUntraced(
  function* ({ name }: BackendOptions) {
    const fetcher = yield* Fetcher
    const report = yield* SourceReport
    const { remember } = yield* Reconciler
    const answer = yield* fetcher.fetch(name).pipe(
      Effect.tapError((error) => report.heard(name, troubleOf(error))),
      Effect.tapError((error) => Status.source(name, error.message))
    )
    yield* report.heard(name, undefined)
    yield* Status.source(name, undefined)
    yield* remember(answer)
    yield* Effect.logInfo(`the source names ${answer.wanted.length} endpoints`)
    return answer
  },
  (effect, { name }) => Effect.annotateLogs(effect, { backend: name })
)

/** What the config file is to hold at first: what is wanted, under the names that HAProxy, or else the file, has for it. */
const firstServers = Effect.fnUntraced(function* (
  options: BackendOptions,
  answer: DesiredState | undefined,
  onDisk: string
) {
  const haproxy = yield* Haproxy
  const observed = yield* haproxy.observe(options.name)
  const [process] = observed.processes
  const served = process === undefined ? endpointsIn(onDisk, options.name) : Guard.served(observed)
  const desired = answer === undefined ? asServed(options.name, served) : yield* guarded(options, answer, served)
  const nodeSlots = options.updateBy === "config" ? 0 : options.nodeSlots
  if (process !== undefined && served.length > 0)
    return yield* whileServing({ ...options, nodeSlots }, desired, observed)
  const inFile = ServerRegion.read(onDisk, options.name)
  const known = { backend: options.name, servers: process === undefined ? inFile : [] }
  return EndState.fresh({ backend: options.name, wanted: desired.wanted, known, nodeSlots })
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
  if (held !== undefined) {
    yield* Effect.logWarning(Report.holdLine(answer, held, options.guard)).pipe(
      Effect.annotateLogs({ backend: options.name })
    )
  }
  return desired
})

/** For a HAProxy that serves already: a reload takes nothing away before its replacement is up, and proves what is new. */
const whileServing = Effect.fnUntraced(function* (
  options: BackendOptions,
  desired: DesiredState,
  observed: ObservedState
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
  return EndState.forLoad(servers, plan, observed, options.plan)
})

/** Servers that the file on disk has as still to be told to prove themselves. */
const unprovenIn = (onDisk: string, backend: string) =>
  ServerRegion.read(onDisk, backend).filter(({ afterLoad }) => afterLoad === "prove")
