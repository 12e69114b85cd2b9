/**
 * A modelled load: clients that ask each process at a steady rate, and what
 * becomes of their requests. No retries and no redispatch: it shows what HAProxy
 * would have to make up for.
 */
import { endpointKey } from "../domain/State.ts"
import type { Fleet, SimulatedHaproxy } from "./Edges.ts"

export interface Totals {
  readonly requests: number
  /** Went to a server that does not answer. */
  readonly toDead: number
  /** Found no server that takes traffic, though HAProxy ran. */
  readonly withoutServer: number
}

export interface Load {
  /** The requests of a span of time that ends now. */
  readonly tick: (nowMillis: number, spanMillis: number) => void
  readonly totals: () => Totals
}

/** Requests per second and process, each of which lasts so long on its server. */
export const make = (
  edges: { readonly haproxy: SimulatedHaproxy; readonly fleet: Fleet },
  options: { readonly backends: ReadonlyArray<string>; readonly perSecond: number; readonly lastsMillis: number }
): Load => {
  const { fleet, haproxy } = edges
  let [requests, toDead, withoutServer] = [0, 0, 0]
  let owed = 0
  let turn = 0

  const tick = (nowMillis: number, spanMillis: number) => {
    owed += (options.perSecond * spanMillis) / 1000
    const count = Math.floor(owed)
    owed -= count
    if (count === 0) return
    for (const { servers, socket } of haproxy.processes()) {
      for (const backend of options.backends) {
        const open = servers.filter((one) => one.backend === backend && one.takesTraffic)
        requests += count
        if (open.length === 0) {
          withoutServer += count
          continue
        }
        for (let index = 0; index < count; index++) {
          const server = open[turn++ % open.length]!
          if (fleet.isAlive(server.endpoint))
            haproxy.open(socket, backend, server.name, nowMillis + options.lastsMillis)
          else toDead++
        }
      }
    }
  }
  return { tick, totals: () => ({ requests, toDead, withoutServer }) }
}

/** The endpoints that take traffic in every process of these. */
export const servedEverywhere = (haproxy: SimulatedHaproxy, backend: string): ReadonlySet<string> => {
  const [first, ...others] = haproxy
    .processes()
    .map(
      ({ servers }) =>
        new Set(
          servers.flatMap((one) => (one.backend === backend && one.takesTraffic ? [endpointKey(one.endpoint)] : []))
        )
    )
  return new Set([...(first ?? [])].filter((key) => others.every((other) => other.has(key))))
}
