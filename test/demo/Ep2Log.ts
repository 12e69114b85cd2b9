/** ep2's own log: read as it is written, and shortened for somebody who looks on. */
import { closeSync, openSync, readSync } from "node:fs"
import { Effect, type Scope } from "effect"

/** Calls back with each line that is added to a file, from its beginning, until the scope ends. */
export const follow = (file: string, onLine: (line: string) => void): Effect.Effect<void, never, Scope.Scope> => {
  let offset = 0
  let rest = Buffer.alloc(0)
  const look = Effect.sync(() => {
    const added = readFrom(file, offset)
    offset += added.length
    const all = Buffer.concat([rest, added])
    const end = all.lastIndexOf("\n") + 1
    rest = all.subarray(end)
    for (const line of all.subarray(0, end).toString("utf8").split("\n")) if (line !== "") onLine(line)
  })
  return look.pipe(Effect.andThen(Effect.sleep(40)), Effect.forever, Effect.forkScoped, Effect.asVoid)
}

const readFrom = (file: string, offset: number): Buffer => {
  try {
    const opened = openSync(file, "r")
    try {
      const buffer = Buffer.alloc(65_536)
      return buffer.subarray(0, readSync(opened, buffer, 0, buffer.length, offset))
    } finally {
      closeSync(opened)
    }
  } catch {
    return Buffer.alloc(0)
  }
}

export interface Line {
  readonly level: string
  /** What it is about, with the names of the demo: `node3`, `blue-3`. */
  readonly subject: ReadonlyArray<string>
  readonly message: string
}

/**
 * Shortens lines of the log: without their time, and without what the reader has
 * on the screen already. Lines are to be given in order, since ep2 names the
 * server in a slot when it arrives or drains, but no longer when it has left.
 */
export const makeShortener = (known: {
  readonly folder: string
  /** The name of the server at an endpoint. */
  readonly nameOf: (endpoint: string) => string | undefined
}): ((line: string) => Line) => {
  const inSlot = new Map<string, string>()
  return (line) => {
    const { level, message, tags } = parse(line)
    const endpoint = tags.get("endpoint")
    const slot = tags.get("server")
    const name = endpoint === undefined ? inSlot.get(slot ?? "") : (known.nameOf(endpoint) ?? endpoint)
    if (slot !== undefined && name !== undefined) inSlot.set(slot, name)
    const plain = message.replaceAll(`${known.folder}/`, "")
    return {
      level,
      subject: [slot, name].filter((one) => one !== undefined),
      // Where a server comes from is its endpoint and the labels of the list: its name, here.
      message: plain.replace(`: ${endpoint} {name=${name}}`, "")
    }
  }
}

/** `TIME LEVEL key=value key="some value" MESSAGE` */
const parse = (line: string) => {
  const [, level = "info", tags = "", message = line] =
    /^\S+ (\w+) +((?:\w+=(?:"(?:[^"\\]|\\.)*"|\S+) )*)(.*)$/.exec(line) ?? []
  const pairs = [...tags.matchAll(/(\w+)=("(?:[^"\\]|\\.)*"|\S+) /g)]
  return { level, message, tags: new Map(pairs.map(([, key = "", value = ""]) => [key, value])) }
}
