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
 * | emptied | the last server of a backend in a process is taken away: by an empty answer, or while others are still on their way and it might have stayed |
 * | reload | a config that ep2 has loaded takes the traffic of an endpoint that is wanted, answers and had it |
 * | operator | a server that the operator holds takes traffic, while its endpoint is wanted |
 * | running | ep2 ends |
 * | served | an endpoint that is wanted and answers, and nothing is wrong since long, does not take traffic |
 */
import { endpointKey, isPlaceholder } from "../domain/State.ts"
import type { Answer, Fleet, ServerView, SimulatedHaproxy, SimulatedSource } from "./Edges.ts"
import { type BackendRules, isConfirmed, isHeld, isMuch, mayHold, nothingSeen, type Seen, standingOf } from "./Seen.ts"

/** A rule that did not hold, and when: milliseconds from the start. */
export interface Broken {
  readonly atMillis: number
  readonly rule: "placeholder" | "vouched" | "gone" | "guard" | "emptied" | "reload" | "operator" | "served" | "running"
  readonly detail: string
}

/** Is told what happens, and looks whether each rule holds. */
export interface Rules {
  /** The source has given an answer. */
  readonly answered: (backend: string, answer: Answer) => void
  /** Looks at what HAProxy does now. Called after whatever may have changed that. */
  readonly look: (nowMillis: number) => void
  /** Looks at what is late. Called now and then, and after each event. */
  readonly lookAtTimes: (nowMillis: number) => void
  /** Something is wrong from outside: until `calm` nothing has to be served or gone in time. */
  readonly fault: () => void
  readonly calm: (nowMillis: number) => void
  /** The operator has set a server's state. */
  readonly operator: (backend: string, server: string, state: "ready" | "drain" | "maint", nowMillis: number) => void
  /** HAProxy ends, or begins anew from its file: what the operator did just now may not stand there yet, and where ep2 could not write it may be of any age. */
  readonly anew: (nowMillis: number, isFileOld: boolean) => void
  /** Nobody waits to be served or to be gone, as far as the last look at what is late knows. */
  readonly isQuiet: () => boolean
  /** ep2 has ended, though nobody stopped it. */
  readonly ended: (nowMillis: number, why: string) => void
  /** Each rule and subject once. */
  readonly broken: () => ReadonlyArray<Broken>
}

/** One backend in one process at one moment. */
interface Look {
  readonly nowMillis: number
  readonly options: BackendRules
  readonly state: Seen
  readonly pid: number
  readonly socket: string
  /** ep2's own. */
  readonly servers: ReadonlyArray<ServerView>
}

/** What may pass besides the bounds of the settings, before something counts as late. */
const slackMillis = 20_000

/** How long after a pass its end state may need to get into the file. */
const writtenWithinMillis = 3000

