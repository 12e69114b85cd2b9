/** How soon a change in Consul is served. */
import { Effect, Fiber } from "effect"
import * as World from "../integration/World.ts"
import { ConsulServer } from "../servers/ConsulServer.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"
import * as Http from "./Http.ts"
import { median, quantile } from "./Measure.ts"
import * as Program from "./Program.ts"
import { atMost, count, duration, type Effort, type Section } from "./Section.ts"

const changesOf = ({ level }: Effort): number => ({ full: 200, quick: 8, smoke: 2 })[level]

/** What one change took, in milliseconds since the registration began. */
interface Took {
  readonly query: number
  readonly served: number
}

const measure = Effect.fnUntraced(function* (effort: Effort) {
  const consul = yield* ConsulServer
  const world = yield* World.make({
    version: World.newest,
    source: () => `[CONSUL]\nservice_name = web\nconsul_ip = ${consul.host}\nconsul_port = ${consul.port}`,
    settings: { orchestrator: "consul", sleep_before_next_run: "5", log_level: "info", new_servers: "trusted" },
    program: yield* Program.build
  })
  const backends = yield* HttpBackends.makeAll(["a", "b"])
  const register = (one: HttpBackends.HttpBackend) =>
    consul.register({ id: one.name, name: "web", address: one.endpoint.address, port: one.endpoint.port })
  const query = `${consul.url}/v1/health/service/web?passing=1`
  yield* register(backends[0]!)
  yield* World.logs(yield* world.start(), /following the source/)
  const client = yield* Http.makeClient(world.port)
  yield* client.untilAnswers("a")

  const all: Array<Took> = []
  for (let change = 0; change <= changesOf(effort); change++) {
    const [previous, next] = [backends[change % 2]!, backends[(change + 1) % 2]!]
    const { index } = yield* Http.get(query)
    let returned = 0
    const blocked = yield* Http.get(`${query}&index=${index}&wait=60s`).pipe(
      Effect.map(() => {
        returned = performance.now()
      }),
      Effect.forkChild({ startImmediately: true })
    )
    // Consul has it by then.
    yield* Effect.sleep("20 millis")
    const began = performance.now()
    yield* register(next).pipe(Effect.forkChild({ startImmediately: true }))
    yield* client.untilAnswers(next.name)
    const served = performance.now() - began
    yield* Fiber.join(blocked)
    // The first change only warms up.
    if (change > 0) all.push({ query: returned - began, served })
    yield* consul.deregister(previous.name)
    yield* World.eventually(
      "the other one has left",
      Effect.map(world.servers(), (servers) =>
        servers.every(({ endpoint }) => endpoint?.port !== previous.endpoint.port)
      )
    )
  }
  return all
}, Effect.provide(ConsulServer.layer()))

export const run = Effect.fnUntraced(function* (effort: Effort) {
  yield* Effect.logInfo(`reaction: ${count(changesOf(effort))} changes in Consul`)
  const all = yield* measure(effort)
  const row = (name: string, values: ReadonlyArray<number>, goals: ReadonlyArray<string> = []) => [
    ...[name, ...[0, 0.5, 0.9, 0.95, 1].map((part) => duration(quantile(values, part)))],
    goals.join("; ")
  ]
  const served = all.map((one) => one.served)
  const [p50, p95] = [quantile(served, 0.5), quantile(served, 0.95)]
  const query = all.map((one) => one.query)
  return {
    title: "Reaction: from Consul to the first answer",
    how: `An instance is registered in a real Consul, ${count(all.length)} times, and from the begin of the registration two things are timed: until a bare blocking query on that service has returned, and until a request through HAProxy ${World.newest} is answered by that instance (\`new_servers = trusted\`). A request begins each millisecond, and every second one goes to the server that is there already.`,
    columns: ["until", "least", "p50", "p90", "p95", "most", "goal"],
    rows: [
      row("the bare query returns", query),
      row("the new server answers", served, [`p50 ${atMost(15, p50, " ms")}`, `p95 ${atMost(40, p95, " ms")}`]),
      row(
        "the one after the other",
        all.map((one) => one.served - one.query)
      )
    ],
    notes: [
      `The median of the new server's time is ${(median(served) / median(query)).toFixed(2)} times the bare query's.`
    ]
  } satisfies Section
})
