/** A socket with a server behind it that is not HAProxy, and one exchange over a session with whatever is there. */
import { mkdtemp, rm } from "node:fs/promises"
import { createServer, type Socket } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect } from "effect"
import { HaproxySocket } from "../../src/haproxy/HaproxySocket.ts"

/** Asks over one session, which ends after it. */
export const ask = (socket: string, commands: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const { session } = yield* HaproxySocket
    return yield* Effect.scoped(Effect.flatMap(session(socket), (opened) => opened.ask(commands)))
  })

/** A folder with a short path, removed at the end. */
export const folder = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "ep2-s-"))),
  (dir) => Effect.promise(() => rm(dir, { recursive: true, force: true }))
)

/** A server that does what it is told to once a client is there. */
export const listen = Effect.fnUntraced(function* (behave: (client: Socket, received: () => string) => void) {
  const path = join(yield* folder, "m.sock")
  const clients = new Set<Socket>()
  const server = createServer((client) => {
    let received = ""
    clients.add(client)
    client.on("data", (data) => {
      received += String(data)
    })
    client.on("error", () => {})
    behave(client, () => received)
  })
  yield* Effect.acquireRelease(
    Effect.promise(() => new Promise<void>((resume) => server.listen(path, resume))),
    () =>
      Effect.promise(() => {
        for (const client of clients) client.destroy()
        return new Promise((resume) => server.close(resume))
      })
  )
  return { path, clients }
})
