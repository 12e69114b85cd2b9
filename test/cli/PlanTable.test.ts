import { readFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import * as PlanTable from "../../src/cli/PlanTable.ts"
import { type Backend, Preview } from "../../src/controller/Preview.ts"
import type { ProcessRows, Row } from "../../src/controller/PreviewRows.ts"

const kept: Row = {
  server: "node1",
  endpoint: "10.0.0.1:80",
  source: "consul",
  instance: "web-1 on host1",
  state: { admin: "ready", health: "up", isMoving: false, sessions: null },
  action: "keep",
  by: null,
  reason: "the source names it"
}
const leaving: Row = {
  ...kept,
  server: "node12",
  endpoint: "[2001:db8::12]:8080",
  source: null,
  instance: null,
  state: { admin: "ready", health: "up", isMoving: true, sessions: 1 },
  action: "wait",
  reason: "the source does not name it; its sessions end first"
}
const ofProcess = (socket: string, servers: ReadonlyArray<Row>): ProcessRows => ({
  socket,
  pid: 7,
  error: null,
  servers,
  freeSlots: 3,
  others: 1
})
const web: Backend = {
  name: "web",
  source: { kind: "consul", target: "web at http://127.0.0.1:8500" },
  sourceError: null,
  wanted: 1,
  isChange: true,
  methods: ["dynamic server", "socket"],
  load: null,
  processes: [ofProcess("/run/a.sock", [kept, leaving])],
  held: null,
  operator: [],
  noPlace: [],
  refused: []
}
const preview: Preview = {
  at: "2026-11-24T05:01:12.345Z",
  isChange: true,
  step: { action: "pass", reason: "HAProxy runs this template with these settings" },
  paused: null,
  ep2: { pid: 812 },
  backends: [web],
  notes: []
}

const plainLines = (change: Partial<Backend>, rest: Partial<Preview> = {}) =>
  PlanTable.lines({ ...preview, ...rest, backends: [{ ...web, ...change }] }, { isColoured: false })

describe("the table of ep2 plan", () => {
  it("has a line for each server, in columns that are as wide as they must be", () => {
    const lines = plainLines({})

    assert.deepStrictEqual(lines, [
      "ep2 runs (pid 812); next is a pass: HAProxy runs this template with these settings",
      "",
      "web: consul web at http://127.0.0.1:8500 names 1; by dynamic servers, the socket",
      "  /run/a.sock (pid 7)",
      "  SERVER  ENDPOINT             SOURCE  INSTANCE        STATE                           ACTION  BY  REASON",
      "  node1   10.0.0.1:80          consul  web-1 on host1  ready, up                       keep    -   the source names it",
      "  node12  [2001:db8::12]:8080  -       -               ready, up, weight 0, 1 session  wait    -   the source does not name it; its sessions end first",
      "  and 3 free slots, 1 of the template's own, left alone"
    ])
  })

  it("shows processes that are alike as one, and others each by itself", () => {
    const processes = [
      ofProcess("/run/a.sock", [kept]),
      ofProcess("/run/b.sock", [kept]),
      ofProcess("/run/c.sock", [leaving])
    ]

    const lines = plainLines({ processes }).filter((line) => line.includes(".sock"))

    assert.deepStrictEqual(lines, ["  /run/a.sock (pid 7), /run/b.sock (pid 7)", "  /run/c.sock (pid 7)"])
  })

  it("says in words what is held, by whom, what has no place, and what is not known", () => {
    const held = { reason: "empty", endpoints: ["10.0.0.1:80"], words: "nothing is wanted" } as const
    const operator = [
      { server: "node1", endpoint: "10.0.0.1:80", instance: "web-1", admin: "maint", words: "node1 stays" } as const
    ]
    const noPlace = [{ endpoint: "10.0.0.2:80", instance: "web-2", reason: "the pool cannot grow now" }]
    const refused = [{ endpoint: null, instance: "web-3", reason: "its port is no port" }]

    const lines = plainLines(
      { held, operator, noPlace, refused, sourceError: "no answer came" },
      { paused: "since today by root", notes: ["something is not known"] }
    )

    assert.includeMembers(
      [...lines],
      [
        "paused (since today by root): none of this is done before `ep2 resume`",
        "  no answer: no answer came",
        "  held by the guard: nothing is wanted",
        "  held by the operator: node1 stays",
        "  no place: 10.0.0.2:80 (web-2): the pool cannot grow now",
        "  not served: web-3: its port is no port",
        "note: something is not known"
      ]
    )
  })

  it("is coloured without another character in its text", () => {
    const colours = new RegExp(`${String.fromCharCode(27)}\\[\\d+m`, "g")

    const coloured = PlanTable.lines(preview, { isColoured: true })

    assert.match(coloured.join("\n"), colours)
    assert.deepStrictEqual(
      coloured.map((line) => line.replace(colours, "")),
      plainLines({})
    )
  })
})

describe("the JSON of ep2 plan", () => {
  it("has the shape that the documentation shows, and no key that it does not tell", () => {
    const page = readFileSync(join(import.meta.dirname, "../../docs/commands.md"), "utf8")
    const [, json = ""] = /```json\n([\s\S]*?)```/.exec(page) ?? []

    const decoded = Schema.decodeUnknownSync(Schema.fromJsonString(Preview))(json, { onExcessProperty: "error" })

    assert.deepStrictEqual(Schema.encodeSync(Preview)(decoded), JSON.parse(json))
  })
})

describe("colours", () => {
  it("are for a terminal alone, and for none with NO_COLOR, unless that is empty", () => {
    const cases = [
      [{ isTTY: true }, {}],
      [{ isTTY: true }, { NO_COLOR: "" }],
      [{ isTTY: true }, { NO_COLOR: "1" }],
      [{ isTTY: false }, {}],
      [{}, {}]
    ] as const

    const found = cases.map(([stream, environment]) => PlanTable.isColoured(stream, environment))

    assert.deepStrictEqual(found, [true, true, false, false, false])
  })
})
