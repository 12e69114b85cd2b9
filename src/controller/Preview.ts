/**
 * What the next pass, or the next start of ep2, would do: decided by the same code,
 * told as data, and nothing is done. `ep2 plan` prints it, `ep2 start --dry-run` logs
 * what changes in it.
 *
 * | HAProxy | what is told |
 * | --- | --- |
 * | does not run | the start, with what servers; nothing where an ep2 runs, since that starts it only when it starts itself |
 * | runs another configuration | the reload with which ep2 would begin; of an ep2 that runs, its next pass, and that HUP brings the reload |
 * | runs what would be rendered | the next pass |
 * | must be left alone | why |
 */
import { Clock, Effect, Schema } from "effect"
import { endpointKey } from "../domain/State.ts"
import * as FirstStep from "./FirstStep.ts"
import * as PreviewRows from "./PreviewRows.ts"
import { type BackendOptions, type Look, Reconciler } from "./Reconciler.ts"
import * as Report from "./Report.ts"
import { SourceReport } from "./SourceReport.ts"

/** A change that HAProxy has to load. */
const Load = Schema.Struct({ reason: Schema.String })

/** A wanted endpoint without a server, or something that the source names and that cannot be served. */
const Unserved = Schema.Struct({
  /** `null` where it has none that HAProxy could take. */
  endpoint: Schema.NullOr(Schema.String),
  instance: Schema.String,
  reason: Schema.String
})

/** What the guard keeps against the source. */
const Held = Schema.Struct({
  reason: Schema.Literals(["unknown", "empty", "removal"]),
  endpoints: Schema.Array(Schema.String),
  /** The numbers, and what releases it. */
  words: Schema.String
})

/** A wanted server that the operator keeps out of service. */
const ByOperator = Schema.Struct({
  server: Schema.String,
  endpoint: Schema.String,
  instance: Schema.String,
  admin: Schema.Literals(["maint", "drain"]),
  words: Schema.String
})

/** One backend. */
export const Backend = Schema.Struct({
  name: Schema.String,
  /** `aws`, `consul` or `file`, and which one. */
  source: Schema.Struct({ kind: Schema.String, target: Schema.String }),
  /** Why the source could not be asked; then its backend keeps what it has. */
  sourceError: Schema.NullOr(Schema.String),
  /** How many endpoints the source names; `null` where it has not answered. */
  wanted: Schema.NullOr(Schema.Int),
  /** Whether anything would be changed, or is on its way. */
  isChange: Schema.Boolean,
  /** The ways that are used, in their order. */
  methods: Schema.Array(PreviewRows.Method),
  /** That HAProxy has to load another config, because of this backend. */
  load: Schema.NullOr(Load),
  /** One per process; without any that runs, one of what HAProxy would be started with. */
  processes: Schema.Array(PreviewRows.ProcessRows),
  held: Schema.NullOr(Held),
  operator: Schema.Array(ByOperator),
  noPlace: Schema.Array(Unserved),
  /** Named by the source, and not to be served; or not yet. */
  refused: Schema.Array(Unserved)
})
export type Backend = typeof Backend.Type

/** All of it. This is what `ep2 plan --json` prints. */
export const Preview = Schema.Struct({
  /** When, in UTC. */
  at: Schema.String,
  /** Whether anything would be changed, or is on its way. */
  isChange: Schema.Boolean,
  step: Schema.Struct({ action: Schema.Literals(["start", "reload", "pass", "wait"]), reason: Schema.String }),
  /** The words of `ep2 pause`: nothing of this is done until `ep2 resume`. */
  paused: Schema.NullOr(Schema.String),
  /** The ep2 that runs on the same config file. */
  ep2: Schema.NullOr(Schema.Struct({ pid: Schema.Int })),
  backends: Schema.Array(Backend),
  /** What this cannot know, and what else is worth knowing. */
  notes: Schema.Array(Schema.String)
})
export type Preview = typeof Preview.Type

/** What is known besides. */
export interface Around {
  /** Of each backend, by name. */
  readonly sources: ReadonlyMap<string, Backend["source"]>
  /** The ep2 that has the lock. */
  readonly running: number | undefined
  readonly paused: string | undefined
  /** `ep2 release` waits to be taken. */
  readonly isReleased: boolean
}