/** For these backends, of whose sources nothing is known yet. */
export const make = (
  edges: { readonly haproxy: SimulatedHaproxy; readonly source: SimulatedSource; readonly fleet: Fleet },
  backends: ReadonlyArray<BackendRules>
): Rules => {
  const { fleet, haproxy, source } = edges
  const seen = new Map(backends.map(({ name }): [string, Seen] => [name, nothingSeen()]))
  const broken = new Map<string, Broken>()
  let calmSince: number | undefined = 0
  /** Nothing has changed since nobody waited to be served or to be gone. */
  let isQuiet = false
  /** The processes of the last look. */
  let pids: ReadonlySet<number> = new Set()
  let fleetChanges = 0

  const say = (atMillis: number, rule: Broken["rule"], subject: string, detail: string) => {
    const key = `${rule} ${subject}`
    if (!broken.has(key)) broken.set(key, { atMillis, rule, detail: `${subject}: ${detail}` })
  }

  /** What the operator has done within a time may not be known to whoever wrote the file. */
  const forget = (nowMillis: number, within: (options: BackendRules) => number) => {
    for (const options of backends) {
      const { held, letGo, perhaps } = seen.get(options.name)!
      for (const [server, atMillis] of letGo) if (nowMillis - atMillis < within(options)) perhaps.add(server)
      for (const [server, { atMillis }] of held) {
        if (nowMillis - atMillis >= within(options)) continue
        held.delete(server)
        perhaps.add(server)
      }
    }
  }

  const answered = (backend: string, answer: Answer) => {
    const state = seen.get(backend)
    const options = backends.find(({ name }) => name === backend)
    if (state === undefined || options === undefined) return
    const isSame = state.answer === answer.endpoints
    state.answer = answer.endpoints
    if (!isSame) state.changedMillis = answer.atMillis
    if (isSame && state.missing.size === 0) return
    if (!isSame) isQuiet = false
    const named = new Set(answer.endpoints.map(endpointKey))
    const stood = haproxy.processes().flatMap(({ serversOf }) => [...standingOf(serversOf(backend))])
    remember(options, state, answer.atMillis, new Set(stood))
    for (const key of named) {
      state.vouched.add(key)
      state.missing.delete(key)
    }
    state.meant = named
    if (state.vouched.size === named.size) return
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
    // What is held against an answer is meant to stand as well.
    if (!isMuch(options, state.most[0]?.count ?? 0, named.size)) return
    state.meant = new Set([...named, ...stood.filter((key) => !isConfirmed(options, state, key))])
  }

  /** How many of those that are to stand do. */
  const remember = (options: BackendRules, state: Seen, nowMillis: number, standing: ReadonlySet<string>) => {
    // What does not answer may never have come up, which is no loss.
    const count = [...standing].filter((key) => state.meant.has(key) && fleet.isAliveKey(key)).length
    // ep2 looks each interval, so what it knows of may be as much older.
    const windowMillis = options.windowMillis - options.intervalMillis - writtenWithinMillis
    // Fewer, and earlier, is never the most: the first one is.
    const before = state.most.filter((one) => one.count > count && nowMillis - one.atMillis <= windowMillis)
    state.most = [...before, { atMillis: nowMillis, count }]
  }

  const looks = function* (nowMillis: number): Iterable<Look> {
    const processes = haproxy.processes()
    for (const options of backends) {
      const state = seen.get(options.name)!
      for (const { pid, serversOf, socket } of processes) {
        yield { nowMillis, options, pid, servers: serversOf(options.name).filter(({ isOwn }) => isOwn), socket, state }
      }
    }
  }

  const look = (nowMillis: number) => {
    isQuiet = false
    const running = new Set(haproxy.processes().map(({ pid }) => pid))
    if ([...running].some((pid) => !pids.has(pid))) forget(nowMillis, () => writtenWithinMillis)
    pids = running
    for (const { name } of backends) nextHeld(name, seen.get(name)!)
    for (const one of looks(nowMillis)) lookAtProcess(one)
  }

  const lookAtTimes = (nowMillis: number) => {
    if (isQuiet && fleetChanges === fleet.changes()) return
    fleetChanges = fleet.changes()
    for (const { name } of backends) nextDue(nowMillis, name, seen.get(name)!)
    let isAnyWaiting = false
    for (const one of looks(nowMillis)) {
      const isGone = lookForGone(one, calmSince)
      const isServed = lookForServed(one, calmSince)
      isAnyWaiting ||= !isGone || !isServed
    }
    isQuiet = !isAnyWaiting
  }

  /** A hold ends with its endpoint: once that has left its server like any other, there is nothing to hold. */
  const nextHeld = (backend: string, state: Seen) => {
    if (state.held.size === 0) return
    const processes = haproxy.processes()
    if (processes.length === 0) return
    const views = processes.flatMap(({ serversOf }) => serversOf(backend))
    for (const [server, { key }] of state.held) {
      if (views.find((one) => one.name === server)?.key !== key) state.held.delete(server)
    }
  }

  const lookAtProcess = (one: Look) => {
    const { nowMillis, options, pid, servers, state } = one
    for (const { endpoint, key, name, takesTraffic } of servers) {
      if (!takesTraffic) continue
      const where = () => `${options.name}/${name} ${key}`
      if (isPlaceholder(endpoint)) say(nowMillis, "placeholder", where(), "takes traffic")
      else if (!state.vouched.has(key)) say(nowMillis, "vouched", where(), "takes traffic, and nobody named it")
      const hold = state.held.get(name)
      // The hold goes with the endpoint: once that has left, the server is another one's.
      if (hold?.key === key && !hold.elsewhere.has(pid) && !state.missing.has(key)) {
        say(nowMillis, "operator", where(), `takes traffic, though the operator put it into ${hold.state}`)
      }
    }
    guard(one)
    lastOne(one)
  }

  /** Whether the last one that serves was taken away, though it could have stayed until another one is up. */
  const lastOne = (one: Look) => {
    const { nowMillis, options, pid, servers, socket, state } = one
    const { keys: before, pid: pidBefore } = state.open.get(socket) ?? { keys: new Map<string, number>(), pid }
    const now = new Map(
      servers.flatMap(
        ({ key, takesTraffic }): ReadonlyArray<readonly [string, number]> =>
          takesTraffic && fleet.isAliveKey(key) ? [[key, before.get(key) ?? nowMillis]] : []
      )
    )
    state.open.set(socket, { keys: now, pid })
    if (pidBefore !== pid) loaded(one, before, now)
    const standing = standingOf(servers)
    const proven = new Set([
      ...[...(state.proven.get(socket) ?? [])].filter((key) => standing.has(key)),
      ...servers.flatMap(({ key, takesTraffic }) => (takesTraffic ? [key] : []))
    ])
    state.proven.set(socket, proven)
    if (before.size === 0 || now.size > 0 || (state.answer?.length ?? 0) === 0) return
    // What has changed just now is not known to whoever made a config of it.
    if (pidBefore !== pid && nowMillis - state.changedMillis < writtenWithinMillis) return
    // One that is wanted and has come up, or that the operator keeps from it, is all that ep2 can do.
    const isThere = (key: string) => proven.has(key) || isHeld(servers, state, key)
    if (state.answer?.some((endpoint) => isThere(endpointKey(endpoint)))) return
    const isOld = (key: string) =>
      nowMillis - (state.missing.get(key)?.sinceMillis ?? nowMillis) >= options.proveTimeoutMillis
    const [taken] = [...before.keys()].filter(
      (key) => !standing.has(key) && !isOld(key) && !isHeld(servers, state, key)
    )
    if (taken === undefined) return
    say(nowMillis, "emptied", `${options.name} ${socket}`, `${taken}, the last one that serves, is taken away`)
  }

  /** Whether a config that ep2 has loaded takes the traffic of what served, though it is still wanted. */
  const loaded = (one: Look, before: ReadonlyMap<string, number>, now: ReadonlyMap<string, number>) => {
    const { nowMillis, options, servers, state } = one
    for (const [key, since] of before) {
      // What has changed just now is not known to whoever made the config.
      if (now.has(key) || !fleet.isAliveKey(key) || nowMillis - since < writtenWithinMillis) continue
      if (state.missing.has(key) || isHeld(servers, state, key)) continue
      say(
        nowMillis,
        "reload",
        `${options.name} ${key}`,
        "is wanted and served, and not any more with the config that is loaded"
      )
    }
  }

  /** What answers have left out for too long, and nothing is wrong since long. Returns whether all of it is gone. */
  const lookForGone = ({ nowMillis, options, servers, state }: Look, calmMillis: number | undefined): boolean => {
    const isEmpty = (source.lastAnswer(options.name)?.endpoints ?? []).length === 0
    if (state.missing.size === 0) return true
    if ((isEmpty && !options.allowEmpty) || calmMillis === undefined) return false
    const bound = options.confirmations * options.intervalMillis + 2 * options.proveTimeoutMillis + slackMillis
    let isGone = true
    for (const { key, name, takesTraffic } of servers) {
      const missing = takesTraffic ? state.missing.get(key) : undefined
      if (missing === undefined) continue
      isGone = false
      const since = nowMillis - Math.max(missing.sinceMillis, calmMillis)
      if (since <= bound) continue
      const detail = `takes traffic ${Math.round(since / 1000)} s after the source left it out`
      say(nowMillis, "gone", `${options.name}/${name} ${key}`, detail)
    }
    return isGone
  }

  /** What is wanted and answers, and was not taken in for too long. Returns whether all of it was. */
  const lookForServed = ({ nowMillis, options, servers, state }: Look, calmMillis: number | undefined): boolean => {
    const served = new Set(servers.flatMap(({ key, takesTraffic }) => (takesTraffic ? [key] : [])))
    const holding = new Set(servers.flatMap(({ key, name }) => (mayHold(state, name) ? [key] : [])))
    let isServed = true
    for (const [key, dueSince] of state.due) {
      if (served.has(key) || holding.has(key)) continue
      isServed = false
      const waited = calmMillis === undefined ? 0 : nowMillis - Math.max(dueSince, calmMillis)
      if (waited <= boundOf(options)) continue
      const detail = `is wanted and answers since ${Math.round(waited / 1000)} s, and takes no traffic`
      say(nowMillis, "served", `${options.name} ${key}`, detail)
    }
    return isServed
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
    const now = standingOf(servers)
    state.standing.set(pid, now)
    const lost = [...(before ?? [])].filter((key) => !now.has(key) && !isHeld(servers, state, key))
    if (before !== undefined && lost.length > 0) {
      for (const key of lost.filter((one) => !state.missing.has(one))) {
        say(nowMillis, "guard", `${options.name} ${key}`, "is taken away, though the source names it")
      }
      const wanted = state.answer?.length ?? 0
      if (now.size === 0 && wanted === 0 && !options.allowEmpty) {
        say(nowMillis, "emptied", `${options.name} pid ${pid}`, "the last server is taken away by an empty answer")
      }
      remember(options, state, nowMillis, before)
      const most = state.most[0]?.count ?? 0
      const [first] = lost.filter((key) => !isConfirmed(options, state, key))
      if (first !== undefined && isMuch(options, most, Math.max(now.size, wanted))) {
        say(nowMillis, "guard", `${options.name} ${first}`, `is taken away with ${lost.length} of ${most}, unconfirmed`)
      }
    }
    remember(options, state, nowMillis, now)
  }

  return {
    answered,
    look,
    lookAtTimes,
    fault: () => {
      calmSince = undefined
    },
    calm: (nowMillis) => {
      isQuiet = false
      calmSince ??= nowMillis
    },
    anew: (nowMillis, isFileOld) => {
      for (const { open } of seen.values()) open.clear()
      forget(nowMillis, ({ intervalMillis }) =>
        isFileOld ? Number.POSITIVE_INFINITY : intervalMillis + writtenWithinMillis
      )
    },
    operator: (backend, server, state, nowMillis) => {
      isQuiet = false
      const held = seen.get(backend)?.held
      const views = haproxy.processes().flatMap(({ pid, serversOf }) => {
        const view = serversOf(backend).find((one) => one.name === server)
        return view === undefined ? [] : [{ pid, key: view.key, isFree: isPlaceholder(view.endpoint) }]
      })
      const view = views.find(({ isFree }) => !isFree)
      held?.delete(server)
      seen.get(backend)?.perhaps.delete(server)
      if (state === "ready") seen.get(backend)?.letGo.set(server, nowMillis)
      if (state === "ready" || view === undefined) return
      const elsewhere = new Set(views.flatMap(({ key, pid }) => (key === view.key ? [] : [pid])))
      held?.set(server, { state, key: view.key, atMillis: nowMillis, elsewhere })
    },
    isQuiet: () => isQuiet,
    ended: (nowMillis, why) => say(nowMillis, "running", "ep2", `has ended: ${why}`),
    broken: () => [...broken.values()].sort((one, other) => one.atMillis - other.atMillis)
  }
}

/** How long after the last fault everything has to be level. */
const boundOf = ({ confirmations, intervalMillis, proveTimeoutMillis }: BackendRules): number =>
  60_000 + confirmations * intervalMillis + 2 * proveTimeoutMillis + slackMillis
