/**
 * Rounds of one scenario: a change that ep2 makes, ended by SIGKILL at one of the
 * steps that were recorded before, and what the next ep2 makes of it.
 */
import { spawnSync } from "node:child_process"
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs"
import { connect } from "node:net"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import { assert } from "@effect/vitest"
import { Clock, Duration, Effect, Exit, Fiber, Option, Scope } from "effect"
import { endpointKey, isPlaceholder, slotNumber } from "../../src/domain/State.ts"
import * as Seal from "../../src/haproxy/Seal.ts"
import * as ServerRegion from "../../src/haproxy/ServerRegion.ts"
import * as Binaries from "../servers/Binaries.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"
import * as Traffic from "../servers/Traffic.ts"
import type { Plan, Point } from "./KillPoints.ts"
import * as World from "./World.ts"

/** What ep2 does while it is killed. */
export interface Scenario {
  readonly settings: Readonly<Record<string, string>>
  /** Lines of the backend. */
  readonly backend?: (version: Binaries.HaproxyVersion) => string
  /** Servers that are wanted at first, of `a` to `d`. */
  readonly first: ReadonlyArray<string>
  /** Makes the world what it is before the change, where the one that the last round left will not do. */
  readonly prepare?: (stage: Stage) => Effect.Effect<void>
  /** Servers that are wanted by the change, given those before. The same ones where the change is a start of ep2. */
  readonly change: (before: ReadonlyArray<string>) => ReadonlyArray<string>
  /** What the clients ask for. */
  readonly path?: string
  /** HAProxy does not run before the change, so that nobody is served yet. */
  readonly isDown?: boolean
  /** Steps that it has for certain: were they not recorded, nothing would be. */
  readonly steps: ReadonlyArray<string>
}

/** One world, and the ep2 that runs in it. */
export interface Stage {
  readonly world: World.World
  readonly version: Binaries.HaproxyVersion
  readonly backends: ReadonlyMap<string, HttpBackends.HttpBackend>
  /** The ep2 that was started last, where it looks for its plan, and the how-manieth it is. */
  readonly current: { ep2: World.Ep2 | undefined; planFile: string; count: number }
  /** Names of the servers that are wanted. */
  wanted: ReadonlyArray<string>
  /** Every ep2 lives as long as the stage, or until it is killed. */
  readonly scope: Scope.Scope
}

const preload = pathToFileURL(join(import.meta.dirname, "KillPoints.ts")).href

/** A world of its own, as the scenario needs it, that serves what is wanted first. */
export const makeStage = Effect.fnUntraced(function* (options: {
  readonly scenario: Scenario
  readonly version: Binaries.HaproxyVersion
}) {
  const { scenario, version } = options
  const names = ["a", "b", "c", "d"]
  const all = yield* HttpBackends.makeAll(names)
  // Names of servers go by the order of the ports.
  const inOrder = all.toSorted((one, other) => one.endpoint.port - other.endpoint.port)
  const current: Stage["current"] = { ep2: undefined, planFile: "", count: 0 }
  const world = yield* World.make({
    version,
    source: (dir) => `[FILE]\npath = ${join(dir, "targets.json")}`,
    settings: {
      orchestrator: "file",
      new_servers: "trusted",
      check_interval: "100ms",
      reload_interval: "0.1",
      drain_timeout: "2",
      ...scenario.settings
    },
    backend: scenario.backend?.(version) ?? "",
    env: { NODE_OPTIONS: `--import=${preload}` },
    inside: () => ["env", `EP2_KILL_PLAN=${current.planFile}`]
  })
  mkdirSync(join(world.dir, "plans"))
  const backends = new Map(names.map((name, index) => [name, inOrder[index]!]))
  const stage: Stage = { world, version, backends, current, wanted: scenario.first, scope: yield* Effect.scope }
  yield* want(stage, scenario.first)
  yield* startEp2(stage)
  yield* settles(stage)
  return stage
})

const keysOf = ({ backends }: Stage, names: ReadonlyArray<string>) =>
  names.map((name) => endpointKey(backends.get(name)!.endpoint))

/** Says to the source what is wanted from now on. */
export const want = (stage: Stage, names: ReadonlyArray<string>) => {
  stage.wanted = names
  return World.replaceFile(join(stage.world.dir, "targets.json"), JSON.stringify([{ targets: keysOf(stage, names) }]))
}

/** Starts an ep2 that goes by this plan from its first step on, or by one that is made later. */
export const startEp2 = Effect.fnUntraced(function* ({ current, scope, world }: Stage, plan?: Plan) {
  current.planFile = join(world.dir, "plans", `${++current.count}.json`)
  if (plan !== undefined) yield* World.replaceFile(current.planFile, JSON.stringify(plan))
  current.ep2 = yield* world.start().pipe(Scope.provide(scope))
})