/** Decides it with the answers of the sources that are known by now, and with HAProxy as it is. */
export const make = Effect.fn("Preview.make")(function* (backends: ReadonlyArray<BackendOptions>, around: Around) {
  const first = yield* FirstStep.next(backends)
  const { look } = yield* Reconciler
  const looks = yield* Effect.forEach(backends, ({ name }) => look(name), { concurrency: "unbounded" })
  const shown = backends.map(
    (options, index): Shown => ({ options, look: looks[index]!, first: firstOf(first, index) })
  )
  const all = yield* Effect.forEach(shown, (one) => backendOf(one, around, first))
  const step = stepOf(first, around, all)
  return {
    at: new Date(yield* Clock.currentTimeMillis).toISOString(),
    isChange: step.action !== "wait" && (step.action !== "pass" || all.some((one) => one.isChange)),
    step,
    paused: around.paused ?? null,
    ep2: around.running === undefined ? null : { pid: around.running },
    backends: all,
    notes: notesOf(first, shown, around)
  } satisfies Preview
})

interface Shown {
  readonly options: BackendOptions
  readonly look: Look
  readonly first: FirstStep.First | undefined
}

const firstOf = (step: FirstStep.Step, index: number) => ("backends" in step ? step.backends[index] : undefined)

const stepOf = (first: FirstStep.Step, { running }: Around, backends: ReadonlyArray<Backend>): Preview["step"] => {
  const count = backends.flatMap(({ processes }) => processes[0]?.servers ?? []).length
  if (first._tag === "Wait") return { action: "wait", reason: first.why }
  if (first._tag === "Start") {
    return running === undefined
      ? { action: "start", reason: `HAProxy does not run: it is started with ${servers(count)}` }
      : {
          action: "wait",
          reason: `HAProxy does not run, and ep2 starts it only when it starts itself: whoever owns it would start it with ${servers(count)}`
        }
  }
  if (first._tag === "Reload") {
    return running === undefined
      ? { action: "reload", reason: "HAProxy runs another configuration: it is reloaded" }
      : { action: "pass", reason: "the ep2 that runs has not read this template, or these settings, yet" }
  }
  return { action: "pass", reason: "HAProxy runs this template with these settings" }
}

const servers = (count: number): string => (count === 1 ? "1 server" : `${count} servers`)

const backendOf = Effect.fnUntraced(function* (shown: Shown, around: Around, step: FirstStep.Step) {
  const { first, look, options } = shown
  const { failing } = yield* (yield* SourceReport).state(options.name)
  const { answer } = look
  const source = around.sources.get(options.name) ?? { kind: "", target: "" }
  const isPass = first === undefined || (step._tag === "Reload" && around.running !== undefined)
  const held = isPass ? look.held : first.held
  const operators = isPass ? look.plan.held : []
  const unplaced = isPass ? look.plan.unplaced : []
  const facts =
    answer === undefined
      ? new Map<string, string>()
      : Report.standingFacts({ answer, hold: held, guard: options.guard, plan: look.plan, growth: look.growth })
  const named = PreviewRows.namedBy(source.kind, answer, held)
  const processes = isPass
    ? look.observed.processes.map((process) => PreviewRows.ofPass(process, look, named, options))
    : first.observed.processes.length === 0
      ? [PreviewRows.ofStart(first, named, step._tag === "Start" ? "start" : "reload")]
      : first.observed.processes.map((process) => PreviewRows.ofReload(process, first, named, textOf(step)))
  const silent = look.observed.unobserved.map(({ reason, socket }) => PreviewRows.unobserved(socket, reason))
  const load = isPass && look.load !== undefined ? { reason: look.load.reason } : null
  const used = new Set(processes.flatMap((process) => process.servers.flatMap(({ by }) => by ?? [])))
  if (load !== null) used.add("reload")
  const isMoving = processes.some((process) => process.servers.some(({ action }) => PreviewRows.isChange(action)))
  return {
    name: options.name,
    source,
    sourceError: answer === undefined ? (failing?.error.message ?? "it has not answered in time") : null,
    wanted: answer === undefined ? null : answer.wanted.length,
    isChange: isMoving || load !== null,
    methods: PreviewRows.methods.filter((method) => used.has(method)),
    load,
    processes: step._tag === "Start" ? processes : [...processes, ...silent],
    held:
      held === undefined
        ? null
        : { reason: held.reason, endpoints: held.endpoints.map(endpointKey), words: facts.get("guard") ?? "" },
    operator: operators.map(({ admin, endpoint, origin, server }) => ({
      server,
      endpoint: endpointKey(endpoint),
      instance: origin,
      admin,
      words: facts.get(`held ${server}`) ?? ""
    })),
    noPlace: unplaced.map(({ endpoint, origin }) => ({
      endpoint: endpointKey(endpoint),
      instance: origin,
      reason: placeWords(look)
    })),
    refused: [
      ...(answer?.refused ?? []).map(({ origin, reason }) => ({ endpoint: null, instance: origin, reason })),
      ...(answer?.pending ?? []).map(({ origin, reason }) => ({
        endpoint: null,
        instance: origin,
        reason: `not yet: it ${reason}`
      }))
    ]
  } satisfies Backend
})

