import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Result } from "effect"
import { TestClock } from "effect/testing"
import { Commands } from "../../src/haproxy/Commands.ts"
import * as ConfigProblem from "../../src/haproxy/ConfigProblem.ts"
import { HaproxySocket } from "../../src/haproxy/HaproxySocket.ts"
import * as RuntimeApi from "../../src/haproxy/RuntimeApi.ts"
import * as Fleet from "../../src/simulation/Fleet.ts"
import * as SimulatedHaproxy from "../../src/simulation/SimulatedHaproxy.ts"
import * as Processes from "./Processes.ts"

const [first] = Processes.endpoints as [(typeof Processes.endpoints)[number]]

describe("SimulatedHaproxy in time", () => {
  it("takes a server that has proven itself down with the third failed check, and up with the second good one", () => {
    const { advance, fleet, node1 } = Processes.make()
    advance(10)
    const seen: Array<boolean | undefined> = []
    const look = (from: number, to: number) => {
      for (let second = from; second <= to; second++) {
        advance(second)
        seen.push(node1()?.takesTraffic)
      }
    }

    fleet.set(first, false)
    look(11, 14)
    fleet.set(first, true)
    look(15, 17)

    assert.deepStrictEqual(seen, [true, true, false, false, false, true, true])
  })

  it("forgets failed checks between which one was good", () => {
    const { advance, fleet, node1 } = Processes.make()
    advance(10)
    for (let round = 0; round < 5; round++) {
      fleet.set(first, false)
      advance(12 + 3 * round)
      fleet.set(first, true)
      advance(13 + 3 * round)
    }

    assert.isTrue(node1()?.takesTraffic)
  })

  it("takes a dead server that has just left maintenance down with its first check", () => {
    const { advance, fleet, haproxy, node1 } = Processes.make()
    advance(10)
    fleet.set(first, false)
    haproxy.type("set server web/node1 state maint")
    haproxy.type("set server web/node1 state ready")
    const ready = node1()?.takesTraffic

    advance(11)

    assert.deepStrictEqual([ready, node1()?.takesTraffic], [true, false])
  })

  it("comes to the same whether time goes in one step or in many", () => {
    const outcome = (steps: ReadonlyArray<number>) => {
      const { fleet, haproxy } = Processes.make({ version: "2.6" })
      haproxy.advance(10_500)
      fleet.set(first, false)
      haproxy.open("/one.sock", "web", "node2", 12_000)
      for (const step of steps) haproxy.advance(step)
      return haproxy.processes().map(({ pid, servers }) => ({ pid, servers }))
    }

    const many = outcome(Array.from({ length: 300 }, (_, index) => 10_500 + index * 10 + 10))

    assert.deepStrictEqual(outcome([13_500]), many)
  })

  it("ends sessions at their time, those of a stopped server too", () => {
    const { advance, haproxy } = Processes.make()
    for (const until of [5000, 3000, 4000]) haproxy.open("/one.sock", "web", "node1", until)
    haproxy.type("set server web/node1 state maint")
    const seen = [2.999, 3, 4, 5].map((second) => {
      advance(second)
      return haproxy.sessions("/one.sock", "web", "node1")
    })

    assert.deepStrictEqual(seen, [3, 2, 1, 0])
  })

  it("costs next to nothing while its servers are steady", () => {
    const fleet = Fleet.make()
    const lines = Array.from({ length: 300 }, (_, index) => {
      const endpoint = { address: `10.0.${Math.floor(index / 200)}.${(index % 200) + 1}`, port: 80 }
      fleet.set(endpoint, true)
      return `  server node${index + 1} ${endpoint.address}:80 check`
    })
    const haproxy = SimulatedHaproxy.make({ sockets: ["/one.sock"], version: "3.2", fleet })
    haproxy.start(["backend web", ...lines].join("\n"))
    let asked = 0
    const isAlive = fleet.isAlive
    Object.assign(fleet, { isAlive: (endpoint: typeof first) => asked++ >= 0 && isAlive(endpoint) })

    for (let second = 1; second <= 86_400; second++) haproxy.advance(second * 1000)

    assert.isTrue(haproxy.processes()[0]?.servers.every(({ takesTraffic }) => takesTraffic))
    assert.strictEqual(asked, 0)
  })
})

describe("SimulatedHaproxy with several processes", () => {
  const sockets = ["/one.sock", "/two.sock", "/three.sock"]

  it.effect("gives each one a pid and servers of its own, from one config", () =>
    Effect.gen(function* () {
      const { ask, haproxy } = Processes.make({ sockets, version: "2.2" })

      const [info = "", mark = ""] = yield* ask(["show info", "show env EP2_CONFIG"], "/two.sock").pipe(
        Effect.tap(() => ask(["set server web/node1 weight 0%"], "/two.sock")),
        Effect.provide(haproxy.sockets)
      )

      const all = haproxy.processes()
      assert.strictEqual(new Set(all.map(({ pid }) => pid)).size, 3)
      assert.deepStrictEqual([RuntimeApi.parsePid(info), RuntimeApi.parseMark(mark)], [all[1]?.pid, "one"])
      assert.match(info, /^Process_num: 2$/m)
      assert.deepStrictEqual(
        all.map(({ servers }) => servers[0]?.takesTraffic),
        [true, false, true]
      )
    })
  )

  it.effect("goes on without one that was killed, until they are started", () =>
    Effect.gen(function* () {
      const { ask, haproxy, pids } = Processes.make({ sockets })
      const before = pids()

      haproxy.killProcess(1)
      const error = yield* Effect.flip(Effect.provide(ask(["show info"], "/two.sock"), haproxy.sockets))
      const left = pids()
      haproxy.start(Processes.config("one"))

      assert.strictEqual(error.reason, "Connect")
      assert.deepStrictEqual(left, [before[0], before[2]])
      assert.lengthOf(
        pids().filter((pid) => !before.includes(pid)),
        3
      )
    })
  )

  it("does what an operator types in all of them", () => {
    const { haproxy, node1 } = Processes.make({ sockets })

    haproxy.type("set server web/node1 state drain")

    assert.deepStrictEqual(
      [0, 1, 2].map((index) => node1(index)?.takesTraffic),
      [false, false, false]
    )
    assert.strictEqual(haproxy.counts().commands, 0)
  })
})

