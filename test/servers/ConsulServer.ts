/**
 * A real Consul agent for tests: its own ports on 127.0.0.1, its own folder, ended
 * with the scope.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { mkdir, mkdtemp, open, readFile, rm, writeFile } from "node:fs/promises"
import * as http from "node:http"
import * as https from "node:https"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { Context, Effect, Layer } from "effect"
import * as Ports from "./Ports.ts"

/** The program that `npm run servers` brings. */
export const consulBinary = resolve(import.meta.dirname, "../../.servers/consul-1.8/bin/consul")

export type CheckStatus = "passing" | "warning" | "critical"

/** A service of the agent's own node, with one check that says what it is told (`setCheck`). */
export interface Registration {
  readonly id: string
  /** Service name. */
  readonly name: string
  /** Without it, the address of the node (127.0.0.1) is meant. */
  readonly address?: string
  readonly port?: number
  readonly tags?: ReadonlyArray<string>
  /** What the check says at first; `passing`. `none`: no check at all. */
  readonly status?: CheckStatus | "none"
}

/** A service of another node, which no agent looks after. */
export interface OtherNode {
  readonly node: string
  readonly address: string
  readonly service: { readonly id: string; readonly name: string; readonly address?: string; readonly port?: number }
}

export interface Options {
  /** Added to the agent's configuration, as in its JSON files. */
  readonly config?: Readonly<Record<string, unknown>>
  /** Keeps its data over `stop` and `start`. It then takes seconds to elect itself, and not a fifth of one. */
  readonly isPersistent?: boolean
  /** For the requests of this harness where ACLs are on. */
  readonly token?: string
  /** HTTPS in place of HTTP, with client certificates demanded; files as `makeCertificates` gives them. */
  readonly tls?: Certificates
}

/** PEM files in one folder. */
export interface Certificates {
  readonly ca: string
  readonly serverCert: string
  readonly serverKey: string
  readonly clientCert: string
  readonly clientKey: string
}

export class ConsulServer extends Context.Service<
  ConsulServer,
  {
    /** `http://127.0.0.1:41234`; the same after `stop` and `start`. */
    readonly url: string
    readonly host: string
    readonly port: number
    /** Of the agent that runs now; `undefined` when it is stopped. */
    readonly pid: () => number | undefined
    readonly register: (registration: Registration) => Effect.Effect<void>
    readonly registerNode: (other: OtherNode) => Effect.Effect<void>
    readonly deregister: (id: string) => Effect.Effect<void>
    readonly deregisterNode: (node: string) => Effect.Effect<void>
    readonly setCheck: (id: string, status: CheckStatus) => Effect.Effect<void>
    /** Of one service, or of the whole node. */
    readonly maintenance: (on: boolean, id?: string) => Effect.Effect<void>
    /** Any other request; resolves with the answer's text, whatever its status. */
    readonly request: (method: "GET" | "PUT", path: string, body?: unknown) => Effect.Effect<string>
    /** SIGTERM lets it leave in order, SIGKILL (the default) does not. Returns when it is gone. */
    readonly stop: (signal?: "SIGTERM" | "SIGKILL") => Effect.Effect<void>
    /** Starts it again on the same ports. Without `isPersistent` it has forgotten everything. Returns when it leads. */
    readonly start: Effect.Effect<void>
  }
>()("ep2/test/ConsulServer") {
  /** Starts an agent and returns when it takes requests. */
  static readonly make = (options: Options = {}) =>
    Effect.acquireRelease(
      Effect.promise(() => Agent.create(options)),
      (agent) => Effect.promise(() => agent.close())
    ).pipe(Effect.map((agent) => ConsulServer.of(serviceOf(agent))))

  static readonly layer = (options: Options = {}) => Layer.effect(ConsulServer, ConsulServer.make(options))
}

