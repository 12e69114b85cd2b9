/** A proxy in front of a UNIX socket that passes each answer on later than it came: a HAProxy that is slow to answer. */
import { once } from "node:events"
import { renameSync } from "node:fs"
import { createConnection, createServer, type Socket } from "node:net"
import { Effect } from "effect"

export interface UnixProxy {
  /** Delays what comes back from now on; 0 at first. What is on its way already comes when it was to come. */
  readonly setDelayMillis: (millis: number) => Effect.Effect<void>
  /** How many lines have gone in so far: commands, and one `prompt` per connection of ep2's. */
  readonly lines: () => number
}

/** Takes the place of a socket that somebody listens on; the real one is moved aside, and back when the scope ends. */
export const takeOver = (path: string) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const behind = `${path}.real`
      const open = new Set<Socket>()
      const state = { delayMillis: 0, lines: 0 }
      const server = createServer((front) => {
        const back = createConnection(behind)
        for (const [from, to] of [
          [front, back],
          [back, front]
        ] as const) {
          open.add(from)
          from.on("error", () => to.destroy())
          from.on("close", () => {
            open.delete(from)
            to.destroy()
          })
        }
        front.on("data", (chunk) => {
          for (const byte of chunk) if (byte === lineFeed) state.lines++
        })
        front.pipe(back)
        back.on("data", (chunk) => void setTimeout(() => front.writable && front.write(chunk), state.delayMillis))
      })
      renameSync(path, behind)
      server.listen(path)
      await once(server, "listening")
      const close = async () => {
        const closed = once(server, "close")
        server.close()
        for (const one of open) one.destroy()
        await closed
        renameSync(behind, path)
      }
      return { state, close }
    }),
    ({ close }) => Effect.promise(close)
  ).pipe(
    Effect.map(
      ({ state }): UnixProxy => ({
        setDelayMillis: (millis) =>
          Effect.sync(() => {
            state.delayMillis = millis
          }),
        lines: () => state.lines
      })
    )
  )

const lineFeed = 10
