/**
 * From nothing to a HAProxy that serves what is wanted: the first answer of each
 * source, the config file with its pool of slots, and HAProxy started or, where
 * it runs something else, reloaded. A HAProxy that runs what would be rendered
 * is left alone.
 */
import { Clock, Effect, Schedule } from "effect"
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
import { type BackendOptions, Reconciler } from "./Reconciler.ts"
import * as Report from "./Report.ts"

/** What keeps ep2 from starting its loop. A HAProxy that runs goes on as it is. */
export type BootstrapError = RenderError | ReloadError

/** Under a second to a minute, with jitter: the bootstrap waits for its source as long as it takes. */
const fetchRetries = Schedule.min([Schedule.exponential("500 millis"), Schedule.spaced("1 minute")]).pipe(
  Schedule.jittered
)

/** Brings HAProxy to where the loop takes over. Waits for the sources without limit. */
export const run = Effect.fn("Bootstrap.run")(function* (backends: ReadonlyArray<BackendOptions>) {
  const renderer = yield* TemplateRenderer
  const file = yield* ConfigFile
  const reloader = yield* Reloader
  const writer = yield* ConfigWriter
  const reconciler = yield* Reconciler

  const answers = yield* Effect.forEach(backends, firstAnswer, { concurrency: "unbounded" })
  const onDisk = (yield* file.read) ?? ""
  const { answering, isRunning } = yield* reloader.state
  // What an ep2 that was killed in the middle of a load did not come to.
  const left = backends.map(({ name }) => ({ backend: name, servers: unprovenIn(onDisk, name) }))
  if (answering.length > 0) yield* tell(left, new Set())
  const servers = yield* Effect.forEach(backends, (options, index) => firstServers(options, answers[index]!, onDisk))
  const rendered = yield* renderer.render(servers)

  if (answering.length > 0 && answering.every(({ mark }) => mark === rendered.mark)) {
    yield* Effect.logInfo("HAProxy already runs this template with these settings: no reload")
  } else {
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
  }
  yield* Effect.forEach(answers, reconciler.remember, { discard: true })
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

/** The first answer of a source, waited for. Meanwhile a HAProxy that runs is left alone. */
const firstAnswer = Effect.fnUntraced(
  function* ({ name }: BackendOptions) {
    const fetcher = yield* Fetcher
    const standing = yield* Report.makeStanding
    const ask = fetcher.fetch(name).pipe(
      Effect.tapError((error) =>
        standing.say(new Map([["source", `waiting for the source: ${error.message}`]]), () => "")
      ),
      Effect.retry(fetchRetries),
      // The schedule has no end.
      Effect.orDie
    )
    const answer = yield* ask
    yield* standing.say(new Map(), () => "the source answers")
    yield* Effect.logInfo(`the source names ${answer.wanted.length} endpoints`)
    return answer
  },
  (effect, { name }) => Effect.annotateLogs(effect, { backend: name })
)

/** What the config file is to hold at first: what is wanted, under the names that HAProxy, or else the file, has for it. */
const firstServers = Effect.fnUntraced(function* (options: BackendOptions, answer: DesiredState, onDisk: string) {
  const haproxy = yield* Haproxy
  const observed = yield* haproxy.observe(options.name)
  const [process] = observed.processes
  const inFile = ServerRegion.read(onDisk, options.name)
  const served: ReadonlyArray<Endpoint> =
    process === undefined
      ? inFile.flatMap(({ endpoint }) => (isPlaceholder(endpoint) ? [] : [endpoint]))
      : Guard.served(observed)
  const { desired, held } = Guard.judge(
    {
      answer,
      number: 1,
      served,
      overdue: new Set(),
      isReleased: false,
      nowMillis: yield* Clock.currentTimeMillis
    },
    Guard.emptyMemory,
    options.guard
  )
  if (held !== undefined) yield* Effect.logWarning(Report.holdLine(answer, held, options.guard))
  const nodeSlots = options.updateBy === "config" ? 0 : options.nodeSlots
  if (process !== undefined && served.length > 0)
    return yield* whileServing({ ...options, nodeSlots }, desired, observed)
  const known = { backend: options.name, servers: process === undefined ? inFile : [] }
  return EndState.fresh({ backend: options.name, wanted: desired.wanted, known, nodeSlots })
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
