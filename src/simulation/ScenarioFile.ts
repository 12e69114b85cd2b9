/**
 * A scenario that an operator writes, in YAML:
 *
 * ```yaml
 * description: two servers are replaced while Consul is out
 * duration: 30m
 * start:
 *   web: { fleet: 12 }
 * events:
 *   - { at: 1m, fail: { reason: Unavailable } }
 *   - { at: 2m, want: { fleet: 3-14 } }
 *   - { at: 10m, answer: {} }
 * ```
 *
 * `fleet: 12` are the endpoints 1 to 12 of a backend, `fleet: 3-14` those from 3 to
 * 14, and `endpoints: ["10.0.0.3:8080"]` any. `backend` may be left out where there
 * is one. All that is wrong with a file is found at once.
 */
import { Result, Schema, SchemaAST, SchemaIssue } from "effect"
import { type Document, isAlias, isMap, isNode, isPair, LineCounter, type Node, parseDocument } from "yaml"
import { type Endpoint, endpoint } from "../domain/State.ts"
import { Event, type Timed } from "./Event.ts"
import { type BackendOptions, fleet, inOrder, longestFleet, type Scenario } from "./Scenario.ts"

/** The file cannot be used. A line for each thing that is wrong, in the order of the file. */
export class ScenarioError extends Schema.TaggedError<ScenarioError>()("ScenarioError", {
  file: Schema.String,
  problems: Schema.NonEmptyArray(
    Schema.Struct({
      /** From 1; absent where no line is to blame. */
      line: Schema.optionalKey(Schema.Int),
      /** What was found and what was expected. */
      detail: Schema.String
    })
  )
}) {
  override get message() {
    return this.problems
      .map(({ detail, line }) => `${this.file}${line === undefined ? "" : `:${line}`}: ${detail}`)
      .join("\n")
  }
}

const durationText = "a duration such as 250ms, 90s, 15m or 1h"
const unitMillis = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const

/** Milliseconds of `250ms`, `90s`, `1.5h`, `1h30m`; `undefined` for anything else. */
export const readDuration = (text: string): number | undefined => {
  if (!/^(?:\d{1,9}(?:\.\d{1,3})?(?:ms|s|m|h|d))+$/.test(text)) return undefined
  const parts = [...text.matchAll(/([\d.]+)(ms|s|m|h|d)/g)]
  return Math.round(
    parts.reduce((sum, [, n, unit]) => sum + Number(n) * unitMillis[unit as keyof typeof unitMillis], 0)
  )
}

const expecting = <A>(expected: string, isGood: (value: A) => boolean) => Schema.makeFilter(isGood, { expected })

const Duration = Schema.String.annotate({ expected: durationText }).check(
  expecting(durationText, (text) => readDuration(text) !== undefined)
)
const fleetText = `a number of endpoints such as 12, or numbers from and to such as 3-14, at most ${longestFleet}`
const Fleet = Schema.Union([Schema.Int, Schema.String])
  .annotate({ expected: fleetText })
  .check(expecting(fleetText, (value) => rangeOf(value) !== undefined))
const addressText = "an address and a port such as 10.0.0.3:8080 or [2001:db8::5]:8080"
const Address = Schema.String.annotate({ expected: addressText }).check(
  expecting(addressText, (text) => readEndpoint(text) !== undefined)
)
const whole = (minimum: number, maximum: number) => {
  const expected = `a whole number from ${minimum} to ${maximum}`
  return Schema.Finite.annotate({ expected }).check(
    expecting(expected, (value) => Number.isInteger(value) && value >= minimum && value <= maximum)
  )
}
const oneOf = <const Words extends ReadonlyArray<string>>(words: Words) =>
  Schema.Literals(words).annotate({ expected: `${words.slice(0, -1).join(", ")} or ${words.at(-1)}` })
const text = (expected: string) => Schema.String.annotate({ expected })

const backend = Schema.optionalKey(text("the name of a backend"))
const endpointKeys = {
  fleet: Schema.optionalKey(Fleet),
  endpoints: Schema.optionalKey(Schema.Array(Address).annotate({ expected: "a list of endpoints" }))
}
const Endpoints = Schema.Struct(endpointKeys).annotate({ expected: "fleet or endpoints" })
const Some = Schema.Struct({ backend, ...endpointKeys }).annotate({ expected: "fleet or endpoints" })
const Of = Schema.Struct({ backend }).annotate({ expected: "{} or { backend: NAME }" })
const process = whole(0, 63)

