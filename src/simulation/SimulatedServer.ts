/**
 * One server in one simulated HAProxy process: its administrative state, its
 * health and its sessions, as time goes by.
 *
 * Checks fall on fixed moments, one each `inter`, whatever happens in between;
 * those that change nothing are not played, so that a server that is steady
 * costs nothing. Health counts as HAProxy's `check->health` does: from 0 (down)
 * over `rise` (up, and down again at the first failure: a server that has just
 * left maintenance) to `rise + fall - 1` (proven).
 *
 * Source: HAProxy's `set_server_check_status`, and what 2.2 to 3.2 did when tried.
 */
import type { Endpoint } from "../domain/State.ts"
import type { LoadedServer } from "./LoadedConfig.ts"

/** `rise` where there is no check. */
const riseWithout = 2

/** How a server came into its process. */
export interface Origin {
  readonly id: number
  /** One moment of its checks; the others are a whole number of `inter` later. */
  readonly phaseMillis: number
  /** By `add server`: in maintenance, with its check off. */
  readonly isAdded?: boolean
}

/** A server. What HAProxy would change by itself, `advance` changes. */
export class SimulatedServer {
  readonly name: string
  readonly id: number
  readonly initialWeight: number
  /** The config said `disabled`; HAProxy remembers that for good. */
  readonly isDisabled: boolean
  readonly check: LoadedServer["check"]
  address: string | undefined
  port: number
  weight: number
  isMaint: boolean
  isDrain = false
  /** As HAProxy's operational state, without a look at the administrative one. */
  isUp: boolean
  isCheckOn: boolean
  health: number
  lastCheck: "none" | "passed" | "failed" = "none"
  /** When its next check that changes something is due. */
  nextMillis = Number.POSITIVE_INFINITY

  /** Checks stand still: in maintenance, unless the server was added and has not left it yet. */
  #isPaused: boolean
  #isAlive = false
  readonly #phaseMillis: number
  /** When each session ends, the first one first. */
  #sessions: Array<number> = []

  constructor(loaded: LoadedServer, { id, isAdded = false, phaseMillis }: Origin) {
    this.name = loaded.name
    this.id = id
    this.initialWeight = loaded.weight
    this.isDisabled = loaded.isDisabled
    this.check = loaded.check
    this.address = loaded.address
    this.port = loaded.port
    this.weight = loaded.weight
    this.isMaint = loaded.isDisabled || isAdded
    this.isCheckOn = loaded.check !== undefined && !isAdded
    this.isUp = !this.isMaint
    this.health = this.isUp ? this.rise : 0
    this.#isPaused = this.isMaint && !isAdded
    this.#phaseMillis = phaseMillis
  }

  get rise(): number {
    return this.check?.rise ?? riseWithout
  }

  get fall(): number {
    return this.check?.fall ?? 3
  }

  get isPaused(): boolean {
    return this.#isPaused
  }

  /** Sessions in progress. The time never goes back. */
  sessionsAt(nowMillis: number): number {
    while (this.#sessions.length > 0 && this.#sessions[0]! <= nowMillis) this.#sessions.shift()
    return this.#sessions.length
  }

  /** Ready and at full weight, whatever its health. */
  get isStanding(): boolean {
    return !this.isMaint && !this.isDrain && this.weight > 0
  }

  get takesTraffic(): boolean {
    return this.isUp && this.isStanding
  }

  get endpoint(): Endpoint | undefined {
    return this.address === undefined ? undefined : { address: this.address, port: this.port }
  }

  /** Plays what has become due, and finds out what is due next. */
  advance(nowMillis: number): void {
    if (this.nextMillis > nowMillis) return
    // Each check that is played changes the health, which has two ends: this stops.
    for (let at = this.#nextCheck(); at <= nowMillis; at = this.#nextCheck()) this.#runCheck(at)
    this.#schedule(nowMillis)
  }

  /** Has somebody looked whether what it points to answers, as from now on. */
  lookAt(isAlive: (endpoint: Endpoint) => boolean, nowMillis: number): void {
    this.#isAlive = this.endpoint !== undefined && isAlive(this.endpoint)
    this.#schedule(nowMillis)
  }

  /** Leaves maintenance as up, before its first check; whoever is not in it keeps its health. */
  enter(state: "ready" | "drain" | "maint", nowMillis: number): void {
    if (state === "maint") {
      if (!this.isMaint) {
        this.isUp = false
        this.health = 0
      }
      this.#isPaused = true
    } else {
      if (this.isMaint) {
        this.isUp = true
        this.health = this.rise
      }
      this.#isPaused = false
    }
    this.isMaint = state === "maint"
    this.isDrain = state === "drain"
    this.#schedule(nowMillis)
  }

  /** What the operator, or ep2, says about its health. It goes on being down in maintenance, and `ready` forgets it. */
  say(health: "up" | "down", nowMillis: number): void {
    this.health = health === "up" ? this.rise + this.fall - 1 : 0
    if (!this.isMaint) this.isUp = health === "up"
    this.#schedule(nowMillis)
  }

  switchCheck(isOn: boolean, nowMillis: number): void {
    this.isCheckOn = isOn && this.check !== undefined
    this.#schedule(nowMillis)
  }

  open(untilMillis: number, nowMillis: number): void {
    if (untilMillis <= nowMillis) return
    // So that nobody who never looks lets them pile up.
    this.sessionsAt(nowMillis)
    const at = this.#sessions.findLastIndex((end) => end <= untilMillis) + 1
    this.#sessions.splice(at, 0, untilMillis)
  }

  shutdownSessions(): void {
    this.#sessions = []
  }

  /** When the next check runs that changes something; a steady server has none. */
  #nextCheck(): number {
    const proven = this.rise + this.fall - 1
    const isSteady = this.#isAlive ? this.health === proven : this.health === 0
    return this.check === undefined || !this.isCheckOn || this.#isPaused || isSteady ? never : this.#dueMillis
  }

  /** The first moment of a check that is not over yet. */
  #dueMillis = never

  #schedule(nowMillis: number): void {
    const inter = this.check?.interMillis ?? never
    const rounds = Math.max(0, Math.floor((nowMillis - this.#phaseMillis) / inter) + 1)
    this.#dueMillis = this.check === undefined ? never : this.#phaseMillis + rounds * inter
    this.nextMillis = this.#nextCheck()
  }

  #runCheck(atMillis: number): void {
    this.#dueMillis = atMillis + (this.check?.interMillis ?? never)
    this.lastCheck = this.#isAlive ? "passed" : "failed"
    if (this.#isAlive) {
      this.health++
      if (this.health >= this.rise) this.health = this.rise + this.fall - 1
    } else {
      this.health--
      if (this.health < this.rise) this.health = 0
    }
    if (!this.isMaint) this.isUp = this.health >= this.rise
  }
}

const never = Number.POSITIVE_INFINITY