/** Ends ep2 as hard as a plan does. */
export const stopEp2 = Effect.fnUntraced(function* ({ current: { ep2 } }: Stage) {
  ep2?.signal("SIGKILL")
  if (ep2 !== undefined) yield* ep2.ended
})

const logOf = ({ current }: Stage) => current.ep2?.output() ?? ""

const read = (file: string) => (existsSync(file) ? readFileSync(file, "utf8") : undefined)

const filesOf = ({ world }: Stage, pattern: RegExp) => readdirSync(world.dir).filter((name) => pattern.test(name))

/** Whether HAProxy serves what is wanted, nothing moves any more, and the file says the same. */
const isSettled = Effect.fnUntraced(function* (stage: Stage) {
  const { wanted, world } = stage
  if (!/following the source/.test(logOf(stage))) return false
  const served = yield* world.served()
  if (Object.values(served).sort().join() !== keysOf(stage, wanted).sort().join()) return false
  const servers = yield* world.servers()
  if (servers.some(({ isMarked, name }) => isMarked && slotNumber(name) !== undefined)) return false
  const lines = ServerRegion.read(read(world.configFile) ?? "", "web")
  const inFile = lines.filter(({ endpoint }) => !isPlaceholder(endpoint))
  const isLevel =
    inFile.length === wanted.length &&
    inFile.every(({ endpoint, isDisabled, name }) => !isDisabled && served[name] === endpointKey(endpoint))
  return isLevel && filesOf(stage, /\.ep2-candidate$/).length === 0
})

/** Waits until all is as it should be, and dies with what there is instead when it is not in time. */
export const settles = (stage: Stage) =>
  World.eventually(`settled: ${stage.wanted.join(", ")}`, isSettled(stage), longest).pipe(
    Effect.tapCause(() =>
      Effect.gen(function* () {
        const reply = yield* Effect.exit(stage.world.ask("show servers state web"))
        const servers = Exit.isSuccess(reply) ? reply.value : "no answer"
        const files = filesOf(stage, /./).join(" ")
        yield* Effect.logError(`instead:\n${servers}\n${files}\n${read(stage.world.configFile)}\n${logOf(stage)}`)
      })
    )
  )

/** Far more than it takes: what is never level is to be found, and a busy machine is not. */
const longest = Duration.minutes(1)

/** How long all must have been as it should be before a round is taken for one that is not killed any more. */
const quietMillis = 600

/** Waits for the kill. False when ep2 has done all that there was to do, and lives. */
const isKilled = Effect.fnUntraced(function* (stage: Stage) {
  const ended = yield* Effect.forkScoped(stage.current.ep2!.ended)
  const began = yield* Clock.currentTimeMillis
  let since: number | undefined
  while (Option.isNone(yield* Effect.timeoutOption(Fiber.join(ended), "30 millis"))) {
    const now = yield* Clock.currentTimeMillis
    const isQuiet = yield* isSettled(stage).pipe(Effect.catchCause(() => Effect.succeed(false)))
    since = isQuiet ? (since ?? now) : undefined
    if (since !== undefined && now - since > quietMillis) return false
    if (now - began > Duration.toMillis(longest))
      return yield* Effect.die(new Error(`neither killed nor done:\n${logOf(stage)}`))
  }
  return true
}, Effect.scoped)

const look = Effect.fnUntraced(function* ({ world }: Stage) {
  const [text, good] = [read(world.configFile), read(`${world.configFile}.lkg`)]
  const servers = yield* Effect.exit(world.servers())
  if (Exit.isFailure(servers)) return { text, good, servers: [], served: {} }
  return { text, good, servers: servers.value, served: yield* world.served() }
})

