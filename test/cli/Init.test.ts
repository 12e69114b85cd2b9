/** `ep2 init`: what it writes is what ep2 and a real HAProxy take. */
import { spawnSync } from "node:child_process"
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Entry } from "../../src/cli/CheckReport.ts"
import * as Units from "../../src/cli/Units.ts"
import * as Example from "../../src/settings/Example.ts"
import { edit } from "../integration/FileWorld.ts"
import * as World from "../integration/World.ts"
import * as Binaries from "../servers/Binaries.ts"
import * as Ports from "../servers/Ports.ts"

const root = resolve(import.meta.dirname, "../..")
const written = ["ep2.conf", "haproxy.cfg.template", "ep2.service", "haproxy.service.d/ep2.conf"]

const run = (...args: ReadonlyArray<string>) =>
  spawnSync(process.execPath, [World.program, ...args], { encoding: "utf8" })

const makeFolder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "ep2-init-"))),
  (folder) => Effect.sync(() => rmSync(folder, { recursive: true }))
)

/** Turns what was written to this folder and to a HAProxy that has no user of its own; nothing else is changed. */
const pointInto = (dir: string, port: number) => {
  const socket = join(dir, "admin.sock")
  edit(join(dir, "ep2.conf"), (text) =>
    text
      .replace("/etc/haproxy/haproxy.cfg", join(dir, "haproxy.cfg"))
      .replace("/usr/sbin/haproxy", Binaries.haproxy(World.newest))
      .replace("/run/haproxy/admin.sock", socket)
      .replace("/run/haproxy.pid", join(dir, "haproxy.pid"))
      .replace("start_by = systemd", "start_by = binary")
      .replace("#lock_dir = /run", `lock_dir = ${dir}`)
      .replace("#consul_port = 8500", `consul_port = ${port}`)
      .replace("#endpoint_url =", `endpoint_url = http://127.0.0.1:${port}`)
      .replace("#aws_access_key_id =", "aws_access_key_id = AKIATEST")
      .replace("#aws_secret_access_key =", "aws_secret_access_key = not-a-secret")
  )
  edit(join(dir, "haproxy.cfg.template"), (text) =>
    text
      .replace(/ {4}(?:user|group) haproxy\n/g, "")
      .replace("/run/haproxy/admin.sock mode 660 group haproxy", `${socket} mode 600`)
      .replace("bind :80", `bind 127.0.0.1:${port}`)
  )
}

describe("ep2 init", () => {
  it.live.each(Example.orchestrators)("writes for %s what passes ep2 check against a real HAProxy", (orchestrator) =>
    Effect.gen(function* () {
      const dir = yield* makeFolder
      const port = yield* Ports.freePort

      const made = run("init", "--dir", dir, "--orchestrator", orchestrator)
      pointInto(dir, port)
      writeFileSync(join(dir, "targets.json"), '[{"targets": ["127.0.0.1:8080"]}]')
      const checked = run("check", "--json", "--conf", join(dir, "ep2.conf"))

      assert.deepStrictEqual([made.status, made.stderr], [0, ""])
      for (const file of written) assert.include(made.stdout, `wrote ${join(dir, file)}\n`)
      assert.match(made.stdout, /\nWhat comes next:\n1\. .*ep2\.conf: .*\n2\. .*\n3\. ep2 check --conf /)
      const { findings } = JSON.parse(checked.stdout) as { readonly findings: ReadonlyArray<Entry> }
      const bad = findings.filter(({ level }) => level !== "ok")
      // Nobody listens where Consul and AWS are said to be.
      const isSource = orchestrator !== "file"
      assert.deepStrictEqual([...new Set(bad.map(({ level, subject }) => `${subject} ${level}`))].sort(), [
        "socket warning",
        ...(isSource ? ["source problem"] : [])
      ])
      assert.strictEqual(checked.status, isSource ? 8 : 0)
    })
  )

  it.live("leaves a file that is there as it is, says so, and writes the others", () =>
    Effect.gen(function* () {
      const dir = yield* makeFolder
      writeFileSync(join(dir, "ep2.conf"), "mine")

      const { status, stdout } = run("init", "--dir", dir)
      const again = run("init", "--dir", dir, "--orchestrator", "aws")

      assert.strictEqual(status, 0)
      assert.match(stdout, /^kept {2}.*ep2\.conf: it is there already, and stays as it is\nwrote .*template\n/)
      assert.strictEqual(readFileSync(join(dir, "ep2.conf"), "utf8"), "mine")
      assert.deepStrictEqual(
        written.map((file) => existsSync(join(dir, file))),
        [true, true, true, true]
      )
      assert.strictEqual(again.status, 0)
      assert.strictEqual(again.stdout.match(/^kept {2}/gm)?.length, 4)
    })
  )

  it.live("keeps the conf, in which secrets may come to stand, from everybody else", () =>
    Effect.gen(function* () {
      const dir = yield* makeFolder

      run("init", "--dir", dir)

      assert.strictEqual(statSync(join(dir, "ep2.conf")).mode & 0o007, 0)
      assert.strictEqual(statSync(join(dir, "haproxy.cfg.template")).mode & 0o022, 0)
    })
  )

  it.live("says of every file that cannot be written why not, and ends with exit code 1", () =>
    Effect.gen(function* () {
      const dir = yield* makeFolder
      writeFileSync(join(dir, "file"), "")

      const { status, stderr, stdout } = run("init", "--dir", join(dir, "file"))

      assert.deepStrictEqual([status, stdout], [1, ""])
      assert.strictEqual(stderr.match(/cannot be written: /g)?.length, 4)
      assert.match(stderr, /\nrun this as root, or with --dir and a folder that you may write\n$/)
    })
  )

  it.each([
    ["ep2.service", Units.service],
    ["haproxy-ep2.conf", Units.dropIn]
  ])("writes the unit that the documentation has: %s", (file, text) => {
    assert.strictEqual(text, readFileSync(join(root, "docs/systemd", file), "utf8"))
  })
})
