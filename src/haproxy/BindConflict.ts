/**
 * Finds out before a reload whether another program has a port that the new
 * config wants. HAProxy would find out too, but late: `haproxy -c` does not look,
 * and a reload that fails on a port takes every listener away for two seconds
 * (tried on 2.2 to 3.2).
 *
 * Only what is certain is a conflict. A bind line that this cannot read (a
 * variable, a host name, a network namespace) is left to HAProxy, and so is
 * everything when its open files cannot be read (another user's).
 */
import { readdir, readFile, readlink } from "node:fs/promises"
import { createServer } from "node:net"
import { Effect } from "effect"

/** One address of a `bind` line. */
export interface Bind {
  /** As it is written. */
  readonly text: string
  /** Canonical; `0.0.0.0` and `::` stand for all. */
  readonly address: string
  readonly firstPort: number
  readonly lastPort: number
  /** Of `::`: whether IPv4 comes with it. */
  readonly isDual: boolean
}

interface Listener {
  readonly address: string
  readonly port: number
  readonly inode: string
}

/**
 * What listens already where a `bind` line of `next` wants to, and in words for
 * the operator; `undefined` when nothing does. Lines that `running` has as well
 * are not looked at, nor are the listeners of `haproxy`, the pids of the HAProxy
 * that is to be reloaded.
 */
export const find = Effect.fn("BindConflict.find")(function* (
  next: string,
  running: string,
  haproxy: ReadonlyArray<number>
) {
  const known = new Set(binds(running).map(({ text }) => text))
  const wanted = binds(next).filter(({ text }) => !known.has(text))
  if (wanted.length === 0) return undefined
  const listeners = yield* Effect.promise(readListeners)
  const opened = yield* Effect.promise(() => Promise.all(haproxy.map(inodesOf)))
  // Without knowing what is HAProxy's own, its own listeners would look like a conflict.
  if (opened.includes(undefined)) return undefined
  const own = new Set(opened.flat())
  const [theirs, mine] = [listeners.filter(({ inode }) => !own.has(inode)), listeners.filter((l) => own.has(l.inode))]
  for (const bind of wanted) {
    const inRange = theirs.filter(({ port }) => port >= bind.firstPort && port <= bind.lastPort)
    for (const listener of inRange) {
      const isTaken =
        overlaps(bind, listener) ||
        (mayBeDual(bind, listener) &&
          !mine.some((one) => one.port === listener.port && overlaps(bind, one)) &&
          (yield* isInUse(bind.address, listener.port)))
      if (!isTaken) continue
      const who = (yield* Effect.promise(() => holderOf(listener.inode))) ?? "another program"
      return `the new line \`bind ${bind.text}\` wants a port on which ${who} listens (${shown(listener)})`
    }
  }
  return undefined
})

/**
 * The TCP addresses of the `bind` lines of a config, each once.
 *
 * Source: HAProxy configuration manual, 4.2 "bind" and 11.1 "Address formats".
 */
