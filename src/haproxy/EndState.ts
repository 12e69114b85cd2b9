/**
 * The servers of a backend as the config file should have them: what the runtime
 * is moving to, so that a HAProxy that starts from the file serves the same.
 */
import type { Placed, Plan } from "../domain/Plan.ts"
import {
  type Endpoint,
  endpointKey,
  isPlaceholder,
  largestSlot,
  type ObservedState,
  placeholderPorts,
  slotName,
  slotNumber,
  type Wanted
} from "../domain/State.ts"
import type { BackendServers, ServerLine } from "./ServerRegion.ts"

/** Where free slots point: nobody listens there, so a request that gets there by mistake is refused at once. */
export const placeholder: Endpoint = { address: "127.0.0.1", port: placeholderPorts[0] }

/** How large a pool is to be. */
export interface Pool {
  /** Slots that it has at the least. */
  readonly size: number
  /** Servers can be added at runtime, so that free ones beyond `size` need no place in the file. */
  readonly isElastic: boolean
}

/**
 * Wanted servers with their names and addresses, and everything else a free
 * slot. The pool has `size` slots, and never fewer than HAProxy has now, unless
 * it is elastic. What the operator holds is `disabled`.
 */
export const make = (plan: Plan, observed: ObservedState, { isElastic, size }: Pool): BackendServers => {
  const seen = largestSlot(observed.processes.flatMap(({ servers }) => servers))
  const slots = slotNames(isElastic ? size : Math.max(size, seen))
  return pool(plan.backend, plan.placed, slots, holdsOf(plan))
}

/**
 * The servers of a backend that is changed by its config alone: what is wanted,
 * and what leaves and may not go yet. No free slots.
 */
export const byConfig = (plan: Plan, observed: ObservedState): BackendServers => {
  const { servers } = pool(plan.backend, plan.placed, [], holdsOf(plan))
  return { backend: plan.backend, servers: inOrder([...servers, ...stayingOf(plan, observed).values()]) }
}

/** Whether new servers have to prove themselves. */
export interface Proof {
  readonly prove: boolean
}

/**
 * What `make` or `byConfig` gave, for a config that HAProxy is about to load, since
 * every server of a config takes traffic at once: what has not proven itself yet,
 * and what is known to be down, is to prove itself first. What leaves and may not
 * go yet stays.
 */
export const forLoad = (
  given: BackendServers,
  plan: Plan,
  observed: ObservedState,
  { prove }: Proof
): BackendServers => {
  const staying = stayingOf(plan, observed)
  const place = (name: string, endpoint: Endpoint) => `${name} ${endpointKey(endpoint)}`
  const down = observed.processes.map(
    ({ servers }) =>
      new Set(
        servers.flatMap(({ admin, endpoint, health, name }) =>
          endpoint !== undefined && health === "down" && admin === "ready" ? [place(name, endpoint)] : []
        )
      )
  )
  const proving = (line: ServerLine): ServerLine => {
    const isNew = prove && plan.memory.arrivals.get(endpointKey(line.endpoint)) !== undefined
    const isDown = down.length > 0 && down.every((places) => places.has(place(line.name, line.endpoint)))
    return !line.isDisabled && (isNew || isDown) ? { ...line, isDisabled: true, afterLoad: "prove" } : line
  }
  const others = given.servers.filter(({ name }) => !staying.has(name)).map(proving)
  return { backend: given.backend, servers: inOrder([...others, ...staying.values()]) }
}

/** Servers that are not wanted and serve all the same, since their replacements are not up: the plan lets them be. */
const stayingOf = (plan: Plan, observed: ObservedState): ReadonlyMap<string, ServerLine> => {
  const wanted = new Set(plan.placed.map(({ server }) => server))
  const going = new Set(plan.actions.map(({ server }) => server))
  const staying = new Map<string, ServerLine>()
  for (const { endpoint, isMarked, name } of observed.processes.flatMap(({ servers }) => servers)) {
    if (endpoint === undefined || isPlaceholder(endpoint) || isMarked || slotNumber(name) === undefined) continue
    if (!wanted.has(name) && !going.has(name)) staying.set(name, { name, endpoint, isDisabled: false })
  }
  return staying
}

