/**
 * Plays a scenario: a program that keeps HAProxy level, on simulated edges and on
 * virtual time, with a modelled load going through and every rule looked at.
 *
 * Equal options give equal outcomes: time is a `TestClock`, chance is seeded, and
 * nothing outside of this process is touched.
 */
import { type Duration, Effect, type Layer, Logger, Random, References } from "effect"
import { TestClock } from "effect/testing"
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
import * as SimulatedHaproxy from "./SimulatedHaproxy.ts"
import * as SimulatedSource from "./SimulatedSource.ts"
import type * as Timeline from "./Timeline.ts"

/** What the program is given in place of the world. */
export interface Edges {
  readonly sockets: Layer.Layer<HaproxySocket>
  readonly reloader: Layer.Layer<Reloader, never, ConfigFile>
  readonly commands: Layer.Layer<Commands>
  readonly files: MemoryFiles.MemoryFiles["layer"]
  readonly fetcher: Layer.Layer<Fetcher>
}

export interface Options {
  /** Keeps HAProxy level for as long as it runs; what it fails with ends up in the timeline. */
  readonly program: (edges: Edges) => Effect.Effect<unknown, { readonly message: string }>
  readonly scenario: Scenario
  readonly seed: number
  /** How much is played; the scenario's own length otherwise. */
  readonly untilMillis?: number | undefined
  readonly version: Version
  /** One per process. */
  readonly sockets: ReadonlyArray<string>
  /** `haproxy_config_file`. */
  readonly configFile: string
  readonly reloadInterval: Duration.Duration
  readonly backends: ReadonlyArray<Backend>
}

export interface Backend extends Rules.BackendRules, SimulatedSource.BackendOptions {}

/** Requests per second, process and backend, and how long each lasts. */
const load = { perSecond: 20, lastsMillis: 200 }

/** How often the load, the rules and the picture look: finely for a while after something has happened. */
const tickOf = (sinceMillis: number): number => (sinceMillis < 10_000 ? 100 : sinceMillis < 60_000 ? 500 : 1000)

/** How many points the picture has at the most. */
const mostSamples = 2000

/** Plays it. Never fails: what went wrong is in the outcome. */
export const run = (options: Options): Effect.Effect<Outcome> =>
  play(options).pipe(Effect.scoped, Effect.provide(TestClock.layer()), Random.withSeed(`ep2 ${options.seed}`))

const play = Effect.fnUntraced(function* (options: Options) {
  const { backends, scenario } = options
  const untilMillis = options.untilMillis ?? scenario.durationMillis
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
        haproxy.killProcess(process)
        faults.begin("haproxy")
      },
      Start: () => {
        rules.anew(nowMillis)
        haproxy.start(files.read(options.configFile) ?? "")
        faults.end("haproxy", nowMillis)
      },
      Reload: () => {
        rules.anew(nowMillis)
        haproxy.reload(files.read(options.configFile) ?? "")
      },
      Silence: ({ millis, process }) => {
        haproxy.silence(process, nowMillis + millis)
        faults.during(`silence ${process}`, nowMillis + millis)
      },
      RefuseReloads: ({ count }) => {
        haproxy.failNextReloads(count)
        faults.during("reloads", nowMillis + count * 60_000)
      },
      Operator: ({ backend, server, state }) => {
        // An operator lets nothing loose that is a free slot by now.
        const views = haproxy.processes().flatMap(({ servers }) => servers)
        const isFree = views.some(
          (one) => one.backend === backend && one.name === server && isPlaceholder(one.endpoint)
        )
        if (state === "ready" && isFree) return rules.operator(backend, server, state, nowMillis)
        haproxy.type(`set server ${backend}/${server} state ${state}`)
        rules.operator(backend, server, state, nowMillis)
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
  yield* options.program(edges).pipe(
    Effect.catch((error) => Effect.logError(`ep2 ends: ${error.message}`)),
    Effect.provideService(Status.Status, status),
    Effect.provide(Logger.layer([logger])),
    Effect.forkScoped
  )

  const events = scenario.events.toSorted((one, other) => one.atMillis - other.atMillis)
  let at = 0
  for (let now = 0; now < untilMillis; ) {
    const sinceEvent = now - (events[at - 1]?.atMillis ?? 0)
    const next = Math.min(now + tickOf(sinceEvent), events[at]?.atMillis ?? untilMillis, untilMillis)
    yield* TestClock.adjust(next - now)
    haproxy.advance(next)
    clients.tick(next, next - now)
    now = next
    for (; at < events.length && (events[at] as Timed).atMillis <= now; at++) happen(events[at]!.event, now)
    faults.tick(now)
    rules.look(now)
    const served = new Set<string>()
    let wantedNow = 0
    for (const { name } of backends) {
      const everywhere = Load.servedEverywhere(haproxy, name)
      serving.served(name, everywhere, now)
      for (const endpoint of source.wanted(name)) {
        wantedNow++
        if (everywhere.has(endpointKey(endpoint))) served.add(`${name} ${endpointKey(endpoint)}`)
      }
    }
    const last = samples.at(-1)
    const isDue = last === undefined || now - last.atMillis >= untilMillis / mostSamples
    const isOther = last?.wanted !== wantedNow || last.served !== served.size
    if (isDue && isOther) samples.push({ atMillis: now, wanted: wantedNow, served: served.size })
  }

  const broken = rules.broken()
  for (const { atMillis, detail, rule } of broken) {
    entries.push({ atMillis, kind: "rule", level: "error", text: `rule broken (${rule}): ${detail}` })
  }
  const { requests, toDead, withoutServer } = clients.totals()
  const { commands } = haproxy.counts()
  const saidByEp2 = (pattern: RegExp) => entries.filter(({ kind, text }) => kind === "ep2" && pattern.test(text)).length
  return {
    entries: entries.toSorted((one, other) => one.atMillis - other.atMillis),
    samples,
    broken,
    summary: {
      playedMillis: untilMillis,
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
  RefuseReloads: ({ count }) => `the next ${count} reloads fail`,
  Operator: ({ backend, server, state }) => `the operator sets ${backend}/${server} to ${state}`
})
