import { readdirSync, readFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { Context, Duration, Effect, Layer } from "effect"
import { Haproxy } from "../../src/haproxy/Haproxy.ts"
import { HaproxySocket } from "../../src/haproxy/HaproxySocket.ts"
import * as HaproxyServer from "../servers/HaproxyServer.ts"

/** How long a process may be silent, here. */
const replyTimeout = Duration.millis(400)

const isStopped = (pid: number): boolean =>
  readdirSync(`/proc/${pid}/task`).every((task) => /\) T /.test(readFileSync(`/proc/${pid}/task/${task}/stat`, "utf8")))

describe("a process that is stopped", () => {
  it.live("is waited for once, and observed again only after it has said who it is", () =>
    Effect.gen(function* () {
      const server = yield* HaproxyServer.make({
        version: "2.6",
        config: ({ socket }) =>
          `global\n  stats socket ${socket} mode 600 level admin\n${HaproxyServer.defaults}\nbackend web\n`
      })
      yield* server.start
      const sockets = HaproxySocket.layer({ sockets: server.sockets, replyTimeout })
      const layer = Haproxy.layer({ placeholder: { address: "127.0.0.1", port: 1 } }).pipe(Layer.provide(sockets))
      const haproxy = Context.get(yield* Layer.build(layer), Haproxy)
      const observe = Effect.gen(function* () {
        const began = performance.now()
        const observed = yield* haproxy.observe("web")
        return { ...observed, tookMillis: performance.now() - began }
      })
      const worker = (yield* server.running).workers[0]!

      process.kill(worker, "SIGSTOP")
      // On a busy machine one of its threads may run on until the one that has the signal gets its turn.
      yield* Effect.sleep("5 millis").pipe(Effect.repeat({ until: () => isStopped(worker) }))
      const first = yield* observe
      const second = yield* observe
      process.kill(worker, "SIGCONT")
      const third = yield* observe
      yield* haproxy.pidOf(server.socket)
      const fourth = yield* observe

      assert.isAbove(first.tookMillis, 390)
      assert.isBelow(second.tookMillis, 200)
      assert.match(first.unobserved[0]?.reason ?? "", /HAProxy was silent for 0\.4 s/)
      assert.deepStrictEqual(second.unobserved, first.unobserved)
      assert.deepStrictEqual(third.unobserved, first.unobserved)
      assert.deepStrictEqual([fourth.unobserved, fourth.processes.length], [[], 1])
    })
  )
})
