import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import * as ServerRegion from "../../src/haproxy/ServerRegion.ts"
import * as LoadedConfig from "../../src/simulation/LoadedConfig.ts"

const serversOf = (text: string) => LoadedConfig.read(text).backends.flatMap(({ servers }) => servers)

describe("LoadedConfig", () => {
  it("reads the backends and listens with their servers, and the last mark", () => {
    const { backends, mark } = LoadedConfig.read(`
global
  setenv EP2_CONFIG old
frontend in
  default_backend web
backend web
  server node1 10.0.0.1:80 check # a comment
  server node2 [2001:db8::5]:8080 disabled
listen admin
  server "app" app.example.com:80
global
  setenv EP2_CONFIG "abc"`)

    assert.strictEqual(mark, "abc")
    assert.deepStrictEqual(
      backends.map(({ name, servers }) => [name, servers.map(({ name }) => name)]),
      [
        ["web", ["node1", "node2"]],
        ["admin", ["app"]]
      ]
    )
    const [first, second, third] = backends.flatMap(({ servers }) => servers)
    assert.deepStrictEqual([first?.address, first?.port, first?.isDisabled], ["10.0.0.1", 80, false])
    assert.deepStrictEqual([second?.address, second?.port, second?.isDisabled], ["2001:db8::5", 8080, true])
    assert.deepStrictEqual([third?.address, third?.port, third?.check], [undefined, 80, undefined])
  })

  it.each<[string, LoadedConfig.LoadedCheck | undefined]>([
    ["check", { interMillis: 2000, rise: 2, fall: 3 }],
    ["check inter 500 rise 4", { interMillis: 500, rise: 4, fall: 3 }],
    ["check inter 300ms fall 1", { interMillis: 300, rise: 2, fall: 1 }],
    ["inter 1m check", { interMillis: 60_000, rise: 2, fall: 3 }],
    ["check no-check", undefined],
    ["inter 1s", undefined],
    ["cookie check maxconn 5", undefined]
  ])("reads the check out of `%s`", (words, check) => {
    assert.deepStrictEqual(serversOf(`backend web\n server node1 10.0.0.1:80 ${words}`)[0]?.check, check)
  })

  it("lets a server's own words go before default-server, and that before the one of its defaults", () => {
    const servers = serversOf(`
defaults
  default-server check inter 1s rise 5 fall 6
defaults quick
  default-server check inter 100ms
backend early
  server one 10.0.0.1:80
  default-server rise 7
  server two 10.0.0.1:80
  server three 10.0.0.1:80 rise 8 no-check
backend named from quick
  server four 10.0.0.1:80`)

    assert.deepStrictEqual(
      servers.map(({ check }) => check && [check.interMillis, check.rise, check.fall]),
      [[100, 2, 3], [100, 7, 3], undefined, [100, 2, 3]]
    )
  })

  it.each<[string, boolean]>([
    ["", true],
    ["balance leastconn", true],
    ["balance static-rr", false],
    ["balance source", false],
    ["balance source\n hash-type consistent", true],
    ["balance hdr(host)\n hash-type map-based", false]
  ])("knows whether servers can be added under `%s`", (lines, isDynamic) => {
    assert.strictEqual(LoadedConfig.read(`backend web\n ${lines}`).backends[0]?.isDynamic, isDynamic)
  })

  it("reads what ep2 writes for its servers", () => {
    const lines = ServerRegion.write(
      {
        backend: "web",
        servers: [
          { name: "node1", endpoint: { address: "10.0.0.1", port: 80 }, isDisabled: false },
          { name: "node2", endpoint: { address: "10.0.0.2", port: 80 }, isDisabled: true, afterLoad: "prove" }
        ]
      },
      { checkInterval: "1500ms", maxconn: 7, serverOptions: "rise 1 slowstart 10s" }
    )

    const servers = serversOf(["backend web", ...lines].join("\n"))

    const check = { interMillis: 1500, rise: 1, fall: 3 }
    assert.deepStrictEqual(servers, [
      { name: "node1", address: "10.0.0.1", port: 80, weight: 1, isDisabled: false, check },
      { name: "node2", address: "10.0.0.2", port: 80, weight: 1, isDisabled: true, check }
    ])
  })

  it.prop("never throws, whatever the text", [Schema.String], ([text]) => {
    LoadedConfig.read(
      `backend web\n server ${text}\ndefaults x from ${text}\n default-server ${text}\nbackend y from x\n`
    )
  })
})
