/**
 * A modelled load: clients that ask each process at a steady rate, and what
 * becomes of their requests. No retries and no redispatch: it shows what HAProxy
 * would have to make up for.
 *
 * Between two changes of HAProxy or its servers each request meets the same ones,
 * so they are counted together.
 */
import type { Fleet, ServerView, SimulatedHaproxy } from "./Edges.ts"

/** Requests since the start. Those that failed are counted in `requests` too. */
export interface Totals {
  readonly requests: number
  /** Went to a server that does not answer. */
  readonly toDead: number
  /** Found no server that takes traffic, though HAProxy ran. */
  readonly withoutServer: number
}

/** Clients that ask from the start on, as fast as `Options` say. */
export interface Load {
  /** The requests since the last call, which met what is there now. Called before anything changes. */
  readonly catchUp: (nowMillis: number) => void
  readonly totals: () => Totals
}

/** How much is asked, and of whom. */
export interface Options {
  readonly backends: ReadonlyArray<string>
  /** Requests per second, process and backend. */
  readonly perSecond: number
  /** How long each request lasts on its server. */
  readonly lastsMillis: number
}

/** It begins at 0. */
export const make = (
  edges: { readonly haproxy: SimulatedHaproxy; readonly fleet: Fleet },
  { backends, lastsMillis, perSecond }: Options
): Load => {
  const { fleet, haproxy } = edges
  const gapMillis = 1000 / perSecond
  let [requests, toDead, withoutServer] = [0, 0, 0]
  /** How many were sent so far in each process and backend, and whose turn it is. */
  let sent = 0
  let turn = 0

  /** Requests in a row, of which those that have not ended yet are sessions. */
  const send = (socket: string, open: ReadonlyArray<ServerView>, count: number, nowMillis: number) => {
    const lasting = Math.min(count, Math.ceil(lastsMillis / gapMillis))
    for (let index = 0; index < lasting; index++) {
      const server = open[(turn + count - 1 - index) % open.length]!
      const endsAt = (sent + count - index) * gapMillis + lastsMillis
      if (endsAt > nowMillis && fleet.isAlive(server.endpoint))
        haproxy.open(socket, server.backend, server.name, endsAt)
    }
    for (const [index, { endpoint }] of open.entries()) {
      // How often its turn comes, counted from whose turn it is.
      const place = (index - (turn % open.length) + open.length) % open.length
      if (!fleet.isAlive(endpoint)) toDead += Math.floor((count - place + open.length - 1) / open.length)
    }
    turn += count
  }

  const catchUp = (nowMillis: number) => {
    const count = Math.floor(nowMillis / gapMillis) - sent
    if (count <= 0) return
    for (const { serversOf, socket } of haproxy.processes()) {
      for (const backend of backends) {
        const open = serversOf(backend).filter(({ takesTraffic }) => takesTraffic)
        requests += count
        if (open.length === 0) withoutServer += count
        else send(socket, open, count, nowMillis)
      }
    }
    sent += count
  }
  return { catchUp, totals: () => ({ requests, toDead, withoutServer }) }
}

/** The endpoints that take traffic in every process of these. */
export const servedEverywhere = (haproxy: SimulatedHaproxy, backend: string): ReadonlySet<string> => {
  const [first, ...others] = haproxy
    .processes()
    .map(({ serversOf }) => new Set(serversOf(backend).flatMap(({ key, takesTraffic }) => (takesTraffic ? [key] : []))))
  return new Set([...(first ?? [])].filter((key) => others.every((other) => other.has(key))))
}
