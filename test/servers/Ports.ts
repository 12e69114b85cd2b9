/**
 * TCP ports that nobody else takes: neither another test, in this process or beside
 * it, nor a connection that goes out, which Linux gives a port of 32768 and above.
 *
 * A server of a test that is stopped and started again finds its port free, then; with
 * a port that the system chose, one of the thousand connections of the tests may have it.
 */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir, userInfo } from "node:os"
import { join } from "node:path"
import { Effect } from "effect"

/** Below what Linux gives to connections, and above what machines serve on. */
const first = 10_000
const count = 10_000

/** Those of the pages of the documentation begin here: a thousand each. */
const firstThousand = 20
const thousands = 12

// Each file is named as what it takes, and holds the pid of who took it.
const taken = join(tmpdir(), `ep2-test-ports-${userInfo().uid}`)

/** A port of 127.0.0.1, for as long as this process lives. */
export const free = (): Promise<number> => find((port) => take(String(port)))

/** The same. */
export const freePort: Effect.Effect<number> = Effect.promise(() => free())

/** A port of 127.0.0.1 that nobody listens on now. Leaves nothing on disk. */
export const unused = (): Promise<number> => find(() => true)

const find = async (isOurs: (port: number) => boolean): Promise<number> => {
  const from = Math.floor(Math.random() * count)
  for (let tries = 0; tries < count; tries++) {
    const port = first + ((from + tries) % count)
    if (isOurs(port) && (await isFree(port))) return port
  }
  throw new Error(`no free port in ${first} to ${first + count - 1}`)
}

/** The first port of a thousand, of which these are free; to be given back. */
export const freeThousand = async (offsets: ReadonlySet<number>) => {
  const from = Math.floor(Math.random() * thousands)
  for (let tries = 0; tries < thousands; tries++) {
    const base = 1000 * (firstThousand + ((from + tries) % thousands))
    const name = `${base}-${base + 999}`
    if (!take(name)) continue
    const areFree = await Promise.all([...offsets].map((offset) => isFree(base + offset)))
    const giveBack = () => rmSync(join(taken, name), { force: true })
    if (areFree.every((one) => one)) return { base, giveBack }
    giveBack()
  }
  throw new Error("no thousand ports of which all that are needed are free")
}

const ours = new Set<string>()
process.on("exit", () => {
  for (const file of ours) rmSync(file, { force: true })
})

const take = (name: string): boolean => {
  const file = join(taken, name)
  mkdirSync(taken, { recursive: true })
  for (const isSecondTry of [false, true]) {
    try {
      writeFileSync(file, String(process.pid), { flag: "wx" })
      ours.add(file)
      return true
    } catch {
      if (isSecondTry || isAlive(file)) return false
      rmSync(file, { force: true })
    }
  }
  return false
}

const isAlive = (file: string): boolean => {
  try {
    process.kill(Number(readFileSync(file, "utf8")), 0)
    return true
  } catch {
    return false
  }
}

const isFree = (port: number) =>
  new Promise<boolean>((done) => {
    const server = createServer()
    server.once("error", () => done(false))
    server.listen(port, "127.0.0.1", () => server.close(() => done(true)))
  })
