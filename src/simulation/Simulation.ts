/**
 * Plays a scenario: a program that keeps HAProxy level, on simulated edges and on
 * virtual time, with a modelled load going through and every rule looked at.
 *
 * Equal options give equal outcomes: time is virtual, chance is seeded, and nothing
 * outside of this process is touched.
 */
import { Cause, Context, type Duration, Effect, Exit, type Layer, Logger, Random, References } from "effect"
import * as Status from "../controller/Status.ts"
import { type Endpoint, endpointKey, isPlaceholder } from "../domain/State.ts"
import type { Commands } from "../haproxy/Commands.ts"
import type { ConfigFile } from "../haproxy/ConfigFile.ts"
import type { HaproxySocket } from "../haproxy/HaproxySocket.ts"
import type { Reloader } from "../haproxy/Reloader.ts"
import type { Fetcher } from "../orchestrator/Fetcher.ts"
import { Event, type Timed } from "./Event.ts"
import * as Fleet from "./Fleet.ts"
import type { Version } from "./HaproxyWords.ts"
import * as Load from "./Load.ts"
import * as MemoryFiles from "./MemoryFiles.ts"
import type { Outcome } from "./Outcome.ts"
import type * as Picture from "./Picture.ts"
import * as Rules from "./Rules.ts"
import type { Scenario } from "./Scenario.ts"
import type { BackendRules } from "./Seen.ts"
import * as SimulatedHaproxy from "./SimulatedHaproxy.ts"
import * as SimulatedSource from "./SimulatedSource.ts"
import type * as Timeline from "./Timeline.ts"
import * as VirtualTime from "./VirtualTime.ts"

/** What the program is given in place of the world. */
export interface Edges {
  readonly sockets: Layer.Layer<HaproxySocket>
  readonly reloader: Layer.Layer<Reloader, never, ConfigFile>
  readonly commands: Layer.Layer<Commands>
  readonly files: MemoryFiles.MemoryFiles["layer"]
  readonly fetcher: Layer.Layer<Fetcher>
}

/** What is played, by which program, against what. */
export interface Options {
  /** Keeps HAProxy level for as long as it runs; what it fails with ends up in the timeline. */
  readonly program: (edges: Edges) => Effect.Effect<unknown, { readonly message: string }>
  readonly scenario: Scenario
  readonly seed: number
  /** How much is played; the scenario's own length otherwise. */
  readonly untilMillis?: number | undefined
  /** Ends sooner, once nothing more happens and all has been as it should be for so long. */
  readonly quietMillis?: number | undefined
  readonly version: Version
  /** One per process. */
  readonly sockets: ReadonlyArray<string>
  /** `haproxy_config_file`. */
  readonly configFile: string
  readonly reloadInterval: Duration.Duration
  readonly backends: ReadonlyArray<Backend>
}

/** A backend, as the rules and the source have to know it. */
export interface Backend extends BackendRules, SimulatedSource.BackendOptions {}

/** Requests per second, process and backend, and how long each lasts. */
const load = { perSecond: 20, lastsMillis: 200 }

/** How often the rules look at what is late. At what HAProxy does they look with each change of it. */
const lookEveryMillis = 5000

/** For so long a fault of a connection counts: by then it has met somebody, and that was made good. */
const brokenMillis = 15_000

/** After so many steps everybody else gets a turn: a signal, above all. */
const stepsInARow = 2000

/** Into how many parts the time is cut, of each of which the picture has its extremes. */
const pictureParts = 1000

/** Plays it. Never fails: what went wrong is in the outcome. */
export const run = (options: Options): Effect.Effect<Outcome> =>
  play(options).pipe(Effect.scoped, Random.withSeed(`ep2 ${options.seed}`))

