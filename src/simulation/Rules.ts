/**
 * The rules of ep2 (docs/simulation.md has them in the operator's words), held
 * against what the simulated HAProxy does at each moment. Pure bookkeeping; it
 * knows nothing of how ep2 decides.
 *
 * | rule | broken when |
 * | --- | --- |
 * | placeholder | a server on a placeholder takes traffic |
 * | vouched | a server takes traffic on an endpoint that no answer of the source ever named |
 * | gone | an endpoint that answers have left out for longer than all that may keep it still takes traffic |
 * | guard | at once, or within the window, more than its part of a backend is taken away that answers did not leave out often enough |
 * | emptied | the last server of a backend in a process is taken away, though none was named as gone |
 * | operator | a server that the operator holds takes traffic, while its endpoint is wanted |
 * | served | an endpoint that is wanted and answers, and nothing is wrong since long, does not take traffic |
 */
import { endpointKey, isPlaceholder, slotNumber } from "../domain/State.ts"
import type { Fleet, ServerView, SimulatedHaproxy, SimulatedSource } from "./Edges.ts"

export interface Broken {
  readonly atMillis: number
  readonly rule: "placeholder" | "vouched" | "gone" | "guard" | "emptied" | "operator" | "served"
  readonly detail: string
}

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

export interface Rules {
  /** Looks at this moment. */
  readonly look: (nowMillis: number) => void
  /** Something is wrong from outside: until `calm` nothing has to be served or gone in time. */
  readonly fault: () => void
  readonly calm: (nowMillis: number) => void
  /** The operator has set a server's state. */
  readonly operator: (backend: string, server: string, state: "ready" | "drain" | "maint", nowMillis: number) => void
  /** HAProxy begins anew from its file: what the operator did just now may not stand there yet. */
  readonly anew: (nowMillis: number) => void
  /** Each rule and subject once. */
  readonly broken: () => ReadonlyArray<Broken>
}

interface Seen {
  /** Endpoints that some answer has named. */
  readonly vouched: Set<string>
  /** Since when answers leave an endpoint out, and how many in a row. */
  readonly missing: Map<string, { readonly sinceMillis: number; times: number; countedMillis: number }>
  answeredAtMillis: number
  /** How many were served, and when. */
  most: Array<{ readonly atMillis: number; readonly count: number }>
  /** Endpoints at full weight and ready at the last look, by process. */
  readonly standing: Map<number, ReadonlySet<string>>
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
  /** Since when each endpoint is wanted and answers. */
  readonly due: Map<string, number>
}

/** One backend in one process at one moment. */
interface Look {
  readonly nowMillis: number
  readonly options: BackendRules
  readonly state: Seen
  readonly pid: number
  /** ep2's own. */
  readonly servers: ReadonlyArray<ServerView>
}

/** What may pass besides the bounds of the settings, before something counts as late. */
const slackMillis = 20_000

/** How long after a pass its end state may need to get into the file. */
const writtenWithinMillis = 3000

