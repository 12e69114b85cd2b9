/**
 * Which servers of one process may be drained now, of those that stand where
 * they should not: "add before you take away".
 *
 * | the server's endpoint | may be drained |
 * | --- | --- |
 * | not wanted, or up on another server of the process too | all but one per endpoint that is still on its way here |
 * | … and wanted endpoints find no slot | as many as make room, up to half of what is served at a time; none while the pool grows |
 * | wanted, up on no other server of the process, whose own server another endpoint has | one at a time, when nothing else can move |
 * | … and whose own server is free, or has it and comes up | none |
 *
 * The last two rows are processes that disagree on names: each endpoint moves to
 * the name that it has elsewhere.
 *
 * Pure and deterministic.
 */
import { endpointKey, isPlaceholder, type ProcessState, type Server, slotNumber, type Wanted } from "./State.ts"

/** One process, and what is on its way to it. */
export interface Input {
  readonly process: ProcessState
  readonly placed: ReadonlyArray<Wanted & { readonly server: string }>
  /** How many wanted endpoints found no slot. */
  readonly unplaced: number
  /** They will have one soon without anything done for it. */
  readonly isGrowing: boolean
  /** Wanted endpoints, by key, that are on their way and may still need their time to come up. */
  readonly awaited: ReadonlySet<string>
  /** Whether a leaving server has used up its time to drain, so that its slot is not counted on. */
  readonly isOverdue: (server: Server) => boolean
}

/** The names, in the order in which they should go. */
export const make = ({ awaited, isGrowing, isOverdue, placed, process, unplaced }: Input): ReadonlyArray<string> => {
  const goals = new Map(placed.map(({ endpoint, server }) => [server, endpointKey(endpoint)]))
  const wanted = new Set(goals.values())
  const slots = process.servers.filter(({ name }) => slotNumber(name) !== undefined)
  const servers = slots.flatMap((server) =>
    server.endpoint === undefined || isPlaceholder(server.endpoint)
      ? []
      : [{ server, key: endpointKey(server.endpoint) }]
  )

  const up = servers.filter(({ server }) => isUp(server))
  const timesUp = new Map<string, number>()
  for (const { key } of up) timesUp.set(key, (timesUp.get(key) ?? 0) + 1)

  // Wanted endpoints whose own server has another endpoint here.
  const isTaken = new Set(
    servers.flatMap(({ key, server }) => {
      const goal = goals.get(server.name)
      return goal === undefined || goal === key ? [] : [goal]
    })
  )

  const surplus: Array<string> = []
  const only: Array<string> = []
  for (const { key, server } of up) {
    if (goals.get(server.name) === key) continue
    const others = (timesUp.get(key) ?? 0) - 1
    if (wanted.has(key) && others === 0) {
      if (isTaken.has(key)) only.push(server.name)
    } else {
      surplus.push(server.name)
      timesUp.set(key, others)
    }
  }

  const onTheirWay = [...awaited].filter((key) => (timesUp.get(key) ?? 0) === 0).length
  const leaving = servers.filter(({ key, server }) => !isUp(server) && goals.get(server.name) !== key)
  const isAnyLeaving = leaving.some(({ server }) => !isOverdue(server))
  const isFull = unplaced > 0 && !isGrowing && onTheirWay === 0 && !isAnyLeaving
  // Not the last one while another server is to leave and will make room by itself.
  const half = up.length > 1 || leaving.length === 0 ? Math.max(1, Math.floor(up.length / 2)) : 0
  const going = Math.max(0, surplus.length - onTheirWay - unplaced, isFull ? Math.min(unplaced, half) : 0)
  const isAnyArriving = slots.some((server) => {
    const goal = goals.get(server.name)
    if (goal === undefined || server.endpoint === undefined) return false
    return (
      isPlaceholder(server.endpoint) || (endpointKey(server.endpoint) === goal && awaited.has(goal) && !isUp(server))
    )
  })
  if (surplus.length > 0 || onTheirWay > 0 || isAnyLeaving || isAnyArriving) return surplus.slice(0, going)
  return only.slice(0, 1)
}

const isUp = (server: Server): boolean => server.admin === "ready" && !server.isMarked && server.health !== "down"
