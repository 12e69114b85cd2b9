/** Requests of the bench, over connections that stay. */
import { request } from "node:http"
import { createConnection, type Socket } from "node:net"
import { Effect, type Scope } from "effect"

/** A client of HAProxy, on Node's own sockets: it takes as little as it can from the processors that are measured. */
export interface Client {
  /** Asks each millisecond, whatever became of the requests before, until one is answered by the server of that name. */
  readonly untilAnswers: (name: string) => Effect.Effect<void>
}

/** So many are on their way at once at the most: a HAProxy that does not answer is not asked for ever. */
const mostConnections = 50

const text = "GET /bench HTTP/1.1\r\nhost: bench\r\n\r\n"

/** Of HAProxy's port on 127.0.0.1. Its connections are closed with the scope. */
export const makeClient = (port: number): Effect.Effect<Client, never, Scope.Scope> =>
  Effect.gen(function* () {
    const all = new Set<Socket>()
    const free: Array<Socket> = []
    let onAnswer: (name: string) => void = () => {}

    const open = (): Socket => {
      const socket = createConnection({ host: "127.0.0.1", port, noDelay: true }).setEncoding("latin1")
      let heard = ""
      socket.on("data", (chunk) => {
        heard += chunk
        const name = /\r\nx-served-by: (\S+)\r\n/i.exec(heard)?.[1]
        // The body is the name. Whatever else comes is an error of HAProxy, behind which the connection ends.
        if (name === undefined || !heard.endsWith(`\r\n\r\n${name}`)) return
        heard = ""
        free.push(socket)
        onAnswer(name)
      })
      socket.on("error", () => {})
      socket.on("close", () => {
        all.delete(socket)
        const at = free.indexOf(socket)
        if (at !== -1) free.splice(at, 1)
      })
      all.add(socket)
      return socket
    }
    yield* Effect.addFinalizer(() => Effect.sync(() => all.forEach((socket) => socket.destroy())))

    const untilAnswers = (name: string) =>
      Effect.callback<void>((resume) => {
        const ticking = setInterval(() => {
          const socket = free.pop() ?? (all.size < mostConnections ? open() : undefined)
          socket?.write(text)
        }, 1)
        const end = () => {
          clearInterval(ticking)
          onAnswer = () => {}
        }
        onAnswer = (answered) => {
          if (answered !== name) return
          end()
          resume(Effect.void)
        }
        return Effect.sync(end)
      })
    return { untilAnswers }
  })

/** An answer, as far as Consul's watches need it. */
export const get = (url: string) =>
  Effect.promise(
    () =>
      new Promise<{ readonly index: string; readonly body: string }>((done, failed) => {
        request(url, { agent: false }, async (answer) => {
          const body = Buffer.concat(await answer.toArray()).toString("utf8")
          done({ index: String(answer.headers["x-consul-index"]), body })
        })
          .once("error", failed)
          .end()
      })
  )
