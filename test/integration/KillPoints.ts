/**
 * Loaded into ep2 before anything else (`node --import`): sees everything that ep2
 * does to the outside, one step at a time, and ends the process by SIGKILL just
 * before or just after one of them.
 *
 * A step is a line for a HAProxy socket, a call of `node:fs` or `node:fs/promises`
 * that changes something, the start and the end of a program, a signal, and the
 * taking of the lock. Lines for standard output are none. What this does not know
 * how to see throws, so that no effect passes by unseen.
 *
 * Nothing happens before the file `EP2_KILL_PLAN` is there. It is read once, and
 * counting begins with the next step.
 */
import childProcess, { type ChildProcess } from "node:child_process"
import fs from "node:fs"
import { syncBuiltinESMExports } from "node:module"
import net from "node:net"
import { basename } from "node:path"

/** Where to end: a step by its name, the how-manieth of that name (from 1), and on which side of it. */
export interface Point {
  readonly step: string
  readonly nth: number
  readonly side: "before" | "after"
}

/** What the file `EP2_KILL_PLAN` holds, as JSON. */
export type Plan =
  /** Writes the name of each step into this file, a line each, and lets it go on. */
  { readonly record: string } | { readonly kill: Point }

// As they were, since `fs` is about to be changed.
const { closeSync, existsSync, open, openSync, readFileSync, writeSync } = fs
const kill = process.kill.bind(process)
const planFile = process.env.EP2_KILL_PLAN ?? ""
let plan: Plan | undefined
const counts = new Map<string, number>()
/** The last step that changed something; questions to HAProxy are named after it. */
let last = "the start"
let asked = ""

/** Counts a step that is about to be made. Says on which side of it the process is to end, if on any. */
const sideOf = (step: string): Point["side"] | undefined => {
  if (plan === undefined && existsSync(planFile)) plan = JSON.parse(readFileSync(planFile, "utf8")) as Plan
  if (plan === undefined) return undefined
  const nth = (counts.get(step) ?? 0) + 1
  counts.set(step, nth)
  if ("kill" in plan) return plan.kill.step === step && plan.kill.nth === nth ? plan.kill.side : undefined
  const file = openSync(plan.record, "a")
  writeSync(file, `${step}\n`)
  closeSync(file)
  return undefined
}

const die = () => kill(process.pid, "SIGKILL")

/** Ends the process if that is to happen before this step. What it returns is called once the step is made. */
const begin = (step: string): (() => void) => {
  last = step
  const side = sideOf(step)
  if (side === "before") die()
  return side === "after" ? die : () => {}
}

type Call = (...args: Array<unknown>) => unknown

const functionOf = (owner: object, name: string): Call => Reflect.get(owner, name) as Call

/** Puts another function in place of one, which it is given. */
const replace = (owner: object, name: string, by: (original: Call) => Call) => {
  const original = functionOf(owner, name)
  const other = by(original)
  Reflect.set(owner, name, function (this: unknown, ...args: Array<unknown>) {
    return Reflect.apply(other, this, args)
  })
}

/** `rename haproxy.cfg`: without what differs from run to run. */
const fileName = (path: unknown): string =>
  basename(String(path))
    .replace(/^\.(.*)\.\d+\.\d+\.ep2-candidate$/, "$1 candidate")
    .replace(/\.\d{8}T\d{6}\.\d{3}Z\.bak/, ".bak")
    .replace(/^ep2-.*\.(pid|lock)$/, "lock.$1")
    .replace(/^ep2-test-.*$/, "folder")

const openFiles = new Map<unknown, string>()
const fileOf = (descriptor: unknown): string => openFiles.get(descriptor) ?? `descriptor ${descriptor}`

const isForWriting = (flags: unknown): boolean =>
  typeof flags === "number"
    ? (flags & (fs.constants.O_WRONLY | fs.constants.O_RDWR | fs.constants.O_CREAT | fs.constants.O_TRUNC)) !== 0
    : !["r", "rs", "sr", undefined, null].includes(flags as string | undefined | null)

/** Functions of `node:fs`, and where among its arguments stands the path that says which step it is. */
const byPath = {
  chmod: 0,
  chown: 0,
  copyFile: 1,
  cp: 1,
  lchown: 0,
  link: 1,
  lutimes: 0,
  mkdir: 0,
  mkdtemp: 0,
  rename: 1,
  rmdir: 0,
  symlink: 1,
  truncate: 0,
  unlink: 0,
  utimes: 0
} as const
const byDescriptor = ["fchmod", "fchown", "fdatasync", "fsync", "ftruncate", "futimes", "writev"] as const
const unseen = ["appendFile", "writeFile"] as const

