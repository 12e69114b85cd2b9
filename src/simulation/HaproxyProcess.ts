/**
 * One simulated HAProxy process: the servers of the config that it has loaded,
 * and what it does with a command of the runtime API. Time goes by in it only
 * as `advance` says.
 *
 * Source: HAProxy management guide, 9.3 "Unix Socket commands"; what is taken,
 * refused and left half done as recorded from 2.2 to 3.2 (`test/fixtures`).
 */
import { canonicalAddress, type Endpoint, endpointKey, slotNumber } from "../domain/State.ts"
import type { Fleet, ServerView } from "./Edges.ts"
import * as HaproxyWords from "./HaproxyWords.ts"
import { type LoadedConfig, readServer } from "./LoadedConfig.ts"
import { SimulatedServer } from "./SimulatedServer.ts"

/** What a process is when it begins. */
export interface ProcessOptions {
  readonly version: HaproxyWords.Version
  readonly pid: number
  /** From 1, among the processes of one config (`nbproc`). */
  readonly number: number
  readonly config: LoadedConfig
  readonly fleet: Fleet
  readonly startedMillis: number
}

interface Backend {
  readonly name: string
  readonly id: number
  readonly isDynamic: boolean
  readonly servers: Map<string, SimulatedServer>
  lastId: number
  /** `show servers state`, as long as nothing has changed. */
  table: string | undefined
  /** Its servers as seen from outside, likewise. */
  view: ReadonlyArray<ServerView> | undefined
}

/** A process. It answers a command at once, with the words of its version. */
export class HaproxyProcess {
  readonly pid: number
  /** `EP2_CONFIG` of the config that it has loaded. */
  readonly mark: string | undefined
  /** It was told to finish its sessions: another one has its place. */
  isLeaving = false

  readonly #options: ProcessOptions
  readonly #backends: ReadonlyMap<string, Backend>
  #nowMillis: number
  #nextMillis = Number.POSITIVE_INFINITY
  #fleetChanges: number

