import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, type Scope } from "effect"
import * as Plan from "../../src/domain/Plan.ts"
import { type Endpoint, endpointKey, type ObservedState } from "../../src/domain/State.ts"
import { Haproxy } from "../../src/haproxy/Haproxy.ts"
import { HaproxySocket } from "../../src/haproxy/HaproxySocket.ts"
import * as Binaries from "../servers/Binaries.ts"
import * as HaproxyServer from "../servers/HaproxyServer.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"
import * as Ports from "../servers/Ports.ts"

const placeholder: Endpoint = { address: "127.0.0.1", port: 1 }

const config = ({ socket }: HaproxyServer.Paths) => `
global
  stats socket ${socket} level admin
${HaproxyServer.defaults}
backend web
  server legacy 127.0.0.1:9 weight 0
  server node1 127.0.0.1:1 disabled check inter 100ms
  server node2 127.0.0.1:1 disabled check inter 100ms
  server node3 127.0.0.1:1 disabled check inter 100ms
`

/** Two HAProxy processes, each with a socket of its own, stand for the two of `nbproc 2`. */
const makeTwo = Effect.fnUntraced(function* (version: Binaries.HaproxyVersion) {
  const one = yield* HaproxyServer.make({ version, config })
  const other = yield* HaproxyServer.make({ version, config })
  yield* Effect.all([one.start, other.start], { concurrency: 2 })
  const sockets = HaproxySocket.layer({ sockets: [one.socket, other.socket] })
  const context = yield* Layer.build(Haproxy.layer({ placeholder }).pipe(Layer.provide(sockets)))
  return { one, other, haproxy: Context.get(context, Haproxy) }
}) satisfies (version: Binaries.HaproxyVersion) => Effect.Effect<unknown, never, Scope.Scope>

const makePlan = (
  endpoints: ReadonlyArray<Endpoint>,
  observed: ObservedState,
  some: Partial<Plan.Options> = {},
  memory = Plan.emptyMemory
) =>
  Plan.make(
    {
      backend: "web",
      wanted: endpoints.map((endpoint) => ({ endpoint, origin: "test" })),
      refused: [],
      pending: [],
      leaving: []
    },
    observed,
    memory,
    {
      prove: false,
      drainTimeoutMillis: 30_000,
      drainTimeoutAction: "wait",
      proveTimeoutMillis: 0,
      nowMillis: 0,
      ...some
    }
  )

/** `node1 127.0.0.1:1 maint` of each process, by socket; the mark and what is down are said. */
const show = ({ processes }: ObservedState) =>
  processes.map(({ servers }) =>
    servers
      .filter(({ name }) => name !== "legacy")
      .map(({ admin, endpoint, isMarked, name }) =>
        [name, endpoint && endpointKey(endpoint), admin, ...(isMarked ? ["marked"] : [])].join(" ")
      )
  )
const allFree = ["node1 127.0.0.1:1 maint", "node2 127.0.0.1:1 maint", "node3 127.0.0.1:1 maint"]