/** Whether some process has other servers of ep2's, or has them elsewhere. */
export const differs = ({ servers }: BackendServers, observed: ObservedState): boolean => {
  const text = (lines: ReadonlyArray<{ readonly name: string; readonly endpoint: Endpoint | undefined }>) =>
    lines
      .filter(({ name }) => slotNumber(name) !== undefined)
      .map(({ endpoint, name }) => `${name} ${endpoint && endpointKey(endpoint)}`)
      .sort()
      .join()
  return observed.processes.some((process) => text(process.servers) !== text(servers))
}

/**
 * A pool for a HAProxy that does not run, or serves none of this yet: wanted
 * endpoints keep the names that `known` has for them, the others get the lowest
 * free ones. It is doubled until all of them have a place.
 */
export const fresh = (options: {
  readonly backend: string
  readonly wanted: ReadonlyArray<Wanted>
  readonly known: BackendServers
  readonly nodeSlots: number
}): BackendServers => {
  const { backend, known, nodeSlots, wanted } = options
  const byKey = new Map(wanted.map((one) => [endpointKey(one.endpoint), one]))
  const placed = new Map<string, Placed>()
  const holds = new Map<string, Hold>()
  for (const { afterLoad, endpoint, isDisabled, name } of known.servers) {
    const one = byKey.get(endpointKey(endpoint))
    if (one === undefined || slotNumber(name) === undefined || placed.has(name)) continue
    placed.set(name, { ...one, server: name })
    byKey.delete(endpointKey(endpoint))
    // One that was to prove itself does so as HAProxy starts.
    if (isDisabled && afterLoad !== "prove") holds.set(name, afterLoad ?? "maint")
  }
  // Without slots to spare, the pool is what is wanted and no more.
  const knownSize = nodeSlots === 0 ? 0 : largestSlot(known.servers)
  const size = grown(Math.max(nodeSlots, knownSize), wanted.length)
  const names = nodeSlots === 0 ? [] : slotNames(size)
  const free = slotNames(size + placed.size).filter((name) => !placed.has(name))
  for (const one of byKey.values()) {
    const server = free.shift()!
    placed.set(server, { ...one, server })
  }
  return pool(backend, [...placed.values()], names, holds)
}

/** A size of a pool that has room for so many, and at least twice as much where it had not. */
export const grown = (size: number, wanted: number): number =>
  size >= wanted ? size : Math.max(wanted, Math.min(size * 2, largestDoubled))

/** Beyond that a pool grows to what is wanted and no more. */
const largestDoubled = 8192

type Hold = "maint" | "drain"

const holdsOf = (plan: Plan): ReadonlyMap<string, Hold> =>
  new Map(plan.held.map(({ admin, server }) => [server, admin]))

const slotNames = (size: number) => Array.from({ length: size }, (_, index) => slotName(index + 1))

const pool = (
  backend: string,
  placed: ReadonlyArray<Placed>,
  slots: ReadonlyArray<string>,
  holds: ReadonlyMap<string, Hold>
): BackendServers => {
  const taken = new Set(placed.map(({ server }) => server))
  const lines = placed.map(({ endpoint, server: name }): ServerLine => {
    const hold = holds.get(name)
    const drained = hold === "drain" ? ({ afterLoad: "drain" } as const) : {}
    return { name, endpoint, isDisabled: hold !== undefined, ...drained }
  })
  const free = slots
    .filter((name) => !taken.has(name))
    .map((name): ServerLine => ({ name, endpoint: placeholder, isDisabled: true }))
  return { backend, servers: inOrder([...lines, ...free]) }
}

const inOrder = (lines: ReadonlyArray<ServerLine>): ReadonlyArray<ServerLine> =>
  lines.toSorted((one, other) => (slotNumber(one.name) ?? 0) - (slotNumber(other.name) ?? 0))