/** What an event does, by the key that it has besides `at`. */
const actions = {
  want: Some,
  die: Some,
  live: Some,
  fail: Schema.Struct({
    backend,
    reason: oneOf(["Unavailable", "Throttled", "Unauthorized", "TargetMissing", "BadResponse"])
  }),
  empty: Of,
  slow: Schema.Struct({ backend, by: Duration }),
  answer: Of,
  kill: Schema.Struct({ process: Schema.optionalKey(process) }).annotate({ expected: "{} or { process: 0 }" }),
  start: Schema.Struct({}).annotate({ expected: "{}" }),
  reload: Schema.Struct({}).annotate({ expected: "{}" }),
  silence: Schema.Struct({ process, for: Duration }),
  cut_reply: Schema.Struct({ process, reply: whole(1, 100_000) }),
  refuse_connections: Schema.Struct({ process, count: whole(0, 1000) }),
  refuse_reloads: Schema.Struct({ count: whole(0, 1000) }),
  operator: Schema.Struct({
    backend,
    server: text("the name of a server, such as node1"),
    state: oneOf(["ready", "drain", "maint"])
  })
} as const
type Action = keyof typeof actions
const actionNames = Object.keys(actions) as ReadonlyArray<Action>

const optional = <S extends Schema.Constraint>(schema: S) => Schema.optionalKey(schema)
const EventKeys = Schema.Struct({
  at: Duration,
  want: optional(actions.want),
  die: optional(actions.die),
  live: optional(actions.live),
  fail: optional(actions.fail),
  empty: optional(actions.empty),
  slow: optional(actions.slow),
  answer: optional(actions.answer),
  kill: optional(actions.kill),
  start: optional(actions.start),
  reload: optional(actions.reload),
  silence: optional(actions.silence),
  cut_reply: optional(actions.cut_reply),
  refuse_connections: optional(actions.refuse_connections),
  refuse_reloads: optional(actions.refuse_reloads),
  operator: optional(actions.operator)
}).annotate({ expected: "an event: at, and what happens" })

const File = Schema.Struct({
  description: Schema.optionalKey(text("one sentence")),
  duration: Duration,
  processes: Schema.optionalKey(whole(1, 64)),
  start: Schema.Record(Schema.String, Endpoints).annotate({
    expected: "a backend's name with fleet or endpoints, for each"
  }),
  events: Schema.Array(EventKeys).annotate({ expected: "a list of events" })
}).annotate({ expected: "description, duration, start and events" })

const decodeFile = Schema.decodeUnknownResult(File, { errors: "all", onExcessProperty: "error" })
const format = SchemaIssue.makeFormatterStandardSchemaV1({
  leafHook: (issue) => {
    const expected = issue._tag === "InvalidType" ? SchemaAST.resolve(issue.ast)?.expected : undefined
    return typeof expected === "string" ? `Expected ${expected}` : SchemaIssue.defaultLeafHook(issue)
  }
})

type Path = ReadonlyArray<PropertyKey>
interface Flaw {
  readonly path: Path
  readonly detail: string
}

/** Reads a scenario for these backends. `file` is its name and stands in messages. */
export const parse = (
  file: string,
  content: string,
  backends: ReadonlyArray<BackendOptions>
): Result.Result<Scenario, ScenarioError> => {
  const lineCounter = new LineCounter()
  const document = parseDocument(content, { lineCounter, prettyErrors: false, logLevel: "error", stringKeys: true })
  const refuse = (problems: ReadonlyArray<{ readonly line?: number; readonly detail: string }>) => {
    const [first, ...others] = problems.toSorted((a, b) => (a.line ?? 0) - (b.line ?? 0))
    if (first === undefined) throw new Error(`${file} is refused and nothing is wrong with it`)
    return Result.fail(new ScenarioError({ file, problems: [first, ...others] }))
  }
  const lineAt = (offset: number) => lineCounter.linePos(offset).line
  if (document.errors.length > 0) {
    return refuse(
      document.errors.map(({ message, pos }) => ({ line: lineAt(pos[0]), detail: `is not YAML: ${message}` }))
    )
  }
  const value: Result.Result<unknown, unknown> = Result.try(() => document.toJS({ maxAliasCount: 1000 }))
  if (Result.isFailure(value)) return refuse([{ detail: `is not YAML: ${String(value.failure)}` }])
  const located = (flaws: ReadonlyArray<Flaw>) =>
    refuse(
      flaws.map(({ detail, path }) => {
        const offset = offsetOf(document, path)
        return { ...(offset !== undefined && { line: lineAt(offset) }), detail: `${nameOf(path)}${detail}` }
      })
    )
  const decoded = decodeFile(value.success)
  if (Result.isFailure(decoded)) return located(flawsOf(decoded.failure.issue, value.success))
  const flaws = rulesOf(decoded.success, backends)
  return flaws.length > 0 ? located(flaws) : Result.succeed(scenarioOf(file, decoded.success, backends))
}