/** A config without the lines of ep2's servers, and the endpoints that these have. */
const takeApart = (text: string) => ({
  // The last line is a sum over all before it: whether it is right says whether the text is whole.
  rest: text
    .replace(/^ *server node\d+ .*\n/gm, "")
    .replace(/\n# ep2: sum .*\n$/, Seal.isIntact(text) ? "\nsealed" : "\n"),
  keys: ServerRegion.read(text, "web").flatMap(({ endpoint }) =>
    isPlaceholder(endpoint) ? [] : [endpointKey(endpoint)]
  )
})

/**
 * A whole config: one of these, or one between them as a reload may need it, with
 * the servers of the first in a larger pool, or with those of both, while
 * replacements are still to come up.
 */
const isWhole = (text: string, known: ReadonlyArray<string | undefined>): boolean => {
  const parts = known.flatMap((one) => (one === undefined ? [] : [takeApart(one)]))
  const sets = [...parts.map(({ keys }) => keys), [...new Set(parts.flatMap(({ keys }) => keys))]]
  const { keys, rest } = takeApart(text)
  return (
    parts.some((part) => part.rest === rest) && sets.some((set) => set.toSorted().join() === keys.toSorted().join())
  )
}

/** Asks HAProxy itself about the config file as it is. */
const assertGood = ({ version, world }: Stage) => {
  const checked = spawnSync(Binaries.haproxy(version), ["-c", "-f", world.configFile], { encoding: "utf8" })
  assert.strictEqual(checked.status, 0, checked.stderr)
}

/**
 * One change, by a plan; then ep2 is started again, and all that must hold is
 * asserted. Says whether it was the plan that killed ep2.
 */
export const round = Effect.fnUntraced(function* (stage: Stage, scenario: Scenario, plan: Plan) {
  const { current, world } = stage
  if (scenario.prepare !== undefined) yield* scenario.prepare(stage)
  // In the other scenarios clients ask through all rounds.
  const clients = scenario.isDown === true ? yield* Effect.forkScoped(startTraffic(stage, scenario)) : undefined
  const before = yield* look(stage)
  const next = scenario.change(stage.wanted)
  const allowed = keysOf(stage, [...stage.wanted, ...next])
  const staying = new Set(
    keysOf(
      stage,
      next.filter((name) => stage.wanted.includes(name))
    )
  )

  if (next.join() === stage.wanted.join()) {
    yield* startEp2(stage, plan)
  } else {
    yield* World.replaceFile(current.planFile, JSON.stringify(plan))
    yield* want(stage, next)
  }
  const wasKilled = yield* isKilled(stage)
  yield* stopEp2(stage)
  const atKill = yield* look(stage)
  if (atKill.text !== undefined) assertGood(stage)
  yield* startEp2(stage)
  yield* settles(stage)
  const after = yield* look(stage)

  const known = [before.text, after.text]
  const isOldOrNew = (text: string | undefined) => (text === undefined ? before.text === text : isWhole(text, known))
  assert.isTrue(isOldOrNew(atKill.text), `the config file is neither the old one nor the new one: ${atKill.text}`)
  assert.isTrue(atKill.good === before.good || isOldOrNew(atKill.good), `the last good one is none: ${atKill.good}`)
  assert.includeMembers(allowed, Object.values(atKill.served))
  assert.isFalse(World.servesPlaceholder([...atKill.servers, ...after.servers]), "a placeholder takes traffic")
  for (const [name, key] of Object.entries(before.served)) {
    if (staying.has(key)) assert.strictEqual(after.served[name], key, `${key} stays on ${name}`)
  }
  assertGood(stage)
  assert.notMatch(logOf(stage), /standing by/)
  const holder = filesOf(stage, /^ep2-.*\.pid$/).map((name) => read(join(world.dir, name)))
  assert.deepStrictEqual(holder, [`${/, pid (\d+), /.exec(logOf(stage))?.[1]}\n`])
  yield* World.eventually(
    "one master and one worker",
    Effect.map(world.haproxyPids, ({ length }) => length === 2)
  )
  if (clients !== undefined) {
    const report = yield* Effect.flatMap(Fiber.join(clients), ({ stop }) => stop)
    assert.deepStrictEqual(report.failures, [])
    assert.isAbove(report.requests, 0)
  }
  return wasKilled
}, Effect.scoped)

/** The steps of the change, as ep2 makes them when it is let alone. */
export const record = Effect.fnUntraced(function* (stage: Stage, scenario: Scenario) {
  const file = join(stage.world.dir, "plans", `steps-${stage.current.count}`)
  yield* round(stage, scenario, { record: file })
  return readFileSync(file, "utf8").trim().split("\n")
})

/** Steps that are over when their call returns, so that the world is the same until the next step. */
const isAtOnce = (step: string | undefined) => step !== undefined && !/^(socket|ask|spawn|end) /.test(step)

/**
 * Every step and both its sides; but one point where the side after a step and
 * the side before the next are the same.
 */
export const pointsOf = (steps: ReadonlyArray<string>): ReadonlyArray<Point> => {
  const counts = new Map<string, number>()
  return steps.flatMap((step, index): ReadonlyArray<Point> => {
    const nth = (counts.get(step) ?? 0) + 1
    counts.set(step, nth)
    const isSame = isAtOnce(steps[index - 1])
    return [...(isSame ? [] : [{ step, nth, side: "before" } as const]), { step, nth, side: "after" }]
  })
}

/** Clients, from the moment on when somebody listens. */
export const startTraffic = Effect.fnUntraced(function* ({ world }: Stage, { path = "/traffic" }: Scenario) {
  yield* World.eventually("somebody listens", isListening(world.port))
  return yield* Traffic.start({ port: world.port, path, pauseMillis: 10, maxSeconds: 1800 })
})

const isListening = (port: number) =>
  Effect.callback<boolean>((resume) => {
    const connection = connect({ port, host: "127.0.0.1" }, () => {
      connection.destroy()
      resume(Effect.succeed(true))
    }).on("error", () => resume(Effect.succeed(false)))
  })
