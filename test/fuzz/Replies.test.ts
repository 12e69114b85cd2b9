import { isIP } from "node:net"
import { assert, describe } from "@effect/vitest"
import { Effect, Layer, Result, Schema } from "effect"
import * as Plan from "../../src/domain/Plan.ts"
import { endpointKey, type ObservedState, type Server } from "../../src/domain/State.ts"
import { Haproxy } from "../../src/haproxy/Haproxy.ts"
import { HaproxySocket } from "../../src/haproxy/HaproxySocket.ts"
import * as RuntimeApi from "../../src/haproxy/RuntimeApi.ts"
import { names, recorded, versions } from "../fixtures/runtimeApi.ts"
import { listen } from "../haproxy/MisbehavingServer.ts"
import { parseServers } from "../servers/parseServers.ts"
import { Edits, itMeets, Losses, mutate, property } from "./Hostile.ts"

const placeholder = { address: "127.0.0.1", port: 1 }

/** Every recorded reply, as `HaproxySocket` hands it over, by version and name. */
const replies = new Map(
  versions.map(
    (version) =>
      [version, new Map(names(version).map((name) => [name, recorded(version, name).reply] as const))] as const
  )
)

const replyOf = (version: (typeof versions)[number], name: string) => replies.get(version)!.get(name)!

const Names = Schema.Literals([...replies.get("2.2")!.keys()])

/** Every command that ep2 sends, each of which may get any reply. */
const step = { socket: "/s", server: "node1" }
const endpoint = { address: "10.0.0.1", port: 80 }
const commands = [
  RuntimeApi.showInfo,
  RuntimeApi.showMark,
  RuntimeApi.showServers("web"),
  RuntimeApi.showSessions("web"),
  ...[
    Plan.Action.Arrive({ ...step, endpoint, prove: true, isCheckOff: true }),
    Plan.Action.Stop({ ...step, shutdown: true }),
    Plan.Action.Add(step),
    Plan.Action.Remove(step)
  ].flatMap((action) => {
    const { first, second } = RuntimeApi.encode("web", action, placeholder)
    return [...first, ...second]
  })
]

const words = [
  "web",
  "node1",
  "node2",
  "node99",
  "legacy",
  "-",
  "0",
  "1",
  "65536",
  "10.0.0.1",
  "::1",
  "Pid: 1",
  "Pid: 0"
]

/** Whether a server of an observed process is what one may be, whatever HAProxy said. */
const isServer = ({ endpoint: at, name, sessions }: Server): boolean =>
  /^[A-Za-z0-9_.:-]+$/.test(name) &&
  (sessions === undefined || (Number.isInteger(sessions) && sessions >= 0)) &&
  (at === undefined ||
    !/^node[1-9]\d*$/.test(name) ||
    (isIP(at.address) !== 0 && Number.isInteger(at.port) && at.port >= 0))

interface Replies {
  readonly info: string
  readonly servers: string
  readonly stat: string
}

/** Observes one process that gives these replies. */
const observe = ({ info, servers, stat }: Replies) => {
  const answer = (command: string) =>
    /^show info/.test(command) ? info : /^show servers/.test(command) ? servers : stat
  const sockets = Layer.succeed(HaproxySocket, {
    sockets: ["/s"],
    session: () => Effect.succeed({ socket: "/s", ask: (asked) => Effect.sync(() => asked.map(answer)) })
  })
  return Haproxy.use((haproxy) => haproxy.observe("web")).pipe(
    Effect.provide(Haproxy.layer({ placeholder }).pipe(Layer.provide(sockets)))
  )
}

const whole = (version: (typeof versions)[number], suffix: string): Replies => ({
  info: replyOf(version, "show-info"),
  servers: replyOf(version, `show-servers${suffix}`),
  stat: replyOf(version, `show-stat${suffix}`)
})

const Version = Schema.Literals(versions)
const Suffix = Schema.Literals(["", "-changed"])

/** Name and endpoint of each server, as HAProxy's rows have them. */
const rowsOf = (servers: string) =>
  servers.split("\n").map((row) => {
    const fields = row.split(" ")
    return `${fields[3]} ${fields[4]} ${fields[18]}`
  })

