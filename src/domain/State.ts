/**
 * The two states ep2 compares: what the orchestrator wants served (desired) and
 * what HAProxy serves now (observed). Data only; nothing here talks to anything.
 */
import { Result } from "effect"

/**
 * Where traffic can go: one instance of one service.
 *
 * `address` is an IPv4 address or an IPv6 one in canonical form without brackets
 * (`2001:db8::5`); `port` is 1–65535. Made by `endpoint`, so that two sources
 * that spell one address differently mean the same endpoint.
 */
export interface Endpoint {
  readonly address: string
  readonly port: number
}

/** Identity of an endpoint, as HAProxy's config spells it: `10.0.0.1:80`, `[2001:db8::5]:80`. */
export const endpointKey = ({ address, port }: Endpoint): string =>
  address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`

/**
 * Reads an address and a port as a source reports them.
 *
 * Fails with what is wrong, worded to follow the value (`is not an IPv4 or IPv6
 * address`). HAProxy itself would take most of what is refused here and get it
 * wrong: port 70000 becomes 4464, a host name is never resolved, and 0.0.0.0 is
 * the host itself (tried on 2.2 to 3.2).
 */
export const endpoint = (address: string, port: number): Result.Result<Endpoint, string> => {
  if (!isPort(port)) return Result.fail("is not a port from 1 to 65535")
  const canonical = canonicalAddress(address)
  if (canonical === undefined) return Result.fail("is not an IPv4 or IPv6 address")
  const why = unservable({ address: canonical, port })
  return why === undefined ? Result.succeed({ address: canonical, port }) : Result.fail(why)
}

/** Whether a number is a TCP port that something can listen on: whole, 1 to 65535. */
export const isPort = (port: number): boolean => Number.isInteger(port) && port >= 1 && port <= 65535

// Without leading zeros, which some programs read as octal.
const ipv4 = /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}$/

/** One spelling per address: IPv6 as in RFC 5952, and IPv4 in IPv6 clothes as IPv4. `undefined`: no address. */
export const canonicalAddress = (address: string): string | undefined => {
  if (ipv4.test(address)) return address
  if (!/^[0-9a-fA-F:.]+$/.test(address) || !address.includes(":") || !URL.canParse(`http://[${address}]/`))
    return undefined
  const canonical = new URL(`http://[${address}]/`).hostname.slice(1, -1)
  const mapped = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(canonical)
  if (mapped === null) return canonical
  const [high, low] = [Number.parseInt(mapped[1]!, 16), Number.parseInt(mapped[2]!, 16)]
  return [high >> 8, high & 255, low >> 8, low & 255].join(".")
}

const unservable = ({ address, port }: Endpoint): string | undefined => {
  const first = Number(address.split(".")[0])
  if (address === "::" || first === 0) return "is the unspecified address, which is the HAProxy host itself"
  if (first >= 224 || /^ff[0-9a-f]{2}:/.test(address)) return "is a multicast or broadcast address"
  if (isPlaceholder({ address, port })) return "is where ep2 keeps its free slots"
  if (/^fe[89ab][0-9a-f]:/.test(address)) return "is a link-local address, which cannot be reached without a zone"
  return undefined
}

/** An endpoint that the orchestrator vouches for, and what it calls it. */
export interface Wanted {
  readonly endpoint: Endpoint
  /** The orchestrator's own name for it, for logs: a Consul service id and node, an instance id, group and zone. */
  readonly origin: string
}

/** Something the orchestrator named that cannot be served, and why. */
export interface Refused {
  readonly origin: string
  /** What was found and what is wrong with it, in one sentence. */
  readonly reason: string
}

/** Something that is to be served and cannot be yet. */
export interface Pending extends Refused {
  /** Its endpoint could not be found out, so that any endpoint that is served now may be its own. */
  readonly isUnknown: boolean
}

/** An endpoint that the orchestrator no longer vouches for, and what it calls it. To the plan it is one that is not wanted. */
export interface Leaving extends Wanted {
  /** Worded to follow the origin: `is in Standby`. */
  readonly reason: string
  /** The answer does not name it any more: that it is gone is known by that alone. */
  readonly isMissing?: true
}

/** What the orchestrator wants served, for one backend. Each endpoint once; order carries no meaning. */
export interface DesiredState {
  readonly backend: string
  readonly wanted: ReadonlyArray<Wanted>
  readonly refused: ReadonlyArray<Refused>
  /** To be served as soon as it has what it lacks, and looked at again soon. Reasons follow the origin. */
  readonly pending: ReadonlyArray<Pending>
  /** None of them is wanted too. */
  readonly leaving: ReadonlyArray<Leaving>
}

