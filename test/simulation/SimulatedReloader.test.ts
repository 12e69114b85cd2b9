import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Fiber, Layer, Ref } from "effect"
import { TestClock } from "effect/testing"
import { HaproxySocket } from "../../src/haproxy/HaproxySocket.ts"
import { Reloader } from "../../src/haproxy/Reloader.ts"
import type { Options } from "../../src/simulation/SimulatedHaproxy.ts"
import * as Processes from "./Processes.ts"

/** Runs a body with a HAProxy that runs `config("one")`, and `config("two")` in place on disk. */
const reloading = (
  name: string,
  body: (world: World) => Effect.Effect<void, unknown, Reloader | HaproxySocket>,
  options: Partial<Options> = {}
) =>
  it.effect(name, () =>
    Effect.gen(function* () {
      const processes = Processes.make(options)
      const file = yield* Processes.configFile(Processes.config("two"))
      yield* Ref.set(file.good, Processes.config("one"))
      const { reloader, sockets } = processes.haproxy
      const layer = Layer.merge(Layer.provide(reloader, file.layer), sockets)
      yield* Effect.provide(body({ ...processes, file }), layer)
    })
  )

type World = ReturnType<typeof Processes.make> & {
  readonly file: Effect.Success<ReturnType<typeof Processes.configFile>>
}

const reload = (mark: string) => Effect.flatMap(Reloader, (reloader) => reloader.reload(mark))
const state = Effect.flatMap(Reloader, (reloader) => reloader.state)