const shown = ({ endpoint: at, name }: Server) => `${name} ${at === undefined ? undefined : endpointKey(at)}`

const assertObserved = ({ processes, unobserved }: ObservedState) => {
  assert.lengthOf([...processes, ...unobserved], 1)
  for (const { pid, servers } of processes) {
    assert.isTrue(Number.isSafeInteger(pid) && pid > 0, `${pid}`)
    const wrong = servers.filter((server) => !isServer(server))
    assert.deepStrictEqual(wrong, [])
    assert.strictEqual(new Set(servers.map(({ name }) => name)).size, servers.length)
  }
  for (const { reason } of unobserved) assert.notMatch(reason, /[\p{Cc}\u2028\u2029]/u)
}

describe("HAProxy's replies, whatever they are,", () => {
  property(
    "replies, mutated",
    "are read without a throw, and are judged good or refused in one line",
    [Version, Names, Edits],
    ([version, name, edits]) =>
      Effect.sync(() => {
        const reply = mutate(replyOf(version, name), edits, words)

        const verdicts = commands.map((command) => RuntimeApi.judge("/s", command, reply))
        const messages = verdicts.filter(Result.isFailure).map(({ failure }) => failure.message)
        assert.notMatch(messages.join(""), /[\p{Cc}\u2028\u2029]/u)
        parseServers(reply, RuntimeApi.parseStats(reply))
        for (const parse of [
          RuntimeApi.parsePid,
          RuntimeApi.parseMark,
          RuntimeApi.parseIdentity,
          RuntimeApi.parseCanAdd
        ]) {
          parse(reply)
        }
        return verdicts.some(Result.isSuccess) ? "good" : "refused"
      })
  )

  property(
    "replies, observed",
    "are a process with servers that stand in them in full, or an unobserved process: mutations of each kind",
    [Version, Suffix, Schema.Literals(["info", "servers", "servers", "servers", "stat"]), Edits],
    ([version, suffix, which, edits]) =>
      Effect.gen(function* () {
        const good = whole(version, suffix)
        const replies = { ...good, [which]: mutate(good[which], edits, words) }

        const observed = yield* observe(replies)

        assertObserved(observed)
        const rows = rowsOf(replies.servers).map((row) => row.split(" ")[0])
        for (const { servers } of observed.processes) {
          assert.includeMembers(
            rows,
            servers.map(({ name }) => name)
          )
        }
        return observed.processes.length > 0 ? "observed" : "unobserved"
      })
  )

  property(
    "replies, cut",
    "are a process with servers as HAProxy has them, or an unobserved process: replies of which something is lost",
    [Version, Suffix, Schema.Literals(["info", "servers", "servers", "servers", "stat"]), Losses],
    ([version, suffix, which, losses]) =>
      Effect.gen(function* () {
        const good = whole(version, suffix)
        const { processes: before } = yield* observe(good)
        const named = before.flatMap(({ servers }) => servers.map(shown))

        const observed = yield* observe({ ...good, [which]: mutate(good[which], losses) })

        assertObserved(observed)
        for (const { servers } of observed.processes) assert.includeMembers(named, servers.map(shown))
        return observed.processes.length > 0 ? "observed" : "unobserved"
      })
  )

  property(
    "replies, cut on the wire",
    "are never a process where the connection ends within them, at whatever byte",
    [Version, Suffix, Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 99_999 }))],
    ([version, suffix, part]) =>
      Effect.gen(function* () {
        const { info, servers } = whole(version, suffix)
        const bytes = `\n> ${info}\n\n> ${servers}\n\n> `
        const { path } = yield* listen((client) =>
          client.end(bytes.slice(0, Math.floor((part / 100_000) * bytes.length)))
        )

        const observed = yield* Haproxy.use((haproxy) => haproxy.observe("web")).pipe(
          Effect.provide(Haproxy.layer({ placeholder }).pipe(Layer.provide(HaproxySocket.layer({ sockets: [path] }))))
        )

        assert.deepStrictEqual(observed.processes, [])
        assertObserved(observed)
        return "unobserved"
      }).pipe(Effect.scoped)
  )

  itMeets(["good", "refused"], ["replies, mutated"])
  itMeets(["observed", "unobserved"], ["replies, observed", "replies, cut"])
})
