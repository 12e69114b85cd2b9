/**
 * The servers of a backend as the config file should have them: what the runtime
 * is moving to, so that a HAProxy that starts from the file serves the same.
 */
import type { Placed, Plan } from "../domain/Plan.ts"
import {
  type Endpoint,
  endpointKey,
  type ObservedState,
  placeholderPorts,
  slotName,
  slotNumber,
  type Wanted
} from "../domain/State.ts"
import type { BackendServers } from "./TemplateRenderer.ts"

/** Where free slots point: nobody listens there, so a request that gets there by mistake is refused at once. */
export const placeholder: Endpoint = { address: "127.0.0.1", port: placeholderPorts[0] }

/**
 * Wanted servers with their names and addresses, and everything else a free
 * slot. The pool has `nodeSlots` slots, and never fewer than HAProxy has now.
 * What the operator holds in maintenance is `disabled`.
 */
export const make = (plan: Plan, observed: ObservedState, nodeSlots: number): BackendServers => {
  const numbers = observed.processes.flatMap(({ servers }) => servers.map(({ name }) => slotNumber(name) ?? 0))
  const inMaintenance = new Set(plan.held.filter(({ admin }) => admin === "maint").map(({ server }) => server))
  return pool(plan.backend, plan.placed, Math.max(nodeSlots, ...numbers), inMaintenance)
}

/**
 * A pool for a HAProxy that does not run, or runs without these slots: wanted
 * endpoints keep the names that `known` has for them, the others get the lowest
 * free ones. Returns what found no place.
 */
export const fresh = (options: {
  readonly backend: string
  readonly wanted: ReadonlyArray<Wanted>
  readonly known: BackendServers
  readonly nodeSlots: number
}): { readonly servers: BackendServers; readonly unplaced: ReadonlyArray<Wanted> } => {
  const { backend, known, nodeSlots, wanted } = options
  const size = Math.max(nodeSlots, ...known.servers.map(({ name }) => slotNumber(name) ?? 0))
  const byKey = new Map(wanted.map((one) => [endpointKey(one.endpoint), one]))
  const placed = new Map<string, Placed>()
  const disabled = new Set<string>()
  for (const { endpoint, isDisabled, name } of known.servers) {
    const one = byKey.get(endpointKey(endpoint))
    if (one === undefined || slotNumber(name) === undefined || placed.has(name)) continue
    placed.set(name, { ...one, server: name })
    byKey.delete(endpointKey(endpoint))
    if (isDisabled) disabled.add(name)
  }
  const free = slotNames(size).filter((name) => !placed.has(name))
  const unplaced: Array<Wanted> = []
  for (const one of byKey.values()) {
    const server = free.shift()
    if (server === undefined) unplaced.push(one)
    else placed.set(server, { ...one, server })
  }
  return { servers: pool(backend, [...placed.values()], size, disabled), unplaced }
}

const slotNames = (size: number) => Array.from({ length: size }, (_, index) => slotName(index + 1))

const pool = (
  backend: string,
  placed: ReadonlyArray<Placed>,
  size: number,
  disabled: ReadonlySet<string>
): BackendServers => {
  const byName = new Map(placed.map((one) => [one.server, one.endpoint]))
  const largest = Math.max(size, ...placed.map(({ server }) => slotNumber(server) ?? 0))
  return {
    backend,
    servers: slotNames(largest).map((name) => {
      const endpoint = byName.get(name)
      return { name, endpoint: endpoint ?? placeholder, isDisabled: endpoint === undefined || disabled.has(name) }
    })
  }
}
