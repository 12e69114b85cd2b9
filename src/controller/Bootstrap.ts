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
 * | does not run | none, and the file on disk has servers | it is started with those |
 * | does not run | none, and the file has none | one is waited for |
 * | does not run | some | the others' backends begin with what the file has of them |
 *
 * While ep2 is paused no source is asked: a HAProxy that runs is left alone, and one
 * that does not run is started with what the file has.
 */
import { Clock, Duration, Effect, Option, Schedule } from "effect"
import * as Guard from "../domain/Guard.ts"
import * as Plan from "../domain/Plan.ts"
import { type DesiredState, type Endpoint, isPlaceholder, largestSlot, type ObservedState } from "../domain/State.ts"
import { ConfigFile, type ReloadError } from "../haproxy/ConfigFile.ts"
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

/** Brings HAProxy to where the loop takes over. */
export const run = Effect.fn("Bootstrap.run")(function* (backends: ReadonlyArray<BackendOptions>) {
  const file = yield* ConfigFile
  const reloader = yield* Reloader
  const { isPaused } = yield* Overrides
  const beat = yield* Progress.register("the bootstrap")

  yield* beat(Duration.zero)
  const onDisk = (yield* file.read) ?? ""
  const hasServers = backends.some(({ name }) => endpointsIn(onDisk, name).length > 0)
  if (yield* isPaused) {
    const { isRunning } = yield* reloader.state
    if (!isRunning && hasServers) yield* bringUp(backends, new Map(), onDisk)
    return
  }
  const answers = new Map(yield* firstAnswers(backends))
  if (answers.size === 0) {
    const { isRunning } = yield* reloader.state
    if (!isRunning && hasServers) {
      yield* Effect.logWarning(
        `no source has answered, and HAProxy does not run: it gets the servers that ${file.path} has`
      )
      return yield* bringUp(backends, answers, onDisk)
    }
    if (isRunning) yield* Effect.logInfo("HAProxy is left as it is until a source answers")
    yield* beat(Duration.infinity)
    const [name, answer] = yield* anyAnswer(backends)
    yield* beat(Duration.zero)
    answers.set(name, answer)
  }
  yield* bringUp(backends, answers, onDisk)
}, Effect.scoped)

/** Starts or reloads HAProxy, unless it runs what is rendered. Of a backend without an answer nothing is changed. */
const bringUp = Effect.fnUntraced(function* (
  backends: ReadonlyArray<BackendOptions>,
  answers: ReadonlyMap<string, DesiredState>,
  onDisk: string
) {
  const renderer = yield* TemplateRenderer
  const reloader = yield* Reloader
  const writer = yield* ConfigWriter
  const { answering, isRunning } = yield* reloader.state
  // What an ep2 that was killed in the middle of a load did not come to.
  const left = backends.map(({ name }) => ({ backend: name, servers: unprovenIn(onDisk, name) }))
  if (answering.length > 0) yield* tell(left, new Set())
  const servers = yield* Effect.forEach(backends, (options) => firstServers(options, answers.get(options.name), onDisk))
  const rendered = yield* renderer.render(servers)

  if (answering.length > 0 && answering.every(({ mark }) => mark === rendered.mark)) {
    yield* Effect.logInfo("HAProxy already runs this template with these settings: no reload")
    return
  }
  const mark = yield* writer.put(servers)
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
const firstAnswers = Effect.fnUntraced(function* (backends: ReadonlyArray<BackendOptions>) {
  const answers = new Map<string, DesiredState>()
  yield* Effect.forEach(
    backends,
    Effect.fnUntraced(function* (options: BackendOptions) {
      const { of } = yield* Memories
      const known = of(options.name, options.source).answer
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
  const input = { answer, number: 1, served, overdue: new Set<string>(), isReleased: false, nowMillis }
  const { desired, held } = Guard.judge(input, Guard.emptyMemory, options.guard)
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