const play = Effect.fnUntraced(function* (options: Options) {
  const { backends, scenario } = options
  const untilMillis = options.untilMillis ?? scenario.durationMillis
  const time = VirtualTime.make()
  const dead = new Set<string>()
  const fleet = Fleet.make()
  const haproxy = SimulatedHaproxy.make({
    sockets: options.sockets,
    version: options.version,
    reloadInterval: options.reloadInterval,
    fleet
  })
  const source = SimulatedSource.make({ backends })
  const files = MemoryFiles.make()
  // What is put beside it makes its folder.
  files.write(`${options.configFile}.simulated`, "")
  const clients = Load.make({ haproxy, fleet }, { ...load, backends: backends.map(({ name }) => name) })
  const rules = Rules.make({ haproxy, source, fleet }, backends)
  let isChanged = true
  haproxy.hear({
    before: clients.catchUp,
    after: (nowMillis) => {
      isChanged = true
      rules.look(nowMillis)
    }
  })
  source.hear(rules.answered)
  const entries: Array<Timeline.Entry> = []
  const samples: Array<Picture.Sample> = []
  const serving = makeServing()
  const faults = makeFaults(rules)
  let heldPasses = 0

  const want = (backend: string, endpoints: ReadonlyArray<Endpoint>, nowMillis: number) => {
    for (const endpoint of endpoints) if (!dead.has(endpointKey(endpoint))) fleet.set(endpoint, true)
    source.want(backend, endpoints)
    serving.wanted(backend, endpoints, nowMillis)
  }
  const happen = (event: Event, nowMillis: number) => {
    clients.catchUp(nowMillis)
    isChanged = true
    entries.push({ atMillis: nowMillis, kind: "event", level: "info", text: describe(event) })
    Event.$match(event, {
      Want: ({ backend, endpoints }) => want(backend, endpoints, nowMillis),
      Die: ({ endpoint }) => {
        dead.add(endpointKey(endpoint))
        fleet.set(endpoint, false)
      },
      Live: ({ endpoint }) => {
        dead.delete(endpointKey(endpoint))
        fleet.set(endpoint, true)
      },
      Fail: ({ backend, failure }) => {
        source.fail(backend, failure)
        faults.begin(`source ${backend}`)
      },
      Empty: ({ backend }) => {
        source.empty(backend)
        faults.begin(`source ${backend}`)
      },
      Slow: ({ backend, millis }) => {
        source.slow(backend, millis)
        faults.begin(`source ${backend}`)
      },
      Answer: ({ backend }) => {
        source.answer(backend)
        faults.end(`source ${backend}`, nowMillis)
      },
      Kill: ({ process }) => {
        rules.anew(nowMillis, faults.isFileOld())
        haproxy.killProcess(process)
        faults.begin("haproxy")
      },
      Start: () => {
        rules.anew(nowMillis, faults.isFileOld())
        haproxy.start(files.read(options.configFile) ?? "")
        faults.end("haproxy", nowMillis)
      },
      Reload: () => {
        rules.anew(nowMillis, faults.isFileOld())
        haproxy.reload(files.read(options.configFile) ?? "")
      },
      Silence: ({ millis, process }) => {
        haproxy.silence(process, nowMillis + millis)
        faults.during(`silence ${process}`, nowMillis + millis)
      },
      CutReply: ({ process, reply }) => {
        haproxy.cutReplyAt(process, reply)
        faults.during(`cut ${process}`, nowMillis + brokenMillis)
      },
      RefuseConnections: ({ count, process }) => {
        haproxy.failNextConnections(process, count)
        faults.during(`refusals ${process}`, nowMillis + brokenMillis)
      },
      RefuseReloads: ({ count }) => {
        haproxy.failNextReloads(count)
        faults.during("reloads", nowMillis + count * 60_000)
      },
      Operator: ({ backend, server, state }) => {
        // An operator lets nothing loose that is a free slot by now.
        const views = haproxy.processes().flatMap(({ serversOf }) => serversOf(backend))
        const isFree = views.some(({ endpoint, name }) => name === server && isPlaceholder(endpoint))
        rules.operator(backend, server, state, nowMillis)
        if (state !== "ready" || !isFree) haproxy.type(`set server ${backend}/${server} state ${state}`)
      }
    })
  }

  for (const [backend, endpoints] of scenario.start) want(backend, endpoints, 0)
  const edges: Edges = {
    sockets: haproxy.sockets,
    reloader: haproxy.reloader,
    commands: haproxy.commands,
    files: files.layer,
    fetcher: source.layer
  }
  const logger = Logger.make<unknown, void>(({ date, fiber, logLevel, message }) => {
    const level = levels[logLevel]
    if (level === undefined) return
    const tags = Object.values(fiber.getRef(References.CurrentLogAnnotations)).map(String)
    entries.push({ atMillis: date.getTime(), kind: "ep2", level, text: [...tags, String(message)].join(" ") })
  })
  const status = {
    ...(yield* Status.Status),
    pass: (desired: { readonly wanted: ReadonlyArray<{ readonly origin: string }> }) =>
      Effect.sync(() => {
        if (desired.wanted.some(({ origin }) => origin.startsWith("held: "))) heldPasses++
      })
  }
  let end: { readonly atMillis: number; readonly why: string } | undefined
  const program = options.program(edges).pipe(
    Effect.exit,
    Effect.map((exit) => {
      end = { atMillis: time.now(), why: Exit.isSuccess(exit) ? "by itself" : Cause.pretty(exit.cause) }
    }),
    Effect.provideService(Status.Status, status),
    Effect.provide(Logger.layer([logger])),
    // Nobody looks at the spans.
    Effect.withTracerEnabled(false)
  )
  const context = Context.merge(yield* Effect.context(), time.services)
  yield* Effect.acquireRelease(
    Effect.sync(() => Effect.runForkWith(context)(program)),
    (fiber) =>
      Effect.sync(() => {
        fiber.interruptUnsafe()
        time.advance(time.now())
      })
  )

  const events = scenario.events.toSorted((one, other) => one.atMillis - other.atMillis)
  const draw = () => {
    const served = new Set<string>()
    let wantedNow = 0
    for (const { name } of backends) {
      const everywhere = Load.servedEverywhere(haproxy, name)
      serving.served(name, everywhere, time.now())
      for (const endpoint of source.wanted(name)) {
        wantedNow++
        if (everywhere.has(endpointKey(endpoint))) served.add(`${name} ${endpointKey(endpoint)}`)
      }
    }
    samples.push({ atMillis: time.now(), wanted: wantedNow, served: served.size })
  }
  let [at, lookedMillis, steps, quietSince] = [0, 0, 0, 0]
  const isOver = () => time.now() - quietSince > (options.quietMillis ?? Number.POSITIVE_INFINITY)
  while (time.now() < untilMillis && end === undefined && !isOver()) {
    const eventMillis = events[at]?.atMillis ?? untilMillis
    const next = Math.min(
      time.nextMillis(),
      haproxy.nextMillis(),
      eventMillis,
      lookedMillis + lookEveryMillis,
      untilMillis
    )
    haproxy.advance(next)
    time.advance(next)
    for (; at < events.length && (events[at] as Timed).atMillis <= next; at++) {
      happen(events[at]!.event, next)
      rules.look(next)
      lookedMillis = Number.NEGATIVE_INFINITY
    }
    faults.tick(next)
    if (next - lookedMillis >= lookEveryMillis) {
      rules.lookAtTimes(next)
      lookedMillis = next
    }
    if (!rules.isQuiet() || at < events.length || faults.isAny()) quietSince = next
    if (isChanged) draw()
    isChanged = false
    if (++steps % stepsInARow === 0) yield* Effect.yieldNow
  }
  const playedMillis = time.now()
  clients.catchUp(playedMillis)
  if (end !== undefined) rules.ended(end.atMillis, end.why)

  const broken = rules.broken()
  for (const { atMillis, detail, rule } of broken) {
    entries.push({ atMillis, kind: "rule", level: "error", text: `rule broken (${rule}): ${detail}` })
  }
  const { requests, toDead, withoutServer } = clients.totals()
  const { commands } = haproxy.counts()
  const saidByEp2 = (pattern: RegExp) => entries.filter(({ kind, text }) => kind === "ep2" && pattern.test(text)).length
  return {
    entries: entries.toSorted((one, other) => one.atMillis - other.atMillis),
    samples: thinned(samples, playedMillis),
    broken,
    summary: {
      playedMillis,
      serveMillis: serving.took(),
      unserved: serving.unserved(),
      requests: { sent: requests, failed: toDead + withoutServer },
      apiCalls: source.calls(),
      commands,
      reloads: saidByEp2(/reloading (?:it|HAProxy)/),
      heldPasses,
      cutDrains: saidByEp2(/drain_timeout is over/),
      brokenRules: broken.length
    }
  } satisfies Outcome
})

