/** What hurts, on its way from the source into HAProxy's commands, its config and the log. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Result, Schema } from "effect"
import * as Log from "../../src/cli/Log.ts"
import * as Report from "../../src/controller/Report.ts"
import * as Plan from "../../src/domain/Plan.ts"
import { type DesiredState, endpointKey, type ObservedState } from "../../src/domain/State.ts"
import * as EndState from "../../src/haproxy/EndState.ts"
import * as RuntimeApi from "../../src/haproxy/RuntimeApi.ts"
import * as ServerRegion from "../../src/haproxy/ServerRegion.ts"
import { readyServer } from "../domain/AnyStates.ts"
import { AnyConsul, AnyDocument, AnyGroups, askAws, askConsul, askFile } from "./AnySource.ts"
import { cases, itMeets, property } from "./Hostile.ts"

/** One process with four free slots. */
const free: ObservedState = {
  backend: "web",
  processes: [
    {
      socket: "/s",
      pid: 1,
      canAdd: true,
      servers: [1, 2, 3, 4].map((number) => readyServer(number, { admin: "maint" }))
    }
  ],
  unobserved: []
}

const planOf = (desired: DesiredState, isAdding: boolean): Plan.Plan =>
  Plan.make(desired, free, Plan.emptyMemory, {
    prove: true,
    drainTimeoutMillis: 30_000,
    drainTimeoutAction: "wait",
    proveTimeoutMillis: 60_000,
    nowMillis: 0,
    growth: isAdding ? { by: "add", keep: 4 } : undefined
  })

const address = "(?:(?:\\d{1,3}\\.){3}\\d{1,3}|[0-9a-f:.]*:[0-9a-f:.]*)"
const commandShape = new RegExp(
  "^(?:set server web/node\\d+ (?:state (?:maint|ready)|weight (?:0|100)%|health down" +
    `|addr ${address} port \\d{1,5})` +
    "|enable health web/node\\d+" +
    "|add server web/node\\d+ 127\\.0\\.0\\.1:1 check pool-max-conn -1 pool-purge-delay 5s)$"
)
const lineShape = /^server node\d+ (?:(?:\d{1,3}\.){3}\d{1,3}|\[[0-9a-f:.]+\]):\d{1,5} check inter 2s(?: disabled)?$/

/** The commands of a plan are one line each, of the shapes that there are, and name no address that is not wanted. */
const assertCommands = (plan: Plan.Plan, desired: DesiredState) => {
  const texts = plan.actions.flatMap((action) => {
    const { first, second } = RuntimeApi.encode("web", action, EndState.placeholder)
    return [...first, ...second].map(({ text }) => text)
  })
  assert.deepStrictEqual(
    texts.filter((text) => !commandShape.test(text)),
    []
  )
  const set = texts.flatMap((text) => {
    const [, at, port] = / addr (\S+) port (\d+)$/.exec(text) ?? []
    return at === undefined ? [] : [endpointKey({ address: at, port: Number(port) })]
  })
  const keys = desired.wanted.map(({ endpoint }) => endpointKey(endpoint))
  assert.includeMembers(keys, set)
}

/** The lines of the config are servers of that shape, wanted or free, and are read back as they are. */
const assertConfig = (plan: Plan.Plan, desired: DesiredState) => {
  const given = EndState.make(plan, free, { size: 4, isElastic: false })
  const [begin, ...rest] = ServerRegion.write(given, { checkInterval: "2s" })
  const lines = rest.slice(0, -1)
  assert.deepStrictEqual(
    lines.filter((line) => !lineShape.test(line)),
    []
  )
  const keys = [...desired.wanted.map(({ endpoint }) => endpointKey(endpoint)), "127.0.0.1:1"]
  assert.includeMembers(
    keys,
    lines.map((line) => line.split(" ")[2]!)
  )
  assert.deepStrictEqual(ServerRegion.read([begin, ...rest].join("\n"), "web"), given.servers)
}

/** What is logged of a state is a line per event, in both formats, and nothing in it moves the reader's eye. */
const assertLogged = Effect.fnUntraced(function* (plan: Plan.Plan, answer: DesiredState, format: "text" | "json") {
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "ep2-fuzz-"))),
    (made) => Effect.sync(() => rmSync(made, { recursive: true }))
  )
  const file = join(folder, "ep2.log")
  const growth = { growth: undefined, obstacle: undefined }
  const guard = {
    ...{ allowEmpty: false, minServers: 1, maxRemovalPercent: 50, confirmations: 3 },
    ...{ windowMillis: 60_000, confirmEveryMillis: 5000 }
  }
  const facts = [
    ...Report.standingFacts({ answer, hold: undefined, guard, plan, growth }).values(),
    ...Report.pendingFacts(answer).values(),
    ...answer.leaving.map(({ origin, reason }) => `${origin} ${reason}`)
  ]
  const names = { origins: Report.nextOrigins(new Map(), answer, free), leaving: answer.leaving }
  yield* Effect.gen(function* () {
    yield* Effect.forEach(facts, (fact) => Effect.logWarning(fact))
    yield* Report.logActions(plan, free, names)
  }).pipe(Effect.provide((yield* Log.make({ file, format, level: "info" })).layer))

  const text = readFileSync(file, "utf8")
  const lines = text === "" ? [] : text.slice(0, -1).split("\n")
  const events = facts.length + plan.actions.length
  assert.lengthOf(lines, events)
  assert.deepStrictEqual(
    lines.filter((line) => /[\p{C}\u2028\u2029]/u.test(line) || line.length > 3_000),
    []
  )
  if (format === "json") for (const line of lines) JSON.parse(line)
  else assert.isTrue(lines.every((line) => /^\d{4}-\d\d-\d\dT[\d:.]+Z (?:info|warning) /.test(line)))
}, Effect.scoped)

describe("what a source says, good and hurtful,", () => {
  property(
    "from the source to HAProxy",
    "comes to commands and config lines of the known shapes for what is wanted, and to a line in the log per event",
    [
      Schema.Union([
        Schema.Struct({ from: Schema.Literal("Consul"), answer: AnyConsul }),
        Schema.Struct({ from: Schema.Literal("file"), answer: AnyDocument }),
        Schema.Struct({ from: Schema.Literal("AWS"), answer: AnyGroups })
      ]),
      Schema.Boolean,
      Schema.Literals(["text", "json"])
    ],
    ([one, isAdding, format]) =>
      Effect.gen(function* () {
        const { outcome } =
          one.from === "Consul"
            ? yield* askConsul(one.answer)
            : one.from === "file"
              ? yield* askFile(one.answer)
              : yield* askAws(one.answer)
        if (Result.isFailure(outcome)) return "failed"

        const plan = planOf(outcome.success, isAdding)

        assertCommands(plan, outcome.success)
        assertConfig(plan, outcome.success)
        yield* assertLogged(plan, outcome.success, format)
        return plan.actions.length > 0 ? "planned" : "nothing"
      })
  )

  itMeets(["planned", "failed"], ["from the source to HAProxy"])

  const sum = Object.values(cases).reduce((all, some) => all + some, 0)
  it(`is generated often enough: ${sum} cases in all the files here`, () => {
    assert.isAtLeast(sum, 10_000)
  })
})
