/**
 * The acts of the demo. Each changes something as an orchestrator would, and
 * then looks, through HAProxy, whether that is what is served.
 */
import { Effect } from "effect"
import { endpointKey } from "../../src/domain/State.ts"
import { terminationMillis } from "./Sandbox.ts"
import type { Stage } from "./Stage.ts"

/** How an act went. */
export interface Outcome {
  readonly title: string
  /** What it took, in words for the summary. */
  readonly took: string
  /** Why it was not really served; empty when it was. */
  readonly problem: string
}

/** The longest that an act may take to be served. */
const patienceMillis = 10_000

/** Waits until every server that is on the list has answered. */
export const opening = Effect.fnUntraced(function* (stage: Stage, began: number) {
  const names = stage.fleet.listed()
  const arrived = yield* awaitAnswers(stage, names, performance.now())
  if (arrived.missing.length > 0) return failed(stage, "start", `no answer of ${arrived.missing.join(", ")}`)
  stage.tell.good(`${names.join(" and ")} answer through http://127.0.0.1:${stage.sandbox.port}/`)
  return done("start", `${millis(arrived.first - began)}, with ep2 and HAProxy to be started`)
})

/** Starts servers and puts them on the list. */
export const scaleOut = Effect.fnUntraced(function* (stage: Stage, to: number) {
  const before = stage.fleet.listed()
  const title = `scale out ${before.length} → ${to}`
  const names = yield* stage.fleet.start(to - before.length)
  stage.tell.act(title, `${names.join(", ")} run and are listed`)
  const changed = yield* stage.fleet.list([...before, ...names])
  const arrived = yield* awaitAnswers(stage, names, changed)
  if (arrived.missing.length > 0) return failed(stage, title, `no answer of ${arrived.missing.join(", ")}`)
  stage.tell.good(arrivedIn(arrived, changed, names.length))
  return done(title, firstOf(arrived, changed, names.length))
})

/** Kills a server that stays on the list, and brings it back after a while. */
export const dieAndReturn = Effect.fnUntraced(function* (stage: Stage, deadMillis: number) {
  const name = stage.fleet.listed()[1]!
  const server = stage.fleet.find(name)
  const title = `${name} dies`
  stage.tell.act(title, "it stays listed; HAProxy's checks and retries cover for it")
  const died = performance.now()
  yield* server.stop
  const seen = yield* until(stage, () => slotOf(stage, name)?.state === "down", patienceMillis)
  if (seen === undefined) return failed(stage, title, "HAProxy did not take it for down")
  stage.tell.note(`HAProxy took it out after ${millis(seen - died)}; ep2 leaves its slot alone`)
  yield* Effect.sleep(Math.max(1200, deadMillis - (seen - died)))
  const others = stage.fleet.listed().filter((one) => one !== name)
  const answered = new Set((yield* stage.audience.since(seen)).map((one) => one.server))
  const silent = others.filter((one) => !answered.has(one))
  if (answered.has(name)) return failed(stage, title, "it answered while it was dead")
  if (silent.length > 0) return failed(stage, title, `no answer of ${silent.join(", ")} meanwhile`)
  yield* stage.showPicture
  const returned = performance.now()
  yield* server.start
  stage.tell.note(`${name} comes back on its address`)
  const arrived = yield* awaitAnswers(stage, [name], returned)
  if (arrived.missing.length > 0) return failed(stage, title, "no answer after it came back")
  const took = millis(arrived.first - returned)
  stage.tell.good(`the others took over; it answered ${took} after it came back`)
  return done(`${name} comes back`, took)
})

/** Takes servers off the list, and ends each once HAProxy is done with it. */
export const scaleIn = Effect.fnUntraced(function* (stage: Stage, to: number) {
  const before = stage.fleet.listed()
  const title = `scale in ${before.length} → ${to}`
  const leaving = before.slice(to)
  stage.tell.act(title, `${leaving.join(", ")} are no longer listed`)
  const changed = yield* stage.fleet.list(before.slice(0, to))
  const left = yield* seeOff(stage, leaving, changed)
  if (left.problem !== "") return failed(stage, title, left.problem)
  return done(title, `last of those that left ${millis(left.last - changed)}`)
})

