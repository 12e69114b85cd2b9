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
import { Duration, Effect, Option, Schedule } from "effect"
import type { DesiredState } from "../domain/State.ts"
import { ConfigFile, markOf, type ReloadError } from "../haproxy/ConfigFile.ts"
import { Haproxy } from "../haproxy/Haproxy.ts"
import { Reloader } from "../haproxy/Reloader.ts"
import type { BackendServers } from "../haproxy/ServerRegion.ts"
import * as ServerRegion from "../haproxy/ServerRegion.ts"
import type { RenderError } from "../haproxy/TemplateRenderer.ts"
import { Fetcher } from "../orchestrator/Fetcher.ts"
import { ConfigWriter } from "./ConfigWriter.ts"
import { isTransient, troubleOf } from "./Controller.ts"
import * as FirstStep from "./FirstStep.ts"
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

/** What may be done to a HAProxy that does not run. */
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
    const answers = new Map(yield* firstAnswers(backends, isFirst ? "known or asked once" : "asked once"))
    isFirst = false
    if (answers.size === 0) {
      const { isRunning } = yield* reloader.state
      if (!isRunning && canStartFromFile) {
        yield* sayFromFile
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

/**
 * The same without a wait: each source has five seconds, and what keeps HAProxy from
 * being brought up is returned, in words; `undefined` where it is up, or no source
 * has answered.
 */
export const once = Effect.fn("Bootstrap.once")(function* (backends: ReadonlyArray<BackendOptions>) {
  const file = yield* ConfigFile
  const reloader = yield* Reloader
  const { isPaused } = yield* Overrides
  const onDisk = (yield* file.read) ?? ""
  const isHeld = yield* isPaused
  const answers = isHeld ? new Map() : yield* firstAnswers(backends, "asked again while that can help")
  if (answers.size > 0) return yield* bringUp(backends, answers, onDisk, { mayStart: true })
  const { isRunning } = yield* reloader.state
  if (!isRunning && markOf(onDisk) !== undefined) {
    if (!isHeld) yield* sayFromFile
    yield* startFromFile(backends, onDisk)
  }
  return undefined
})

const sayFromFile = Effect.flatMap(ConfigFile, ({ path }) =>
  Effect.logWarning(`no source has answered, and HAProxy does not run: it gets the servers that ${path} has`)
)

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
  const reloader = yield* Reloader
  const writer = yield* ConfigWriter
  const { isPaused } = yield* Overrides
  const state = yield* reloader.state
  const { answering, isRunning } = state
  // What an ep2 that was killed in the middle of a load did not come to.
  const left = backends.map(({ name }) => ({ backend: name, servers: unprovenIn(onDisk, name) }))
  if (answering.length > 0 && FirstStep.deafOf(state) === undefined) yield* tell(left, new Set())
  const step = yield* FirstStep.make(backends, answers, onDisk, state)
  if (step._tag === "Wait") return step.why
  if (step._tag === "Nothing") {
    yield* Effect.logInfo("HAProxy already runs this template with these settings: no reload")
    return undefined
  }
  for (const [index, { held }] of step.backends.entries()) {
    const { guard, name } = backends[index]!
    const answer = answers.get(name)
    if (held === undefined || answer === undefined) continue
    yield* Effect.logWarning(Report.holdLine(answer, held, guard)).pipe(Effect.annotateLogs({ backend: name }))
  }
  const servers = step.backends.map((one) => one.servers)
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

/** What is known already, or is answered at the first try, or at a later one, and in time. Each counts for the loop too. */
const firstAnswers = Effect.fnUntraced(function* (
  backends: ReadonlyArray<BackendOptions>,
  how: "known or asked once" | "asked once" | "asked again while that can help"
) {
  const answers = new Map<string, DesiredState>()
  yield* Effect.forEach(
    backends,
    Effect.fnUntraced(function* (options: BackendOptions) {
      const { of } = yield* Memories
      const known = how === "known or asked once" ? of(options.name, options.source).answer : undefined
      const asked =
        how === "asked again while that can help"
          ? Effect.retry(ask(options), { schedule: fetchRetries, while: isTransient })
          : ask(options)
      const answer = known === undefined ? yield* Effect.option(asked) : Option.some(known)
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

/** Servers that the file on disk has as still to be told to prove themselves. */
const unprovenIn = (onDisk: string, backend: string) =>
  ServerRegion.read(onDisk, backend).filter(({ afterLoad }) => afterLoad === "prove")
