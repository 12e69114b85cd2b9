import { assert, describe, it } from "@effect/vitest"
import * as ConfigAdvice from "../../src/haproxy/ConfigAdvice.ts"

const socket = "/run/haproxy/admin.sock"

/** A config of which there is nothing to say. */
const good = `global
  stats socket ${socket} mode 600 level admin expose-fd listeners
  stats timeout 30s
defaults
  mode http
  option redispatch
  option idle-close-on-response
frontend in
  bind :80
  default_backend web
backend web
  balance leastconn
`

const find = (text: string, about: Partial<ConfigAdvice.Circumstances> = {}) =>
  ConfigAdvice.find(text, {
    backends: [{ name: "web", lineOptions: "check inter 2s", nodeSlots: 50 }],
    sockets: [socket],
    updateBy: "runtime",
    startBy: "binary",
    version: { major: 3, minor: 2 },
    ...about
  })

const byConfig = { updateBy: "config" } as const

describe("ConfigAdvice.find", () => {
  it.each([
    ["a good config", good, {}],
    ["a good config under update_by_config", good, byConfig],
    ["redispatch with a number", good.replace("option redispatch", "option redispatch 1"), {}],
    [
      "redispatch of the defaults that the backend names",
      "defaults a\n  option redispatch\ndefaults b\nbackend web from a\n",
      { sockets: [] }
    ],
    ["no stats timeout, whose default is 10 s", good.replace(/.*stats timeout.*\n/, ""), {}],
    ["a stats timeout in an environment variable", good.replace("30s", '"$T"'), {}],
    ["a stats timeout in minutes", good.replace("30s", "1m"), {}],
    ["a second stats timeout that is long enough", good.replace("30s", "1s\n  stats timeout 30s"), {}],
    ["a static algorithm under update_by_config", good.replace("leastconn", "static-rr"), byConfig],
    ["a hash that is consistent", good.replace("leastconn", "uri\n  hash-type consistent"), {}],
    ["no idle-close-on-response over the socket", good.replace(/.*idle-close.*\n/, ""), {}],
    [
      "no idle-close-on-response before HAProxy 2.6, where it may be unknown",
      good.replace(/.*idle-close.*\n/, ""),
      { ...byConfig, version: { major: 2, minor: 2 } }
    ],
    [
      "no idle-close-on-response where the version is not known",
      good.replace(/.*idle-close.*\n/, ""),
      { ...byConfig, version: undefined }
    ],
    ["no idle-close-on-response in TCP mode", good.replace(/.*idle-close.*\n/, "").replace("http", "tcp"), byConfig],
    [
      "no idle-close-on-response where connections are closed anyway",
      good.replace("option idle-close-on-response", "option httpclose"),
      byConfig
    ],
    [
      "no idle-close-on-response in a frontend that leads elsewhere",
      `${good}frontend other\n  no option idle-close-on-response\n  default_backend api\n`,
      byConfig
    ],
    [
      "no expose-fd for a master of HAProxy 2.6, which hands over by itself",
      good.replace(" expose-fd listeners", ""),
      { startBy: "master" }
    ],
    [
      "a stats socket that is not ep2's",
      good.replace("global", "global\n  stats socket /run/other.sock level user"),
      {}
    ],
    ["no text at all", "", {}]
  ] satisfies ReadonlyArray<[string, string, Partial<ConfigAdvice.Circumstances>]>)(
    "finds nothing in %s",
    (_, text, about) => {
      assert.deepStrictEqual(find(text, about), [])
    }
  )

  it.each([
    ["no redispatch", good.replace(/.*redispatch.*\n/, ""), {}, /^web has no "option redispatch": .* fails; /],
    [
      "a redispatch that the backend takes back",
      `${good}  no option redispatch\n`,
      {},
      /^web has no "option redispatch"/
    ],
    [
      "a redispatch of the defaults that come later",
      `global\n  stats socket ${socket} expose-fd listeners\nbackend web\ndefaults\n  option redispatch\n`,
      {},
      /^web has no "option redispatch"/
    ],
    [
      "a static algorithm",
      good.replace("leastconn", "source"),
      {},
      /^web: balance source takes no servers .*: a pool whose 50 slots are used up grows by a reload$/
    ],
    [
      "a static algorithm of defaults, with dynamic servers only",
      good.replace("  balance leastconn\n", "").replace("mode http", "mode http\n  balance static-rr"),
      { backends: [{ name: "web", lineOptions: "check", nodeSlots: 0 }] },
      /^web: balance static-rr takes no servers .*: node_slots is 0, so each further server costs a reload$/
    ],
    [
      "default-server with more than the line has",
      `${good}  default-server inter 5s\n`,
      {},
      /^web: .*default-server gives \(5s\)/
    ],
    ["a stats timeout of seconds", good.replace("30s", "2s"), {}, /^"stats timeout 2s" is 2000 ms, and HAProxy closes/],
    ["a stats timeout without a unit", good.replace("30s", "30"), {}, /^"stats timeout 30" is 30 ms \(HAProxy reads/],
    [
      "no idle-close-on-response under update_by_config",
      good.replace(/.*idle-close.*\n/, ""),
      byConfig,
      /^frontend in keeps connections alive without "option idle-close-on-response"/
    ],
    [
      "no idle-close-on-response in a listen, from HAProxy 2.6 on",
      good
        .replace("\nbackend web", "\nlisten web")
        .replace("  default_backend web\n", "")
        .replace(/.*idle-close.*\n/, ""),
      { ...byConfig, version: { major: 2, minor: 6 } },
      /^listen web keeps connections alive/
    ],
    [
      "no idle-close-on-response where a name that is made up may lead to the backend",
      good.replace(/.*idle-close.*\n/, "").replace("default_backend web", "use_backend %[req.hdr(host)]"),
      byConfig,
      /^frontend in keeps connections alive/
    ],
    [
      "no expose-fd",
      good.replace(" expose-fd listeners", ""),
      {},
      /^the stats socket .*admin\.sock has no "expose-fd listeners"/
    ],
    [
      "no expose-fd for a master before HAProxy 2.6",
      good.replace(" expose-fd listeners", ""),
      { startBy: "systemd", version: { major: 2, minor: 2 } },
      /has no "expose-fd listeners"/
    ]
  ] satisfies ReadonlyArray<[string, string, Partial<ConfigAdvice.Circumstances>, RegExp]>)(
    "warns of %s",
    (_, text, about, expected) => {
      const found = find(text, about)

      assert.strictEqual(found.length, 1, JSON.stringify(found))
      assert.match(found[0]!.text, expected)
    }
  )

  it("names the line that is to blame, from 1", () => {
    const found = find(good.replace("30s", "30").replace(" expose-fd listeners", ""))

    assert.deepStrictEqual(
      found.map(({ line }) => line),
      [3, 2]
    )
  })

  it("warns of each backend by itself", () => {
    const backends = ["web", "api"].map((name) => ({ name, lineOptions: "check", nodeSlots: 5 }))

    const found = find(`${good.replace(/.*redispatch.*\n/, "")}backend api\n`, { backends })

    assert.deepStrictEqual(
      found.map(({ text }) => text.split(" ")[0]),
      ["web", "api"]
    )
  })
})
