import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Layer, Logger } from "effect"
import { TestClock } from "effect/testing"
import { ConfigWriter, type Load } from "../../src/controller/ConfigWriter.ts"
import { ConfigFile, ReloadError } from "../../src/haproxy/ConfigFile.ts"
import { Haproxy } from "../../src/haproxy/Haproxy.ts"
import { Reloader } from "../../src/haproxy/Reloader.ts"
import { CommandRejected } from "../../src/haproxy/RuntimeApi.ts"
import type { ServerLine } from "../../src/haproxy/ServerRegion.ts"
import { TemplateRenderer } from "../../src/haproxy/TemplateRenderer.ts"

const timedOut = new ReloadError({ configFile: "/c", reason: "TimedOut", detail: "no new process", output: "" })
const refused = new CommandRejected({ socket: "/s", command: "set server web/node1 weight 0%", reply: "No." })

const plain: ServerLine = { name: "node1", endpoint: { address: "10.0.0.1", port: 80 }, isDisabled: false }
const proving: ServerLine = { ...plain, isDisabled: true, afterLoad: "prove" }

/** A writer over a HAProxy of one process; `reload` says what becomes of a reload, `refuses` whether it takes commands. */
const makeWriter = Effect.fnUntraced(function* (reload: "works" | "is late" | "fails") {
  const haproxy = { pid: 1, isRunning: true, refuses: false }
  const told: Array<number> = []
  const files: Array<string> = []
  const log: Array<string> = []
  let reloads = 0
  let wakes = 0
  const answering = () => [{ socket: "/s", pid: haproxy.pid, mark: "mark" }]
  const edges = Layer.mergeAll(
    Layer.mock(TemplateRenderer, {
      render: (backends) => {
        const text = backends
          .flatMap(({ servers }) => servers.map(({ afterLoad, name }) => `${name} ${afterLoad ?? "plain"}`))
          .join()
        return Effect.succeed({ template: "/t", text, mark: "mark", templateLine: () => undefined })
      }
    }),
    Layer.mock(ConfigFile, {
      path: "/c",
      install: ({ text }) =>
        Effect.sync(() => {
          if (files.at(-1) === text) return { isChanged: false, warnings: [] }
          files.push(text)
          return { isChanged: true, warnings: [] }
        })
    }),
    Layer.mock(Reloader, {
      turn: Effect.void,
      state: Effect.sync(() => ({
        isRunning: haproxy.isRunning,
        answering: haproxy.isRunning ? answering() : [],
        silent: []
      })),
      reload: () =>
        Effect.suspend(() => {
          reloads++
          if (reload !== "works") return Effect.fail(timedOut)
          haproxy.pid++
          return Effect.succeed({ answering: answering(), leaving: [] })
        })
    }),
    Layer.mock(Haproxy, {
      sockets: ["/s"],
      afterLoad: (_, others) =>
        Effect.sync(() => {
          const { pid, refuses } = haproxy
          if (others.has(pid)) return { pids: [], seen: [pid], failures: [] }
          if (refuses) return { pids: [], seen: [pid], failures: [refused] }
          told.push(pid)
          return { pids: [pid], seen: [pid], failures: [] }
        })
    })
  )
  const logger = Logger.make<unknown, void>(({ message }) => {
    log.push(String(message))
  })
  const layer = ConfigWriter.layer({ backends: ["web"], retryEvery: Duration.seconds(5) })
  const context = yield* Layer.build(Layer.provide(layer, edges))
  const writer = yield* ConfigWriter.pipe(Effect.provide(context))
  yield* writer
    .run({ refresh: Effect.void, onLoaded: Effect.sync(() => wakes++) })
    .pipe(Effect.provide(Logger.layer([logger])), Effect.forkChild)
  const offer = (load: Load | undefined) =>
    writer.offer({
      servers: { backend: "web", servers: [plain] },
      forLoad: { backend: "web", servers: [proving] },
      load
    })
  const isUntold = (pid: number) => Effect.map(writer.isUntold, (is) => is(pid))
  return { writer, haproxy, told, files, log, offer, isUntold, reloads: () => reloads, wakes: () => wakes }
})

const load: Load = { reason: "the pool grows", pids: [1] }

describe("ConfigWriter.run", () => {
  it.effect("loads what has to prove itself, tells the new process so, and writes the rest", () =>
    Effect.gen(function* () {
      const { files, isUntold, offer, told, wakes } = yield* makeWriter("works")

      yield* offer(load)
      yield* TestClock.adjust("1 second")

      assert.deepStrictEqual([files, told, wakes()], [["node1 prove", "node1 plain"], [2], 1])
      assert.isFalse(yield* isUntold(2))
      assert.isFalse(yield* isUntold(3))
    })
  )

  it.effect("keeps in the file what HAProxy refuses to be told, and tells it until it takes it", () =>
    Effect.gen(function* () {
      const { files, haproxy, isUntold, log, offer, reloads, told } = yield* makeWriter("works")
      haproxy.refuses = true

      yield* offer(load)
      yield* TestClock.adjust("30 seconds")
      assert.deepStrictEqual([files, told], [["node1 prove"], []])
      assert.isTrue(yield* isUntold(2))
      assert.strictEqual(log.filter((line) => line.includes("has not taken all that it is told")).length, 1)
      haproxy.refuses = false
      yield* TestClock.adjust("1 minute")

      assert.deepStrictEqual([files, told], [["node1 prove", "node1 plain"], [2]])
      assert.isFalse(yield* isUntold(2))
      assert.strictEqual(reloads(), 1)
    })
  )

  it.effect("tells a process that comes up only after the reload was given up", () =>
    Effect.gen(function* () {
      const { haproxy, isUntold, offer, told, wakes, writer } = yield* makeWriter("is late")

      yield* offer(load)
      yield* TestClock.adjust("1 second")
      assert.isTrue(yield* writer.isStuck)
      haproxy.pid = 2
      assert.isTrue(yield* isUntold(2))
      yield* offer(undefined)
      yield* writer.attend
      yield* TestClock.adjust("1 second")

      assert.deepStrictEqual([told, wakes()], [[2], 1])
      assert.isFalse(yield* isUntold(2))
      assert.isFalse(yield* writer.isStuck)
    })
  )

  it.effect("lets alone what comes up minutes after a load that failed", () =>
    Effect.gen(function* () {
      const { haproxy, isUntold, offer, told, writer } = yield* makeWriter("fails")

      yield* offer(load)
      yield* TestClock.adjust("1 second")
      yield* offer(undefined)
      yield* TestClock.adjust("3 minutes")
      haproxy.pid = 2
      yield* writer.attend
      yield* TestClock.adjust("1 second")

      assert.deepStrictEqual(told, [])
      assert.isFalse(yield* isUntold(2))
    })
  )

  it.effect("loads for a HAProxy that came back while the load of the one before was not made", () =>
    Effect.gen(function* () {
      const { haproxy, offer, reloads } = yield* makeWriter("works")
      haproxy.isRunning = false
      yield* offer(load)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(reloads(), 0)

      haproxy.isRunning = true
      haproxy.pid = 7
      yield* offer({ ...load, pids: [7] })
      yield* TestClock.adjust("1 second")

      assert.strictEqual(reloads(), 1)
    })
  )
})
