/**
 * The HAProxy processes that the contract suite is run on: real ones, and the
 * simulated one in all its versions.
 */
import { request } from "node:http"
import { assert } from "@effect/vitest"
import { Clock, Effect, type Layer, type Scope } from "effect"
import { TestClock } from "effect/testing"
import type { Action } from "../../src/domain/Plan.ts"
import type { Endpoint, Server } from "../../src/domain/State.ts"
import { HaproxySocket } from "../../src/haproxy/HaproxySocket.ts"
import * as RuntimeApi from "../../src/haproxy/RuntimeApi.ts"
import * as Fleet from "../../src/simulation/Fleet.ts"
import * as SimulatedHaproxy from "../../src/simulation/SimulatedHaproxy.ts"
import * as Binaries from "../servers/Binaries.ts"
import * as HaproxyServer from "../servers/HaproxyServer.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"
import * as Ports from "../servers/Ports.ts"
import { parseServers } from "../servers/parseServers.ts"

/** One process with the servers that the contract speaks of: `node1` and `node2` free with a check, `node3` free without. */
export interface Subject {
  readonly socket: string
  readonly layer: Layer.Layer<HaproxySocket>
  readonly canAdd: boolean
  /** Where a server answers its checks, and where none does. */
  readonly alive: Endpoint
  readonly dead: Endpoint
  /** Decides whether the server at `alive` answers. */
  readonly setAlive: (isAlive: boolean) => Effect.Effect<void>
  /** Begins a session of so long on a server, which has to be the only one that takes traffic. */
  readonly open: (server: string, forMillis: number) => Effect.Effect<void>
  /** Lets time go by in which checks are made. */
  readonly wait: Effect.Effect<void>
}

/** Where free slots point. */
export const placeholder: Endpoint = { address: "127.0.0.1", port: 1 }

const config = (paths: { readonly socket: string }) => `
global
  stats socket ${paths.socket} level admin
${HaproxyServer.defaults}
listen web
  bind ${paths.socket}.web
  server node1 127.0.0.1:1 check inter 50ms disabled
  server node2 127.0.0.1:1 check inter 50ms disabled
  server node3 127.0.0.1:1 disabled
global
  setenv EP2_CONFIG contract
`

const real = (version: Binaries.HaproxyVersion): Effect.Effect<Subject, never, Scope.Scope> =>
  Effect.gen(function* () {
    const backend = yield* HttpBackends.make({ name: "alive" })
    const port = yield* Ports.freePort
    const server = yield* HaproxyServer.make({ version, config })
    yield* server.start
    return {
      socket: server.socket,
      layer: HaproxySocket.layer({ sockets: server.sockets }),
      canAdd: version !== "2.2",
      alive: backend.endpoint,
      dead: { address: "127.0.0.1", port },
      setAlive: (isAlive: boolean) => (isAlive ? backend.start : backend.stop),
      open: (_: string, forMillis: number) => visit(`${server.socket}.web`, forMillis),
      wait: Effect.sleep("20 millis")
    }
  }).pipe(Effect.orDie)

/** A request that is answered after so long, or cut off before. */
const visit = (socketPath: string, millis: number) =>
  Effect.sync(() => {
    const visitor = request({ socketPath, path: `/slow?millis=${millis}`, agent: false })
    visitor.on("error", () => {})
    visitor.on("response", (response) => response.resume())
    visitor.end()
  })

const simulated = (version: Binaries.HaproxyVersion): Effect.Effect<Subject> =>
  Effect.gen(function* () {
    const [socket, alive] = ["/simulated.sock", { address: "10.0.0.1", port: 80 }]
    const fleet = Fleet.make()
    fleet.set(alive, true)
    const haproxy = SimulatedHaproxy.make({ sockets: [socket], version, fleet })
    const now = Effect.tap(Clock.currentTimeMillis, (millis) => Effect.sync(() => haproxy.advance(millis)))
    yield* now
    haproxy.start(config({ socket }))
    return {
      socket,
      layer: haproxy.sockets,
      canAdd: version !== "2.2",
      alive,
      dead: { address: "10.0.0.9", port: 80 },
      setAlive: (isAlive) => Effect.map(now, () => fleet.set(alive, isAlive)),
      open: (server, forMillis) => Effect.map(now, (millis) => haproxy.open(socket, "web", server, millis + forMillis)),
      wait: TestClock.adjust("20 millis")
    }
  })

/** With a clock that the test moves, or by the real one. */
export const subjects: ReadonlyArray<readonly [string, Effect.Effect<Subject, never, Scope.Scope>, boolean]> = [
  ...Binaries.haproxyVersions().map((version) => [`HAProxy ${version}`, real(version), false] as const),
  ...(["2.2", "2.6", "3.0", "3.2"] as const).map(
    (version) => [`the simulated HAProxy ${version}`, simulated(version), true] as const
  )
]

/** What a test of the contract asks a subject, and has it do. */
export const lookAt = (subject: Subject) => {
  const ask = (...commands: ReadonlyArray<string>) =>
    Effect.gen(function* () {
      const session = yield* (yield* HaproxySocket).session(subject.socket)
      return yield* session.ask(commands)
    }).pipe(Effect.scoped, Effect.provide(subject.layer), Effect.orDie)
  const servers = Effect.gen(function* () {
    const [reply = "", stat = ""] = yield* ask("show servers state web", "show stat web 4 -1")
    const all = parseServers(reply, RuntimeApi.parseStats(stat))
    return new Map(all.map((one) => [one.name, one]))
  })
  const server = (name: string) => Effect.map(servers, (all) => all.get(name)!)
  /** Sends what an action is made of; what was refused. */
  const carryOut = Effect.fnUntraced(function* (action: Action) {
    const { first, second } = RuntimeApi.encode("web", action, placeholder, "check inter 50ms")
    const commands = [...first, ...second]
    const replies = yield* ask(...commands.map(({ text }) => text))
    return commands.filter((command, index) => !command.isGood(replies[index] ?? "")).map(({ text }) => text)
  })
  /** Lets time go by until something holds for a server; fails after five seconds or so. */
  const until = Effect.fnUntraced(function* (name: string, holds: (one: Server) => boolean) {
    for (let tries = 0; tries < 250; tries++) {
      if (holds(yield* server(name))) return
      yield* subject.wait
    }
    assert.fail(`${name} never came to that: ${JSON.stringify(yield* server(name))}`)
  })
  return { ask, server, servers, carryOut, until }
}
