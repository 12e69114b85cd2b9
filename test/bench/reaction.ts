/**
 * How fast a change in Consul is served: `npm run bench:reaction -- [CHANGES]`.
 *
 * Registers a new instance in a real Consul, 100 times, and measures the time
 * until HAProxy has answered a request from it, through ep2. Prints the
 * distribution; nothing is asserted.
 */
import { Agent, request } from "node:http"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Console, Effect } from "effect"
import * as World from "../integration/World.ts"
import { ConsulServer } from "../servers/ConsulServer.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"

const changes = Number(process.argv[2] ?? 100)
const version = World.versions.at(-1)!

/** Which server answers a request now. */
const whoAnswers = (port: number, agent: Agent) =>
  Effect.callback<string | undefined>((resume) => {
    const asked = request({ host: "127.0.0.1", port, agent, path: "/reaction" }, (answer) => {
      answer.resume().once("end", () => resume(Effect.succeed(answer.headers["x-served-by"] as string | undefined)))
    })
    asked.once("error", () => resume(Effect.undefined)).end()
  })

const main = Effect.gen(function* () {
  const consul = yield* ConsulServer
  const world = yield* World.make({
    version,
    source: () => `[CONSUL]\nservice_name = web\nconsul_ip = ${consul.host}\nconsul_port = ${consul.port}`,
    settings: { orchestrator: "consul", sleep_before_next_run: "5", log_level: "info" }
  })
  const backends = yield* HttpBackends.makeAll(["a", "b"])
  const register = (one: HttpBackends.HttpBackend) =>
    consul.register({ id: one.name, name: "web", address: one.endpoint.address, port: one.endpoint.port })
  yield* register(backends[0]!)
  const ep2 = yield* world.start()
  yield* World.eventually(
    "ep2 follows",
    Effect.sync(() => /following the source/.test(ep2.output()))
  )
  const agent = new Agent({ keepAlive: false })

  const times: Array<number> = []
  for (let change = 1; change <= changes; change++) {
    const next = backends[change % 2]!
    const previous = backends[(change + 1) % 2]!
    const began = performance.now()
    yield* register(next)
    while ((yield* whoAnswers(world.port, agent)) !== next.name) {}
    times.push(performance.now() - began)
    yield* consul.deregister(previous.name)
    yield* World.eventually(
      "the other one has left",
      Effect.map(world.servers(), (servers) =>
        servers.every(({ endpoint }) => endpoint?.port !== previous.endpoint.port)
      )
    )
  }
  const sorted = times.toSorted((one, other) => one - other)
  const at = (part: number) => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))]!.toFixed(1)
  yield* Console.log(
    `Consul change → answered through HAProxy ${version}, ${changes} changes, in ms: ` +
      `min ${at(0)}  p50 ${at(0.5)}  p90 ${at(0.9)}  p95 ${at(0.95)}  max ${at(1)}`
  )
})

main.pipe(Effect.scoped, Effect.provide(ConsulServer.layer()), NodeRuntime.runMain)
