/**
 * What a seed stands for: settings, a HAProxy and a scenario, all by chance, played
 * by the stack that `ep2 start` runs.
 */
import { Duration, Effect, Result } from "effect"
import type { Play } from "../../src/cli/Simulate.ts"
import * as Settings from "../../src/settings/Settings.ts"
import type { Timed } from "../../src/simulation/Event.ts"
import type { Version } from "../../src/simulation/HaproxyWords.ts"
import type { Broken, Outcome } from "../../src/simulation/Outcome.ts"
import * as RandomScenario from "../../src/simulation/RandomScenario.ts"
import * as Scenario from "../../src/simulation/Scenario.ts"

/** Settings and a HAProxy, before a scenario. */
export interface Variant {
  readonly version: Version
  readonly processes: number
  readonly backends: number
  readonly balance: string
  readonly source: "consul" | "aws" | "file"
  /** Lines of `[haproxy]`. */
  readonly lines: ReadonlyArray<string>
}

/** A case, and what plays it: the product, unless a test plants a mistake. */
export type Player = (given: Play) => Effect.Effect<Outcome>

const sections = {
  consul: "[CONSUL]\nservice_name = web\n",
  aws: "[AWS]\nasg_name = web\nregion_name = eu-central-1\nip_type = private\n",
  file: "[FILE]\npath = /etc/ep2/targets.json\n"
}

const settingsOf = ({ backends, lines, processes, source }: Variant): Settings.Settings => {
  const sockets = Array.from({ length: processes }, (_, index) => `/run/haproxy/${index + 1}.sock`)
  const others = Array.from({ length: backends - 1 }, (_, index) => `[backend api${index + 1}]\nbackend_port = 8080\n`)
  const text = `[haproxy]
orchestrator = ${source}
haproxy_config_file = /etc/haproxy/haproxy.cfg
haproxy_socket_file = ${sockets.join(", ")}
backend_name = web
backend_port = 8080
${lines.join("\n")}
${sections[source]}${others.join("")}`
  return Result.getOrThrowWith(Settings.decode("ep2.conf", text), (error) => error).settings
}

const templateOf = ({ balance }: Variant, { backends, haproxy }: Settings.Settings) =>
  `global
${haproxy.sockets.map((socket) => `    stats socket ${socket} mode 600 level admin expose-fd listeners\n`).join("")}defaults
    mode http
    timeout connect 2s
    timeout client 10s
    timeout server 10s
${backends
  .map(
    ({ name }, index) => `listen ${name}
    bind 127.0.0.1:${8080 + index}
    balance ${balance}
    {{ backends.${name}.nodes }}
`
  )
  .join("")}`

/** A variant in a scenario. */
export const caseOf = (
  variant: Variant,
  seed: number,
  make: (given: Scenario.Given & { readonly processes: number; readonly peaceMillis: number }) => Scenario.Scenario
): Play => {
  const settings = settingsOf(variant)
  const backends = settings.backends.map(({ name, nodeSlots }) => ({ name, slots: nodeSlots, port: 8080 }))
  const [{ guard, interval }] = settings.backends as [Settings.BackendSettings]
  // Longer than what the rules give ep2 for it.
  const peaceMillis = longestUpMillis + guard.confirmations * Duration.toMillis(interval)
  const scenario = make({ backends, seed, processes: variant.processes, peaceMillis })
  return {
    settings,
    template: templateOf(variant, settings),
    scenario,
    seed,
    version: variant.version,
    untilMillis: scenario.durationMillis,
    quietMillis: 12_000
  }
}

/** For as long what is wanted may take to be served when all is well again, besides confirmations. */
const longestUpMillis = 160_000

/** Settings by chance: whatever decides how HAProxy is changed, and how much of it at once. */
export const variantOf = (seed: number): Variant => {
  // Another row of numbers than the one that the scenario of the seed is made of.
  const dice = Scenario.diceOf(-1 - seed)
  const oneOf = <A>(...all: ReadonlyArray<A>): A => all[Math.floor(dice() * all.length)]!
  const version = oneOf<Version>("2.2", "2.6", "3.0", "3.2")
  return {
    version,
    processes: version === "2.2" ? oneOf(1, 2, 4) : 1,
    backends: oneOf(1, 1, 1, 2, 3),
    balance: oneOf("roundrobin", "roundrobin", "leastconn", "static-rr"),
    source: oneOf("consul", "consul", "file", "aws"),
    lines: [
      `update_type = ${oneOf("update_by_runtime", "update_by_runtime", "update_by_config")}`,
      `node_slots = ${oneOf(0, 2, 8, 20)}`,
      `new_servers = ${oneOf("trusted", "checked")}`,
      `drain_timeout = ${oneOf(1, 10, 30)}`,
      `drain_timeout_action = ${oneOf("wait", "shutdown")}`,
      `reload_interval = ${oneOf(1, 5)}`,
      `sleep_before_next_run = ${oneOf(2, 5, 5, 10)}`,
      `check_interval = ${oneOf("500ms", "2s", "5s")}`,
      `max_removal_percent = ${oneOf(30, 50, 50, 100)}`,
      `guard_confirmations = ${oneOf(1, 2, 3, 5)}`,
      `guard_window = ${oneOf(10, 60, 300)}`,
      `min_servers = ${oneOf(0, 1, 2)}`,
      `allow_empty = ${oneOf("False", "False", "True")}`
    ]
  }
}

/** What a seed plays. */
export const ofSeed = (seed: number): Play => caseOf(variantOf(seed), seed, RandomScenario.make)

/**
 * The same case with fewer events and less time, in which the same rule still
 * breaks: events are left out, many at a time first and in the end one by one.
 */
export const shrink = Effect.fnUntraced(function* (given: Play, first: Broken, play: Player) {
  const withEvents = (events: ReadonlyArray<Timed>, untilMillis: number): Play => ({
    ...given,
    scenario: { ...given.scenario, events },
    untilMillis
  })
  let broken = first
  let smallest = withEvents(
    given.scenario.events.filter(({ atMillis }) => atMillis <= first.atMillis),
    first.atMillis + 1
  )
  const tryWithout = Effect.fnUntraced(function* (at: number, count: number) {
    const tried = withEvents(smallest.scenario.events.toSpliced(at, count), smallest.untilMillis)
    const again = (yield* play(tried)).broken.find(({ rule }) => rule === first.rule)
    if (again === undefined) return false
    broken = again
    smallest = withEvents(tried.scenario.events, again.atMillis + 1)
    return true
  })
  for (let count = smallest.scenario.events.length; count >= 1; count = Math.floor(count / 2)) {
    for (let at = 0; at < smallest.scenario.events.length; ) if (!(yield* tryWithout(at, count))) at += count
  }
  return { given: smallest, broken }
})
