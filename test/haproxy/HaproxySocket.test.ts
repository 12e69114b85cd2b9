import { chmod, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { assert, describe, it, layer } from "@effect/vitest"
import { Context, Effect, Fiber, Layer } from "effect"
import { HaproxySocket, type SocketError } from "../../src/haproxy/HaproxySocket.ts"
import * as Binaries from "../servers/Binaries.ts"
import * as HaproxyServer from "../servers/HaproxyServer.ts"
import { ask, folder, listen } from "./MisbehavingServer.ts"

const config = ({ socket }: HaproxyServer.Paths) => `
global
  stats socket ${socket} level admin
defaults
  mode http
  timeout connect 1s
  timeout client 1s
  timeout server 1s
backend web
${Array.from({ length: 50 }, (_, index) => `  server node${index + 1} 127.0.0.1:1 disabled`).join("\n")}
`

for (const version of Binaries.haproxyVersions()) {
  class Real extends Context.Service<Real, HaproxyServer.HaproxyServer>()(`test/Real-${version}`) {
    static readonly layer = Layer.effect(
      Real,
      Effect.tap(HaproxyServer.make({ version, config }), ({ start }) => start)
    )
  }
  const Sockets = Layer.unwrap(Effect.map(Real, ({ socket }) => HaproxySocket.layer({ sockets: [socket] })))

  layer(Sockets.pipe(Layer.provideMerge(Real.layer)), { excludeTestServices: true })(
    `HaproxySocket on HAProxy ${version}`,
    (it) => {
      for (const count of [1, 2, 1_000, 4_000]) {
        it.effect(`gives one reply per command, in order, for ${count}`, () =>
          Effect.gen(function* () {
            const { socket } = yield* Real
            const commands = Array.from({ length: count }, (_, index) => {
              const server = `set server web/node${(index % 50) + 1}`
              return [
                `${server} weight 0%`,
                `${server} weight 1${index}%`,
                `no such ${index}`,
                `${server} addr x${index}`
              ][index % 4]!
            })

            const replies = yield* ask(socket, commands)

            assert.strictEqual(replies.length, count)
            for (const [index, reply] of replies.entries()) {
              if (index % 4 === 0) assert.strictEqual(reply, "", `${index}`)
              if (index % 4 === 2) assert.match(reply, /^Unknown command/, `${index}`)
              if (index % 4 === 3) assert.include(reply, `Invalid addr 'x${index}'`)
            }
          })
        )
      }

      it.effect("reads replies of many lines whole, between short ones", () =>
        Effect.gen(function* () {
          const { socket } = yield* Real

          const [pid, servers, none, mark] = yield* ask(socket, [
            "show info",
            "show servers state web",
            "show servers state absent",
            "show env EP2_CONFIG"
          ])

          assert.match(pid ?? "", /^Name: HAProxy\n[\s\S]*\nPid: \d+\n/)
          assert.strictEqual(servers?.split("\n").length, 52)
          assert.strictEqual(none, "Can't find backend.")
          assert.strictEqual(mark, "Variable not found")
        })
      )

      it.effect("answers several batches on one session", () =>
        Effect.gen(function* () {
          const { session } = yield* HaproxySocket
          const { socket } = yield* Real
          const opened = yield* session(socket)

          const first = yield* opened.ask(["set server web/node1 weight 0%"])
          const none = yield* opened.ask([])
          const second = yield* opened.ask(["no such", "set server web/node1 weight 100%"])

          assert.deepStrictEqual([first, none, second.length, second[1]], [[""], [], 2, ""])
        })
      )

      it.effect("lets sessions on one socket wait for one another, far more than HAProxy takes at once", () =>
        Effect.gen(function* () {
          const { session } = yield* HaproxySocket
          const { socket } = yield* Real
          let open = 0
          const one = Effect.scoped(
            Effect.gen(function* () {
              const opened = yield* session(socket)
              open += 1
              assert.strictEqual(open, 1)
              const replies = yield* opened.ask(["show env EP2_CONFIG", "set server web/node1 weight 100%"])
              open -= 1
              return replies
            })
          )

          const all = yield* Effect.all(
            Array.from({ length: 40 }, () => one),
            { concurrency: "unbounded" }
          )

          assert.deepStrictEqual(new Set(all.map((replies) => replies.join("|"))), new Set(["Variable not found|"]))
        })
      )

      it.effect("gives the turn back when a session is interrupted", () =>
        Effect.gen(function* () {
          const { session } = yield* HaproxySocket
          const { socket } = yield* Real
          const holder = yield* Effect.forkChild(Effect.scoped(Effect.andThen(session(socket), Effect.never)))
          const waiting = yield* Effect.forkChild(ask(socket, ["show env EP2_CONFIG"]))
          yield* Effect.sleep("50 millis")

          yield* Fiber.interrupt(holder)

          assert.deepStrictEqual(yield* Fiber.join(waiting), ["Variable not found"])
        })
      )
    }
  )
}

describe("HaproxySocket where nobody answers", () => {
  const connect = (socket: string) =>
    Effect.flip(ask(socket, ["show info"])).pipe(Effect.provide(HaproxySocket.layer({ sockets: [socket] })))
  const assertConnect = (error: SocketError, socket: string, words: string) => {
    assert.strictEqual(error._tag, "SocketError")
    assert.deepStrictEqual([error.reason, error.socket], ["Connect", socket])
    assert.include(error.message, `${socket}: cannot connect: `)
    assert.include(error.message, words)
    assert.notInclude(error.message, "\n")
  }

  it.live("says so when there is no socket", () =>
    Effect.gen(function* () {
      const socket = join(yield* folder, "no.sock")
      assertConnect(yield* connect(socket), socket, "ENOENT")
    })
  )

  it.live("says so when the file is no socket", () =>
    Effect.gen(function* () {
      const socket = join(yield* folder, "file")
      yield* Effect.promise(() => writeFile(socket, ""))
      assertConnect(yield* connect(socket), socket, "ECONNREFUSED")
    })
  )

  it.live("says so when nobody listens any more", () =>
    Effect.gen(function* () {
      const server = yield* HaproxyServer.make({ version: Binaries.haproxyVersions()[0]!, config })
      yield* server.start
      yield* server.kill
      assertConnect(yield* connect(server.socket), server.socket, "ECONNREFUSED")
    })
  )

  it.live("says so when it may not", () =>
    Effect.gen(function* () {
      const { path } = yield* listen(() => {})
      yield* Effect.promise(() => chmod(path, 0))
      // Nothing is forbidden to root: for it, the way to the socket leads through a file.
      const isRoot = process.getuid?.() === 0
      const socket = isRoot ? join(path, "s.sock") : path

      assertConnect(yield* connect(socket), socket, isRoot ? "ENOTDIR" : "EACCES")
    })
  )

  it.live("says so when the path is longer than a socket's may be", () =>
    Effect.gen(function* () {
      const socket = join(yield* folder, "s".repeat(200))
      const error = yield* connect(socket)
      assert.deepStrictEqual([error.reason, error.socket], ["Connect", socket])
    })
  )
})
