/**
 * What happens to HAProxy while ep2 runs, by other hands than ep2's: ep2 says it
 * once, harms nobody meanwhile, and is level again as soon as that is possible.
 */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { chmodSync, chownSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { createConnection } from "node:net"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import { endpointKey } from "../../src/domain/State.ts"
import * as Binaries from "../servers/Binaries.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"
import * as Traffic from "../servers/Traffic.ts"
import * as UnixProxy from "../servers/UnixProxy.ts"
import { count, sourceOf, startServing, want } from "./FileWorld.ts"
import * as World from "./World.ts"

const { eventually, logs, serves } = World

/** `npm test` has the first of a kind, on one HAProxy; `npm run test:all` has all, on all. */
const isAll = process.env.EP2_TEST_ALL !== undefined
const some = <A>(all: ReadonlyArray<A>) => (isAll ? all : all.slice(0, 1))
const onlyInAll = <A>(all: ReadonlyArray<A>) => (isAll ? all : [])

const makeWorld = (options: Omit<World.Options, "source">) =>
  World.make({
    ...options,
    source: sourceOf,
    settings: { orchestrator: "file", new_servers: "trusted", drain_timeout: "20", ...options.settings }
  })

/** As `serves`, within the few seconds that an operator may count on once it is possible. */
const isLevelSoon = (world: World.World, backends: ReadonlyArray<HttpBackends.HttpBackend>, socket?: string) =>
  serves(world, backends, socket).pipe(
    Effect.timeoutOrElse({
      duration: "6 seconds",
      orElse: () => Effect.die(new Error("not level within 6 seconds"))
    })
  )

/** Waits until each of these has been said, and looks that it was once. */
const saidOnce = Effect.fnUntraced(function* (ep2: World.Ep2, ...patterns: ReadonlyArray<RegExp>) {
  for (const pattern of patterns) yield* logs(ep2, pattern)
  for (const pattern of patterns) assert.strictEqual(count(ep2, pattern), 1, `${pattern} in:\n${ep2.output()}`)
})

const cannotObserve = / warning .*HAProxy cannot be observed/
const observesAgain = /HAProxy can be observed again/

/** Nobody was there for a while. One that dies may close a connection, and refuse the next: that is said in both words. */
const saidAbsence = Effect.fnUntraced(function* (ep2: World.Ep2) {
  yield* saidOnce(ep2, observesAgain, /HAProxy is there: pid|another HAProxy: pid/)
  const lines = ep2
    .output()
    .split("\n")
    .filter((line) => cannotObserve.test(line))
    .map((line) => line.slice(line.indexOf("warning")))
  assert.deepStrictEqual(lines, [...new Set(lines)])
  assert.isAtMost(lines.length, 2)
})

const reasons = ({ failures }: Traffic.Report) => [...new Set(failures.map(({ reason }) => reason))]

const isGone = (pid: number) =>
  Effect.sync(() => {
    const stat = (() => {
      try {
        return readFileSync(`/proc/${pid}/stat`, "utf8")
      } catch {
        return ""
      }
    })()
    return stat === "" || /^[ZX]/.test(stat.split(") ").at(-1) ?? "")
  })

/** After its start ep2 may write the config file once more: so long until what a test writes there stays. */
const settling = Duration.millis(800)

const closesIdle = (version: string) => (version === "2.2" ? "" : "    option idle-close-on-response\n")

/** `haproxy -sf`, as somebody at the prompt runs it; `-x` where the listeners are to be handed over. */
const reloadByHand = (world: World.World, version: Binaries.HaproxyVersion, handsOver: boolean) =>
  Effect.promise(async () => {
    const old = readFileSync(world.pidFile, "utf8").trim()
    const over = handsOver ? ["-x", world.sockets[0]!] : []
    const args = ["-W", "-q", "-D", "-f", world.configFile, "-p", world.pidFile, ...over, "-sf", old]
    await once(spawn(Binaries.haproxy(version), args, { stdio: "ignore" }), "exit")
  })

const reloadMaster = Effect.fnUntraced(function* (world: World.World) {
  const [master] = yield* world.haproxyPids
  process.kill(master!, "SIGUSR2")
})

const workerOf = (world: World.World) => Effect.map(world.haproxyPids, (pids) => pids.at(-1)!)

describe.each(World.sampleVersions)("HAProxy %s", (version) => {
  it.live.each(some(["worker", "master"] as const))(
    "whose %s is killed ends whole, and is level when its owner starts it from the file on disk",
    (who) =>
      Effect.gen(function* () {
        const world = yield* makeWorld({ version })
        const [a, b, c] = yield* HttpBackends.makeAll(["a", "b", "c"])
        const ep2 = yield* startServing(world, [a!, b!])
        const pids = yield* world.haproxyPids

        process.kill(pids.at(who === "worker" ? -1 : 0)!, "SIGKILL")
        yield* eventually(
          "no HAProxy is there",
          Effect.map(world.haproxyPids, ({ length }) => length === 0)
        )
        yield* logs(ep2, cannotObserve)
        yield* want(world, [b!, c!])
        // Long enough for ep2 to start one, if it did.
        yield* Effect.sleep("1500 millis")
        assert.deepStrictEqual(yield* world.haproxyPids, [])
        yield* World.startHaproxy(world, version)
        yield* isLevelSoon(world, [b!, c!])

        const traffic = yield* Traffic.start({ port: world.port, maxRequests: 40 })
        yield* eventually(
          "40 requests",
          Effect.map(traffic.report, ({ requests }) => requests >= 40)
        )
        const report = yield* traffic.stop
        assert.deepStrictEqual(reasons(report), [])
        assert.sameMembers(Object.keys(report.byServer), ["b", "c"])
        yield* saidAbsence(ep2)
      })
  )

  it.live.each(some(["SIGUSR2", "-sf"] as const))(
    "that somebody reloads by %s in the middle of a drain loses no request, and its old process ends",
    (way) =>
      Effect.gen(function* () {
        const world = yield* makeWorld({ version, backend: closesIdle(version) })
        const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
        const ep2 = yield* startServing(world, [a!, b!])
        const old = yield* workerOf(world)
        const traffic = yield* Traffic.start({ port: world.port, path: "/x?millis=800", closing: 4, keeping: 4 })
        yield* eventually(
          "requests are on their way to b",
          Effect.map(b!.counts, ({ inFlight }) => inFlight > 1)
        )

        yield* want(world, [a!])
        yield* logs(ep2, /drains: no longer wanted/)
        yield* way === "SIGUSR2" ? reloadMaster(world) : reloadByHand(world, version, true)
        yield* logs(ep2, /another HAProxy: pid/)
        yield* isLevelSoon(world, [a!])
        const asked = (yield* b!.counts).requests
        yield* eventually("the old process has ended", isGone(old), Duration.seconds(6))
        assert.strictEqual((yield* b!.counts).requests, asked)
        yield* want(world, [a!, b!])
        yield* isLevelSoon(world, [a!, b!])

        assert.deepStrictEqual(reasons(yield* traffic.stop), [])
        yield* saidOnce(ep2, /another HAProxy: pid/)
        assert.strictEqual(count(ep2, cannotObserve), count(ep2, observesAgain))
      })
  )
})

describe.each(onlyInAll(World.versions))("HAProxy %s", (version) => {
  it.live("that is restarted from an old config keeps what is right in it, and loses and gets the rest", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({ version, backend: closesIdle(version) })
      const [a, b, c] = yield* HttpBackends.makeAll(["a", "b", "c"])
      const ep2 = yield* startServing(world, [a!, b!])
      const text = readFileSync(world.configFile, "utf8")
      const region = /(# ep2: servers of web.*\n)[\s\S]*?(\n\s*# ep2: end of the servers of web)/
      const [atA, atC] = [endpointKey(a!.endpoint), endpointKey(c!.endpoint)]

      yield* world.killHaproxy
      yield* logs(ep2, cannotObserve)
      // Other names, fewer slots, and a server that is no longer wanted.
      writeFileSync(
        world.configFile,
        text.replace(region, `$1    server node7 ${atA} check\n    server node9 ${atC} check$2`)
      )
      yield* World.startHaproxy(world, version)
      const traffic = yield* Traffic.start({ port: world.port })
      yield* isLevelSoon(world, [a!, b!])
      yield* eventually(
        "b answers",
        Effect.map(traffic.report, ({ byServer }) => (byServer.b ?? 0) > 20)
      )

      assert.deepStrictEqual(reasons(yield* traffic.stop), [])
      assert.strictEqual((yield* world.served()).node7, atA)
      yield* saidAbsence(ep2)
      yield* saidOnce(ep2, /drains: no longer wanted/)
      // What somebody put there is kept, before ep2's comes in its place.
      yield* logs(ep2, /haproxy\.cfg: somebody else had written or changed it/)
      const copy = readdirSync(world.dir).find((name) => name.endsWith(".bak"))
      assert.include(readFileSync(join(world.dir, copy!), "utf8"), `server node9 ${atC}`)
    })
  )

  it.live("that is restarted without the backend serves what it has, and is level once it has it again", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({ version, backend: closesIdle(version) })
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
      const ep2 = yield* startServing(world, [a!])
      const text = readFileSync(world.configFile, "utf8")
      yield* Effect.sleep(settling)

      writeFileSync(world.configFile, text.replace("listen web", "listen other"))
      yield* reloadMaster(world)
      yield* logs(ep2, /warning .*HAProxy cannot be observed: .*(?:Can't find backend|No such backend)/)
      yield* want(world, [a!, b!])
      const traffic = yield* Traffic.start({ port: world.port })
      yield* Effect.sleep("1500 millis")
      assert.deepStrictEqual(Object.keys((yield* traffic.report).byServer), ["a"])
      writeFileSync(world.configFile, text)
      yield* reloadMaster(world)
      yield* isLevelSoon(world, [a!, b!])

      assert.deepStrictEqual(reasons(yield* traffic.stop), [])
      yield* saidOnce(ep2, cannotObserve, observesAgain)
      yield* eventually(
        "both reloads were noticed",
        Effect.sync(() => count(ep2, /another HAProxy: pid/) === 2)
      )
    })
  )

  it.live("whose socket file goes away serves on, and is level when it is back by itself or by a reload", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({ version, backend: closesIdle(version) })
      const [a, b, c] = yield* HttpBackends.makeAll(["a", "b", "c"])
      const ep2 = yield* startServing(world, [a!])
      const socket = world.sockets[0]!
      const traffic = yield* Traffic.start({ port: world.port })

      renameSync(socket, `${socket}.away`)
      yield* logs(ep2, cannotObserve)
      yield* want(world, [a!, b!])
      yield* Effect.sleep("1500 millis")
      assert.deepStrictEqual(Object.keys((yield* traffic.report).byServer), ["a"])
      renameSync(`${socket}.away`, socket)
      yield* isLevelSoon(world, [a!, b!])
      yield* saidOnce(ep2, cannotObserve, observesAgain)
      rmSync(socket)
      yield* eventually(
        "it is said again",
        Effect.sync(() => count(ep2, cannotObserve) === 2)
      )
      yield* want(world, [a!, b!, c!])
      assert.deepStrictEqual(reasons(yield* traffic.stop), [])
      // From 2.6 on a socket that is handed over is not made again: only a reload without that brings the file back.
      yield* reloadByHand(world, version, false)
      yield* isLevelSoon(world, [a!, b!, c!])

      assert.deepStrictEqual([count(ep2, cannotObserve), count(ep2, observesAgain)], [2, 2])
    })
  )

  it.live("whose socket is reloaded without the rights refuses what it is told, until it is reloaded with them", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({ version, backend: closesIdle(version) })
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
      const ep2 = yield* startServing(world, [a!])
      const text = readFileSync(world.configFile, "utf8")
      yield* Effect.sleep(settling)
      const traffic = yield* Traffic.start({ port: world.port })

      writeFileSync(world.configFile, text.replace("level admin", "level operator"))
      yield* reloadMaster(world)
      yield* logs(ep2, /another HAProxy: pid/)
      yield* want(world, [a!, b!])
      yield* logs(ep2, / warning .*Permission denied/)
      yield* Effect.sleep("2500 millis")
      assert.deepStrictEqual(Object.keys((yield* traffic.report).byServer), ["a"])
      // ep2 has put its own config back, for whoever reloads next.
      yield* eventually(
        "the file is ep2's",
        Effect.sync(() => /level admin/.test(readFileSync(world.configFile, "utf8")))
      )
      yield* reloadMaster(world)
      yield* isLevelSoon(world, [a!, b!])

      assert.deepStrictEqual(reasons(yield* traffic.stop), [])
      yield* saidOnce(ep2, / warning .*Permission denied/, /no longer refused/)
      // It came with the file: what was refused has not happened, however often it was tried.
      assert.strictEqual(count(ep2, /server=node2 .*arrives/), 0)
    })
  )

  it.live(
    "whose connections for commands are used up is told over the one that ep2 has; without it, serves on, and is level once one is free",
    () =>
      Effect.gen(function* () {
        const world = yield* makeWorld({ version, backend: closesIdle(version) })
        const [a, b, c] = yield* HttpBackends.makeAll(["a", "b", "c"])
        const ep2 = yield* startServing(world, [a!])
        const traffic = yield* Traffic.start({ port: world.port })
        // `stats maxconn` is 10; more wait for their turn before ep2 does.
        const idle = yield* Effect.acquireRelease(
          Effect.sync(() =>
            Array.from({ length: 12 }, () => createConnection(world.sockets[0]!).on("error", () => {}))
          ),
          (held) => Effect.sync(() => held.forEach((one) => void one.destroy()))
        )

        yield* Effect.sleep("200 millis")
        yield* want(world, [a!, b!])
        // Nobody else is let in to be asked.
        yield* eventually(
          "b answers",
          Effect.map(traffic.report, ({ byServer }) => (byServer.b ?? 0) > 0)
        )
        // Another time of the file: ep2 no longer relies on the connection that it has.
        yield* Effect.sync(() => chmodSync(world.sockets[0]!, 0o777))
        yield* logs(ep2, cannotObserve)
        yield* want(world, [a!, b!, c!])
        yield* Effect.sleep("1500 millis")
        assert.notProperty((yield* traffic.report).byServer, "c")
        for (const one of idle) one.destroy()
        // A look that waits for its answer may have to give up first.
        yield* serves(world, [a!, b!, c!])

        assert.deepStrictEqual(reasons(yield* traffic.stop), [])
        yield* saidOnce(ep2, cannotObserve, observesAgain)
      })
  )
})

