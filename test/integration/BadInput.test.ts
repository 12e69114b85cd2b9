/** What is wrong with an installation ends in one clear message and its exit code, and HAProxy keeps what it serves. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { endpointKey } from "../../src/domain/State.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"
import * as Traffic from "../servers/Traffic.ts"
import * as World from "./World.ts"

const version = World.versions[0]!

const makeWorld = (settings: Readonly<Record<string, string>> = {}) =>
  World.make({
    version,
    source: (dir) => `[FILE]\npath = ${join(dir, "targets.json")}`,
    settings: { orchestrator: "file", ...settings }
  })

const edit = (file: string, change: (text: string) => string) => writeFileSync(file, change(readFileSync(file, "utf8")))

interface Case {
  readonly what: string
  /** Makes it wrong. */
  readonly spoil: (world: World.World) => void
  readonly exitCode: number
  /** What the message must have: the place, what was found, what to do. */
  readonly says: ReadonlyArray<RegExp>
}

const set = (key: string, value: string) => (world: World.World) =>
  edit(world.conf, (text) => text.replace(new RegExp(`^${key} = .*$`, "m"), `${key} = ${value}`))

const cases: ReadonlyArray<Case> = [
  { what: "no ep2.conf", spoil: ({ conf }) => rmSync(conf), exitCode: 2, says: [/ep2\.conf: there is no such file/] },
  {
    what: "a folder for ep2.conf",
    spoil: ({ conf }) => {
      rmSync(conf)
      mkdirSync(conf)
    },
    exitCode: 2,
    says: [/this is a folder/]
  },
  {
    what: "several wrong values and a typo",
    spoil: (world) => {
      set("node_slots", "many")(world)
      set("backend_port", "70000")(world)
      edit(world.conf, (text) => text.replace("drain_timeout", "drain_timout"))
    },
    exitCode: 2,
    says: [/ep2\.conf:\d+: \[haproxy\] node_slots = "many"/, /backend_port = "70000"/, /drain_timout.*drain_timeout/]
  },
  { what: "no template", spoil: ({ template }) => rmSync(template), exitCode: 4, says: [/haproxy\.cfg\.template: /] },
  {
    what: "a template without {{nodes}}",
    spoil: ({ template }) => edit(template, (text) => text.replace("{{nodes}}", "")),
    exitCode: 4,
    says: [/haproxy\.cfg\.template/, /\{\{ ?nodes ?\}\}/]
  },
  {
    what: "a backend that the template does not have",
    spoil: ({ template }) => edit(template, (text) => text.replace("listen web", "listen wep")),
    exitCode: 4,
    says: [/listen web/, /it has "listen wep"/]
  },
  {
    what: "a line that HAProxy refuses",
    spoil: ({ template }) => edit(template, (text) => text.replace("balance roundrobin", "balance roundrobbin")),
    exitCode: 4,
    says: [/haproxy\.cfg\.template:\d+: .*balance/]
  },
  {
    what: "no folder for the config file",
    spoil: (world) => set("haproxy_config_file", join(world.dir, "missing/haproxy.cfg"))(world),
    exitCode: 3,
    says: [/missing/]
  },
  {
    what: "no folder for the lock",
    spoil: (world) => set("lock_dir", join(world.dir, "missing"))(world),
    exitCode: 3,
    says: [/missing/]
  },
  {
    what: "no folder for the log",
    spoil: (world) => set("log_file", join(world.dir, "missing/ep2.log"))(world),
    exitCode: 2,
    says: [/missing\/ep2\.log: .*log_file = -/]
  },
  {
    what: "no HAProxy to start",
    spoil: (world) => set("haproxy_binary", join(world.dir, "no-haproxy"))(world),
    exitCode: 4,
    says: [/no-haproxy/]
  },
  {
    what: "a socket that the template does not have",
    spoil: (world) => set("haproxy_socket_file", join(world.dir, "other.sock"))(world),
    exitCode: 4,
    says: [/has no stats socket .*other\.sock/, /it has .*admin-1\.sock/]
  },
  {
    what: "a socket that may only look",
    spoil: ({ template }) => edit(template, (text) => text.replace("level admin", "level operator")),
    exitCode: 4,
    says: [/haproxy\.cfg\.template:2: .*level admin/]
  }
]

describe("a start that cannot be", () => {
  it.live.each(cases)("with $what ends with exit code $exitCode and one message", ({ exitCode, says, spoil }) =>
    Effect.gen(function* () {
      const world = yield* makeWorld()
      writeFileSync(join(world.dir, "targets.json"), '[{"targets": ["127.0.0.1:4"]}]')
      spoil(world)
      const ep2 = yield* world.start()

      assert.strictEqual(yield* ep2.ended, exitCode, ep2.output())

      for (const words of says) assert.match(ep2.output(), words)
      assert.notMatch(ep2.output(), /\bat .*\.ts:\d+|defect|undefined/, "no stack trace")
      assert.deepStrictEqual(yield* world.haproxyPids, [])
    })
  )
})

// Without an ep2.conf nothing tells what to leave alone, and a HAProxy that runs needs no program to start.
describe("a restart of ep2 with something wrong", () => {
  const possible = cases.filter(({ what }) => !/no ep2\.conf|folder for ep2|no HAProxy/.test(what))
  it.live.each(possible.filter((_, index) => process.env.EP2_TEST_ALL !== undefined || index % 3 === 0))(
    "leaves HAProxy serving: $what",
    ({ exitCode, spoil }) =>
      Effect.gen(function* () {
        const world = yield* makeWorld()
        const a = yield* HttpBackends.make({ name: "a" })
        writeFileSync(join(world.dir, "targets.json"), JSON.stringify([{ targets: [endpointKey(a.endpoint)] }]))
        yield* Effect.scoped(
          Effect.gen(function* () {
            const first = yield* world.start()
            yield* World.eventually(
              "it follows",
              Effect.sync(() => /following the source/.test(first.output()))
            )
          })
        )
        const config = readFileSync(world.configFile, "utf8")
        const traffic = yield* Traffic.start({ port: world.port })
        spoil(world)

        const ep2 = yield* world.start()
        assert.strictEqual(yield* ep2.ended, exitCode, ep2.output())

        assert.deepStrictEqual((yield* traffic.stop).failures, [])
        assert.strictEqual(readFileSync(world.configFile, "utf8"), config)
      })
  )
})
