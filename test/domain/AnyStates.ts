/**
 * Generated pairs of a desired and an observed state: one to three processes,
 * alike or not, seen or not, with every admin state, mark, health and count of
 * sessions, doubles, placeholders that are ready by mistake, and servers that
 * are not ep2's.
 */
import { Schema } from "effect"
import type { Endpoint, ObservedState, ProcessState, Server, Wanted } from "../../src/domain/State.ts"

const isMatrix = process.env.EP2_TEST_ALL !== undefined
const { EP2_TEST_SEED: seed } = process.env

/**
 * How properties are checked: the same cases in each run, and five times as many
 * others in the matrix. EP2_TEST_SEED has others yet: those of a number, or new
 * ones each time with `any`.
 */
export const checkOptions = (runs: number) => ({
  arbitrary: {
    runs: isMatrix ? runs * 5 : runs,
    ...(seed === "any" ? {} : { seed: seed === undefined ? (isMatrix ? 2 : 1) : Number(seed) })
  }
})

/** The endpoints that sources and servers speak of, by a short name. */
export const endpoints = {
  a: { address: "10.0.0.1", port: 80 },
  b: { address: "10.0.0.2", port: 80 },
  c: { address: "10.0.0.2", port: 81 },
  d: { address: "2001:db8::1", port: 80 },
  e: { address: "10.0.0.5", port: 80 },
  free: { address: "127.0.0.1", port: 1 },
  otherFree: { address: "127.0.0.1", port: 9 },
  none: undefined
} satisfies Record<string, Endpoint | undefined>

export const wantedOf = (names: ReadonlyArray<"a" | "b" | "c" | "d" | "e">): ReadonlyArray<Wanted> =>
  [...new Set(names)].map((name) => ({ endpoint: endpoints[name], origin: name }))

const AnyServer = Schema.Struct({
  // Free slots come often, so that most states have room.
  at: Schema.Literals(["a", "b", "c", "d", "e", "free", "free", "free", "otherFree", "none"]),
  admin: Schema.Literals(["maint", "ready", "ready", "drain"]),
  isMarked: Schema.Boolean,
  hasCheck: Schema.Boolean,
  health: Schema.Literals(["up", "unproven", "down"]),
  sessions: Schema.Literals([0, 3, -1]),
  /** A tidy free slot or a tidy served one, whatever the rest says. */
  isPlain: Schema.Boolean
})

const AnyProcess = Schema.Struct({
  changes: Schema.Array(Schema.Struct({ at: Schema.Literals([0, 1, 2, 3, 4]), server: AnyServer })).check(
    Schema.isMaxLength(3)
  ),
  /** How many of the last slots it does not have. */
  missing: Schema.Literals([0, 0, 0, 1, 2]),
  sight: Schema.Literals(["seen", "seen", "seen", "lastSeen", "never"]),
  hasForeign: Schema.Boolean
})

/** The servers that all processes have, and how each differs from that. */
export const AnyObserved = Schema.Struct({
  servers: Schema.Array(AnyServer).check(Schema.isMaxLength(6)),
  processes: Schema.Array(AnyProcess).check(Schema.isBetweenLength(1, 3))
})

export const AnyWanted = Schema.Array(Schema.Literals(["a", "b", "c", "d", "e"])).check(Schema.isMaxLength(6))

export const AnyOptions = Schema.Struct({
  prove: Schema.Boolean,
  drainTimeoutAction: Schema.Literals(["wait", "shutdown"]),
  nowMillis: Schema.Literals([0, 10_000, 100_000])
})

const server = (index: number, one: typeof AnyServer.Type): Server => {
  const name = `node${index + 1}`
  const endpoint: Endpoint | undefined = endpoints[one.at]
  const { admin, hasCheck, health, isMarked } = one
  const isFree = one.at === "free" || one.at === "otherFree"
  const sessions = one.sessions < 0 ? undefined : one.sessions
  if (!one.isPlain) return { name, endpoint, admin, isMarked, hasCheck, health, sessions }
  return { name, endpoint, admin: isFree ? "maint" : "ready", isMarked: false, hasCheck, health, sessions: undefined }
}

/** A server as it is once it takes traffic, but for what is said. */
export const readyServer = (number: number, some: Partial<Server> = {}): Server => ({
  name: `node${number}`,
  endpoint: endpoints.free,
  admin: "ready",
  isMarked: false,
  hasCheck: true,
  health: "up",
  sessions: undefined,
  ...some
})

/** A server that the template names itself: on an endpoint that may well be wanted, marked, and in drain. */
export const foreign: Server = {
  name: "legacy",
  endpoint: endpoints.a,
  admin: "drain",
  isMarked: true,
  hasCheck: true,
  health: "down",
  sessions: 0
}

export const observedOf = ({ processes, servers }: typeof AnyObserved.Type): ObservedState => {
  const states = processes.map(({ changes, hasForeign, missing }, number): ProcessState => {
    const own = servers
      .map((one, index) => changes.findLast(({ at }) => at === index)?.server ?? one)
      .map((one, index) => server(index, one))
    const kept = own.slice(0, Math.max(0, own.length - missing))
    return { socket: `socket${number}`, pid: 100 + number, servers: hasForeign ? [foreign, ...kept] : kept }
  })
  const sightOf = (number: number) => processes[number]!.sight
  return {
    backend: "web",
    processes: states.filter((_, number) => sightOf(number) === "seen"),
    unobserved: states.flatMap((state, number) =>
      sightOf(number) === "seen"
        ? []
        : [{ socket: state.socket, reason: "gone", lastSeen: sightOf(number) === "never" ? undefined : state }]
    )
  }
}