// Most of a minute, and each version does the same.
describe.each(onlyInAll(World.versions.slice(-1)))("HAProxy %s", (version) => {
  it.live("that is slow to answer is brought level all the same", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({ version, backend: closesIdle(version) })
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
      const ep2 = yield* startServing(world, [a!])
      const proxy = yield* UnixProxy.takeOver(world.sockets[0]!)
      const traffic = yield* Traffic.start({ port: world.port })

      yield* proxy.setDelayMillis(3000)
      yield* want(world, [b!])
      yield* eventually(
        "b answers, and a no more",
        Effect.gen(function* () {
          const before = yield* traffic.report
          yield* Effect.sleep("300 millis")
          const { byServer } = yield* traffic.report
          return (byServer.b ?? 0) > 0 && byServer.a === before.byServer.a
        }),
        Duration.seconds(60)
      )

      assert.deepStrictEqual(reasons(yield* traffic.stop), [])
      assert.strictEqual(count(ep2, cannotObserve), 0)
    })
  )
})

describe.each(onlyInAll(["2.2"] as const))("two processes of HAProxy %s, one of which does not answer", (version) => {
  it.live("are changed each by itself: the other one is level at once, and this one when it answers again", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({ version, processes: 2 })
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
      const ep2 = yield* startServing(world, [a!])
      const [first, second] = world.sockets
      const proxy = yield* UnixProxy.takeOver(second!)
      const traffic = yield* Traffic.start({ port: world.port })

      yield* proxy.setDelayMillis(10_000)
      yield* logs(ep2, /HAProxy cannot be observed: .*admin-2\.sock: HAProxy was silent for 5 s/)
      yield* want(world, [a!, b!])
      yield* isLevelSoon(world, [a!, b!], first)
      yield* proxy.setDelayMillis(0)
      yield* serves(world, [a!, b!], second)

      assert.deepStrictEqual(reasons(yield* traffic.stop), [])
      assert.deepStrictEqual(yield* world.served(first), yield* world.served(second))
      // The proxy took the place of the socket a moment before it listened there.
      yield* saidOnce(ep2, / warning .*HAProxy cannot be observed: .* was silent/, observesAgain)
    })
  )
})

const isRoot = process.getuid?.() === 0
const nobody = 65534
const unless = isRoot ? "" : " (needs root, to become one)"

describe.each(onlyInAll(World.versions))(`HAProxy %s and ep2 as another user${unless}`, (version) => {
  it.live.skipIf(!isRoot)("are level again after ep2 got back the permission for the socket that it had lost", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld({
        version,
        inside: () => ["setpriv", `--reuid=${nobody}`, `--regid=${nobody}`, "--clear-groups"]
      })
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
      chownSync(world.dir, nobody, nobody)
      const ep2 = yield* startServing(world, [a!])
      const traffic = yield* Traffic.start({ port: world.port })

      chmodSync(world.sockets[0]!, 0)
      yield* logs(ep2, /warning .*HAProxy cannot be observed: .*EACCES/)
      yield* want(world, [a!, b!])
      yield* Effect.sleep("1500 millis")
      assert.deepStrictEqual(Object.keys((yield* traffic.report).byServer), ["a"])
      chmodSync(world.sockets[0]!, 0o600)
      yield* isLevelSoon(world, [a!, b!])

      assert.deepStrictEqual(reasons(yield* traffic.stop), [])
      yield* saidOnce(ep2, cannotObserve, observesAgain)
    })
  )
})
