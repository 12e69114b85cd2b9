/** `ep2 start --dry-run`: the loop that only says it. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { endpointKey } from "../../src/domain/State.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"
import { count, fileOf, sourceOf, startServing, want } from "./FileWorld.ts"
import { fingerprint, run } from "./Looks.ts"
import * as World from "./World.ts"

const { logs } = World

const makeWorld = World.make({
  version: World.newest,
  source: sourceOf,
  settings: { orchestrator: "file", new_servers: "trusted", sleep_before_next_run: "0.3" }
})

const dryRun = (world: World.World) => world.start(["start", "--dry-run", "--conf", world.conf])

describe("ep2 start --dry-run", () => {
  it.live("says each change once, when it comes up and when it is over, and writes nothing", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
      yield* want(world, [a!])
      yield* run(world, "start", "--once")
      const dry = yield* dryRun(world)
      yield* logs(dry, /nothing to do/)
      const before = withoutSource(yield* fingerprint(world))

      yield* want(world, [a!, b!])
      const arrives = new RegExp(`would arrive web/node2 ${endpointKey(b!.endpoint)}: the source names it`)
      yield* logs(dry, arrives)
      // Several polls, each of which finds the same.
      yield* Effect.sleep("1200 millis")
      const said = count(dry, arrives)
      yield* World.replaceFile(fileOf(world.dir), "[{")
      yield* logs(dry, /targets\.json/)
      yield* Effect.sleep("700 millis")
      yield* want(world, [a!])
      yield* logs(dry, /no longer: arrive web\/node2/)
      dry.signal("SIGTERM")
      const exitCode = yield* dry.ended

      assert.strictEqual(said, 1)
      assert.strictEqual(exitCode, 0)
      assert.strictEqual(withoutSource(yield* fingerprint(world)), before)
    })
  )

  it.live("takes no lock, watches beside an ep2 that runs, and HAProxy too", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld
      const [a] = yield* HttpBackends.makeAll(["a"])
      yield* want(world, [a!])

      const dry = yield* dryRun(world)
      yield* logs(dry, /would start: HAProxy does not run: it is started with 1 server\b/)
      const ep2 = yield* startServing(world, [a!])
      yield* logs(dry, /no longer: HAProxy/)
      yield* logs(dry, /nothing to do/)

      assert.notMatch(ep2.output(), /standing by/)
      assert.notMatch(dry.output(), /standing by|fatal/)
    })
  )

  it.live("is refused together with --once: that is ep2 plan", () =>
    Effect.gen(function* () {
      const world = yield* makeWorld

      const { exitCode, output } = yield* run(world, "start", "--once", "--dry-run")

      assert.deepStrictEqual([exitCode, /together are `ep2 plan`/.test(output)], [1, true])
    })
  )
})

/** What the test itself says to the source is no change of ep2's. */
const withoutSource = (text: string): string => {
  const { files, ...rest } = JSON.parse(text)
  return JSON.stringify({ ...rest, files: files.filter(([name]: [string]) => name !== "targets.json") })
}