export const make = (
  edges: { readonly haproxy: SimulatedHaproxy; readonly source: SimulatedSource; readonly fleet: Fleet },
  backends: ReadonlyArray<BackendRules>
): Rules => {
  const { fleet, haproxy, source } = edges
  const seen = new Map(
    backends.map(({ name }): [string, Seen] => [
      name,
      {
        vouched: new Set(),
        missing: new Map(),
        answeredAtMillis: -1,
        most: [],
        standing: new Map(),
        held: new Map(),
        due: new Map()
      }
    ])
  )
  const broken = new Map<string, Broken>()
  let calmSince: number | undefined = 0

  const say = (atMillis: number, rule: Broken["rule"], subject: string, detail: string) => {
    const key = `${rule} ${subject}`
    if (!broken.has(key)) broken.set(key, { atMillis, rule, detail: `${subject}: ${detail}` })
  }

  const hear = (options: BackendRules, state: Seen) => {
    const answer = source.lastAnswer(options.name)
    if (answer === undefined || answer.atMillis === state.answeredAtMillis) return
    state.answeredAtMillis = answer.atMillis
    const named = new Set(answer.endpoints.map(endpointKey))
    for (const key of named) {
      state.vouched.add(key)
      state.missing.delete(key)
    }
    for (const key of state.vouched) {
      if (named.has(key)) continue
      const known = state.missing.get(key)
      if (known === undefined) {
        state.missing.set(key, { sinceMillis: answer.atMillis, times: 1, countedMillis: answer.atMillis })
      } else if (answer.atMillis - known.countedMillis >= options.intervalMillis / 2) {
        known.times++
        known.countedMillis = answer.atMillis
      }
    }
  }

  const look = (nowMillis: number) => {
    for (const options of backends) {
      const state = seen.get(options.name)!
      hear(options, state)
      nextDue(nowMillis, options.name, state)
      nextHeld(options.name, state)
      for (const { pid, servers } of haproxy.processes()) {
        const own = servers.filter((one) => one.backend === options.name && slotNumber(one.name) !== undefined)
        lookAtProcess({ nowMillis, options, pid, servers: own, state })
      }
    }
  }

  /** A hold ends with its endpoint: once that has left its server like any other, there is nothing to hold. */
  const nextHeld = (backend: string, state: Seen) => {
    const views = haproxy.processes().flatMap(({ servers }) => servers.filter((one) => one.backend === backend))
    for (const [server, { key }] of state.held) {
      const view = views.find((one) => one.name === server)
      if (view !== undefined && endpointKey(view.endpoint) !== key) state.held.delete(server)
    }
  }

  const lookAtProcess = ({ nowMillis, options, pid, servers, state }: Look) => {
    const open = servers.filter(({ takesTraffic }) => takesTraffic)
    const wanted = source.lastAnswer(options.name)?.endpoints ?? []
    const isEmpty = wanted.length === 0
    for (const { endpoint, name } of open) {
      const key = endpointKey(endpoint)
      const where = `${options.name}/${name} ${key}`
      if (isPlaceholder(endpoint)) say(nowMillis, "placeholder", where, "takes traffic")
      else if (!state.vouched.has(key)) say(nowMillis, "vouched", where, "takes traffic, and nobody named it")
      const hold = state.held.get(name)
      // The hold goes with the endpoint: once that has left, the server is another one's.
      if (hold?.key === key && !hold.elsewhere.has(pid) && !state.missing.has(key)) {
        say(nowMillis, "operator", where, `takes traffic, though the operator put it into ${hold.state}`)
      }
      const missing = state.missing.get(key)
      const isHeld = isEmpty && !options.allowEmpty
      if (missing === undefined || isHeld || calmSince === undefined) continue
      const since = Math.max(missing.sinceMillis, calmSince)
      const bound = options.confirmations * options.intervalMillis + 2 * options.proveTimeoutMillis + slackMillis
      if (nowMillis - since > bound) {
        say(
          nowMillis,
          "gone",
          where,
          `takes traffic ${Math.round((nowMillis - since) / 1000)} s after the source left it out`
        )
      }
    }
    guard({ nowMillis, options, pid, servers, state })
    const served = new Set(open.map(({ endpoint }) => endpointKey(endpoint)))
    const holding = new Set(
      servers.flatMap(({ endpoint, name }) => (state.held.has(name) ? [endpointKey(endpoint)] : []))
    )
    for (const [key, dueSince] of state.due) {
      if (served.has(key) || holding.has(key) || calmSince === undefined) continue
      const waited = nowMillis - Math.max(dueSince, calmSince)
      if (waited <= boundOf(options)) continue
      const detail = `is wanted and answers since ${Math.round(waited / 1000)} s, and takes no traffic`
      say(nowMillis, "served", `${options.name} ${key}`, detail)
    }
  }

  /** Since when each endpoint is wanted and answers. */
  const nextDue = (nowMillis: number, backend: string, state: Seen) => {
    const now = new Set(source.wanted(backend).flatMap((one) => (fleet.isAlive(one) ? [endpointKey(one)] : [])))
    for (const key of state.due.keys()) if (!now.has(key)) state.due.delete(key)
    for (const key of now) if (!state.due.has(key)) state.due.set(key, nowMillis)
  }

  /** What was standing in this very process at the last look, and is no more. */
  const guard = ({ nowMillis, options, pid, servers, state }: Look) => {
    const before = state.standing.get(pid)
    const now = new Set(
      servers.flatMap(({ endpoint, isStanding }) =>
        isStanding && !isPlaceholder(endpoint) ? [endpointKey(endpoint)] : []
      )
    )
    state.standing.set(pid, now)
    state.most = state.most.filter(({ atMillis }) => nowMillis - atMillis <= options.windowMillis)
    const isConfirmed = (key: string) => (state.missing.get(key)?.times ?? 0) >= options.confirmations
    const isOperators = (key: string) =>
      servers.some((one) => endpointKey(one.endpoint) === key && state.held.has(one.name))
    if (before !== undefined) {
      const lost = [...before].filter((key) => !now.has(key) && !isOperators(key))
      const unconfirmed = lost.filter((key) => !isConfirmed(key))
      for (const key of lost.filter((one) => !state.missing.has(one))) {
        say(nowMillis, "guard", `${options.name} ${key}`, "is taken away, though the source names it")
      }
      const wanted = source.lastAnswer(options.name)?.endpoints ?? []
      if (lost.length > 0 && now.size === 0 && wanted.length === 0 && !options.allowEmpty) {
        say(nowMillis, "emptied", `${options.name} pid ${pid}`, "the last server is taken away by an empty answer")
      }
      // What answers have left out for long may go however much it is, and is back only by an old config.
      const counted = [...before].filter((key) => !isConfirmed(key)).length
      const most = Math.max(counted, ...state.most.map(({ count }) => count))
      const left = Math.max(now.size, wanted.length)
      const isMuch = (most - left) * 100 > most * options.maxRemovalPercent || left < options.minServers
      if (unconfirmed.length > 0 && isMuch) {
        say(
          nowMillis,
          "guard",
          `${options.name} ${unconfirmed[0]}`,
          `is taken away with ${lost.length} of ${most}, unconfirmed`
        )
      }
    }
    state.most.push({ atMillis: nowMillis, count: [...now].filter((key) => !isConfirmed(key)).length })
  }

  return {
    look,
    fault: () => {
      calmSince = undefined
    },
    calm: (nowMillis) => {
      calmSince ??= nowMillis
    },
    anew: (nowMillis) => {
      for (const { intervalMillis, name } of backends) {
        const held = seen.get(name)?.held
        for (const [server, { atMillis }] of held ?? []) {
          if (nowMillis - atMillis < intervalMillis + writtenWithinMillis) held?.delete(server)
        }
      }
    },
    operator: (backend, server, state, nowMillis) => {
      const held = seen.get(backend)?.held
      const views = haproxy.processes().flatMap(({ pid, servers }) => {
        const view = servers.find((one) => one.backend === backend && one.name === server)
        return view === undefined
          ? []
          : [{ pid, key: endpointKey(view.endpoint), isFree: isPlaceholder(view.endpoint) }]
      })
      const view = views.find(({ isFree }) => !isFree)
      held?.delete(server)
      if (state === "ready" || view === undefined) return
      const elsewhere = new Set(views.flatMap(({ key, pid }) => (key === view.key ? [] : [pid])))
      held?.set(server, { state, key: view.key, atMillis: nowMillis, elsewhere })
    },
    broken: () => [...broken.values()].sort((one, other) => one.atMillis - other.atMillis)
  }
}

/** How long after the last fault everything has to be level. */
const boundOf = ({ confirmations, intervalMillis, proveTimeoutMillis }: BackendRules): number =>
  60_000 + confirmations * intervalMillis + 2 * proveTimeoutMillis + slackMillis