/** A CA of Consul's own making, and what it signed for a server and a client, in a folder that ends with the scope. */
export const makeCertificates = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "ep2-tls-"))),
  (folder) => Effect.promise(() => rm(folder, { recursive: true, force: true }))
).pipe(
  Effect.tap((folder) =>
    Effect.promise(async () => {
      await runConsul(folder, ["tls", "ca", "create"])
      await runConsul(folder, ["tls", "cert", "create", "-server"])
      await runConsul(folder, ["tls", "cert", "create", "-client"])
    })
  ),
  Effect.map(
    (folder): Certificates => ({
      ca: join(folder, "consul-agent-ca.pem"),
      serverCert: join(folder, "dc1-server-consul-0.pem"),
      serverKey: join(folder, "dc1-server-consul-0-key.pem"),
      clientCert: join(folder, "dc1-client-consul-0.pem"),
      clientKey: join(folder, "dc1-client-consul-0-key.pem")
    })
  )
)

const runConsul = (cwd: string, args: ReadonlyArray<string>): Promise<void> =>
  new Promise((done, failed) => {
    const child = spawn(consulBinary, args, { cwd, stdio: "ignore" })
    child.on("error", failed)
    child.on("exit", (code) => (code === 0 ? done() : failed(new Error(`consul ${args.join(" ")} ended with ${code}`))))
  })

const serviceOf = (agent: Agent): ConsulServer["Service"] => {
  const put = (path: string, body?: unknown) => Effect.promise(() => agent.change(path, body))
  const { host } = agent
  return {
    url: agent.url,
    host,
    port: agent.port,
    pid: () => agent.pid(),
    register: ({ address, id, name, port, status = "passing", tags }) =>
      put("/v1/agent/service/register", {
        ID: id,
        Name: name,
        ...(address === undefined ? {} : { Address: address }),
        ...(port === undefined ? {} : { Port: port }),
        ...(tags === undefined ? {} : { Tags: tags }),
        ...(status === "none" ? {} : { Check: { CheckID: `check:${id}`, Name: "told", TTL: "24h", Status: status } })
      }),
    registerNode: ({ address, node, service }) =>
      put("/v1/catalog/register", {
        Node: node,
        Address: address,
        Service: {
          ID: service.id,
          Service: service.name,
          Address: service.address ?? "",
          Port: service.port ?? 0
        }
      }),
    deregister: (id) => put(`/v1/agent/service/deregister/${encodeURIComponent(id)}`),
    deregisterNode: (node) => put("/v1/catalog/deregister", { Node: node }),
    setCheck: (id, status) => put(`/v1/agent/check/update/check:${encodeURIComponent(id)}`, { Status: status }),
    maintenance: (on, id) =>
      put(
        id === undefined
          ? `/v1/agent/maintenance?enable=${on}`
          : `/v1/agent/service/maintenance/${encodeURIComponent(id)}?enable=${on}`
      ),
    request: (method, path, body) => Effect.promise(async () => (await agent.request(method, path, body)).text),
    stop: (signal = "SIGKILL") => Effect.promise(() => agent.stop(signal)),
    start: Effect.promise(() => agent.start())
  }
}

/** Ports may be taken between finding and using them; another try finds others. */
const startTries = 4

const startTimeoutMillis = 30_000

class Agent {
  readonly host = "127.0.0.1"
  readonly port: number
  readonly url: string
  private child: ChildProcess | undefined
  private readonly options: Options
  private readonly folder: string

  private constructor(options: Options, folder: string, port: number) {
    this.options = options
    this.folder = folder
    this.port = port
    this.url = `${options.tls === undefined ? "http" : "https"}://127.0.0.1:${port}`
  }

  static async create(options: Options): Promise<Agent> {
    for (let tries = 1; ; tries++) {
      const folder = await mkdtemp(join(tmpdir(), "ep2-consul-"))
      const ports = await Promise.all([Ports.free(), Ports.free(), Ports.free(), Ports.free()])
      const agent = new Agent(options, folder, ports[0]!)
      try {
        await mkdir(join(folder, "data"))
        await writeFile(join(folder, "agent.json"), JSON.stringify(configOf(options, folder, ports)))
        await agent.start()
        return agent
      } catch (cause) {
        await agent.close()
        if (tries === startTries) throw cause
      }
    }
  }