/** Of each part of the time the first moment, and the one at which wanted and served were furthest apart. */
const thinned = (samples: ReadonlyArray<Picture.Sample>, untilMillis: number): ReadonlyArray<Picture.Sample> => {
  const kept: Array<Picture.Sample> = []
  const parts = Map.groupBy(samples, ({ atMillis }) => Math.floor((atMillis * pictureParts) / Math.max(1, untilMillis)))
  for (const part of parts.values()) {
    const first = part[0]!
    const furthest = part.reduce((most, one) => (gapOf(one) > gapOf(most) ? one : most))
    const last = part.at(-1)!
    for (const one of new Set([first, furthest, last])) {
      const before = kept.at(-1)
      if (before?.wanted !== one.wanted || before.served !== one.served) kept.push(one)
    }
  }
  return kept
}

const gapOf = ({ served, wanted }: Picture.Sample) => Math.abs(wanted - served)

const levels: Readonly<Record<string, Timeline.Entry["level"]>> = {
  Debug: "debug",
  Info: "info",
  Warn: "warning",
  Error: "error",
  Fatal: "error"
}

/** Since when each wanted endpoint waits, and how long each has waited that is served. */
const makeServing = () => {
  const waiting = new Map<string, number>()
  const isServed = new Set<string>()
  const took: Array<number> = []
  return {
    wanted: (backend: string, endpoints: ReadonlyArray<Endpoint>, nowMillis: number) => {
      const keys = new Set(endpoints.map((endpoint) => `${backend} ${endpointKey(endpoint)}`))
      for (const key of [...waiting.keys(), ...isServed]) {
        if (!key.startsWith(`${backend} `) || keys.has(key)) continue
        waiting.delete(key)
        isServed.delete(key)
      }
      for (const key of keys) if (!waiting.has(key) && !isServed.has(key)) waiting.set(key, nowMillis)
    },
    served: (backend: string, keys: ReadonlySet<string>, nowMillis: number) => {
      for (const [key, since] of waiting) {
        if (!key.startsWith(`${backend} `) || !keys.has(key.slice(backend.length + 1))) continue
        waiting.delete(key)
        isServed.add(key)
        took.push(nowMillis - since)
      }
    },
    took: () => took,
    unserved: () => waiting.size
  }
}