const textOf = (step: FirstStep.Step): string => ("rendered" in step ? step.rendered.text : "")

const placeWords = ({ growth: { growth, obstacle }, load }: Look): string => {
  const how =
    growth === undefined
      ? "the pool cannot grow now, and what leaves makes room"
      : (load?.reason ?? "the pool grows by a reload")
  return obstacle === undefined ? how : `${how}, as ${obstacle}`
}

const notesOf = (step: FirstStep.Step, shown: ReadonlyArray<Shown>, around: Around): ReadonlyArray<string> => {
  const { isReleased, running } = around
  const who = running === undefined ? "" : `ep2 (pid ${running})`
  const notes: Array<string> = []
  if (step._tag === "Reload" && running !== undefined) {
    notes.push(
      `HAProxy runs another template or other settings than these: ${who} goes on with its own until HUP, and then reloads HAProxy`
    )
  }
  if (isReleased) notes.push("`ep2 release` waits to be taken: what the guard holds goes with the next pass")
  if (running === undefined) return notes
  if (shown.some(({ look }) => look.held?.reason === "removal")) {
    notes.push(
      `what ${who} has counted of the confirmations so far is known to it alone: it may be nearer to letting go`
    )
  }
  if (shown.some(({ look }) => look.plan.isMoving && look.plan.actions.length === 0)) {
    notes.push(
      `since when servers drain, or have come up, is known to ${who} alone: it may be nearer to the end of their time`
    )
  }
  return notes
}

/** One line per thing that would be done or is held, by what it is about: for a log. */
export const lines = ({ backends, notes, step }: Preview): ReadonlyMap<string, string> => {
  const found = new Map<string, string>()
  if (step.action !== "pass") found.set("HAProxy", `would ${step.action}: ${step.reason}`)
  for (const { held, load, name, noPlace, operator, processes } of backends) {
    if (load !== null) found.set(`a reload for ${name}`, `would reload HAProxy: ${load.reason}`)
    for (const { servers: rows, socket } of processes) {
      const where = processes.length === 1 || socket === null ? "" : ` in ${socket}`
      for (const { action, endpoint, instance, reason, server } of rows) {
        if (!PreviewRows.isChange(action)) continue
        const what = `${action} ${name}/${server}${endpoint === null ? "" : ` ${endpoint}`}${where}`
        const of = instance === null || instance === endpoint ? "" : ` (${instance})`
        found.set(what, `would ${what}${of}: ${reason}`)
      }
    }
    if (held !== null) found.set(`the guard's hold of ${name}`, `would hold: ${held.words}`)
    for (const { server, words } of operator) found.set(`the operator's hold of ${name}/${server}`, words)
    for (const { endpoint, instance, reason } of noPlace)
      found.set(`no place for ${endpoint}`, `no place for ${endpoint} (${instance}): ${reason}`)
  }
  for (const note of notes) found.set(note, note)
  return found
}
