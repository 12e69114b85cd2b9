/**
 * What ep2 is compared with: clients of HAProxy's socket that do nothing but write
 * commands, prepared beforehand, and wait for the replies.
 */
import { once } from "node:events"
import { createConnection } from "node:net"
import { setTimeout as sleep } from "node:timers/promises"
import { Effect } from "effect"

/** Commands for one process as the bytes that go over its socket. */
export interface Batch {
  readonly socket: string
  readonly bytes: Buffer
  readonly commands: ReadonlyArray<string>
}

export const batch = (socket: string, commands: ReadonlyArray<string>): Batch => ({
  socket,
  bytes: Buffer.from(`prompt\n${commands.join("\n")}\n`),
  commands
})

/** The floor: all commands of a batch down one connection, all batches at once. Replies are counted and not read. */
export const pipelined = (batches: ReadonlyArray<Batch>): Effect.Effect<void> =>
  Effect.promise(() => Promise.all(batches.map(pipeline))).pipe(Effect.asVoid)

/** The way of EP2 1.0: `show stat` is read in pieces, then each command has a connection of its own, one after the other. */
export const oneByOne = (batches: ReadonlyArray<Batch>): Effect.Effect<void> =>
  Effect.promise(async () => {
    for (const { commands, socket } of batches) {
      await inPieces(socket)
      for (const command of commands) await askOnce(socket, command)
    }
  })

/** One command on a connection of its own. Returns how many bytes came back. */
export const askAlone = (socket: string, command: string) => Effect.promise(() => askOnce(socket, command))

const prompt = Buffer.from("\n> ")

const pipeline = async ({ bytes, commands, socket }: Batch) => {
  const connection = createConnection(socket)
  let [prompts, tail] = [0, Buffer.alloc(0)]
  const done = new Promise<void>((resolve, reject) => {
    connection.on("error", reject)
    connection.on("close", () =>
      reject(new Error(`${socket} closed after ${prompts} of ${commands.length + 1} replies`))
    )
    connection.on("data", (chunk) => {
      const text = tail.length === 0 ? chunk : Buffer.concat([tail, chunk])
      let at = text.indexOf(prompt)
      let end = 0
      for (; at !== -1; at = text.indexOf(prompt, end)) {
        prompts++
        end = at + prompt.length
      }
      // A prompt may be cut in two.
      tail = text.subarray(Math.max(end, text.length - 2))
      // The first one is the greeting.
      if (prompts > commands.length) resolve()
    })
  })
  connection.write(bytes)
  await done
  connection.removeAllListeners("close").destroy()
}

const askOnce = async (socket: string, command: string): Promise<number> => {
  for (let tries = 1; ; tries++) {
    try {
      return await ask(socket, command)
    } catch (cause) {
      // The listen queue of the socket is full for a moment.
      if (tries === 100 || (cause as NodeJS.ErrnoException).code !== "EAGAIN") throw cause
      await sleep(1)
    }
  }
}

const ask = async (socket: string, command: string): Promise<number> => {
  const connection = createConnection(socket)
  connection.write(`${command}\n`)
  let bytes = 0
  connection.on("data", (chunk) => {
    bytes += chunk.length
  })
  await once(connection, "end")
  connection.destroy()
  return bytes
}

/** As a loop over `recv` of 8 KiB does. */
const inPieces = async (socket: string) => {
  const connection = createConnection({ path: socket, onread: { buffer: Buffer.alloc(8192), callback: () => true } })
  connection.write("show stat\n")
  await once(connection, "end")
  connection.destroy()
}
