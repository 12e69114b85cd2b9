/** `ep2 render` against a real HAProxy: the config file on standard output, and nothing changed. */
import { spawnSync } from "node:child_process"
import { readFileSync, writeFileSync } from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { endpointKey } from "../../src/domain/State.ts"
import * as Binaries from "../servers/Binaries.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"
import * as FileWorld from "./FileWorld.ts"
import { fileOf, picture, run, startServing } from "./FileWorld.ts"
import * as World from "./World.ts"

describe("ep2 render", () => {
  it.live("prints what the file of an ep2 that runs has, to the byte, and nothing else", () =>
    Effect.gen(function* () {
      const world = yield* FileWorld.make()
      const all = yield* HttpBackends.makeAll(["a", "b"])
      yield* startServing(world, all)
      const file = () => readFileSync(world.configFile, "utf8")
      const before = picture(world.dir)

      const { exitCode, output } = yield* run(world, "render")

      assert.deepStrictEqual([exitCode, output], [0, file()])
      assert.deepStrictEqual(picture(world.dir), before)
    })
  )

  it.live("keeps what is served of a source that does not answer, and says so on standard error alone", () =>
    Effect.gen(function* () {
      const world = yield* FileWorld.make()
      const [a] = yield* HttpBackends.makeAll(["a"])
      yield* Effect.scoped(startServing(world, [a!]))
      const file = readFileSync(world.configFile, "utf8")
      yield* World.replaceFile(fileOf(world.dir), "[{")
      const render = () =>
        spawnSync(process.execPath, [World.program, "render", "--conf", world.conf], { encoding: "utf8" })

      const served = render()
      yield* world.killHaproxy
      const onDisk = render()
      writeFileSync(world.configFile, "")
      const unknown = render()

      assert.deepStrictEqual([served.status, served.stdout], [0, file])
      assert.deepStrictEqual([onDisk.status, onDisk.stdout], [0, file])
      assert.match(served.stderr, /^ep2: .*targets\.json: .*\nep2: web has what HAProxy or its file has/)
      assert.deepStrictEqual([unknown.status, unknown.stdout], [6, ""])
      assert.match(unknown.stderr, /\nep2: no source answers, .* see --empty\n$/)
      assert.include(file, endpointKey(a!.endpoint))
    })
  )

  it.live("gives HAProxy a config of free slots on its standard input, where nothing else is asked", () =>
    Effect.gen(function* () {
      for (const one of World.sampleVersions) {
        const world = yield* FileWorld.make({ version: one })

        const pipe =
          'set -o pipefail; "$NODE" "$EP2" render --empty --conf "$CONF" | tee "$CONF.out" | "$HAPROXY" -c -f /dev/stdin'
        const programs = { NODE: process.execPath, EP2: World.program, HAPROXY: Binaries.haproxy(one) }
        const env = { ...process.env, ...programs, CONF: world.conf }
        const done = spawnSync("bash", ["-c", pipe], { encoding: "utf8", env })

        assert.strictEqual(done.status, 0, done.stderr)
        const slots = readFileSync(`${world.conf}.out`, "utf8").match(/server node\d+ 127\.0\.0\.1:1 .* disabled$/gm)
        assert.strictEqual(slots?.length, 8)
      }
    })
  )

  it.live("names all that is wrong with the template with exit code 2, and prints nothing", () =>
    Effect.gen(function* () {
      const world = yield* FileWorld.make({
        template: (usual) => usual.replace(/.*stats socket.*\n/, "").replace("{{nodes}}", "server node1 127.0.0.1:1")
      })

      const { exitCode, output } = yield* run(world, "render")

      assert.strictEqual(exitCode, 2)
      assert.match(
        output,
        /^ep2: .*nothing puts the servers into "listen web".*\n.*takes names that are ep2's own.*\n.*no stats socket/
      )
    })
  )
})
