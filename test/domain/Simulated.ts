/**
 * ep2's passes over modelled processes: observe, plan, encode, run, command by
 * command, with a check after each, and a crash between any two of them.
 */
import { assert } from "@effect/vitest"
import * as Plan from "../../src/domain/Plan.ts"
import {
  type DesiredState,
  endpointKey,
  isPlaceholder,
  type ProcessState,
  slotNumber,
  type Wanted
} from "../../src/domain/State.ts"
import * as RuntimeApi from "../../src/haproxy/RuntimeApi.ts"
import { endpoints } from "./AnyStates.ts"
import * as HaproxyModel from "./HaproxyModel.ts"

export const drainTimeout = 6
export const proveTimeout = 10

export interface How {
  readonly prove: boolean
  readonly drainTimeoutAction: "wait" | "shutdown"
  readonly growth?: Plan.Options["growth"]
  /** False: no server line has a check, those of added servers included. */
  readonly hasCheck?: boolean
}

export class Simulated {
  processes: ReadonlyArray<HaproxyModel.ModelProcess>
  wanted: ReadonlyArray<Wanted> = []
  memory = Plan.emptyMemory
  seconds = 0
  /** Sockets that cannot be observed. */
  gone = new Set<string>()
  dead = new Set<string>()
  /** Called after each command. */
  onCommand: () => void = () => {}
  readonly #how: How
  #placed = new Set<string>()
  /** Wanted endpoints that ep2 took the traffic from, by socket. */
  readonly #lost = new Map<string, ReadonlyArray<string>>()
  readonly #lastSeen = new Map<string, ProcessState>()

  constructor(processes: ReadonlyArray<HaproxyModel.ModelProcess>, how: How) {
    this.processes = processes
    this.#how = how
  }

