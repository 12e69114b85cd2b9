import { assert, describe, it } from "@effect/vitest"
import * as AddObstacle from "../../src/haproxy/AddObstacle.ts"

const find = (text: string, line = "check inter 2s") => AddObstacle.find(text, "web", line)

describe("AddObstacle.find", () => {
  it.each([
    ["nothing that matters", "backend web\n  mode http\n"],
    ["an algorithm that is dynamic", "backend web\n  balance leastconn\n"],
    ["a consistent hash", "backend web\n  balance source\n  hash-type consistent\n"],
    ["a consistent hash of defaults", "defaults\n  hash-type consistent\nlisten web\n  balance uri\n"],
    ["default-server whose words the line has", "backend web\n  default-server inter 2s check\n"],
    ["default-server of another backend", "backend other\n  default-server maxconn 5\nbackend web\n"],
    ["default-server of defaults that come later", "backend web\ndefaults\n  default-server maxconn 5\n"],
    [
      "default-server of defaults that others name",
      "defaults one\n  default-server maxconn 5\ndefaults two\nbackend web\n"
    ],
    [
      "balance of its own in place of that of defaults",
      "defaults\n  balance static-rr\nbackend web\n  balance first\n"
    ],
    ["a second balance line that is dynamic", "backend web\n  balance static-rr\n  balance roundrobin\n"],
    ["no such backend", "frontend web\n  default-server maxconn 5\n"],
    ["no text at all", ""]
  ])("finds none in %s", (_, text) => {
    assert.isUndefined(find(text))
  })

  it.each([
    ["static-rr", "backend web\n  balance static-rr\n", "balance static-rr takes no servers"],
    ["a second balance line", "backend web\n  balance roundrobin\n  balance static-rr\n", "balance static-rr"],
    ["a map-based hash", "listen web\n  balance source\n", "balance source takes no servers"],
    ["a map-based hash of a header", "listen web\n  balance hdr(host)\n", "balance hdr(host) takes no servers"],
    ["static-rr of defaults", "defaults\n  balance static-rr\nbackend web\n", "balance static-rr"],
    ["default-server", "backend web\n  default-server inter 5s maxconn 5\n", "default-server gives (5s maxconn 5)"],
    ["default-server of defaults", "defaults\n  default-server ssl\nbackend web\n", "default-server gives (ssl)"],
    ["defaults by name", "defaults a\n  default-server ssl\ndefaults b\nbackend web from a\n", "gives (ssl)"],
    ["defaults of defaults", "defaults a\n  default-server ssl\ndefaults b from a\nbackend web\n", "gives (ssl)"],
    ["defaults that name themselves", "defaults a from a\n  default-server ssl\nbackend web\n", "gives (ssl)"]
  ])("names %s", (_, text, says) => {
    assert.include(find(text), says)
  })
})