  constructor(options: ProcessOptions) {
    const { config, fleet, pid, startedMillis } = options
    this.pid = pid
    this.mark = config.mark
    this.#options = options
    this.#nowMillis = startedMillis
    this.#fleetChanges = fleet.changes()
    const checked = config.backends.flatMap(({ servers }) => servers).filter(({ check }) => check !== undefined).length
    let position = 0
    this.#backends = new Map(
      config.backends.map((loaded, index) => {
        const servers = loaded.servers.map((one, at) => {
          // HAProxy spreads the first checks over one interval.
          const part = one.check === undefined ? 0 : (one.check.interMillis * ++position) / checked
          return [one.name, new SimulatedServer(one, { id: at + 1, phaseMillis: startedMillis + part })] as const
        })
        const { isDynamic, name } = loaded
        const backend = { name, id: index + 2, isDynamic, servers: new Map(servers), lastId: servers.length }
        return [name, { ...backend, table: undefined, view: undefined }]
      })
    )
    this.#lookAtFleet()
  }

  /** When the next check is due that changes something. */
  nextChange(): number {
    // What has changed in the fleet has done so at the time that was reached so far.
    if (this.#fleetChanges !== this.#options.fleet.changes()) this.#lookAtFleet()
    return this.#nextMillis
  }

  /** Plays the checks that are due by then. */
  advance(nowMillis: number): void {
    if (nowMillis >= this.#nowMillis) {
      if (this.nextChange() <= nowMillis) {
        this.#nextMillis = Number.POSITIVE_INFINITY
        for (const backend of this.#backends.values()) {
          for (const server of backend.servers.values()) {
            if (server.nextMillis <= nowMillis) this.#changes(backend)
            server.advance(nowMillis)
            this.#expect(server)
          }
        }
      }
      this.#nowMillis = nowMillis
    }
  }

  /** Sessions in progress on all servers. */
  get sessions(): number {
    let count = 0
    for (const { servers } of this.#backends.values()) {
      for (const server of servers.values()) count += server.sessionsAt(this.#nowMillis)
    }
    return count
  }

  /** Sessions in progress on one server. */
  sessionsOf(backend: string, name: string): number {
    return this.#backends.get(backend)?.servers.get(name)?.sessionsAt(this.#nowMillis) ?? 0
  }

  /** The servers that have an address, backend by backend. */
  view(): ReadonlyArray<ServerView> {
    return [...this.#backends.values()].flatMap((backend) => viewOf(backend))
  }

  /** Those of one backend; none where there is no such backend. */
  viewOf(name: string): ReadonlyArray<ServerView> {
    const backend = this.#backends.get(name)
    return backend === undefined ? [] : viewOf(backend)
  }

  /** A session begins on a server. Throws where there is no such server. */
  open(backend: string, name: string, untilMillis: number): void {
    const server = this.#backends.get(backend)?.servers.get(name)
    if (server === undefined)
      throw new Error(`process ${this.pid} has no server ${backend}/${name} to open a session on`)
    server.open(untilMillis, this.#nowMillis)
  }

  /** Does what a command says, and returns HAProxy's reply to it, without the blank lines at its end. */
  run(command: string): string {
    const { version } = this.#options
    const [first = "", second = "", ...rest] = command.trim().split(/\s+/)
    switch (`${first} ${second}`) {
      case "show info":
        return HaproxyWords.info({
          version,
          pid: this.pid,
          number: this.#options.number,
          uptimeMillis: this.#nowMillis - this.#options.startedMillis,
          isStopping: this.isLeaving
        })
      case "show env":
        return rest[0] === "EP2_CONFIG" && this.mark !== undefined ? `EP2_CONFIG=${this.mark}` : "Variable not found"
      case "show servers":
        if (rest[0] === "state") return this.#showServers(rest[1])
        break
      case "show stat": {
        const backend = this.#backends.get(rest[0] ?? "")
        return backend === undefined
          ? "No such proxy."
          : HaproxyWords.stats(backend.name, [...backend.servers.values()], this.#nowMillis)
      }
      case "add server":
      case "del server":
        if (!HaproxyWords.canAdd(version)) break
        return first === "add" ? this.#add(rest) : this.#onServer(rest[0], (...found) => this.#delete(...found))
      case "set server":
        return this.#onServer(rest[0], (backend, server) => this.#set(backend, server, rest.slice(1)))
      case "enable server":
      case "disable server":
        return this.#onServer(rest[0], (_, server) => this.#enter(server, first === "enable" ? "ready" : "maint"))
      case "enable health":
      case "disable health":
        return this.#onServer(rest[0], (_, server) => this.#switchCheck(server, first === "enable"))
      case "shutdown sessions":
        if (rest[0] !== "server") break
        return this.#onServer(rest[1], (_, server) => this.#done(() => server.shutdownSessions()))
    }
    return HaproxyWords.unknown(version, first)
  }

  #showServers(name: string | undefined): string {
    const backends = name === undefined ? [...this.#backends.values()] : [this.#backends.get(name)]
    const tables = backends.map((backend) => {
      if (backend === undefined) return undefined
      backend.table ??= HaproxyWords.servers(this.#options.version, backend, [...backend.servers.values()])
      return backend.table
    })
    return tables.includes(undefined)
      ? "Can't find backend."
      : HaproxyWords.serversHead(this.#options.version) + tables.join("")
  }

  #onServer(path: string | undefined, body: (backend: Backend, server: SimulatedServer) => string): string {
    const [name = "", server] = path?.split("/") ?? []
    if (server === undefined) return "Require 'backend/server'."
    const backend = this.#backends.get(name)
    if (backend === undefined) return "No such backend."
    const found = backend.servers.get(server)
    if (found === undefined) return "No such server."
    if (this.isLeaving) return "Proxy is disabled."
    const reply = body(backend, found)
    this.#changes(backend)
    this.#expect(found)
    return reply
  }

  #add([path = "", ...words]: ReadonlyArray<string>): string {
    const [name = "", server] = path.split("/")
    const backend = this.#backends.get(name)
    if (server === undefined) return "Require 'backend/server'."
    if (backend === undefined) return "No such backend."
    if (!backend.isDynamic) return "Backend must use a dynamic load balancing to support dynamic servers."
    const refused = words.find((word) => /^(?:init-addr|resolvers|resolve-prefer|redir|socks4|namespace)$/.test(word))
    if (refused !== undefined) return `'${refused}' option is not accepted for dynamic server`
    if (backend.servers.has(server)) return "Already exists a server with the same name in backend."
    if (this.isLeaving) return "Proxy is disabled."
    const origin = { id: ++backend.lastId, phaseMillis: this.#nowMillis, isAdded: true }
    const added = new SimulatedServer(readServer([server, ...words]), origin)
    added.lookAt(this.#options.fleet.isAlive, this.#nowMillis)
    backend.servers.set(server, added)
    this.#changes(backend)
    return "New server registered."
  }

  #delete(backend: Backend, server: SimulatedServer): string {
    if (!server.isMaint) return "Only servers in maintenance mode can be deleted."
    if (server.sessionsAt(this.#nowMillis) > 0) return "Server still has connections attached to it, cannot remove it."
    backend.servers.delete(server.name)
    return "Server deleted."
  }

  #set(backend: Backend, server: SimulatedServer, [what = "", ...values]: ReadonlyArray<string>): string {
    const [value = ""] = values
    switch (what) {
      case "state":
        if (value === "ready" || value === "drain" || value === "maint") return this.#enter(server, value)
        return "'set server <srv> state' expects 'ready', 'drain' and 'maint'."
      case "health":
        if (value === "up" || value === "down") return this.#done(() => server.say(value, this.#nowMillis))
        return "'set server <srv> health' expects 'up', 'stopping', or 'down'."
      case "weight":
        return this.#weigh(backend, server, value)
      case "addr":
        return this.#move(server, value, values[1] === "port" ? values[2] : undefined)
      default:
        return "'set server <srv>' only supports 'agent', 'health', 'state', 'weight', 'addr', 'fqdn', 'check-addr' and 'check-port'."
    }
  }

  #enter(server: SimulatedServer, state: "ready" | "drain" | "maint"): string {
    return this.#done(() => server.enter(state, this.#nowMillis))
  }

  #switchCheck(server: SimulatedServer, isOn: boolean): string {
    if (isOn && server.check === undefined && HaproxyWords.canAdd(this.#options.version)) {
      return "Health check was not configured on this server, cannot enable."
    }
    return this.#done(() => server.switchCheck(isOn, this.#nowMillis))
  }

  #weigh({ isDynamic }: Backend, server: SimulatedServer, value: string): string {
    const [, digits, percent] = /^(-?\d+)(%?)$/.exec(value) ?? []
    if (digits === undefined) return "Require <weight> or <weight%>."
    if (!isDynamic && value !== "0%" && value !== "100%") {
      return "Backend is using a static LB algorithm and only accepts weights '0%' and '100%'."
    }
    const weight = percent === "%" ? Math.ceil((server.initialWeight * Number(digits)) / 100) : Number(digits)
    if (weight < 0 || weight > 256) return "Absolute weight can only be between 0 and 256 inclusive."
    return this.#done(() => {
      server.weight = weight
    })
  }

  #move(server: SimulatedServer, text: string, port: string | undefined): string {
    const { version } = this.#options
    if (text === "") return "set server <b>/<s> addr requires an address and optionally a port."
    const address = canonicalAddress(text.replace(/^\[(.*)\]$/, "$1"))
    if (address === undefined) return HaproxyWords.invalidAddress(version, text)
    if (server.endpoint === undefined) return HaproxyWords.neverResolved(version)
    const from = server.endpoint
    const isBadPort = port !== undefined && !/^\d+$/.test(port)
    // What is too large for a port is cut to one, without a word. That 3.0 and 3.2 show the old address to the rest of
    // a batch of commands is not played: ep2 looks in the next batch.
    const to: Endpoint = { address, port: port === undefined || isBadPort ? from.port : Number(port) & 0xffff }
    if (!isBadPort || HaproxyWords.appliesBeforeThePort(version)) {
      server.address = to.address
      server.port = to.port
      server.lookAt(this.#options.fleet.isAlive, this.#nowMillis)
    }
    return HaproxyWords.moved(version, { from, to, port })
  }

  #changes(backend: Backend): void {
    backend.table = undefined
    backend.view = undefined
  }

  #done(body: () => void): string {
    body()
    return ""
  }

  #lookAtFleet(): void {
    this.#fleetChanges = this.#options.fleet.changes()
    for (const { servers } of this.#backends.values()) {
      for (const server of servers.values()) {
        server.lookAt(this.#options.fleet.isAlive, this.#nowMillis)
        this.#expect(server)
      }
    }
  }

  #expect({ nextMillis }: SimulatedServer): void {
    if (nextMillis < this.#nextMillis) this.#nextMillis = nextMillis
  }
}

const viewOf = (backend: Backend): ReadonlyArray<ServerView> => {
  backend.view ??= [...backend.servers.values()].flatMap(({ endpoint, isStanding, name, takesTraffic }) => {
    if (endpoint === undefined) return []
    const isOwn = slotNumber(name) !== undefined
    return [{ backend: backend.name, name, isOwn, endpoint, key: endpointKey(endpoint), takesTraffic, isStanding }]
  })
  return backend.view
}