/** What is wrong from outside, by name: the rules about time hold only while nothing is. */
const makeFaults = (rules: Rules.Rules) => {
  const open = new Map<string, number>()
  const begin = (name: string, untilMillis = Number.POSITIVE_INFINITY) => {
    open.set(name, Math.max(open.get(name) ?? 0, untilMillis))
    rules.fault()
  }
  const end = (name: string, nowMillis: number) => {
    open.delete(name)
    if (open.size === 0) rules.calm(nowMillis)
  }
  return {
    begin: (name: string) => begin(name),
    during: begin,
    end,
    isAny: () => open.size > 0,
    /** Something keeps ep2 from seeing what HAProxy does, or from writing it down. Sources and HAProxys that are gone do not. */
    isFileOld: () => [...open.keys()].some((name) => !/^(?:source |haproxy$)/.test(name)),
    tick: (nowMillis: number) => {
      for (const [name, untilMillis] of open) if (untilMillis <= nowMillis) end(name, nowMillis)
    }
  }
}

const describe = Event.$match({
  Want: ({ backend, endpoints }) => `the source of ${backend} names ${endpoints.length} endpoints`,
  Die: ({ endpoint }) => `${endpointKey(endpoint)} dies`,
  Live: ({ endpoint }) => `${endpointKey(endpoint)} answers again`,
  Fail: ({ backend, failure }) => `the source of ${backend} fails: ${failure}`,
  Empty: ({ backend }) => `the source of ${backend} answers that nothing is wanted`,
  Slow: ({ backend, millis }) => `the source of ${backend} takes ${millis / 1000} s for each answer`,
  Answer: ({ backend }) => `the source of ${backend} is as it should be again`,
  Kill: ({ process }) => (process === undefined ? "HAProxy is killed" : `HAProxy's process ${process + 1} is killed`),
  Start: () => "HAProxy is started from its file",
  Reload: () => "somebody reloads HAProxy from its file",
  Silence: ({ millis, process }) => `HAProxy's process ${process + 1} answers nothing for ${millis / 1000} s`,
  CutReply: ({ process, reply }) => `reply ${reply} from now on of HAProxy's process ${process + 1} is cut short`,
  RefuseConnections: ({ count, process }) => `HAProxy's process ${process + 1} refuses ${count} connections`,
  RefuseReloads: ({ count }) => `the next ${count} reloads fail`,
  Operator: ({ backend, server, state }) => `the operator sets ${backend}/${server} to ${state}`
})
