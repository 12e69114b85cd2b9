/** A simulated HAProxy with two backends, for tests of it. */
import { Clock, Effect, Layer, Ref } from "effect"
import { ConfigFile, ReloadError } from "../../src/haproxy/ConfigFile.ts"
import { HaproxySocket } from "../../src/haproxy/HaproxySocket.ts"
import * as Fleet from "../../src/simulation/Fleet.ts"
import * as SimulatedHaproxy from "../../src/simulation/SimulatedHaproxy.ts"

/** Where `node1` to `node3` of `web` point: they answer, until a test says otherwise. */
export const endpoints = [1, 2, 3].map((last) => ({ address: `10.0.0.${last}`, port: 80 }))

/** A config with `node1` to `node3`, checked each second with `rise 2` and `fall 3`, and a free `node4`. */
export const config = (mark: string): string => `
defaults
  default-server inter 1s rise 2 fall 3
backend web
  server node1 10.0.0.1:80 check
  server node2 10.0.0.2:80 check
  server node3 10.0.0.3:80 check
  server node4 127.0.0.1:1 check disabled
backend other
  server app 10.0.0.1:80
global
  setenv EP2_CONFIG ${mark}
`

/** A HAProxy that runs `config("one")` with so many processes, and what a test asks of it. */
export const make = (options: Partial<SimulatedHaproxy.Options> = {}) => {
  const fleet = options.fleet ?? Fleet.make()
  for (const endpoint of endpoints) fleet.set(endpoint, true)
  const { sockets = ["/one.sock"], version = "3.2" } = options
  const haproxy = SimulatedHaproxy.make({ ...options, sockets, version, fleet })
  haproxy.start(config("one"))

  const ask = Effect.fnUntraced(function* (commands: ReadonlyArray<string>, socket = sockets[0]!) {
    const session = yield* (yield* HaproxySocket).session(socket)
    return yield* session.ask(commands)
  }, Effect.scoped)
  const pids = () => haproxy.processes().map(({ pid }) => pid)
  /** `node1` as a process shows it. */
  const node1 = (index = 0) =>
    haproxy.processes()[index]?.servers.find(({ backend, name }) => backend === "web" && name === "node1")
  /** Lets virtual time go by without a clock. */
  const advance = (seconds: number) => haproxy.advance(seconds * 1000)
  const now = Effect.tap(Clock.currentTimeMillis, (millis) => Effect.sync(() => haproxy.advance(millis)))
  return { haproxy, fleet, ask, pids, node1, advance, now }
}

/** A config file that is a text in memory, with the last good one beside it. */
export const configFile = (text: string) =>
  Effect.gen(function* () {
    const now = yield* Ref.make<string | undefined>(text)
    const good = yield* Ref.make<string | undefined>(undefined)
    const refused = new ReloadError({
      configFile: "/haproxy.cfg",
      reason: "Failed",
      detail: "nothing is checked here",
      output: ""
    })
    const layer = Layer.succeed(ConfigFile, {
      path: "/haproxy.cfg",
      read: Ref.get(now),
      readGood: Ref.get(good),
      check: () => Effect.fail(refused),
      install: () => Effect.fail(refused),
      markGood: Effect.flatMap(Ref.get(now), (text) => Ref.set(good, text)),
      restore: Effect.flatMap(Ref.get(good), (text) => Effect.as(Ref.set(now, text), text !== undefined))
    })
    return { layer, now, good }
  })
