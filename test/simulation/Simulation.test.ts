/** The stack that `ep2 start` runs, on simulated edges: every rule holds in every scenario, and the same plays the same. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Result } from "effect"
import type { Play } from "../../src/cli/Simulate.ts"
import * as Simulated from "../../src/cli/Simulated.ts"
import * as Settings from "../../src/settings/Settings.ts"
import * as RandomScenario from "../../src/simulation/RandomScenario.ts"
import * as Scenario from "../../src/simulation/Scenario.ts"

const seeds = process.env.EP2_TEST_ALL === undefined ? 12 : 100

/** Settings that differ in what decides how HAProxy is changed. */
const variants = [
  { version: "3.2", processes: 1, lines: "node_slots = 8", balance: "roundrobin" },
  { version: "2.6", processes: 1, lines: "node_slots = 2", balance: "static-rr" },
  {
    version: "3.0",
    processes: 1,
    lines: "update_type = update_by_config\nnew_servers = checked",
    balance: "roundrobin"
  },
  { version: "2.2", processes: 4, lines: "node_slots = 20\nnew_servers = checked", balance: "roundrobin" },
  {
    version: "3.2",
    processes: 1,
    lines: "node_slots = 0\nguard_confirmations = 2\nmax_removal_percent = 30",
    balance: "leastconn"
  }
] as const

const settingsOf = ({ lines, processes }: (typeof variants)[number]): Settings.Settings => {
  const sockets = Array.from({ length: processes }, (_, index) => `/run/haproxy/${index + 1}.sock`)
  const text = `[haproxy]
orchestrator = consul
haproxy_config_file = /etc/haproxy/haproxy.cfg
haproxy_socket_file = ${sockets.join(", ")}
backend_name = web
backend_port = service
drain_timeout = 10
reload_interval = 2
${lines}
[CONSUL]
service_name = web
`
  return Result.getOrThrowWith(Settings.decode("ep2.conf", text), (error) => error).settings
}

const templateOf = ({ balance }: (typeof variants)[number], { haproxy }: Settings.Settings) =>
  `global
${haproxy.sockets.map((socket) => `    stats socket ${socket} mode 600 level admin expose-fd listeners\n`).join("")}defaults
    mode http
    timeout connect 2s
    timeout client 10s
    timeout server 10s
listen web
    bind 127.0.0.1:8080
    balance ${balance}
    {{ nodes }}
`

const play = (
  variant: (typeof variants)[number],
  seed: number,
  make: (given: Scenario.Given & { readonly processes: number }) => Scenario.Scenario
) => {
  const settings = settingsOf(variant)
  const backends = settings.backends.map(({ name, nodeSlots }) => ({ name, slots: nodeSlots, port: 8080 }))
  const scenario = make({ backends, seed, processes: variant.processes })
  const given: Play = {
    settings,
    template: templateOf(variant, settings),
    scenario,
    seed,
    version: variant.version,
    untilMillis: scenario.durationMillis
  }
  return Simulated.play(given)
}

describe("the stack on simulated edges", () => {
  for (const { make, name } of Scenario.builtIns.filter((one) => one.name !== "dead-process")) {
    it.live(`keeps every rule in the scenario ${name}`, () =>
      Effect.gen(function* () {
        const outcome = yield* play(variants[0], 1, make)

        assert.deepStrictEqual(outcome.broken, [])
        assert.strictEqual(outcome.summary.unserved, 0)
        assert.isAbove(outcome.summary.commands, 0)
      })
    )
  }

  it.live("keeps every rule while one process of four is dead", () =>
    Effect.gen(function* () {
      const scenario = Scenario.builtIns.find(({ name }) => name === "dead-process")!

      const outcome = yield* play(variants[3], 1, scenario.make)

      assert.deepStrictEqual(outcome.broken, [])
    })
  )

  it.live.each(Array.from({ length: seeds }, (_, index) => ({ seed: index + 1 })))(
    "keeps every rule in whatever comes, seed $seed",
    ({ seed }) =>
      Effect.gen(function* () {
        const outcome = yield* play(variants[seed % variants.length]!, seed, RandomScenario.make)

        assert.deepStrictEqual(outcome.broken, [])
      })
  )

  it.live("plays the same for the same seed", () =>
    Effect.gen(function* () {
      const [one, other] = [
        yield* play(variants[0], 7, RandomScenario.make),
        yield* play(variants[0], 7, RandomScenario.make)
      ]

      assert.deepStrictEqual(one, other)
    })
  )
})
