/** The least that ep2 needs, as docs/security.md has it: no root and no capability, beside a HAProxy of root's. */
import { spawnSync } from "node:child_process"
import { chownSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Binaries from "../servers/Binaries.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"
import * as FileWorld from "./FileWorld.ts"
import * as World from "./World.ts"

const nobody = 65534

/** Another user, in no group of root's, without a capability and without a way to get one. */
const powerless = [
  ...["setpriv", `--reuid=${nobody}`, `--regid=${nobody}`, "--clear-groups"],
  ...["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
]

const isRoot = process.getuid?.() === 0
const unless = isRoot ? "" : " (needs root, to start HAProxy as root)"

describe("start_by = master", () => {
  it.live.skipIf(!isRoot)(`takes neither root nor a capability beside a HAProxy that root starts${unless}`, () =>
    Effect.gen(function* () {
      const version = World.newest
      const world = yield* World.make({
        version,
        source: FileWorld.sourceOf,
        settings: (dir) => ({
          orchestrator: "file",
          start_by: "master",
          haproxy_master_socket: join(dir, "run", "master.sock"),
          pid_file: join(dir, "run", "haproxy.pid"),
          // So that a pool that is used up has to be reloaded by the master.
          node_slots: "2",
          reload_interval: "0.2"
        }),
        backend: "    default-server maxconn 500\n",
        template: (usual) => usual.replace("mode 600 level admin", `mode 660 gid ${nobody} level admin`),
        inside: () => powerless
      })
      const backends = yield* HttpBackends.makeAll(["a", "b", "c"])
      // Root's are the folder of its pid file and of the master's socket, and nobody's is the one of the config file.
      mkdirSync(join(world.dir, "run"), { mode: 0o755 })
      writeFileSync(world.configFile, readFileSync(world.template, "utf8").replace("{{nodes}}", ""))
      for (const path of [world.dir, world.configFile]) chownSync(path, nobody, nobody)
      yield* FileWorld.want(world, backends.slice(0, 1))
      const master = ["-S", `${join(world.dir, "run", "master.sock")},mode,660,gid,${nobody}`]
      const started = spawnSync(
        Binaries.haproxy(version),
        ["-W", "-D", "-f", world.configFile, "-p", join(world.dir, "run", "haproxy.pid"), ...master],
        { stdio: "ignore" }
      )

      const checked = yield* FileWorld.run(world, "check")
      const ep2 = yield* world.start()
      yield* World.serves(world, backends.slice(0, 1))
      yield* FileWorld.want(world, backends)
      yield* World.serves(world, backends)
      yield* World.logs(ep2, /the pool of web grows/)

      assert.strictEqual(started.status, 0)
      assert.strictEqual(checked.exitCode, 0, checked.output)
      assert.match(checked.output, /warning {2}.*haproxy\.pid: pid_file cannot be written: .*; ep2 could not start/)
      assert.strictEqual(FileWorld.count(ep2, / (warning|error|fatal) .*(EACCES|EPERM|permission)/), 0, ep2.output())
      assert.strictEqual(statSync(world.configFile).uid, nobody)
    })
  )
})