const flawsOf = (issue: SchemaIssue.Issue, value: unknown): ReadonlyArray<Flaw> =>
  format(issue).issues.map(({ message, path = [] }) => {
    const keys = path.map((one) => (typeof one === "object" ? one.key : one))
    if (message === "Expected no excess property") {
      const isAction = keys.length === 3 && keys[0] === "events"
      const expected = isAction ? `at and one of ${actionNames.join(", ")}` : knownBeside(keys)
      return { path: keys, detail: `is not known, expected ${expected}` }
    }
    if (message === "Missing key") return { path: keys, detail: `is missing, expected ${expectedAt(keys)}` }
    return { path: keys, detail: `found ${shown(at(value, keys))}, ${message.replace(/^E/, "e")}` }
  })

/** What stands at the key that a path ends with. */
const expectedAt = (keys: Path): string => {
  const action = actionNames.find((one) => one === keys[2])
  const fields = keys.length === 1 ? File.fields : action === undefined ? EventKeys.fields : actions[action].fields
  const field = Reflect.get(fields, keys.at(-1)!) as Schema.Constraint | undefined
  const expected = field === undefined ? undefined : Schema.resolveAnnotations(field)?.expected
  return typeof expected === "string" ? expected : "a value"
}

const knownBeside = (keys: Path): string => {
  if (keys.length === 1) return Object.keys(File.fields).join(", ")
  const action = actionNames.find((one) => one === keys[2])
  const known = keys[0] === "start" ? Object.keys(endpointKeys) : Object.keys(action ? actions[action].fields : {})
  return known.length === 0 ? "nothing in here" : known.join(", ")
}

/** What a Schema cannot say. */
const rulesOf = (file: typeof File.Type, backends: ReadonlyArray<BackendOptions>): ReadonlyArray<Flaw> => {
  const names = backends.map(({ name }) => name)
  const flaws: Array<Flaw> = []
  const known = (path: Path, name: string) => {
    if (!names.includes(name)) flaws.push({ path, detail: `found ${shown(name)}, expected ${names.join(" or ")}` })
  }
  const either = (path: Path, given: typeof Endpoints.Type) => {
    if ((given.fleet === undefined) === (given.endpoints === undefined)) {
      const found = given.fleet === undefined ? "neither" : "both"
      flaws.push({ path, detail: `found ${found}, expected fleet or endpoints` })
    }
  }
  for (const [name, given] of Object.entries(file.start)) {
    known(["start", name], name)
    either(["start", name], given)
  }
  file.events.forEach((event, index) => {
    const found = actionNames.filter((name) => event[name] !== undefined)
    if (found.length !== 1) {
      const what = found.length === 0 ? "nothing that happens" : found.join(" and ")
      flaws.push({ path: ["events", index], detail: `found ${what}, expected one of ${actionNames.join(", ")}` })
    }
    for (const name of found) {
      const path = ["events", index, name]
      const given = event[name]!
      if ("backend" in actions[name].fields) {
        const own = "backend" in given ? given.backend : undefined
        if (own !== undefined) known([...path, "backend"], own)
        else if (names.length > 1 && !("endpoints" in given)) {
          flaws.push({ path, detail: `has no backend, expected ${names.join(" or ")}` })
        }
      }
      if (name === "want" || name === "die" || name === "live") either(path, given as typeof Some.Type)
    }
  })
  return flaws
}