for (const version of Binaries.haproxyVersions()) {
  describe(`Haproxy, on two processes of ${version}`, () => {
    it.live("sees both, with their own pids and the servers that are not ep2's", () =>
      Effect.gen(function* () {
        const { haproxy, one, other } = yield* makeTwo(version)

        const observed = yield* haproxy.observe("web")

        assert.deepStrictEqual(haproxy.sockets, [one.socket, other.socket])
        assert.deepStrictEqual(
          observed.processes.map(({ socket }) => socket),
          haproxy.sockets
        )
        assert.deepStrictEqual(observed.unobserved, [])
        assert.deepStrictEqual(
          observed.processes.map(({ pid }) => pid),
          [(yield* one.running).workers[0], (yield* other.running).workers[0]]
        )
        assert.deepStrictEqual(show(observed), [allFree, allFree])
        assert.deepInclude(observed.processes[0]!.servers[0], { name: "legacy", isMarked: true, hasCheck: false })
      })
    )

    it.live("says who a process is", () =>
      Effect.gen(function* () {
        const { haproxy, one } = yield* makeTwo(version)

        const pid = yield* haproxy.pidOf(one.socket)

        assert.strictEqual(pid, (yield* one.running).workers[0]!)
      })
    )

    it.live("brings endpoints in and out again under the same names, and leaves the servers of others alone", () =>
      Effect.gen(function* () {
        const { haproxy } = yield* makeTwo(version)
        const { endpoint: v4 } = yield* HttpBackends.make({ name: "v4" })
        const { endpoint: v6 } = yield* HttpBackends.make({ name: "v6", address: "::1" })
        const before = yield* haproxy.observe("web")
        let memory = Plan.emptyMemory
        const settle = Effect.fnUntraced(function* (endpoints: ReadonlyArray<Endpoint>) {
          for (let pass = 0; pass < 10; pass++) {
            const observed = yield* haproxy.observe("web")
            const plan = makePlan(endpoints, observed, {}, memory)
            memory = plan.memory
            if (Plan.isSettled(plan)) return observed
            assert.deepStrictEqual(yield* haproxy.apply(plan, observed), [])
          }
          return assert.fail("not settled after 10 passes")
        })

        const both = [`node1 ${endpointKey(v4)} ready`, `node2 ${endpointKey(v6)} ready`, "node3 127.0.0.1:1 maint"]
        assert.deepStrictEqual(show(yield* settle([v4, v6])), [both, both])
        assert.deepStrictEqual(show(yield* settle([v6])), [
          ["node1 127.0.0.1:1 maint", both[1], both[2]],
          ["node1 127.0.0.1:1 maint", both[1], both[2]]
        ])
        const after = yield* settle([])
        assert.deepStrictEqual(show(after), [allFree, allFree])
        assert.deepStrictEqual(after.processes[0]!.servers[0], before.processes[0]!.servers[0])
      })
    )

    it.live("lets an arriving server take traffic only after its checks, and one without a backend never", () =>
      Effect.gen(function* () {
        const { haproxy, one } = yield* makeTwo(version)
        const { endpoint: alive } = yield* HttpBackends.make({ name: "alive" })
        const dead: Endpoint = { address: "127.0.0.1", port: yield* Ports.freePort }
        const observed = yield* haproxy.observe("web")

        yield* haproxy.apply(makePlan([dead, alive], observed, { prove: true }), observed)

        const health = Effect.map(haproxy.observe("web"), ({ processes }) =>
          processes.flatMap(({ servers }) =>
            servers.filter(({ name }) => name === "node1" || name === "node2").map((server) => server.health)
          )
        )
        assert.deepStrictEqual((yield* one.ask(["show servers state web"])).length, 1)
        // The one that is alive may have passed its checks by now.
        const [deadInOne, , deadInOther] = yield* health
        assert.deepStrictEqual([deadInOne, deadInOther], ["down", "down"])
        const proven = ["down", "up", "down", "up"]
        yield* health.pipe(
          Effect.delay("100 millis"),
          Effect.repeat({ until: (all) => all.join() === proven.join(), times: 150 })
        )
        assert.deepStrictEqual(yield* health, proven)
      })
    )

    it.live("keeps on with one process while the other is gone, and has both level when it is back", () =>
      Effect.gen(function* () {
        const { haproxy, one, other } = yield* makeTwo(version)
        const { endpoint } = yield* HttpBackends.make({ name: "a" })
        const before = yield* haproxy.observe("web")
        yield* other.kill

        const without = yield* haproxy.observe("web")
        const failures = yield* haproxy.apply(makePlan([endpoint], without), without)

        assert.deepStrictEqual(without.processes, [before.processes[0]!])
        assert.deepStrictEqual(without.unobserved.length, 1)
        const [gone] = without.unobserved
        assert.strictEqual(gone?.socket, other.socket)
        // A process that was killed may still take a connection off its queue.
        assert.include(gone?.reason, `${other.socket}: `)
        assert.match(gone?.reason ?? "", /cannot connect: .*ECONNREFUSED|closed the connection/)
        assert.deepStrictEqual(gone?.lastSeen, before.processes[1])
        assert.deepStrictEqual(failures, [])
        const served = [`node1 ${endpointKey(endpoint)} ready`, ...allFree.slice(1)]
        assert.deepStrictEqual(show(yield* haproxy.observe("web")), [served])

        yield* other.start
        const back = yield* haproxy.observe("web")
        const plan = makePlan([endpoint], back)
        assert.deepStrictEqual(
          plan.actions.map(({ server, socket, _tag }) => [_tag, socket, server]),
          [["Arrive", other.socket, "node1"]]
        )
        assert.deepStrictEqual(yield* haproxy.apply(plan, back), [])
        assert.deepStrictEqual(show(yield* haproxy.observe("web")), [served, served])
        assert.notStrictEqual(one.socket, other.socket)
      })
    )

    it.live("reports a process that dies between the look and the change, and changes the other", () =>
      Effect.gen(function* () {
        const { haproxy, other } = yield* makeTwo(version)
        const { endpoint } = yield* HttpBackends.make({ name: "a" })
        const observed = yield* haproxy.observe("web")
        yield* other.kill

        const failures = yield* haproxy.apply(makePlan([endpoint], observed), observed)

        assert.deepStrictEqual(
          failures.map(({ action, error, socket }) => [socket, action?.server, error._tag]),
          [[other.socket, undefined, "SocketError"]]
        )
        assert.include(show(yield* haproxy.observe("web"))[0] ?? [], `node1 ${endpointKey(endpoint)} ready`)
      })
    )

    it.live("sends nothing to a process that is another one than was observed", () =>
      Effect.gen(function* () {
        const { haproxy, other } = yield* makeTwo(version)
        const { endpoint } = yield* HttpBackends.make({ name: "a" })
        const observed = yield* haproxy.observe("web")
        yield* other.kill
        yield* other.start

        const failures = yield* haproxy.apply(makePlan([endpoint], observed), observed)

        assert.deepStrictEqual(failures, [])
        assert.deepStrictEqual(show(yield* haproxy.observe("web")), [
          [`node1 ${endpointKey(endpoint)} ready`, ...allFree.slice(1)],
          allFree
        ])
      })
    )

    it.live("never makes a server ready whose address was refused, and does the rest of the plan", () =>
      Effect.gen(function* () {
        const { haproxy } = yield* makeTwo(version)
        const { endpoint } = yield* HttpBackends.make({ name: "a" })
        const bad: Endpoint = { address: "app.example.invalid", port: 80 }
        const observed = yield* haproxy.observe("web")

        const failures = yield* haproxy.apply(makePlan([bad, endpoint], observed), observed)

        assert.deepStrictEqual(
          failures.map(({ action, error, socket }) => [socket, action?.server, error._tag]),
          haproxy.sockets.map((socket) => [socket, "node1", "CommandRejected"])
        )
        assert.include(failures[0]?.error.message, "Invalid addr 'app.example.invalid'")
        const expected = ["node1 127.0.0.1:1 maint marked", `node2 ${endpointKey(endpoint)} ready`, allFree[2]]
        const after = yield* haproxy.observe("web")
        assert.deepStrictEqual(show(after), [expected, expected])

        yield* haproxy.apply(makePlan([endpoint], after), after)
        assert.strictEqual(show(yield* haproxy.observe("web"))[0]?.[0], allFree[0])
      })
    )

    it.live("says which process does not have the backend, or does not let ep2 change it", () =>
      Effect.gen(function* () {
        const { haproxy } = yield* makeTwo(version)

        const { processes, unobserved } = yield* haproxy.observe("absent")

        assert.deepStrictEqual(processes, [])
        assert.deepStrictEqual(
          unobserved.map(({ lastSeen, socket }) => [socket, lastSeen]),
          haproxy.sockets.map((socket) => [socket, undefined])
        )
        assert.include(unobserved[0]?.reason, "the HAProxy that runs does not have this backend")
      })
    )

    it.live("says that a socket without rights needs them", () =>
      Effect.gen(function* () {
        const server = yield* HaproxyServer.make({
          version,
          config: (paths) => config(paths).replace("level admin", "level user")
        })
        yield* server.start
        const layer = Haproxy.layer({ placeholder }).pipe(
          Layer.provide(HaproxySocket.layer({ sockets: [server.socket] }))
        )
        const haproxy = Context.get(yield* Layer.build(layer), Haproxy)
        const observed = yield* haproxy.observe("web")

        const failures = yield* haproxy.apply(makePlan([{ address: "127.0.0.2", port: 80 }], observed), observed)

        assert.deepStrictEqual(failures.length, 1)
        assert.include(failures[0]?.error.message, 'the socket needs "level admin"')
        assert.deepStrictEqual(show(yield* haproxy.observe("web")), [allFree])
      })
    )

    it.live("counts sessions only while something moves, and frees no server that has one", () =>
      Effect.gen(function* () {
        const port = yield* Ports.freePort
        const frontend = `\nfrontend in\n  bind 127.0.0.1:${port}\n  default_backend web\n`
        const server = yield* HaproxyServer.make({ version, config: (paths) => config(paths) + frontend })
        yield* server.start
        const layer = Haproxy.layer({ placeholder }).pipe(
          Layer.provide(HaproxySocket.layer({ sockets: [server.socket] }))
        )
        const haproxy = Context.get(yield* Layer.build(layer), Haproxy)
        const { counts, endpoint } = yield* HttpBackends.make({ name: "slow" })
        const pass = Effect.fnUntraced(function* (endpoints: ReadonlyArray<Endpoint>) {
          const observed = yield* haproxy.observe("web")
          const plan = makePlan(endpoints, observed)
          assert.deepStrictEqual(yield* haproxy.apply(plan, observed), [])
          return { sessions: observed.processes[0]!.servers[1]!.sessions, tags: plan.actions.map(({ _tag }) => _tag) }
        })
        yield* pass([endpoint])
        const answer = fetch(`http://127.0.0.1:${port}/slow?millis=1000`)
        yield* counts.pipe(
          Effect.delay("5 millis"),
          Effect.repeat({ until: ({ inFlight }) => inFlight > 0, times: 200 })
        )

        const passes = [yield* pass([]), yield* pass([]), yield* pass([])]
        assert.deepStrictEqual(passes, [
          { sessions: undefined, tags: ["Drain"] },
          { sessions: 1, tags: [] },
          { sessions: 1, tags: [] }
        ])

        const response = yield* Effect.promise(() => answer)
        assert.strictEqual(yield* Effect.promise(() => response.text()), "slow")
        yield* Effect.repeat(Effect.delay(pass([]), "20 millis"), {
          until: ({ tags }) => tags.includes("Free"),
          times: 200
        })
        assert.deepStrictEqual(show(yield* haproxy.observe("web")), [allFree])
      })
    )

    it.live("takes two paths to one process for one process", () =>
      Effect.gen(function* () {
        const server = yield* HaproxyServer.make({
          version,
          sockets: 2,
          config: (paths) =>
            config(paths).replace("defaults", `  stats socket ${paths.sockets[1]} level admin\ndefaults`)
        })
        yield* server.start
        const layer = Haproxy.layer({ placeholder }).pipe(Layer.provide(HaproxySocket.layer(server)))
        const haproxy = Context.get(yield* Layer.build(layer), Haproxy)

        const { processes, unobserved } = yield* haproxy.observe("web")

        assert.strictEqual(processes.length, 1)
        assert.include(unobserved[0]?.reason, "another socket of the process behind")
      })
    )
  })
}
