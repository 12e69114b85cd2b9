/**
 * Gives every wanted endpoint one server name, the same in every process.
 *
 * An endpoint keeps the server it has: moving it would cut its sessions and
 * restart its counters for no gain. Where processes disagree, the name under
 * which most of it is served wins. A new endpoint gets the lowest name that is
 * free in all processes; what cannot be observed counts as busy. Where servers
 * can be added, a name may be missing in some processes or in all.
 *
 * Pure and deterministic.
 */
import {
  endpointKey,
  isPlaceholder,
  type ObservedState,
  type Server,
  slotName,
  slotNumber,
  type Wanted
} from "./State.ts"

/** Where each wanted endpoint goes. Each is in one of the two lists, once. */
export interface Assignment {
  readonly placed: ReadonlyArray<Wanted & { readonly server: string }>
  readonly unplaced: ReadonlyArray<Wanted>
}

/**
 * Places the wanted endpoints, each at most once, in the order of the server
 * numbers. With `canAdd` all of them find a place, also on servers that are not
 * there yet.
 */
export const make = (
  wanted: ReadonlyArray<Wanted>,
  observed: ObservedState,
  { canAdd }: { readonly canAdd: boolean } = { canAdd: false }
): Assignment => {
  const byKey = new Map(wanted.map((one) => [endpointKey(one.endpoint), one]))
  const views = [
    ...observed.processes,
    ...observed.unobserved.flatMap(({ lastSeen }) => (lastSeen === undefined ? [] : [lastSeen]))
  ]

  const placed = new Map<string, Wanted>()
  const taken = new Set<string>()
  for (const { key, name } of claims(byKey, views)) {
    const one = byKey.get(key)
    if (one === undefined || placed.has(name) || taken.has(key)) continue
    placed.set(name, one)
    taken.add(key)
  }

  const free = freeNames(views, canAdd)
    .filter((name) => !placed.has(name))
    .values()
  const fresh = canAdd ? newNames(views) : undefined
  const unplaced: Array<Wanted> = []
  for (const [key, one] of byKey) {
    if (taken.has(key)) continue
    const name = free.next().value ?? fresh?.next().value
    if (name === undefined) unplaced.push(one)
    else placed.set(name, one)
  }

  return {
    placed: [...placed]
      .map(([server, one]) => ({ ...one, server }))
      .toSorted((one, other) => number(one.server) - number(other.server)),
    unplaced
  }
}

interface View {
  readonly servers: ReadonlyArray<Server>
}

const number = (name: string): number => slotNumber(name) ?? Number.MAX_SAFE_INTEGER

/** Every (endpoint, server) that some process has now, strongest claim first. */
const claims = (byKey: ReadonlyMap<string, Wanted>, views: ReadonlyArray<View>) => {
  const strength = new Map<string, { readonly key: string; readonly name: string; weight: number }>()
  for (const { servers } of views) {
    for (const server of servers) {
      if (slotNumber(server.name) === undefined || server.endpoint === undefined) continue
      const key = endpointKey(server.endpoint)
      if (!byKey.has(key)) continue
      const id = `${server.name} ${key}`
      const claim = strength.get(id) ?? { key, name: server.name, weight: 0 }
      claim.weight += claimOf(server)
      strength.set(id, claim)
    }
  }
  return [...strength.values()].toSorted(
    (one, other) => other.weight - one.weight || number(one.name) - number(other.name)
  )
}

// Held by the operator beats on its way: `disable server` must not move an endpoint to another server.
const claimOf = (server: Server): number => {
  if (!server.isMarked) return server.admin === "ready" ? 4 : 3
  return server.admin === "maint" ? 1 : 2
}

/** Names that are a free slot wherever they are seen, and, unless servers can be added, that every process has. */
const freeNames = (views: ReadonlyArray<View>, canAdd: boolean): Array<string> => {
  const count = new Map<string, { free: number; all: number }>()
  for (const { servers } of views) {
    for (const { admin, endpoint, isMarked, name } of servers) {
      if (slotNumber(name) === undefined) continue
      const isFree = admin === "maint" && !isMarked && endpoint !== undefined && isPlaceholder(endpoint)
      const before = count.get(name) ?? { free: 0, all: 0 }
      count.set(name, { free: before.free + (isFree ? 1 : 0), all: before.all + 1 })
    }
  }
  return [...count]
    .filter(([, { all, free }]) => free === all && (canAdd || all === views.length))
    .map(([name]) => name)
    .sort((one, other) => number(one) - number(other))
}

/** Names that no process has, lowest first, without end. */
function* newNames(views: ReadonlyArray<View>): Generator<string, never> {
  const used = new Set(views.flatMap(({ servers }) => servers.map(({ name }) => name)))
  for (let next = 1; ; next++) if (!used.has(slotName(next))) yield slotName(next)
}