const scenarioOf = (file: string, given: typeof File.Type, backends: ReadonlyArray<BackendOptions>): Scenario => {
  const first = backends[0]!.name
  const endpointsOf = ({ backend: name = first, endpoints, fleet: range }: typeof Some.Type) => {
    if (endpoints !== undefined) return endpoints.map((one) => readEndpoint(one)!)
    const index = backends.findIndex((one) => one.name === name)
    const [from, to] = rangeOf(range!)!
    return fleet({ index, port: backends[index]!.port }, from, to)
  }
  const eventsOf = (event: typeof EventKeys.Type): ReadonlyArray<Event> => {
    const { answer, cut_reply, die, empty, fail, kill, live, operator } = event
    const { refuse_connections, refuse_reloads, reload, silence, slow, start, want } = event
    return [
      want && Event.Want({ backend: want.backend ?? first, endpoints: endpointsOf(want) }),
      ...(die ? endpointsOf(die).map((one) => Event.Die({ endpoint: one })) : []),
      ...(live ? endpointsOf(live).map((one) => Event.Live({ endpoint: one })) : []),
      fail && Event.Fail({ backend: fail.backend ?? first, failure: fail.reason }),
      empty && Event.Empty({ backend: empty.backend ?? first }),
      slow && Event.Slow({ backend: slow.backend ?? first, millis: readDuration(slow.by)! }),
      answer && Event.Answer({ backend: answer.backend ?? first }),
      kill && Event.Kill(kill),
      start && Event.Start(),
      reload && Event.Reload(),
      silence && Event.Silence({ process: silence.process, millis: readDuration(silence.for)! }),
      cut_reply && Event.CutReply(cut_reply),
      refuse_connections && Event.RefuseConnections(refuse_connections),
      refuse_reloads && Event.RefuseReloads(refuse_reloads),
      operator && Event.Operator({ ...operator, backend: operator.backend ?? first })
    ].filter((one) => one !== undefined)
  }
  return {
    name: file,
    description: given.description ?? "a scenario of your own",
    needs: given.processes === undefined ? undefined : { processes: given.processes },
    durationMillis: readDuration(given.duration)!,
    start: new Map(
      backends.map(({ name }) => {
        const own = Object.hasOwn(given.start, name) ? given.start[name] : undefined
        return [name, own === undefined ? [] : endpointsOf({ ...own, backend: name })]
      })
    ),
    events: inOrder(
      given.events.flatMap((event) =>
        eventsOf(event).map((one): Timed => ({ atMillis: readDuration(event.at)!, event: one }))
      )
    )
  }
}

const rangeOf = (value: number | string): readonly [from: number, to: number] | undefined => {
  const [, first = "", last = ""] = /^(\d{1,6})-(\d{1,6})$/.exec(String(value)) ?? []
  const [from, to] = typeof value === "number" ? [1, value] : [Number(first), Number(last)]
  if (!Number.isInteger(to) || to < 0 || to > longestFleet || (typeof value === "string" && first === ""))
    return undefined
  return from >= 1 && (from <= to || typeof value === "number") ? [from, to] : undefined
}

const readEndpoint = (value: string): Endpoint | undefined => {
  const [, bracketed, plain, port] = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(value) ?? []
  return Result.getOrUndefined(endpoint(bracketed ?? plain ?? "", Number(port)))
}

/** Where the value of a path begins, or of the longest part of it that is there. */
const offsetOf = (document: Document.Parsed, path: Path): number | undefined => {
  let node: unknown = document.contents
  let offset = isNode(node) ? node.range?.[0] : undefined
  for (const key of path) {
    if (isAlias(node)) node = node.resolve(document)
    if (isMap(node)) {
      const pair = node.items.find((one) => isPair(one) && isNode(one.key) && String(one.key) === String(key))
      if (pair === undefined) break
      offset = isNode(pair.key) ? (pair.key.range?.[0] ?? offset) : offset
      node = pair.value
    } else {
      const item: Node | undefined = (node as { readonly items?: ReadonlyArray<Node> } | undefined)?.items?.[
        Number(key)
      ]
      if (item === undefined) break
      offset = item.range?.[0] ?? offset
      node = item
    }
  }
  return offset
}

const at = (value: unknown, path: Path): unknown =>
  path.reduce<unknown>(
    (one, key) => (typeof one === "object" && one !== null ? Reflect.get(one, key) : undefined),
    value
  )

const shown = (value: unknown): string => {
  if (value === undefined || value === null) return "nothing"
  const json = JSON.stringify(value)
  return json.length > 80 ? `${json.slice(0, 80)}…` : json
}

/** `events[2].want.fleet: `, so that an operator finds it without counting lines; nothing for the file as a whole. */
const nameOf = (path: Path): string => {
  const name = path.map((one) => (typeof one === "number" ? `[${one + 1}]` : `.${String(one)}`)).join("")
  return name === "" ? "" : `${name.replace(/^\./, "")}: `
}