/**
 * Whether two answers say the same, in the same order. With something that cannot be served, or not yet, or not any more,
 * only the very same answer does.
 */
export const isSameAnswer = (one: DesiredState, other: DesiredState): boolean =>
  one === other || (one.backend === other.backend && hasSameWanted(one, other))

const hasSameWanted = (one: DesiredState, other: DesiredState): boolean =>
  one.wanted.length === other.wanted.length &&
  [one, other].every(({ leaving, pending, refused }) => leaving.length + pending.length + refused.length === 0) &&
  one.wanted.every(({ endpoint, origin }, index) => {
    const match = other.wanted[index]!
    return (
      origin === match.origin && endpoint.address === match.endpoint.address && endpoint.port === match.endpoint.port
    )
  })

/**
 * HAProxy's administrative state of a server.
 *
 * - `ready`: takes new connections.
 * - `drain`: gets no new connections by load balancing.
 * - `maint`: takes nothing.
 *
 * Source: HAProxy management guide, 9.3 "set server <backend>/<server> state".
 */
export type AdminState = "ready" | "drain" | "maint"

/** One `server` of a backend, as one HAProxy process reports it. */
export interface Server {
  /** `node<N>` for ep2's own slots. Unique within the backend. */
  readonly name: string
  /** `undefined` when HAProxy has no usable address for it. */
  readonly endpoint: Endpoint | undefined
  readonly admin: AdminState
  /** Weight 0: ep2 is moving it, in or out (DESIGN: ep2's own mark). */
  readonly isMarked: boolean
  /** Whether health checks can run on it at all; without one, it counts as up. */
  readonly hasCheck: boolean
  /** Its check is switched off, as on every server that was just added at runtime. Absent: it is on, or there is none. */
  readonly isCheckOff?: true
  /**
   * - `up`: takes traffic when it is ready.
   * - `unproven`: as up, but no check has passed since it left maintenance.
   * - `down`: checks failed, or are still to pass.
   */
  readonly health: "up" | "unproven" | "down"
  /** Sessions in progress, queued ones included. Known (a count) only where something is moving; else `undefined`. */
  readonly sessions: number | undefined
}

/** The servers of one backend in one HAProxy process, in HAProxy's order. */
export interface ProcessState {
  /** Path of the process's socket. */
  readonly socket: string
  readonly pid: number
  /** Its version takes servers while it runs. Absent: it does not. */
  readonly canAdd?: true
  readonly servers: ReadonlyArray<Server>
}

/** A process that could not be observed. Nothing is done to it until it can be. */
export interface Unobserved {
  readonly socket: string
  /** Why, in one line. */
  readonly reason: string
  /** Its servers when they were last seen, if they ever were. What stood busy then counts as busy now. */
  readonly lastSeen: ProcessState | undefined
}

/** What HAProxy serves now, for one backend, process by process. */
export interface ObservedState {
  readonly backend: string
  readonly processes: ReadonlyArray<ProcessState>
  readonly unobserved: ReadonlyArray<Unobserved>
}

/** The number of one of ep2's own servers (`node7` → 7); `undefined` for a server that is not ep2's. */
export const slotNumber = (name: string): number | undefined => {
  // Asked of every server several times in a pass: by hand it costs a third of what a regular expression does.
  if (!name.startsWith("node") || name.length < 5 || name.length > 10 || name.charCodeAt(4) === zero) return undefined
  let number = 0
  for (let at = 4; at < name.length; at++) {
    const digit = name.charCodeAt(at) - zero
    if (digit < 0 || digit > 9) return undefined
    number = number * 10 + digit
  }
  return number
}

const zero = 48

/** The largest number of ep2's servers among these; 0 where none is ep2's. */
export const largestSlot = (servers: ReadonlyArray<{ readonly name: string }>): number =>
  servers.reduce((largest, { name }) => Math.max(largest, slotNumber(name) ?? 0), 0)

/** The name of ep2's server with a number from 1. */
export const slotName = (number: number): string => `node${number}`

/**
 * Ports of 127.0.0.1 that a free slot may point at, best first. Nothing may
 * listen there, so that a slot that is made ready by mistake refuses at once.
 */
export const placeholderPorts = [1, 9, 17, 19] as const

/** Whether an endpoint is where free slots point. Such an endpoint is never served. */
export const isPlaceholder = ({ address, port }: Endpoint): boolean =>
  address === "127.0.0.1" && placeholderPorts.some((one) => one === port)
