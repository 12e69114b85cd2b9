import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import * as FileSd from "../../src/orchestrator/FileSd.ts"

const decode = (text: string, path = "targets.yml", portOf: number | "service" = "service") =>
  FileSd.decode(text, { path, portOf })

const addresses = (result: ReturnType<typeof decode>) =>
  Result.getOrThrow(result).candidates.map(({ address, port }) => `${address} ${port}`)

const refusals = (result: ReturnType<typeof decode>) => Result.getOrThrow(result).refused.map(({ reason }) => reason)

const complaint = (result: ReturnType<typeof decode>) => (Result.isFailure(result) ? result.failure : "no error")

describe("FileSd.decode", () => {
  it("reads JSON and YAML alike", () => {
    const json = '[{"targets": ["10.0.0.1:80", "[2001:db8::5]:81"], "labels": {"zone": "a"}}, {"targets": ["web:82"]}]'
    const yaml = '- targets:\n    - 10.0.0.1:80\n    - "[2001:db8::5]:81"\n  labels: { zone: a }\n- targets: [web:82]\n'

    const expected = ["10.0.0.1 80", "2001:db8::5 81", "web 82"]
    assert.deepEqual(addresses(decode(json, "targets.json")), expected)
    assert.deepEqual(addresses(decode(json, "targets.yaml")), expected)
    assert.deepEqual(addresses(decode(yaml, "targets.yml")), expected)
    assert.deepEqual(decode(`\uFEFF${yaml}`), decode(yaml))
  })

  it("names a target by its own text and its labels", () => {
    const result = decode("- targets: [10.0.0.1:80]\n  labels: { rack: 7, zone: a }\n- targets: [10.0.0.2:80]")

    assert.deepEqual(
      Result.getOrThrow(result).candidates.map(({ origin }) => origin),
      ["10.0.0.1:80 {rack=7, zone=a}", "10.0.0.2:80"]
    )
  })

  it("takes the port of backend_port only where a target has none", () => {
    const result = decode('- targets: [10.0.0.1, 10.0.0.2:80, "[::5]"]', "t.yml", 6003)

    assert.deepEqual(addresses(result), ["10.0.0.1 6003", "10.0.0.2 80", "::5 6003"])
  })

  it("refuses a target without a port where the source is to name it", () => {
    const result = decode("- targets: [10.0.0.1, 10.0.0.2:80]")

    assert.deepEqual(addresses(result), ["10.0.0.2 80"])
    assert.deepEqual(refusals(result), ['has no port, and backend_port is "service": write host:port'])
  })

  it.each([
    "2001:db8::5",
    "2001:db8::5:80",
    "http://10.0.0.1:80",
    "10.0.0.1:",
    ":80",
    "",
    "[::1",
    "10.0.0.1:80/x",
    "a:b"
  ])("refuses the target %j and keeps the others", (target) => {
    const result = decode(JSON.stringify([{ targets: [target, "10.0.0.2:80"] }]), "t.json", 6003)

    assert.deepEqual(addresses(result), ["10.0.0.2 80"])
    assert.deepEqual(refusals(result), [`${JSON.stringify(target)} is not host:port, nor [address]:port for IPv6`])
  })

  it("reads [] as nobody", () => {
    assert.deepEqual(decode("[]", "t.json"), Result.succeed({ candidates: [], refused: [] }))
    assert.deepEqual(decode("[]\n", "t.yml"), Result.succeed({ candidates: [], refused: [] }))
  })

  it.each([
    ["t.json", "", "is empty: write [] to say that nobody is to be served"],
    ["t.yml", " \n", "is empty: write [] to say that nobody is to be served"],
    ["t.yml", "# nobody\n", "holds nothing: write [] to say that nobody is to be served"],
    ["t.json", "null", "holds nothing: write [] to say that nobody is to be served"],
    ["t.json", '[\n {"targets": ["10.0.0.1:80",\n', "is not JSON: Unexpected end of JSON input, at line 3, column 1"],
    ["t.json", "[\n {x: 1}]", /^is not JSON: Expected property name or '}', at line 2, column 3$/],
    ["t.yml", '- targets: ["10.0.0.1:80",', /^is not YAML: Flow sequence .*, at line 1, column 27$/],
    ["t.yml", "- targets:\n\t- a", /^is not YAML: Tabs are not allowed as indentation.*, at line 2, column 1$/],
    ["t.yml", "- targets: []\n  targets: []", /^is not YAML: Map keys must be unique.*, at line 2, column 3$/],
    ["t.yml", "- targets: *gone", /^is not YAML: Unresolved alias/],
    ["t.yml", "targets: [10.0.0.1:80]", /^is not a list of .*: Expected array$/],
    ["t.yml", "- targets:\n", /^is not a list of .*: Expected array at \[0\]\["targets"\]$/],
    ["t.yml", "- targets: [10.0.0.1:80, 80]", /^is not a list of .*: Expected string at \[0\]\["targets"\]\[1\]$/],
    ["t.json", '[{"target": []}]', /^is not a list of .*: Missing key at \[0\]\["targets"\]$/],
    ["t.yml", "- targets: [[::1]:80]", /^is not YAML: a list or a map stands .* into quotes, at line 1, column 13$/]
  ])("says what is wrong: %s with %j", (path, text, expected) => {
    const said = complaint(decode(text, path))

    if (typeof expected === "string") assert.equal(said, expected)
    else assert.match(said, expected)
    assert.notInclude(said, "\n")
  })

  it("reads groups that share their labels by alias, however many", () => {
    const groups = Array.from({ length: 500 }, (_, i) => `- targets: [10.0.0.1:${i + 1}]\n  labels: *shared\n`)

    const result = decode(`- targets: []\n  labels: &shared { zone: a }\n${groups.join("")}`)

    assert.lengthOf(Result.getOrThrow(result).candidates, 500)
  })

  it("does not write out keys that are maps of maps, which takes minutes", () => {
    const before = performance.now()

    assert.match(complaint(decode(`${"? ".repeat(300)}x`)), /^is not YAML: a list or a map stands where a key should/)
    assert.isBelow(performance.now() - before, 5_000)
    assert.deepEqual(addresses(decode("- targets: [a:1]\n  labels: { 7: x, true: y }")), ["a 1"])
  })

  it("does not follow aliases of aliases into the gigabytes", () => {
    const levels = Array.from({ length: 30 }, (_, i) => `  l${i + 1}: &l${i + 1} [*l${i}, *l${i}, *l${i}]`)
    const bomb = `- targets: [a:1]\n  labels:\n    l0: &l0 x\n${levels.map((line) => `  ${line}`).join("\n")}\n`

    assert.match(complaint(decode(bomb)), /^is not YAML: Excessive alias count/)
  })
})
