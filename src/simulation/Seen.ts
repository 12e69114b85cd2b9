/**
 * What the rules of the simulation know of one backend, and what follows from it at
 * once. `Rules` keeps it level with what happens.
 */
import { type Endpoint, isPlaceholder } from "../domain/State.ts"
import type { ServerView } from "./Edges.ts"

/** What the settings of a backend promise. Times are milliseconds. */
export interface BackendRules {
  readonly name: string
  readonly allowEmpty: boolean
  readonly maxRemovalPercent: number
  readonly minServers: number
  readonly confirmations: number
  readonly windowMillis: number
  /** How often the source is asked at the least. */
  readonly intervalMillis: number
  /** How long a leaving server may wait for one that arrives. */
  readonly proveTimeoutMillis: number
}

/** What is known of a backend: of its source's answers, of HAProxy at the last look, and of the operator. */
export interface Seen {
  /** What the last answer named. */
  answer: ReadonlyArray<Endpoint> | undefined
  /** Since when. */
  changedMillis: number
  /** Endpoints that some answer has named. */
  readonly vouched: Set<string>
  /** Since when answers leave an endpoint out, and how many in a row. */
  readonly missing: Map<string, { readonly sinceMillis: number; times: number; countedMillis: number }>
  /** What is to stand, by the last answer and by what may not be taken away yet; and how many of it stood, and when. */
  meant: ReadonlySet<string>
  most: Array<{ readonly atMillis: number; readonly count: number }>
  /** Endpoints at full weight and ready at the last look, by process. */
  readonly standing: Map<number, ReadonlySet<string>>
  /** Endpoints that take traffic and answer, and since when, at the last look, by socket. */
  readonly open: Map<string, { readonly keys: ReadonlyMap<string, number>; readonly pid: number }>
  /** Endpoints that have taken traffic since they stand there, by socket: they are not on their way any more. */
  readonly proven: Map<string, ReadonlySet<string>>
  /** What the operator holds, by server, and on which endpoint; a process whose server was elsewhere then has no such hold. */
  readonly held: Map<
    string,
    {
      readonly state: "drain" | "maint"
      readonly key: string
      readonly atMillis: number
      readonly elsewhere: ReadonlySet<number>
    }
  >
  /** Servers that the operator held shortly before a config was loaded that may or may not know of it. */
  readonly perhaps: Set<string>
  /** When the operator last let go of a server. */
  readonly letGo: Map<string, number>
  /** Since when each endpoint is wanted and answers. */
  readonly due: Map<string, number>
}

/** Of a backend of whose source nothing is known yet. */
export const nothingSeen = (): Seen => ({
  answer: undefined,
  changedMillis: 0,
  vouched: new Set(),
  missing: new Map(),
  meant: new Set(),
  most: [],
  standing: new Map(),
  open: new Map(),
  proven: new Map(),
  held: new Map(),
  perhaps: new Set(),
  letGo: new Map(),
  due: new Map()
})

/** Endpoints that are ready and at full weight. */
export const standingOf = (servers: ReadonlyArray<ServerView>): ReadonlySet<string> =>
  new Set(
    servers.flatMap(({ endpoint, isOwn, isStanding, key }) =>
      isOwn && isStanding && !isPlaceholder(endpoint) ? [key] : []
    )
  )

/** The operator holds the server that an endpoint is on, or may do so. */
export const isHeld = (servers: ReadonlyArray<ServerView>, state: Seen, key: string): boolean =>
  servers.some((one) => one.key === key && mayHold(state, one.name))

/** The operator holds a server, or may do so. */
export const mayHold = ({ held, perhaps }: Seen, server: string): boolean => held.has(server) || perhaps.has(server)

/** Answers have left it out so often that it may go. */
export const isConfirmed = ({ confirmations }: BackendRules, { missing }: Seen, key: string): boolean =>
  (missing.get(key)?.times ?? 0) >= confirmations

/** So few may be left of so many only once that is confirmed. */
export const isMuch = ({ maxRemovalPercent, minServers }: BackendRules, most: number, left: number): boolean =>
  (most - left) * 100 > most * maxRemovalPercent || left < minServers
