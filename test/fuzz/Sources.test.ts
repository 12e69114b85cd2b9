import { BlockList, isIP } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Result } from "effect"
import { endpointKey } from "../../src/domain/State.ts"
import * as FileSd from "../../src/orchestrator/FileSd.ts"
import { AnyConsul, AnyDocument, AnyGroups, type Asked, askAws, askConsul, askFile } from "./AnySource.ts"
import { itMeets, knownNames, property } from "./Hostile.ts"

// What may not be served, in Node's words and not in those of the sources.
const unservable = new BlockList()
unservable.addSubnet("0.0.0.0", 8, "ipv4")
unservable.addSubnet("224.0.0.0", 3, "ipv4")
unservable.addAddress("::", "ipv6")
unservable.addSubnet("fe80::", 10, "ipv6")
unservable.addSubnet("ff00::", 8, "ipv6")

const familyOf = (address: string) => (isIP(address) === 6 ? "ipv6" : "ipv4")

const isSame = (address: string, text: string): boolean => {
  if (address === text || isIP(text) === 0) return address === text
  const list = new BlockList()
  list.addAddress(address, familyOf(address))
  return list.check(text, familyOf(text))
}

/** Whether some text of the answer is this address, or a name of it, with this port or with one that stands by itself. */
const isNamed = (address: string, port: number, leaves: ReadonlyArray<unknown>): boolean =>
  leaves.some((leaf) => {
    if (typeof leaf !== "string") return false
    const [, bracketed, plain, own] = /^(?:\[(.*)\]|([^[\]]*?))(?::(\d+))?$/s.exec(leaf) ?? []
    return [leaf, bracketed, plain].some((text) => {
      if (text === undefined) return false
      const isPort = text !== leaf && own !== undefined ? Number(own) === port : leaves.includes(port)
      const names = knownNames.get(text.toLowerCase()) ?? []
      return isPort && (isSame(address, text) || names.some((one) => isSame(address, one)))
    })
  })

const isOneLine = (text: string): boolean => !/[\p{C}\u2028\u2029]/u.test(text)

/** An error in one line, or a state of which all that is wanted may be served and was named. */
const assertAsked = ({ leaves, outcome }: Asked): string => {
  if (Result.isFailure(outcome)) {
    const { _tag, message } = outcome.failure
    assert.strictEqual(_tag, "FetchError")
    assert.isTrue(isOneLine(message) && message.length < 1_000, message)
    return "failed"
  }
  const { leaving, pending, refused, wanted } = outcome.success
  for (const { endpoint } of [...wanted, ...leaving]) {
    const { address, port } = endpoint
    const key = endpointKey(endpoint)
    assert.isTrue(isIP(address) !== 0 && !unservable.check(address, familyOf(address)), key)
    assert.isTrue(Number.isInteger(port) && port >= 1 && port <= 65_535, key)
    assert.notInclude(["127.0.0.1:1", "127.0.0.1:9", "127.0.0.1:17", "127.0.0.1:19"], key)
    assert.isTrue(isNamed(address, port, leaves), `${key} in ${JSON.stringify(leaves)}`)
  }
  const keys = [...wanted, ...leaving].map(({ endpoint }) => endpointKey(endpoint))
  assert.strictEqual(new Set(keys).size, keys.length)
  for (const { origin, reason = "" } of [
    ...wanted.map(({ origin }) => ({ origin, reason: "" })),
    ...refused,
    ...pending,
    ...leaving
  ]) {
    assert.isTrue(isOneLine(origin) && origin.length <= 201, JSON.stringify(origin))
    assert.isTrue(isOneLine(reason) && reason.length <= 600, JSON.stringify(reason))
  }
  return wanted.length > 0 ? "wanted" : refused.length > 0 ? "refused" : "empty"
}

describe("the answer of a source, whatever it is,", () => {
  property(
    "Consul's answers",
    "is an error or endpoints that it names and that may be served: Consul",
    [AnyConsul],
    ([answer]) => Effect.map(askConsul(answer), assertAsked)
  )

  property(
    "file_sd documents",
    "is an error or endpoints that it names and that may be served: a file",
    [AnyDocument],
    ([document]) => Effect.map(askFile(document), assertAsked)
  )

  property(
    "AWS's answers",
    "is an error or endpoints that it names and that may be served: AWS",
    [AnyGroups],
    ([groups]) => Effect.map(askAws(groups), assertAsked)
  )

  it.each([
    ["targets.json", "[", "]"],
    ["targets.yml", "[", "]"],
    ["targets.yml", "{a: ", "}"],
    ["targets.yml", "- ", "x"],
    ["targets.yml", "? ", "x"]
  ])("is an error where it is nested without end: %s of %j", (path, open, close) => {
    for (const depth of [500, 10_000]) {
      const text = open.repeat(depth) + close.repeat(close === "x" ? 1 : depth)

      const result = FileSd.decode(text, { path, portOf: 80 })

      assert.isTrue(Result.isFailure(result) && isOneLine(result.failure), `${depth}`)
    }
  })

  itMeets(["wanted", "refused", "failed"], ["Consul's answers", "file_sd documents"])
  itMeets(["wanted", "refused"], ["AWS's answers"])
})
