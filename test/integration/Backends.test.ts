/** Many backends in one ep2: each by its own source, and none in another one's way. */
import { readFileSync, writeFileSync } from "node:fs"
import { createServer } from "node:net"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect } from "effect"
import { endpointKey } from "../../src/domain/State.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"
import * as Traffic from "../servers/Traffic.ts"
import * as World from "./World.ts"

const { logs, serves } = World

const fileOf = (dir: string, backend: string) => join(dir, `${backend}.json`)

const want = (world: World.World, backend: string, servers: ReadonlyArray<HttpBackends.HttpBackend>) =>
  World.replaceFile(
    fileOf(world.dir, backend),
    JSON.stringify([{ targets: servers.map(({ endpoint }) => endpointKey(endpoint)) }])
  )

/** A template with these further backends, each for the requests to `/NAME`. */
const withBackends = (names: ReadonlyArray<string>) => (usual: string) => {
  const rules = names.map((name) => `    use_backend ${name} if { path_beg /${name} }\n`).join("")
  const sections = names.map((name) => `backend ${name}\n    {{ backends.${name}.nodes }}\n`).join("\n")
  return `${usual.replace("    {{nodes}}\n", `${rules}    {{ nodes }}\n`)}\n${sections}`
}

const sectionsOf = (dir: string, names: ReadonlyArray<string>) =>
  names.map((name) => `[backend ${name}]\npath = ${fileOf(dir, name)}\n`).join("")

const makeWorld = (
  names: ReadonlyArray<string>,
  options: {
    readonly settings?: Readonly<Record<string, string>>
    /** More lines at the end of ep2.conf. */
    readonly more?: string
  } = {}
) =>
  World.make({
    version: World.newest,
    source: (dir) => `[FILE]\npath = ${fileOf(dir, "web")}\n${sectionsOf(dir, names)}${options.more ?? ""}`,
    settings: { orchestrator: "file", new_servers: "trusted", node_slots: "2", ...options.settings },
    template: withBackends(names)
  })

const count = (ep2: World.Ep2, pattern: RegExp) => ep2.output().match(new RegExp(pattern, "g"))?.length ?? 0

const hundred = Array.from({ length: 99 }, (_, index) => `b${index + 1}`)

describe("many backends", () => {
  it.live("are a hundred in one process: what changes together is written once, and nothing is reloaded", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld(hundred)
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
      const all = ["web", ...hundred]
      for (const name of all) yield* want(world, name, [a!])
      const ep2 = yield* world.start()
      for (const name of all) yield* serves(world, [a!], undefined, name)
      yield* logs(ep2, /following the source of web, b1, b2,/)
      const traffic = yield* Traffic.start({ port: world.port, path: "/b50" })
      const before = count(ep2, /config file written/)

      yield* Effect.forEach(all, (name) => want(world, name, [b!]), { concurrency: "unbounded" })
      for (const name of all) yield* serves(world, [b!], undefined, name)

      yield* World.eventually(
        "the file has them all",
        Effect.sync(() => readFileSync(world.configFile, "utf8").split(endpointKey(b!.endpoint)).length === 101)
      )
      assert.deepStrictEqual((yield* traffic.stop).failures, [])
      // One for the change itself, and a few where others came a moment later on a busy machine: never one for each.
      assert.isAtMost(count(ep2, /config file written/) - before, 5)
      assert.strictEqual(count(ep2, /reloading HAProxy/), 0)
    })
  )

  it.live("are loaded by one reload where their changes fall together (update_by_config)", () =>
    Effect.gen(function* () {
      const names = hundred.slice(0, 9)
      const world = yield* makeWorld(names, { settings: { update_type: "update_by_config", reload_interval: "2" } })
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
      const all = ["web", ...names]
      for (const name of all) yield* want(world, name, [a!])
      const ep2 = yield* world.start()
      for (const name of all) yield* serves(world, [a!], undefined, name)
      yield* logs(ep2, /following the source/)

      yield* Effect.forEach(all, (name) => want(world, name, [a!, b!]), { concurrency: "unbounded" })
      for (const name of all) yield* serves(world, [a!, b!], undefined, name)

      assert.strictEqual(count(ep2, /reloading HAProxy/), 1)
    })
  )

  it.live("have their own source, port, slots and guard, and their own name in the template", () =>
    Effect.gen(function* () {
      const [a, b, c] = yield* HttpBackends.makeAll(["a", "b", "c"])
      const world = yield* makeWorld(["api"], {
        more: `backend_port = ${c!.endpoint.port}\nnode_slots = 5\nallow_empty = True\nguard_confirmations = 1\n`
      })
      yield* want(world, "web", [a!, b!])
      yield* World.replaceFile(fileOf(world.dir, "api"), JSON.stringify([{ targets: ["127.0.0.1"] }]))
      const ep2 = yield* world.start()

      yield* serves(world, [a!, b!])
      yield* serves(world, [c!], undefined, "api")
      assert.lengthOf(yield* world.servers(undefined, "api"), 5)
      yield* want(world, "api", [])
      yield* want(world, "web", [])
      yield* serves(world, [], undefined, "api")
      yield* logs(ep2, /backend=web the source answers that nothing is wanted/)
      yield* serves(world, [a!, b!])
    })
  )
})

describe("a backend whose source is slow or gone", () => {
  it.live("delays no other, at the start or later, and begins with what there is of it", () =>
    Effect.gen(function* () {
      // Takes connections and never says a word.
      const silent = yield* Effect.acquireRelease(
        Effect.promise(
          () =>
            new Promise<ReturnType<typeof createServer>>((done) => {
              const server = createServer().listen(0, "127.0.0.1", () => done(server))
            })
        ),
        (server) => Effect.sync(() => server.close())
      )
      const address = silent.address()
      const port = typeof address === "object" && address !== null ? address.port : 0
      const world = yield* makeWorld(["gone"], {
        more: `[backend slow]\norchestrator = consul\nservice_name = slow\nconsul_port = ${port}\n`
      })
      writeFileSync(
        world.template,
        `${readFileSync(world.template, "utf8")}\nbackend slow\n    {{ backends.slow.nodes }}\n`
      )
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
      yield* want(world, "web", [a!])
      const ep2 = yield* world.start()
      yield* serves(world, [a!])
      yield* logs(ep2, /following the source/)

      const began = yield* Clock.currentTimeMillis
      yield* want(world, "web", [a!, b!])
      yield* serves(world, [a!, b!])
      const took = (yield* Clock.currentTimeMillis) - began

      // The slow one takes ten seconds for each of its answers.
      assert.isBelow(took, Duration.toMillis(Duration.seconds(5)))
      yield* World.eventually(
        "the file on disk has it, too",
        Effect.sync(() => readFileSync(world.configFile, "utf8").includes(endpointKey(b!.endpoint)))
      )
      yield* want(world, "gone", [b!])
      yield* serves(world, [b!], undefined, "gone")
    })
  )

  it.live("keeps what it serves through a restart of ep2, while the others are brought level", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld(["api"])
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
      yield* want(world, "web", [a!])
      yield* want(world, "api", [a!])
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* world.start()
          yield* serves(world, [a!], undefined, "api")
          yield* serves(world, [a!])
        })
      )
      yield* World.replaceFile(fileOf(world.dir, "api"), "[{")
      yield* want(world, "web", [b!])

      const ep2 = yield* world.start()

      yield* serves(world, [b!])
      yield* logs(ep2, /backend=api .*api\.json/)
      yield* serves(world, [a!], undefined, "api")
      yield* want(world, "api", [b!])
      yield* serves(world, [b!], undefined, "api")
    })
  )
})