/** Puts as many new servers on the list as there are, in place of all of them. */
export const replaceAll = Effect.fnUntraced(function* (stage: Stage) {
  const before = stage.fleet.listed()
  const title = `replace all ${before.length}`
  stage.fleet.nextGeneration()
  const names = yield* stage.fleet.start(before.length)
  stage.tell.act(title, `${names.join(", ")} run and are listed instead`)
  const changed = yield* stage.fleet.list(names)
  const arrived = yield* awaitAnswers(stage, names, changed)
  if (arrived.missing.length > 0) return failed(stage, title, `no answer of ${arrived.missing.join(", ")}`)
  stage.tell.good(arrivedIn(arrived, changed, names.length))
  const left = yield* seeOff(stage, before, changed)
  if (left.problem !== "") return failed(stage, title, left.problem)
  return done(title, `${firstOf(arrived, changed, names.length)}, last of the others ${millis(left.last - changed)}`)
})

/** Waits until HAProxy has no slot for the servers any more, and ends them when their time is over. */
const seeOff = Effect.fnUntraced(function* (stage: Stage, names: ReadonlyArray<string>, changed: number) {
  const gone = yield* until(stage, () => names.every((name) => slotOf(stage, name) === undefined), patienceMillis)
  if (gone === undefined) return { last: 0, problem: `HAProxy still has a slot for one of ${names.join(", ")}` }
  const wait = Math.max(terminationMillis - (performance.now() - changed), 0)
  yield* Effect.sleep(wait)
  const answers = (yield* stage.audience.since(changed)).filter((one) => names.includes(one.server))
  const last = Math.max(changed, ...answers.map((one) => one.at))
  for (const name of names) {
    const server = stage.fleet.find(name)
    const { inFlight } = yield* server.counts
    if (inFlight > 0) return { last, problem: `${name} was still asked something when its time was over` }
    yield* server.stop
  }
  stage.tell.good(`given ${terminationMillis / 1000} s for their last requests, they are stopped: none was cut`)
  return { last, problem: "" }
})

const awaitAnswers = Effect.fnUntraced(function* (stage: Stage, names: ReadonlyArray<string>, since: number) {
  const at = new Map<string, number>()
  const missing = () => names.filter((name) => !at.has(name))
  while (missing().length > 0 && performance.now() - since < patienceMillis) {
    yield* Effect.sleep(25)
    for (const one of yield* stage.audience.since(since)) {
      if (names.includes(one.server)) at.set(one.server, Math.min(one.at, at.get(one.server) ?? one.at))
    }
  }
  return { first: Math.min(...at.values()), last: Math.max(...at.values()), missing: missing() }
})

/** When it was so, on `performance.now()`; undefined when it never was. */
const until = Effect.fnUntraced(function* (stage: Stage, isSo: () => boolean, withinMillis: number) {
  for (const end = performance.now() + withinMillis; performance.now() < end; ) {
    if (stage.slots() !== undefined && isSo()) return performance.now()
    yield* Effect.sleep(25)
  }
  return undefined
})

/** When the first and the last of some servers answered first, on `performance.now()`. */
interface Arrived {
  readonly first: number
  readonly last: number
}

const arrivedIn = ({ first, last }: Arrived, changed: number, count: number) =>
  `the first answered ${millis(first - changed)} after the file changed, all ${count} after ${millis(last - changed)}`

const firstOf = ({ first, last }: Arrived, changed: number, count: number) =>
  `${millis(first - changed)}, all ${count} ${millis(last - changed)}`

const slotOf = (stage: Stage, name: string) =>
  stage.slots()?.byEndpoint.get(endpointKey(stage.fleet.find(name).endpoint))

const done = (title: string, took: string): Outcome => ({ title, took, problem: "" })

const failed = (stage: Stage, title: string, problem: string): Outcome => {
  stage.tell.bad(`${title}: ${problem}`)
  return { title, took: "not served", problem }
}

const millis = (time: number): string => (time < 1000 ? `${Math.round(time)} ms` : `${(time / 1000).toFixed(1)} s`)
