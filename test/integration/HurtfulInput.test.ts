/** Services in a real Consul that are not what they claim, beside good ones, and what becomes of them in a real HAProxy. */
import { readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { endpointKey } from "../../src/domain/State.ts"
import { ConsulServer } from "../servers/ConsulServer.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"
import * as Traffic from "../servers/Traffic.ts"
import * as World from "./World.ts"

/** What each claims as its address, and what ep2 says of it. */
const hurtful = [
  ["10.66.0.1 disabled", /is not an IPv4 or IPv6 address/],
  ["10.66.0.2;shutdown sessions server web/node1", /is not an IPv4 or IPv6 address/],
  ["10.66.0.3\nserver node9 10.66.0.99:80", /is not an IPv4 or IPv6 address/],
  ["10.66.0.4 port 1\r\nset server web/node1 state maint", /is not an IPv4 or IPv6 address/],
  ["10.66.0.5:80", /is not an IPv4 or IPv6 address/],
  ['"10.66.0.6"', /is not an IPv4 or IPv6 address/],
  ["10.66.0.7#", /is not an IPv4 or IPv6 address/],
  [`\${HOME}10.66.0.8`, /is not an IPv4 or IPv6 address/],
  ["{{ nodes }}10.66.0.9", /is not an IPv4 or IPv6 address/],
  ["unix@/tmp/10.66.0.10", /is not an IPv4 or IPv6 address/],
  ["010.66.0.11", /is not an IPv4 or IPv6 address/],
  ["\u202e10.66.0.12", /is not an IPv4 or IPv6 address/],
  ["0.66.0.13", /is the unspecified address/],
  ["239.66.0.14", /is a multicast or broadcast address/]
] as const

/** Names of services and nodes with all that separates, quotes or ends something. */
const nameOf = (index: number) => `bad-${index} ;"'\\\n2026-01-01T00:00:00.000Z error forged\u001b[31m #{{%\u202e`

describe.each([World.newest])("Consul's services that hurt, and HAProxy %s", (version) => {
  it.live("are refused and named, each in one line, and nothing of them gets into HAProxy or its config", () =>
    Effect.gen(function* () {
      const consul = yield* ConsulServer
      const world = yield* World.make({
        version,
        source: () => `[CONSUL]\nservice_name = web\nconsul_ip = ${consul.host}\nconsul_port = ${consul.port}`,
        settings: { orchestrator: "consul" }
      })
      const [a, b, c] = yield* HttpBackends.makeAll(["a", "b", "c"])
      const good = (backend: HttpBackends.HttpBackend, id: string) =>
        consul.register({
          id,
          name: "web",
          address: backend.endpoint.address,
          port: backend.endpoint.port,
          tags: ["x;y\nz"]
        })
      yield* good(a!, "a")
      const ep2 = yield* world.start()
      yield* World.serves(world, [a!])
      const traffic = yield* Traffic.start({ port: world.port })

      yield* Effect.forEach(hurtful, ([address], index) =>
        consul.request("PUT", "/v1/catalog/register", {
          Node: nameOf(index),
          Address: "10.66.1.1",
          Service: { ID: nameOf(index), Service: "web", Address: address, Port: 8066, Tags: [address, "a b;c"] }
        })
      )
      yield* consul.request("PUT", "/v1/catalog/register", {
        Node: nameOf(99),
        Address: "10.66.1.1",
        Service: { ID: nameOf(99), Service: "web", Address: "10.66.0.99", Port: 66_666 }
      })
      // One with a name that hurts and an address that is right is served all the same.
      yield* good(b!, nameOf(50))
      yield* World.serves(world, [a!, b!])
      yield* Effect.forEach(hurtful, (_, index) => World.logs(ep2, new RegExp(`not served: bad-${index} `)))
      yield* good(c!, "c")
      yield* World.serves(world, [a!, b!, c!])

      yield* World.eventually(
        "the config has what is served",
        Effect.sync(() => readFileSync(world.configFile, "utf8").includes(endpointKey(c!.endpoint)))
      )
      const config = readFileSync(world.configFile, "utf8")
      const state = yield* world.ask("show servers state")
      assert.deepStrictEqual((yield* traffic.stop).failures, [])
      for (const [what, text] of Object.entries({ config, state })) {
        assert.notMatch(text, /\b66\.|\b8066\b|bad-|forged/, what)
      }
      const names = state.split("\n").flatMap((row) => / (node\d+) /.exec(row)?.[1] ?? [])
      assert.deepStrictEqual(
        names,
        [1, 2, 3, 4, 5, 6, 7, 8].map((number) => `node${number}`)
      )
      const lines = ep2.output().split("\n")
      assert.deepStrictEqual(
        lines.filter((line) => line !== "" && !/^\d{4}-\d\d-\d\dT[\d:.]+Z (?:debug|info|warning) /.test(line)),
        []
      )
      assert.deepStrictEqual(
        lines.filter((line) => /[\p{C}\u2028\u2029]/u.test(line)),
        []
      )
      for (const [index, [address, words]] of hurtful.entries()) {
        const said = lines.filter((line) => line.includes(`not served: bad-${index} `))
        assert.lengthOf(said, 1, address)
        assert.match(said[0]!, words)
      }
    }).pipe(Effect.provide(ConsulServer.layer()))
  )
})
