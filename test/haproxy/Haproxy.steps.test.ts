/**
 * ep2 that ends between any two commands of a server's way in or out, on a real
 * HAProxy: whatever is left, the endpoint is served when it is wanted again, and
 * gone when it is not.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as Plan from "../../src/domain/Plan.ts"
import { type Endpoint, endpointKey, isPlaceholder, slotNumber } from "../../src/domain/State.ts"
import * as EndState from "../../src/haproxy/EndState.ts"
import { Haproxy } from "../../src/haproxy/Haproxy.ts"
import { HaproxySocket } from "../../src/haproxy/HaproxySocket.ts"
import * as RuntimeApi from "../../src/haproxy/RuntimeApi.ts"
import * as Binaries from "../servers/Binaries.ts"
import * as HaproxyServer from "../servers/HaproxyServer.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"

const config = (paths: HaproxyServer.Paths) => `
global
  stats socket ${paths.socket} level admin
${HaproxyServer.defaults}
listen web
  bind ${paths.dir}/web.sock
  server node1 127.0.0.1:1 check inter 50ms disabled
  server node2 127.0.0.1:1 check inter 50ms disabled
`

type Growth = NonNullable<Plan.Options["growth"]>

const ways: ReadonlyArray<{
  readonly name: string
  readonly growth: Growth | undefined
  readonly has: (version: string) => boolean
}> = [
  { name: "slots", growth: undefined, has: () => true },
  { name: "added servers", growth: { by: "add", keep: 0 }, has: (version) => version !== "2.2" }
]

/** Passes over one process, each of which may end after so many commands. */
const makePasses = Effect.fnUntraced(function* (
  version: Binaries.HaproxyVersion,
  growth: Growth | undefined,
  prove: boolean
) {
  const server = yield* HaproxyServer.make({ version, config })
  yield* server.start
  const layer = Haproxy.layer({
    placeholder: EndState.placeholder,
    lineOptions: new Map([["web", "check inter 50ms"]])
  }).pipe(Layer.provide(HaproxySocket.layer({ sockets: server.sockets })))
  const haproxy = yield* Effect.map(Layer.build(layer), (built) =>
    Haproxy.use((one) => Effect.succeed(one)).pipe(Effect.provide(built))
  ).pipe(Effect.flatten)
  let memory = Plan.emptyMemory
  const planFor = Effect.fnUntraced(function* (wanted: ReadonlyArray<Endpoint>) {
    const observed = yield* haproxy.observe("web")
    const desired = {
      backend: "web",
      wanted: wanted.map((endpoint) => ({ endpoint, origin: "test" })),
      refused: [],
      pending: [],
      leaving: []
    }
    const plan = Plan.make(desired, observed, memory, {
      prove,
      drainTimeoutMillis: 1000,
      drainTimeoutAction: "wait",
      proveTimeoutMillis: 5000,
      nowMillis: Date.now(),
      growth
    })
    memory = plan.memory
    return { observed, plan }
  })
  /** Every command that a pass sends, in the order of `Haproxy.apply`. */
  const commandsOf = (plan: Plan.Plan) => {
    const isAdding = ({ _tag }: Plan.Action) => _tag === "Add" || _tag === "Arrive" || _tag === "Resume"
    return [plan.actions.filter(isAdding), plan.actions.filter((one) => !isAdding(one))].flatMap((some) => {
      const steps = some.map((action) => RuntimeApi.encode("web", action, EndState.placeholder, "check inter 50ms"))
      return [...steps.flatMap(({ first }) => first), ...steps.flatMap(({ second }) => second)].map(({ text }) => text)
    })
  }
  const settle = Effect.fnUntraced(function* (wanted: ReadonlyArray<Endpoint>) {
    for (let pass = 0; pass < 300; pass++) {
      const { observed, plan } = yield* planFor(wanted)
      if (Plan.isSettled(plan))
        return observed.processes[0]!.servers.filter(({ name }) => slotNumber(name) !== undefined)
      assert.deepStrictEqual(yield* haproxy.apply(plan, observed), [])
      yield* Effect.sleep("20 millis")
    }
    return assert.fail("not settled")
  })
  /** Sends the first commands of the way to a state, over as many passes as it takes, and forgets everything. */
  const stopAfter = Effect.fnUntraced(function* (wanted: ReadonlyArray<Endpoint>, count: number) {
    let left = count
    for (let pass = 0; left > 0 && pass < 300; pass++) {
      const { plan } = yield* planFor(wanted)
      if (Plan.isSettled(plan)) break
      const some = commandsOf(plan).slice(0, left)
      if (some.length > 0) yield* server.ask(some)
      left -= some.length
      yield* Effect.sleep("20 millis")
    }
    memory = Plan.emptyMemory
    return left === 0
  })
  return { settle, stopAfter }
})

const isAll = process.env.EP2_TEST_ALL !== undefined

/** An ordinary run takes one of the two for each way. */
const cases = Binaries.sampleVersions().flatMap((version) =>
  ways
    .filter(({ has }) => has(version))
    .flatMap((way, index) =>
      [true, false]
        .filter((prove) => isAll || prove === (index % 2 === 0))
        .map((prove) => ({ ...way, version, prove, how: prove ? "checked" : "trusted" }))
    )
)

describe("ep2 that ends between two commands", () => {
  it.live.each(cases)(
    "of $how $name of HAProxy $version serves what is wanted afterwards, and nothing else",
    ({ growth, prove, version }) =>
      Effect.gen(function* () {
        const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
        const passes = yield* makePasses(version, growth, prove)
        const served = (servers: Effect.Success<ReturnType<typeof passes.settle>>) =>
          servers
            .filter(({ admin, endpoint }) => admin === "ready" && endpoint !== undefined)
            .map(({ endpoint }) => endpointKey(endpoint!))
            .sort()
        let stops = 0
        for (const [from, to] of [
          [[], [a!.endpoint]],
          [[a!.endpoint], []],
          [[a!.endpoint], [b!.endpoint]]
        ] as const) {
          for (let count = 1; ; count++) {
            for (const after of [from, to]) {
              yield* passes.settle(from)
              const isWithin = yield* passes.stopAfter(to, count)
              const servers = yield* passes.settle(after)

              assert.deepStrictEqual(served(servers), after.map(endpointKey))
              assert.isTrue(servers.every(({ isMarked }) => !isMarked))
              assert.isTrue(
                servers.every(
                  ({ admin, endpoint }) => admin === "ready" || (endpoint !== undefined && isPlaceholder(endpoint))
                )
              )
              stops++
              if (!isWithin) count = Number.POSITIVE_INFINITY
            }
            if (count === Number.POSITIVE_INFINITY) break
          }
        }
        // As many as there are commands, twice, and one more each.
        assert.isAtLeast(stops, 30)
      })
  )
})
