import type { Socket } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import { HaproxySocket } from "../../src/haproxy/HaproxySocket.ts"
import { ask, listen } from "./MisbehavingServer.ts"

describe("HaproxySocket on a server that misbehaves", () => {
  const replyTimeout = Duration.millis(300)
  const commands = ["show info", "show env EP2_CONFIG"]
  /** What a well-behaved HAProxy says to the two commands. */
  const whole = "\n> Name: HAProxy\nPid: 7\n\n> EP2_CONFIG=1\n\n> "

  const exchange = Effect.fnUntraced(function* (behave: (client: Socket, received: () => string) => void) {
    const { path } = yield* listen(behave)
    const result = ask(path, commands).pipe(Effect.provide(HaproxySocket.layer({ sockets: [path], replyTimeout })))
    return { path, result }
  })
  /** Sends pieces, a moment apart, so that each is a read of its own. */
  const send = async (client: Socket, pieces: ReadonlyArray<string>) => {
    for (const piece of pieces) {
      client.write(piece)
      await new Promise((resume) => setTimeout(resume, 2))
    }
  }

  it.live("closes before a word", () =>
    Effect.gen(function* () {
      const { path, result } = yield* exchange((client) => client.end())
      const error = yield* Effect.flip(result)

      assert.deepStrictEqual([error.reason, error.socket], ["Closed", path])
    })
  )

  it.live("never answers", () =>
    Effect.gen(function* () {
      const { path, result } = yield* exchange(() => {})
      const error = yield* Effect.flip(result)

      assert.strictEqual(error.reason, "Timeout")
      assert.strictEqual(error.message, `${path}: HAProxy was silent for 0.3 s after 0 of 3 replies`)
    })
  )

  it.live("stops in the middle", () =>
    Effect.gen(function* () {
      const { result } = yield* exchange((client) => client.write(`${whole.slice(0, 20)}`))
      const error = yield* Effect.flip(result)

      assert.strictEqual(error.reason, "Timeout")
      assert.include(error.message, 'after 1 of 3 replies, its last words: "Name: HAProxy\\nPid"')
    })
  )

  it.live("cuts the replies at every byte, and is never believed to have finished", () =>
    Effect.forEach(
      Array.from({ length: whole.length }, (_, length) => length),
      (length) =>
        Effect.gen(function* () {
          const { result } = yield* exchange((client) => client.end(whole.slice(0, length)))
          const error = yield* Effect.flip(result)

          const prompts = whole.slice(0, length).split("\n> ").length - 1
          assert.strictEqual(error.reason, "Closed", `${length}`)
          assert.include(error.message, `after ${prompts} of 3 replies`, `${length}`)
        }).pipe(Effect.scoped),
      { concurrency: 4, discard: true }
    )
  )

  it.live("sends the replies in two pieces, split at every byte", () =>
    Effect.forEach(
      Array.from({ length: whole.length + 1 }, (_, length) => length),
      (length) =>
        Effect.gen(function* () {
          const { result } = yield* exchange((client) => {
            void send(client, [whole.slice(0, length), whole.slice(length)])
          })

          assert.deepStrictEqual(yield* result, ["Name: HAProxy\nPid: 7", "EP2_CONFIG=1"], `${length}`)
        }).pipe(Effect.scoped),
      { concurrency: 4, discard: true }
    )
  )

  it.live("sends the replies byte by byte", () =>
    Effect.gen(function* () {
      const { result } = yield* exchange((client) => {
        void send(client, [...whole])
      })

      assert.deepStrictEqual(yield* result, ["Name: HAProxy\nPid: 7", "EP2_CONFIG=1"])
    })
  )

  it.live("sends garbage without a prompt", () =>
    Effect.gen(function* () {
      const { result } = yield* exchange((client) => client.write(Buffer.from([0, 255, 254, 10, 62, 13, 10, 128])))
      const error = yield* Effect.flip(result)

      assert.strictEqual(error.reason, "Timeout")
      assert.notInclude(error.message, "\n")
    })
  )

  it.live("speaks another protocol", () =>
    Effect.gen(function* () {
      const { result } = yield* exchange((client) => client.end("HTTP/1.1 400 Bad Request\r\n\r\n"))
      const error = yield* Effect.flip(result)

      assert.strictEqual(error.reason, "Closed")
      assert.include(error.message, 'its last words: "HTTP/1.1 400 Bad Request"')
    })
  )

  it.live("sends a huge reply, in characters that are cut by reads", () =>
    Effect.gen(function* () {
      const huge = "é€😀\n".repeat(500_000)
      const { result } = yield* exchange((client) => client.write(`\n> ${huge}\n> ok\n\n> `))

      const [first, second] = yield* result

      assert.isTrue(first === huge.trimEnd())
      assert.strictEqual(second, "ok")
    })
  )

  it.live("reads nothing of what it is sent, however much that is", () =>
    Effect.gen(function* () {
      const { path } = yield* listen((client) => client.pause())
      const many = Array.from({ length: 100_000 }, (_, index) => `set server web/node1 weight ${index}%`)
      const error = yield* ask(path, many).pipe(
        Effect.flip,
        Effect.provide(HaproxySocket.layer({ sockets: [path], replyTimeout }))
      )

      assert.strictEqual(error.reason, "Timeout")
    })
  )

  it.live("dies while it is read", () =>
    Effect.gen(function* () {
      const { result } = yield* exchange((client) => {
        client.write(whole.slice(0, 20))
        setTimeout(() => client.destroy(), 20)
      })
      const error = yield* Effect.flip(result)

      assert.strictEqual(error.reason, "Closed")
    })
  )

  it.live("is let go of after a failure, so that the next session gets its turn", () =>
    Effect.gen(function* () {
      let count = 0
      const { clients, path } = yield* listen((client) => {
        count += 1
        if (count > 1) client.write(whole)
      })

      yield* Effect.gen(function* () {
        const error = yield* Effect.flip(ask(path, commands))
        const replies = yield* ask(path, commands)

        assert.strictEqual(error.reason, "Timeout")
        assert.deepStrictEqual(replies, ["Name: HAProxy\nPid: 7", "EP2_CONFIG=1"])
      }).pipe(Effect.provide(HaproxySocket.layer({ sockets: [path], replyTimeout })))
      yield* Effect.sleep("50 millis")

      assert.isTrue([...clients].every((client) => client.destroyed || client.readableEnded))
    })
  )

  it.live("is sent the interactive mode alone on its line, and then a command a line", () =>
    Effect.gen(function* () {
      let seen: () => string = () => ""
      const { result } = yield* exchange((client, received) => {
        seen = received
        setTimeout(() => client.write(whole), 50)
      })

      yield* result

      assert.strictEqual(seen(), "prompt\nshow info\nshow env EP2_CONFIG\n")
    })
  )
})
