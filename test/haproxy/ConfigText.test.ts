import { assert, describe, it } from "@effect/vitest"
import * as ConfigText from "../../src/haproxy/ConfigText.ts"

describe("ConfigText.split", () => {
  it.each([
    ["  server a\t1.2.3.4:80  ", ["server", "a", "1.2.3.4:80"], true],
    ["", [], true],
    [String.raw`a b\ c "d e" 'f "g'`, ["a", "b c", "d e", 'f "g'], true],
    [`a"b c"d ""`, ["ab cd", ""], true],
    [String.raw`HTTP/1.1\r\nHost:\ x`, ["HTTP/1.1\r\nHost: x"], true],
    [String.raw`a\#b "#" '\n'`, ["a#b", "#", String.raw`\n`], true],
    ["a b # c", ["a", "b"], false],
    ["a#b", ["a"], false],
    ["# a", [], false],
    ['a "b c', ["a", "b c"], false],
    ["a 'b", ["a", "b"], false]
  ])("splits %j as HAProxy does", (line, words, isWhole) => {
    assert.deepEqual(ConfigText.split(line), { words, isWhole })
  })
})

describe("ConfigText.sections", () => {
  it("ends a section where the next one begins", () => {
    const lines = [
      "# top",
      "global",
      "  maxconn 1",
      "",
      "listen app # here",
      "  # listen no",
      "  bind :1",
      "backend b from d"
    ]

    assert.deepEqual(ConfigText.sections(lines), [
      { kind: "global", name: "", begin: 1, end: 4 },
      { kind: "listen", name: "app", begin: 4, end: 7 },
      { kind: "backend", name: "b", begin: 7, end: 8 }
    ])
  })
})