describe("SimulatedHaproxy's reload", () => {
  reloading(
    "takes its time, then answers from new processes with what is in place",
    ({ file, haproxy, pids }) =>
      Effect.gen(function* () {
        const before = pids()
        const reloaded = yield* Effect.forkChild(reload("two"))
        yield* TestClock.adjust("149 millis")
        const during = pids()
        yield* TestClock.adjust("1 millis")
        const { answering } = yield* Fiber.join(reloaded)

        assert.deepStrictEqual(during, before)
        assert.deepStrictEqual(
          answering.map(({ mark, pid }) => [mark, before.includes(pid)]),
          [
            ["two", false],
            ["two", false]
          ]
        )
        assert.deepStrictEqual([yield* Ref.get(file.good), haproxy.counts().reloads], [Processes.config("two"), 1])
      }),
    { sockets: ["/one.sock", "/two.sock"], version: "2.2" }
  )

  reloading(
    "lets old processes finish their sessions out of sight",
    ({ haproxy, now }) =>
      Effect.gen(function* () {
        haproxy.open("/one.sock", "web", "node1", 6000)
        const old = haproxy.processes()[0]!.pid
        const first = yield* Effect.forkChild(reload("two"))
        yield* TestClock.adjust("1 second")
        const early = yield* Fiber.join(first)
        const second = yield* Effect.forkChild(reload("two"))
        yield* TestClock.adjust("6 seconds")
        yield* now
        const late = yield* Fiber.join(second)

        assert.deepStrictEqual([early.leaving, haproxy.sessions("/one.sock", "web", "node1")], [[old], 0])
        assert.deepStrictEqual(late.leaving, [old])
      }),
    { reloadInterval: Duration.seconds(1) }
  )

  reloading("forgets what was only told to the processes before", ({ haproxy, node1 }) =>
    Effect.gen(function* () {
      haproxy.type("set server web/node1 state maint")
      haproxy.type("set server web/node4 addr 10.0.0.9 port 80")
      const reloaded = yield* Effect.forkChild(reload("two"))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(reloaded)

      assert.isTrue(node1()?.takesTraffic)
      assert.deepStrictEqual(haproxy.processes()[0]?.servers[3]?.endpoint, { address: "127.0.0.1", port: 1 })
    })
  )

  reloading(
    "leaves a connection with the process that it was made to",
    ({ pids }) =>
      Effect.gen(function* () {
        const [old] = pids()
        const held = yield* (yield* HaproxySocket).session("/two.sock")
        yield* held.ask(["show info"])
        const reloaded = yield* Effect.forkChild(reload("two"))
        yield* TestClock.adjust("1 second")

        const replies = yield* held.ask(["show env EP2_CONFIG", "set server web/node1 state maint"])

        assert.deepStrictEqual(replies, ["EP2_CONFIG=one", "Proxy is disabled."])
        assert.notInclude(pids(), old)
        yield* Fiber.interrupt(reloaded)
      }).pipe(Effect.scoped),
    { sockets: ["/one.sock", "/two.sock"] }
  )

  reloading("begins the next one not before the interval is over", ({ pids }) =>
    Effect.gen(function* () {
      const both = yield* Effect.forkChild(Effect.all([reload("two"), reload("two")], { concurrency: 2 }))
      yield* TestClock.adjust("1 second")
      const first = pids()
      const turn = yield* Effect.forkChild(
        Effect.andThen(
          Effect.flatMap(Reloader, ({ turn }) => turn),
          Clock.currentTimeMillis
        )
      )
      yield* TestClock.adjust("4 seconds")
      const early = pids()
      yield* TestClock.adjust("6 seconds")
      yield* Fiber.join(both)

      assert.deepStrictEqual(early, first)
      assert.notDeepEqual(pids(), first)
      assert.strictEqual(yield* Fiber.join(turn), 10_000)
    })
  )

  reloading(
    "puts the old file back when its signal is lost, and the old processes serve on",
    ({ file, haproxy, pids }) =>
      Effect.gen(function* () {
        const before = pids()
        haproxy.failNextReloads(1)

        const failing = yield* Effect.forkChild(Effect.flip(reload("two")))
        yield* TestClock.adjust("16 seconds")
        const error = yield* Fiber.join(failing)
        yield* Ref.set(file.now, Processes.config("two"))
        const again = yield* Effect.forkChild(reload("two"))
        yield* TestClock.adjust("1 second")

        assert.deepStrictEqual([error.reason, pids().length], ["TimedOut", before.length])
        assert.match(error.detail, /one.sock: pid \d+ still answers, with the mark one$/)
        assert.strictEqual((yield* Fiber.join(again)).answering[0]?.mark, "two")
      })
  )

  reloading("fails at once on a config that HAProxy does not take", ({ file, haproxy, pids }) =>
    Effect.gen(function* () {
      const before = pids()
      haproxy.refuseConfigs(true)

      const failing = yield* Effect.forkChild(Effect.flip(reload("two")))
      yield* TestClock.adjust("1 second")
      const error = yield* Fiber.join(failing)

      assert.strictEqual(error.reason, "Failed")
      assert.match(error.output, /ALERT/)
      assert.deepStrictEqual([pids(), yield* Ref.get(file.now)], [before, Processes.config("one")])
    })
  )

  reloading(
    "waits for a socket that is silent, and brings back a process that was killed",
    ({ haproxy }) =>
      Effect.gen(function* () {
        haproxy.killProcess(1)
        const before = yield* state
        haproxy.silence(0, 3000)

        const reloaded = yield* Effect.forkChild(reload("two"))
        yield* TestClock.adjust("4 seconds")
        const { answering } = yield* Fiber.join(reloaded)

        assert.deepStrictEqual(
          [before.isRunning, before.answering.map(({ socket }) => socket), before.silent.map(({ socket }) => socket)],
          [true, ["/one.sock"], ["/two.sock"]]
        )
        assert.lengthOf(answering, 2)
      }),
    { sockets: ["/one.sock", "/two.sock"] }
  )

  reloading("starts one that is down, at once", ({ haproxy, pids }) =>
    Effect.gen(function* () {
      haproxy.killProcess()
      const before = yield* state

      const started = yield* Effect.forkChild(Effect.flatMap(Reloader, (reloader) => reloader.start("two")))
      yield* TestClock.adjust("150 millis")

      assert.isFalse(before.isRunning)
      assert.deepStrictEqual(
        (yield* Fiber.join(started)).answering.map(({ pid }) => pid),
        pids()
      )
    })
  )
})