  plan(): Plan.Plan {
    const states = this.processes.map((one) => HaproxyModel.observe(one))
    const processes = states.filter(({ socket }) => !this.gone.has(socket))
    const unobserved = states
      .filter(({ socket }) => this.gone.has(socket))
      .map(({ socket }) => ({ socket, reason: "gone", lastSeen: this.#lastSeen.get(socket) }))
    for (const one of processes) this.#lastSeen.set(one.socket, one)
    const desired: DesiredState = { backend: "web", wanted: this.wanted, refused: [], pending: [], leaving: [] }
    return Plan.make(desired, { backend: "web", processes, unobserved }, this.memory, {
      ...this.#how,
      drainTimeoutMillis: drainTimeout * 1_000,
      proveTimeoutMillis: proveTimeout * 1_000,
      nowMillis: this.seconds * 1_000
    })
  }

  /** One pass. With `crashAfter`, ep2 dies after so many commands to each process, and knows nothing when it is back. */
  pass(crashAfter?: ReadonlyArray<number>): Plan.Plan {
    const plan = this.plan()
    this.memory = plan.memory
    this.#placed = new Set(plan.placed.map(({ endpoint }) => endpointKey(endpoint)))
    for (const [index, { socket }] of this.processes.entries()) {
      for (const text of commandsOf(plan, socket).slice(0, crashAfter?.[index])) this.#command(socket, text)
    }
    if (crashAfter !== undefined) {
      this.memory = Plan.emptyMemory
      this.#lastSeen.clear()
    }
    return plan
  }

  has(socket: string, server: string): boolean {
    return this.processes.some((one) => one.socket === socket && one.servers.some(({ name }) => name === server))
  }

  /** A command of somebody else's: nothing is expected of it. */
  operate(socket: string, command: string): void {
    this.processes = this.processes.map((one) => (one.socket === socket ? HaproxyModel.run(one, command) : one))
  }

  step(): void {
    this.seconds += 1
    this.processes = this.processes.map((one) => HaproxyModel.step(one, this.dead))
  }

  /** Passes, a second apart, until nothing is left to do. Fails when that takes more than `limit`. */
  settle(limit = 120): Plan.Plan {
    for (let count = 0; count < limit; count++) {
      const plan = this.pass()
      if (Plan.isSettled(plan)) return plan
      this.step()
    }
    assert.fail(`not settled after ${limit} passes: ${JSON.stringify(this.plan().actions)} ${this.show()}`)
  }

  /** `socket: node1=a node2=free …`, with what is not plain. */
  show(): string {
    const short = new Map(Object.entries(endpoints).flatMap(([name, one]) => (one ? [[endpointKey(one), name]] : [])))
    const server = (one: HaproxyModel.ModelServer) => {
      const signs = [one.isMaint && "maint", one.isDrain && "drain", one.weight === 0 && "mark", !one.isUp && "down"]
      const sessions = one.sessions.length === 0 ? "" : `*${one.sessions.length}`
      const all = [short.get(endpointKey(one.endpoint)), ...signs.filter((sign) => sign !== false)].join(",")
      return `${one.name}=${all}${sessions}`
    }
    return this.processes.map(({ servers, socket }) => `${socket}: ${servers.map(server).join(" ")}`).join("; ")
  }

  #command(socket: string, text: string): void {
    const before = this.processes.find((one) => one.socket === socket)!
    const ran = HaproxyModel.run(before, text)
    const isUnchecked = this.#how.hasCheck === false && text.startsWith("add server ")
    const last = { ...ran.servers.at(-1)!, hasCheck: false, isCheckOff: false }
    const after = isUnchecked ? { ...ran, servers: ran.servers.with(-1, last) } : ran
    this.processes = this.processes.map((one) => (one.socket === socket ? after : one))
    this.#check(before, after, `${socket}: ${text}; ${this.show()}`)
    this.onCommand()
  }

  /** What no command of ep2's may ever do, wherever it stops. */
  #check(before: HaproxyModel.ModelProcess, after: HaproxyModel.ModelProcess, why: string): void {
    const vouched = new Set(this.wanted.map(({ endpoint }) => endpointKey(endpoint)))
    assert.isFalse(this.gone.has(after.socket), `to a process that was not observed: ${why}`)
    const served = keysServed(after)
    // What the pool has no place for may go: another endpoint takes its server.
    const lost = [...keysServed(before), ...(this.#lost.get(after.socket) ?? [])].filter(
      (key) => this.#placed.has(key) && !served.has(key)
    )
    this.#lost.set(after.socket, lost)
    for (const key of lost.filter((one) => keysServed(before).has(one))) {
      const isOnItsWay = after.servers.some((one) => endpointKey(one.endpoint) === key && isComing(one))
      assert.isFalse(isOnItsWay, `a wanted endpoint loses its traffic before its other server has it: ${why}`)
    }
    // One that moves to its name elsewhere, and one before it that is not up again yet.
    assert.isAtMost(lost.length, 2, `more than two wanted endpoints are without traffic: ${why}`)
    for (const { name } of before.servers.filter((one) => !after.servers.some(({ name }) => name === one.name))) {
      const old = before.servers.find((one) => one.name === name)!
      assert.isTrue(
        old.isMaint && isPlaceholder(old.endpoint) && old.sessions.length === 0,
        `removes what is used: ${why}`
      )
    }
    for (const server of after.servers) {
      const old = before.servers.find(({ name }) => name === server.name)
      if (old === undefined) {
        assert.isTrue(server.isMaint && isPlaceholder(server.endpoint), `adds what is not free: ${why}`)
        continue
      }
      if (slotNumber(server.name) === undefined) assert.strictEqual(server, old, `not ep2's server: ${why}`)
      const key = endpointKey(server.endpoint)
      if (key !== endpointKey(old.endpoint)) {
        assert.strictEqual(old.sessions.length, 0, `another address while in use: ${why}`)
        assert.isTrue(old.isMaint, `another address outside of maintenance: ${why}`)
      }
      if (!HaproxyModel.takesTraffic(server) || HaproxyModel.takesTraffic(old)) continue
      assert.isFalse(isPlaceholder(server.endpoint), `traffic to the placeholder: ${why}`)
      assert.isTrue(vouched.has(key), `traffic to what nobody wants: ${why}`)
      assert.isFalse(this.#how.prove && server.hasCheck && server.unproven > 0, `traffic before its checks: ${why}`)
    }
  }
}

/** On its way to traffic by ep2's hand: marked and in maintenance, or ready and not up yet. */
const isComing = (one: HaproxyModel.ModelServer): boolean =>
  slotNumber(one.name) !== undefined &&
  ((one.weight === 0 && one.isMaint) || (one.weight > 0 && !one.isMaint && !one.isDrain && !one.isUp))

const keysServed = ({ servers }: HaproxyModel.ModelProcess) =>
  new Set(
    servers
      .filter((one) => slotNumber(one.name) !== undefined && HaproxyModel.takesTraffic(one))
      .map(({ endpoint }) => endpointKey(endpoint))
  )

/** The order of `Haproxy.apply`: what adds capacity before what takes it away, and of each the first halves first. */
const commandsOf = (plan: Plan.Plan, socket: string): ReadonlyArray<string> => {
  const actions = plan.actions.filter((action) => action.socket === socket)
  const isAdding = ({ _tag }: Plan.Action) => _tag === "Add" || _tag === "Arrive" || _tag === "Resume"
  return [actions.filter(isAdding), actions.filter((action) => !isAdding(action))].flatMap((some) => {
    const steps = some.map((action) => RuntimeApi.encode("web", action, endpoints.free))
    return [...steps.flatMap(({ first }) => first), ...steps.flatMap(({ second }) => second)].map(({ text }) => text)
  })
}
