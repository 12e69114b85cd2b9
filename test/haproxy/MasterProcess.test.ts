import { spawn } from "node:child_process"
import { once } from "node:events"
import { copyFile, mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as MasterProcess from "../../src/haproxy/MasterProcess.ts"

describe("MasterProcess", () => {
  it.each([
    ["", []],
    ["\n", []],
    ["4711\n", [4711]],
    ["4711\n4712\n4711\n", [4711, 4712]],
    ["0\n", []],
    ["-1\n-4711\n", []],
    ["4711 0 -3 x9 9x 1e3 0x10 99999999999", [4711]],
    ["garbage\u0000\u0001", []]
  ])("reads the pids of %j as %j, and never one that would be a whole group", (text, pids) => {
    assert.deepEqual(MasterProcess.parsePids(text), pids)
  })

  it.each([
    ["0::/system.slice/haproxy.service\n", "haproxy.service"],
    ["12:pids:/system.slice/x.service\n1:name=systemd:/system.slice/haproxy@a.service\n0::/\n", "haproxy@a.service"],
    ["0::/user.slice/user-0.slice/user@0.service/app.slice/web.service\n", "web.service"],
    ["0::/user.slice/user-0.slice/session-4.scope\n", undefined],
    ["0::/user.slice/user-0.slice/user@0.service/app.slice/terminal.scope\n", undefined],
    ["0::/user.slice/user-0.slice/user@0.service/init.scope\n", undefined],
    ["0::/docker/0123abc\n", undefined],
    ["", undefined]
  ])("reads the service that owns a process from %j as %s", (cgroup, service) => {
    assert.equal(MasterProcess.serviceOf(cgroup), service)
  })

  it.live("finds a process that is called haproxy and has our config file or our pid file, and no other", () =>
    Effect.gen(function* () {
      const { dir, run } = yield* folder
      const ours = {
        configFile: join(dir, "haproxy.cfg"),
        pidFile: join(dir, "haproxy.pid"),
        binary: join(dir, "haproxy")
      }
      const master = yield* run("haproxy", ["-f", ours.configFile])
      const relative = yield* run("haproxy", ["-p", "haproxy.pid"])
      const otherConfig = yield* run("haproxy", ["-f", join(dir, "other.cfg")])
      const otherProgram = yield* run("nginx", ["-f", ours.configFile])
      const all = [master, relative, otherConfig, otherProgram, process.pid, 0, 5_000_000]
      yield* Effect.promise(() => writeFile(ours.pidFile, all.join("\n")))

      const found = yield* MasterProcess.find(ours, [])

      assert.deepEqual(
        found.map(({ pid }) => pid),
        [master, relative]
      )
    })
  )

  it.live("knows a process from another one that got its pid later", () =>
    Effect.gen(function* () {
      const { dir, run } = yield* folder
      const ours = {
        configFile: join(dir, "haproxy.cfg"),
        pidFile: join(dir, "haproxy.pid"),
        binary: join(dir, "haproxy")
      }
      const pid = yield* run("haproxy", ["-f", ours.configFile])
      yield* Effect.promise(() => writeFile(ours.pidFile, String(pid)))
      const [process_] = yield* MasterProcess.listed(ours)

      assert.isTrue(yield* MasterProcess.isAlive(process_!))
      assert.isFalse(yield* MasterProcess.isAlive({ ...process_!, startTime: "1" }))
      assert.isFalse(yield* MasterProcess.isAlive({ ...process_!, pid: 5_000_000 }))
    })
  )
})

/** A folder in which programs with any name and arguments run until the test ends. */
const folder = Effect.gen(function* () {
  const dir = yield* Effect.acquireRelease(
    Effect.promise(() => mkdtemp(join(tmpdir(), "ep2-p-"))),
    (made) => Effect.promise(() => rm(made, { recursive: true }))
  )
  /** A shell under another name: its arguments stand in `/proc`, and it does nothing. */
  const run = Effect.fnUntraced(function* (name: string, args: ReadonlyArray<string>) {
    const program = join(dir, name)
    yield* Effect.promise(() => copyFile("/bin/sh", program).catch(() => {}))
    const child = yield* Effect.acquireRelease(
      Effect.promise(async () => {
        const started = spawn(program, ["-c", "echo; read never", ...args], {
          cwd: dir,
          stdio: ["pipe", "pipe", "ignore"]
        })
        await once(started.stdout, "data")
        return started
      }),
      (started) =>
        Effect.promise(async () => {
          const gone = once(started, "exit")
          started.kill("SIGKILL")
          await gone
        })
    )
    return child.pid!
  })
  return { dir, run }
})
