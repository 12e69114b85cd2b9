/** ep2 killed at any moment, and started again: the same servers, none lost, none extra. */
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Random } from "effect"
import { endpointKey } from "../../src/domain/State.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"
import * as Traffic from "../servers/Traffic.ts"
import * as World from "./World.ts"

const rounds = process.env.EP2_TEST_ALL === "1" ? 12 : 5

describe.each(World.sampleVersions)("ep2 killed in the middle of changes, HAProxy %s", (version) => {
  it.live(
    "is level after its next start, under the same names, and no request is lost",
    () =>
      Effect.gen(function* () {
        const backends = yield* HttpBackends.makeAll(["a", "b", "c", "d", "e", "f"])
        const keys = backends.map(({ endpoint }) => endpointKey(endpoint))
        const world = yield* World.make({
          version,
          source: (dir) => `[FILE]\npath = ${join(dir, "targets.json")}`,
          settings: { orchestrator: "file", new_servers: "trusted" }
        })
        const want = (names: ReadonlyArray<string>) =>
          World.replaceFile(join(world.dir, "targets.json"), JSON.stringify([{ targets: names }]))
        const isLevel = (wanted: ReadonlyArray<string>) =>
          Effect.map(world.served(), (served) => Object.values(served).sort().join() === wanted.toSorted().join())
        yield* want(keys.slice(0, 3))
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* world.start()
            yield* World.eventually("first level", isLevel(keys.slice(0, 3)))
          })
        )
        const traffic = yield* Traffic.start({ port: world.port, path: "/x?millis=20" })

        for (let round = 0; round < rounds; round++) {
          const wanted = yield* Random.shuffle(keys).pipe(Effect.map((shuffled) => [...shuffled].slice(0, 3)))
          const before = yield* world.served()
          yield* Effect.scoped(
            Effect.gen(function* () {
              const ep2 = yield* world.start()
              // Once it follows the source, so that the kill falls into the change and not into the start.
              yield* World.eventually(
                "it follows",
                Effect.sync(() => /following the source/.test(ep2.output()))
              )
              yield* want(wanted)
              yield* Effect.sleep(yield* Random.nextBetween(0, 120))
              ep2.signal("SIGKILL")
              yield* ep2.ended
            })
          )
          yield* Effect.scoped(
            Effect.gen(function* () {
              yield* world.start()
              yield* World.eventually(`level in round ${round}`, isLevel(wanted))
              const after = yield* world.served()
              for (const [name, key] of Object.entries(before)) {
                if (wanted.includes(key)) assert.strictEqual(after[name], key, `${key} stays on ${name}`)
              }
              assert.isFalse(World.servesPlaceholder(yield* world.servers()))
            })
          )
        }

        const report = yield* traffic.stop
        assert.deepStrictEqual(report.failures, [])
      }),
    240_000
  )
})