export const binds = (config: string): ReadonlyArray<Bind> => {
  const found = new Map<string, Bind>()
  for (const line of config.split("\n")) {
    const [keyword, addresses, ...parameters] = line.replace(/#.*$/, "").trim().split(/\s+/)
    if (keyword !== "bind" || addresses === undefined) continue
    if (parameters.includes("namespace") || parameters.includes("interface")) continue
    for (const text of addresses.split(",")) {
      const bind = parse(text, parameters)
      if (bind !== undefined) found.set(text, bind)
    }
  }
  return [...found.values()]
}

const parse = (text: string, parameters: ReadonlyArray<string>): Bind | undefined => {
  // The last colon is where the port begins, also after an IPv6 address without brackets.
  const match = /^(?:ip@|ipv4@|ipv6@|tcp@|tcp4@|tcp6@)?(.*):(\d{1,5})(?:-(\d{1,5}))?$/.exec(text)
  if (match === null) return undefined
  const [, host, first, last] = match
  const isSix = /^(ipv6|tcp6)@/.test(text)
  const address = host === "" || host === "*" ? (isSix ? "::" : "0.0.0.0") : canonical(host!)
  if (address === undefined) return undefined
  const firstPort = Number(first)
  return {
    text,
    address,
    firstPort,
    lastPort: last === undefined ? firstPort : Number(last),
    isDual: address === "::" && parameters.includes("v4v6")
  }
}

const canonical = (host: string): string | undefined => {
  const bare = host.replace(/^\[(.*)\]$/, "$1")
  if (/^\d+\.\d+\.\d+\.\d+$/.test(bare)) return bare
  if (!/^[0-9a-fA-F:]*:[0-9a-fA-F:]*$/.test(bare) || !URL.canParse(`http://[${bare}]/`)) return undefined
  return new URL(`http://[${bare}]/`).hostname.slice(1, -1)
}

const isSix = (address: string): boolean => address.includes(":")
const isAll = (address: string): boolean => address === "0.0.0.0" || address === "::"

/** The port is known to be the same. */
const overlaps = (bind: Bind, { address }: Listener): boolean =>
  isSix(bind.address) === isSix(address)
    ? bind.address === address || isAll(bind.address) || isAll(address)
    : bind.isDual && !isSix(address)

/** A program on `::` has IPv4 as well, unless it asked not to; the kernel does not say which. */
const mayBeDual = (bind: Bind, { address }: Listener): boolean => address === "::" && !isSix(bind.address)

/** Source: proc_net_tcp(5): local address in hexadecimal, each 32 bits in the machine's (little-endian) order; 0A is LISTEN. */
const readListeners = async (): Promise<ReadonlyArray<Listener>> => {
  const tables = await Promise.all(
    ["/proc/self/net/tcp", "/proc/self/net/tcp6"].map((path) => readFile(path, "utf8").catch(() => ""))
  )
  return tables.flatMap((table) =>
    table.split("\n").flatMap((line) => {
      const fields = line.trim().split(/\s+/)
      const [address, port] = (fields[1] ?? "").split(":")
      if (fields[3] !== "0A" || address === undefined || port === undefined) return []
      return [{ address: readAddress(address), port: Number.parseInt(port, 16), inode: fields[9] ?? "" }]
    })
  )
}

const readAddress = (hex: string): string => {
  const bytes = (hex.match(/.{8}/g) ?? []).flatMap((word) => word.match(/../g)!.reverse())
  if (bytes.length === 4) return dotted(bytes)
  const text = bytes.join("")
  if (text.startsWith(`${"0".repeat(20)}ffff`)) return dotted(bytes.slice(12))
  return new URL(`http://[${text.match(/.{4}/g)!.join(":")}]/`).hostname.slice(1, -1)
}

const dotted = (bytes: ReadonlyArray<string>): string => bytes.map((byte) => Number.parseInt(byte, 16)).join(".")

const shown = ({ address, port }: Listener): string => (isSix(address) ? `[${address}]:${port}` : `${address}:${port}`)

/** The sockets that a process has open; none when it is gone, `undefined` when it is another user's. */
const inodesOf = async (pid: number): Promise<ReadonlyArray<string> | undefined> => {
  const folder = `/proc/${pid}/fd`
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) =>
    error.code === "EACCES" ? undefined : []
  )
  if (names === undefined) return undefined
  const links = await Promise.all(names.map((name) => readlink(`${folder}/${name}`).catch(() => "")))
  return links.flatMap((link) => /^socket:\[(\d+)\]$/.exec(link)?.[1] ?? [])
}

const holderOf = async (inode: string): Promise<string | undefined> => {
  for (const name of await readdir("/proc")) {
    if (!/^\d+$/.test(name) || (await inodesOf(Number(name)))?.includes(inode) !== true) continue
    const comm = await readFile(`/proc/${name}/comm`, "utf8").catch(() => "")
    return `${comm.trim() === "" ? "a program" : comm.trim()} (pid ${name})`
  }
  return undefined
}

/** Tries it: nobody of ours listens there, so nobody is turned away. */
const isInUse = (host: string, port: number) =>
  Effect.callback<boolean>((resume) => {
    const server = createServer((socket) => socket.destroy())
    server.once("error", (error: NodeJS.ErrnoException) => resume(Effect.succeed(error.code === "EADDRINUSE")))
    server.listen({ host, port, exclusive: true }, () => server.close(() => resume(Effect.succeed(false))))
  })