/** Calls a function that reports to a callback, which hears of it after `made`. */
const callThen = (original: Call, args: ReadonlyArray<unknown>, made: (...results: Array<unknown>) => void) => {
  const callback = args.at(-1) as Call
  return original(...args.slice(0, -1), (...results: Array<unknown>) => {
    made(...results)
    callback(...results)
  })
}

/** One step for all three ways to call a function of `node:fs`; none where it changes nothing (`undefined`). */
const watch = (name: string, stepOf: (args: ReadonlyArray<unknown>) => string | undefined) => {
  const around =
    (call: (original: Call, args: ReadonlyArray<unknown>, made: () => void) => unknown) =>
    (original: Call): Call =>
    (...args) => {
      const step = stepOf(args)
      return step === undefined ? original(...args) : call(original, args, begin(step))
    }
  replace(fs, name, around(callThen))
  replace(
    fs,
    `${name}Sync`,
    around((original, args, made) => {
      const result = original(...args)
      made()
      return result
    })
  )
  if (!(name in fs.promises)) return
  replace(
    fs.promises,
    name,
    around(async (original, args, made) => {
      const result = await original(...args)
      made()
      return result
    })
  )
}

const watchFiles = () => {
  for (const [name, at] of Object.entries(byPath)) watch(name, (args) => `${name} ${fileName(args[at])}`)
  for (const name of byDescriptor) watch(name, ([descriptor]) => `${name} ${fileOf(descriptor)}`)
  watch("rm", ([path]) => (existsSync(String(path)) ? `rm ${fileName(path)}` : undefined))
  for (const name of unseen) {
    for (const full of [name, `${name}Sync`]) replace(fs, full, () => refuse(`fs.${full}`))
  }
  replace(fs.promises, "appendFile", () => refuse("fs.promises.appendFile"))

  replace(fs, "open", (original) => (...args) => {
    const made = isForWriting(args[1]) ? begin(`open ${fileName(args[0])}`) : () => {}
    return callThen(original, args, (_, descriptor) => {
      openFiles.set(descriptor, fileName(args[0]))
      made()
    })
  })
  replace(fs, "openSync", (original) => (...args) => {
    const made = isForWriting(args[1]) ? begin(`open ${fileName(args[0])}`) : () => {}
    const descriptor = original(...args)
    openFiles.set(descriptor, fileName(args[0]))
    made()
    return descriptor
  })
  replace(fs.promises, "open", (original) => (...args) => {
    if (isForWriting(args[1])) refuse("fs.promises.open for writing")()
    return original(...args)
  })
  // Standard output and error are not the outside.
  replace(fs, "writeSync", (original) => (...args) => {
    if (args[0] === 1 || args[0] === 2) return original(...args)
    const made = begin(`write ${fileOf(args[0])}`)
    const count = original(...args)
    made()
    return count
  })
  replace(
    fs,
    "write",
    (original) =>
      (...args) =>
        writeInTwo(original, args)
  )
  replace(fs.promises, "writeFile", () => async (...args) => {
    const [path, data, options] = args as [string, string, { readonly mode?: number } | undefined]
    if (typeof data !== "string" || typeof options === "string") refuse("such a fs.promises.writeFile")()
    const opened = begin(`open ${fileName(path)}`)
    const descriptor = await new Promise<number>((done, fail) =>
      open(path, "w", options?.mode ?? 0o666, (error, found) => (error === null ? done(found) : fail(error)))
    )
    opened()
    const wrote = begin(`write ${fileName(path)}`)
    writeSync(descriptor, data)
    wrote()
    closeSync(descriptor)
  })
}

const refuse =
  (what: string): Call =>
  () => {
    throw new Error(`test/integration/KillPoints.ts does not see the steps of ${what}`)
  }

/** A file can be cut off in the middle: each write is two. */
const writeInTwo = (original: Call, args: ReadonlyArray<unknown>) => {
  const [descriptor, data, offset, length, position, callback] = args
  if (!(data instanceof Uint8Array) || typeof callback !== "function") return refuse("such a fs.write")()
  const bytes = data.subarray(
    Number(offset ?? 0),
    length === undefined ? undefined : Number(offset ?? 0) + Number(length)
  )
  const at = typeof position === "number" ? position : undefined
  const half = Math.ceil(bytes.length / 2)
  const made = begin(`write the first half of ${fileOf(descriptor)}`)
  return original(descriptor, bytes, 0, half, at, (error: unknown, first: number) => {
    made()
    if (error !== null) return callback(error, first, data)
    const madeAll = begin(`write the rest of ${fileOf(descriptor)}`)
    const from = at === undefined ? undefined : at + first
    original(descriptor, bytes, first, bytes.length - first, from, (wrong: unknown, second: number) => {
      madeAll()
      callback(wrong, first + second, data)
    })
  })
}