  pid() {
    return this.child?.pid
  }

  async start(): Promise<void> {
    const log = await open(join(this.folder, "agent.log"), "a")
    const args = ["agent", "-config-file", join(this.folder, "agent.json")]
    const child = spawn(consulBinary, this.options.isPersistent ? args : [...args, "-dev"], {
      stdio: ["ignore", log.fd, log.fd]
    })
    await log.close()
    this.child = child
    child.on("error", () => undefined)
    const deadline = Date.now() + startTimeoutMillis
    while (!(await this.isReady())) {
      if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined || Date.now() > deadline) {
        throw new Error(
          `Consul does not start: ${(await readFile(join(this.folder, "agent.log"), "utf8")).slice(-2000)}`
        )
      }
      await sleep(20)
    }
  }

  async stop(signal: NodeJS.Signals): Promise<void> {
    const child = this.child
    this.child = undefined
    if (child === undefined || child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
    const gone = new Promise((done) => child.once("exit", done))
    child.kill(signal)
    await gone
  }

  async close(): Promise<void> {
    await this.stop("SIGKILL")
    await rm(this.folder, { recursive: true, force: true })
  }

  async change(path: string, body?: unknown): Promise<void> {
    const { status, text } = await this.request("PUT", path, body)
    if (status !== 200) throw new Error(`PUT ${path}: ${status} ${text}`)
  }

  async request(method: string, path: string, body?: unknown): Promise<{ status: number; text: string }> {
    const { tls, token } = this.options
    const files =
      tls === undefined
        ? {}
        : {
            ca: await readFile(tls.ca),
            cert: await readFile(tls.clientCert),
            key: await readFile(tls.clientKey)
          }
    return new Promise((done, failed) => {
      const request = (tls === undefined ? http.request : https.request)(
        `${this.url}${path}`,
        { ...files, method, agent: false, headers: token === undefined ? {} : { "x-consul-token": token } },
        async (response) => {
          try {
            const text = Buffer.concat(await response.toArray()).toString("utf8")
            done({ status: response.statusCode ?? 0, text })
          } catch (cause) {
            failed(cause)
          }
        }
      )
      request.on("error", failed)
      request.end(body === undefined ? undefined : JSON.stringify(body))
    })
  }

  // The node's own entry comes last: before it is there, what is registered has no address.
  private async isReady(): Promise<boolean> {
    try {
      const { status, text } = await this.request("GET", "/v1/catalog/node/test")
      return status === 200 && text.trim() !== "null" && (JSON.parse(text) as { Node?: unknown }).Node != null
    } catch {
      return false
    }
  }
}

const configOf = ({ config, isPersistent, tls }: Options, folder: string, ports: ReadonlyArray<number>) => ({
  node_name: "test",
  datacenter: "dc1",
  data_dir: isPersistent ? join(folder, "data") : undefined,
  bind_addr: "127.0.0.1",
  client_addr: "127.0.0.1",
  disable_update_check: true,
  log_level: "WARN",
  leave_on_terminate: false,
  ...(isPersistent ? { server: true, bootstrap_expect: 1, performance: { raft_multiplier: 1 } } : {}),
  ...(tls === undefined
    ? {}
    : { ca_file: tls.ca, cert_file: tls.serverCert, key_file: tls.serverKey, verify_incoming: true }),
  ...config,
  ports: {
    http: tls === undefined ? ports[0] : -1,
    https: tls === undefined ? -1 : ports[0],
    serf_lan: ports[1],
    serf_wan: ports[2],
    server: ports[3],
    dns: -1,
    grpc: -1
  }
})
