import { assert, describe, it } from "@effect/vitest"
import * as Retirement from "../../src/domain/Retirement.ts"
import { endpointKey, type Server } from "../../src/domain/State.ts"
import { endpoints, foreign, wantedOf } from "./AnyStates.ts"

type Name = "a" | "b" | "c" | "d" | "e"

/** `b`: up on b; `b-`: down; `b*`: marked; `b!`: marked and overdue; `free`: a free slot. */
const server = (text: string, index: number): Server => {
  const name = text.replace(/\W/g, "") as keyof typeof endpoints
  const isFree = name === "free" || name === "none"
  return {
    name: `node${index + 1}`,
    endpoint: endpoints[name],
    admin: isFree ? "maint" : "ready",
    isMarked: /[*!]/.test(text),
    hasCheck: true,
    health: isFree || text.endsWith("-") ? "down" : "up",
    sessions: text.endsWith("!") ? 1 : 0
  }
}

/** `placed` says which wanted endpoint each server is for, by its number. */
const make = (
  servers: ReadonlyArray<string>,
  some: {
    readonly placed?: Readonly<Record<number, Name>>
    readonly awaited?: ReadonlyArray<Name>
    readonly unplaced?: number
    readonly isGrowing?: boolean
  }
) =>
  Retirement.make({
    process: { socket: "socket0", pid: 1, servers: [foreign, ...servers.map(server)] },
    placed: Object.entries(some.placed ?? {}).map(([number, name]) => ({
      ...wantedOf([name])[0]!,
      server: `node${number}`
    })),
    unplaced: some.unplaced ?? 0,
    isGrowing: some.isGrowing ?? false,
    awaited: new Set((some.awaited ?? []).map((name) => endpointKey(endpoints[name]))),
    isOverdue: ({ sessions }) => sessions === 1
  })

describe("Retirement.make, row by row: servers that nobody wants, or that are up elsewhere in the process too", () => {
  it("may all go where nothing is on its way", () => {
    assert.deepStrictEqual(make(["b", "a", "c", "free"], { placed: { 2: "a" } }), ["node1", "node3"])
  })

  it("stay, one for each endpoint that is still on its way", () => {
    const placed = { 3: "a", 4: "d" } as const

    assert.deepStrictEqual(make(["b", "c", "a-", "d-"], { placed, awaited: ["a", "d"] }), [])
    assert.deepStrictEqual(make(["b", "c", "a", "d-"], { placed, awaited: ["d"] }), ["node1"])
    assert.deepStrictEqual(make(["b", "c", "a-", "d-"], { placed }), ["node1", "node2"])
  })

  it("go although one of them has the endpoint of another server that is up", () => {
    assert.deepStrictEqual(make(["a", "a"], { placed: { 1: "a" } }), ["node2"])
  })

  it("stay while their endpoint is not up on its own server", () => {
    assert.deepStrictEqual(make(["a-", "a"], { placed: { 1: "a" }, awaited: ["a"] }), [])
    assert.deepStrictEqual(make(["a-", "a"], { placed: { 1: "a" } }), [])
    assert.deepStrictEqual(make(["free", "a"], { placed: { 1: "a" }, awaited: ["a"] }), [])
    assert.deepStrictEqual(make(["a*", "a"], { placed: { 1: "a" } }), [])
  })
})

describe("Retirement.make, row by row: where wanted endpoints find no slot", () => {
  it("up to half of what is served makes room", () => {
    assert.deepStrictEqual(make(["a", "b", "c", "d"], { unplaced: 4 }), ["node1", "node2"])
    assert.deepStrictEqual(make(["a", "b", "c", "d"], { unplaced: 1 }), ["node1", "node2", "node3"])
    assert.deepStrictEqual(make(["a", "b", "c"], { placed: { 1: "a" }, unplaced: 2 }), ["node2"])
    // A pool that grows needs no room, and what waits for it is waited for.
    assert.deepStrictEqual(make(["a", "b", "c", "d"], { unplaced: 4, isGrowing: true }), [])
    assert.deepStrictEqual(make(["a", "b", "c", "d"], { unplaced: 1, isGrowing: true }), ["node1", "node2", "node3"])
  })

  it("nothing more goes while something is leaving that will make room", () => {
    assert.deepStrictEqual(make(["a*", "b", "c"], { unplaced: 3 }), [])
  })

  it("more goes once what is leaving has used up its time", () => {
    assert.deepStrictEqual(make(["a!", "b", "c"], { unplaced: 3 }), ["node2"])
  })

  it("the last one goes only where no other server is to make room", () => {
    assert.deepStrictEqual(make(["a!", "b"], { unplaced: 2 }), [])
    assert.deepStrictEqual(make(["b"], { unplaced: 1 }), ["node1"])
    assert.deepStrictEqual(make(["a-", "b"], { placed: { 1: "a" }, unplaced: 1 }), ["node2"])
  })
})

describe("Retirement.make, row by row: the only server of a wanted endpoint that is to be elsewhere", () => {
  it("goes, one at a time, where another endpoint has its own server", () => {
    assert.deepStrictEqual(make(["b", "a"], { placed: { 1: "a", 2: "b" } }), ["node1"])
  })

  it("stays while anything else can move", () => {
    const placed = { 1: "a", 2: "b" } as const

    assert.deepStrictEqual(make(["b", "a", "c"], { placed }), ["node3"])
    assert.deepStrictEqual(make(["b", "a", "c*"], { placed }), [])
    assert.deepStrictEqual(make(["b", "a", "free"], { placed: { ...placed, 3: "c" } }), [])
    assert.deepStrictEqual(make(["b", "a", "c-"], { placed: { ...placed, 3: "c" }, awaited: ["c"] }), [])
  })

  it("stays for good where its own server is free, or has it and comes up", () => {
    assert.deepStrictEqual(make(["free", "a"], { placed: { 1: "a" } }), [])
    assert.deepStrictEqual(make(["a-", "a"], { placed: { 1: "a" } }), [])
  })
})

describe("Retirement.make", () => {
  it("says nothing of servers that are placed, free, marked, down, without an address or not ep2's", () => {
    assert.deepStrictEqual(make(["a", "free", "b*", "c-", "none"], { placed: { 1: "a" } }), [])
  })
})