const watchPrograms = () => {
  replace(childProcess, "spawn", (original) => (...args) => {
    const [program, words] = args as [string, ReadonlyArray<string>]
    const name = `${basename(program)} ${words.find((word) => word === "-sf") ?? words[0]}`
    const made = begin(`spawn ${name}`)
    const child = original(...args) as ChildProcess
    made()
    // The first to hear of it, before anything of ep2 does.
    child.once("exit", () => setImmediate(begin(`end of ${name}`)))
    return child
  })
  for (const name of ["exec", "execFile", "fork", "spawnSync", "execSync", "execFileSync"]) {
    replace(childProcess, name, () => refuse(`child_process.${name}`))
  }
  replace(childProcess.ChildProcess.prototype, "kill", (original) => {
    return function (this: unknown, ...args) {
      const made = begin(`kill of a program by ${args[0]}`)
      const result = Reflect.apply(original, this, args)
      made()
      return result
    }
  })
  replace(process, "kill", (original) => (...args) => {
    if (args[1] === 0) return Reflect.apply(original, process, args)
    const made = begin(`kill ${args[1]}`)
    const result = Reflect.apply(original, process, args)
    made()
    return result
  })
}

/** `set server web/node3 addr 127.0.0.1 port 80` is a step `socket addr`; a question is `undefined`. */
const changeIn = (line: string): string | undefined => {
  if (/^(prompt|show )/.test(line)) return undefined
  const rest = /^set server \S+ (.*)$/.exec(line)?.[1]
  return `socket ${(rest ?? line).replace(/^(add server|del server|enable \w+|addr|shutdown sessions) .*$/, "$1")}`
}

/** How long HAProxy is given to carry out what it was sent, before a step that is never made. */
const settleMillis = 10

const dieLater = () => {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, settleMillis)
  die()
}

/** HAProxy's sockets. */
const sockets = new WeakSet<object>()

const watchSockets = () => {
  for (const name of ["connect", "createConnection"]) {
    replace(net, name, (original) => (...args) => {
      const made = original(...args) as net.Socket
      const [to] = args
      if (typeof to === "object" && to !== null && "path" in to) sockets.add(made)
      return made
    })
  }
  replace(net.Socket.prototype, "write", (original) => {
    return function (this: net.Socket, ...args) {
      const go = (text: unknown, done?: () => void) => Reflect.apply(original, this, done ? [text, done] : [text])
      return sockets.has(this) ? writeLines(go, args) : Reflect.apply(original, this, args)
    } as Call
  })
  replace(net.Socket.prototype, "end", (original) => {
    return function (this: net.Socket, ...args) {
      if (!sockets.has(this) || typeof args[0] !== "string") return Reflect.apply(original, this, args)
      const made = begin(`socket ${args[0].trim()}`)
      return Reflect.apply(original, this, [args[0], made])
    } as Call
  })
}

/**
 * Writes a batch as it is, unless the process is to end within it: then only the
 * lines up to there. Questions change nothing, and there are as many as HAProxy
 * takes time: only the first after a step that changed something is one.
 */
const writeLines = (go: (text: unknown, done?: () => void) => unknown, args: ReadonlyArray<unknown>): unknown => {
  const text = typeof args[0] === "string" ? args[0] : Buffer.from(args[0] as Uint8Array).toString("utf8")
  const lines = text.split("\n").slice(0, -1)
  for (const [index, line] of lines.entries()) {
    const change = changeIn(line)
    if (change === undefined && asked === last) continue
    asked = last
    const side = sideOf(change ?? `ask after ${last}`)
    if (change !== undefined) last = change
    if (side === undefined) continue
    const sent = lines.slice(0, side === "before" ? index : index + 1)
    if (sent.length > 0) return go(`${sent.join("\n")}\n`, side === "before" ? dieLater : die)
    dieLater()
  }
  return args.length > 1 ? go(args[0], args.at(-1) as () => void) : go(args[0])
}

/** The lock is SQLite's. */
const watchLock = () => {
  const { DatabaseSync } = process.getBuiltinModule("node:sqlite")
  replace(DatabaseSync.prototype, "exec", (original) => {
    return function (this: unknown, ...args) {
      const made = begin("lock")
      const result = Reflect.apply(original, this, args)
      made()
      return result
    } as Call
  })
}

// What removes files reads `node:fs` when it is first used: before that is changed, so that it is one step.
await fs.promises.rm(`${planFile}.none`, { force: true })
watchFiles()
watchPrograms()
watchSockets()
watchLock()
syncBuiltinESMExports()