describe("SimulatedHaproxy at fault", () => {
  const broken = (
    name: string,
    body: (world: ReturnType<typeof Processes.make>) => Effect.Effect<void, unknown, HaproxySocket>
  ) =>
    it.effect(name, () => {
      const world = Processes.make()
      return Effect.provide(body(world), world.haproxy.sockets)
    })

  broken(
    "answers nothing while it is silent, and carries out later what nobody waits for any more",
    ({ ask, haproxy, node1, now }) =>
      Effect.gen(function* () {
        haproxy.silence(0, 8000)
        const asking = yield* Effect.forkChild(Effect.flip(ask(["set server web/node1 state maint"])))

        yield* TestClock.adjust("5 seconds")
        const error = yield* Fiber.join(asking)
        const during = node1()?.takesTraffic
        yield* TestClock.adjust("3 seconds")
        yield* now

        assert.strictEqual(error.reason, "Timeout")
        assert.deepStrictEqual([during, node1()?.takesTraffic], [true, false])
      })
  )

  broken("answers in the end after a silence that is short", ({ ask, haproxy }) =>
    Effect.gen(function* () {
      haproxy.silence(0, 3000)
      const asking = yield* Effect.forkChild(ask(["show env EP2_CONFIG"]))

      yield* TestClock.adjust("3 seconds")

      assert.deepStrictEqual(yield* Fiber.join(asking), ["EP2_CONFIG=one"])
    })
  )

  broken("cuts the reply that it is told to: what comes behind it is not carried out", ({ ask, haproxy }) =>
    Effect.gen(function* () {
      haproxy.cutReplyAt(0, 3)
      yield* ask(["show info"])

      const error = yield* Effect.flip(
        ask([
          "set server web/node1 state maint",
          "set server web/node2 state maint",
          "set server web/node3 state maint"
        ])
      )

      assert.strictEqual(error.reason, "Closed")
      assert.deepStrictEqual(
        haproxy
          .processes()[0]
          ?.servers.slice(0, 3)
          .map(({ takesTraffic }) => takesTraffic),
        [false, false, true]
      )
      assert.deepStrictEqual(yield* ask(["show env EP2_CONFIG"]), ["EP2_CONFIG=one"])
    })
  )

  broken("refuses as many connections as it is told to", ({ ask, haproxy }) =>
    Effect.gen(function* () {
      haproxy.failNextConnections(0, 2)

      const results = yield* Effect.forEach([1, 2, 3], () => Effect.result(ask(["show info"])))

      assert.deepStrictEqual(results.map(Result.isSuccess), [false, false, true])
    })
  )

  broken("closes a connection that was idle, and one whose process was killed", ({ haproxy }) =>
    Effect.gen(function* () {
      const session = yield* (yield* HaproxySocket).session("/one.sock")
      yield* session.ask(["show info"])
      yield* TestClock.adjust("10 seconds")
      const idle = yield* Effect.flip(session.ask(["show info"]))
      haproxy.killProcess()
      const gone = yield* Effect.flip(session.ask(["show info"]))

      assert.deepStrictEqual([idle.reason, gone.reason], ["Closed", "Closed"])
    }).pipe(Effect.scoped)
  )

  broken("lets one connection to a socket wait for the other", ({ ask }) =>
    Effect.gen(function* () {
      const held = yield* Effect.forkChild(
        Effect.scoped(
          Effect.andThen(
            Effect.flatMap(HaproxySocket, ({ session }) => session("/one.sock")),
            Effect.sleep("1 second")
          )
        )
      )
      yield* TestClock.adjust("500 millis")
      const asking = yield* Effect.forkChild(ask(["show info"]))
      yield* TestClock.adjust("499 millis")
      const early = asking.pollUnsafe()
      yield* TestClock.adjust("1 millis")

      yield* Fiber.join(asking)
      assert.isUndefined(early)
      yield* Fiber.join(held)
    })
  )

  it.effect("says no to configs while it is told to, in words that ep2 understands", () =>
    Effect.gen(function* () {
      const { haproxy } = Processes.make()
      const check = Effect.flatMap(Commands, ({ run }) =>
        run("haproxy", ["-c", "-f", "/next.cfg"], Duration.seconds(30))
      ).pipe(Effect.provide(haproxy.commands))

      haproxy.refuseConfigs(true)
      const refused = yield* check
      haproxy.refuseConfigs(false)
      const taken = yield* check

      const problems = ConfigProblem.explain({
        output: refused.output,
        rendered: { text: "nonsense\n", templateLine: (line) => line },
        candidatePath: "/next.cfg",
        templatePath: "/template"
      })
      assert.deepStrictEqual([refused.exitCode, taken.exitCode], [1, 0])
      assert.deepStrictEqual(
        problems.map(({ level, line }) => [level, line]),
        [["alert", 1]]
      )
    })
  )
})
