/**
 * The servers behind a simulated HAProxy: which of them answer. What the source
 * names, and what HAProxy was told, is somebody else's business.
 */
import { endpointKey } from "../domain/State.ts"
import type { Fleet } from "./Edges.ts"

/** A fleet in which nothing answers yet. */
export const make = (): Fleet => {
  const alive = new Set<string>()
  let changes = 0
  return {
    isAlive: (endpoint) => alive.has(endpointKey(endpoint)),
    isAliveKey: (key) => alive.has(key),
    set: (endpoint, isAlive) => {
      const key = endpointKey(endpoint)
      if (alive.has(key) === isAlive) return
      if (isAlive) alive.add(key)
      else alive.delete(key)
      changes++
    },
    changes: () => changes
  }
}
