/** `ep2 check` against real HAProxy, Consul and moto: it finds everything at once, and changes nothing. */
import { spawnSync } from "node:child_process"
import { chmodSync, chownSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Check from "../../src/cli/Check.ts"
import type { Entry } from "../../src/cli/CheckReport.ts"
import { ConsulServer } from "../servers/ConsulServer.ts"
import * as FaultProxy from "../servers/FaultProxy.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"
import { MotoServer, region } from "../servers/MotoServer.ts"
import * as FileWorld from "./FileWorld.ts"
import { edit, fileOf, picture, run, startServing, want } from "./FileWorld.ts"
import * as World from "./World.ts"

/** The findings of each level, each as `subject place: text`. */
const byLevel = (findings: ReadonlyArray<Entry>) => {
  const of = (level: Entry["level"]) =>
    findings.filter((one) => one.level === level).map(({ place, subject, text }) => `${subject} ${place}: ${text}`)
  return { ok: of("ok"), warnings: of("warning"), problems: of("problem") }
}

/** `ep2 check --json`. */
const check = Effect.fnUntraced(function* (world: World.World) {
  const { exitCode, output } = yield* run(world, "check", "--json")
  return { exitCode, ...byLevel((JSON.parse(output) as { readonly findings: ReadonlyArray<Entry> }).findings) }
})

/** What it finds of the sources, without a process of its own. */
const checkSources = Effect.fnUntraced(function* ({ conf }: World.World) {
  const { problems, warnings } = byLevel((yield* Check.examine(conf)).filter(({ subject }) => subject === "source"))
  return { problems, warnings }
})

/** Whether each pattern is found, by one line each, and nothing besides. */
const assertLines = (lines: ReadonlyArray<string>, patterns: ReadonlyArray<RegExp>) => {
  const missing = patterns.filter((pattern) => !lines.some((line) => pattern.test(line)))
  const others = lines.filter((line) => !patterns.some((pattern) => pattern.test(line)))
  assert.deepStrictEqual({ missing: missing.map(String), others }, { missing: [], others: [] })
}

describe("ep2 check", () => {
  it.live(
    "finds nothing wrong beside an ep2 that runs, names who has the lock and that it is paused, and changes nothing",
    () =>
      Effect.gen(function* () {
        const world = yield* FileWorld.make()
        const [a] = yield* HttpBackends.makeAll(["a"])
        const ep2 = yield* startServing(world, [a!])
        yield* World.logs(ep2, /following the source/)
        const before = picture(world.dir)

        const { exitCode, ok, problems, warnings } = yield* check(world)
        const after = picture(world.dir)
        yield* run(world, "pause")
        const paused = yield* run(world, "check")

        assert.deepStrictEqual([exitCode, problems, warnings], [0, [], []])
        assertLines(ok, [
          /^conf .*ep2\.conf: can be read: web$/,
          /^haproxy .*bin\/haproxy: HAProxy \d+\.\d+/,
          /^template .*template: HAProxy takes what it makes$/,
          /^socket .*admin-1\.sock: HAProxy \d.* \(pid \d+\), level admin, can add servers, runs what ep2 renders$/,
          /^source web \(.*targets\.json\): names 1 endpoint$/,
          /^files .*haproxy\.cfg: can be read and replaced$/,
          /^files .*haproxy\.pid: pid_file can be written$/,
          /^files log_file: standard output$/,
          /^lock .*\.lock: an ep2 that runs has it \(pid \d+\)/
        ])
        assert.deepStrictEqual(after, before)
        assert.strictEqual(paused.exitCode, 0)
        assert.match(paused.output, /^conf\n {2}ok {7}\/.*\n/)
        assert.match(paused.output, /\n {2}warning {2}.*: ep2 is paused since .* by .* until `ep2 resume`\n/)
        assert.match(paused.output, /\n\nno problems, 1 warning\n$/)
      })
  )

  it.live("names everything that is wrong at once, with what to do, and warns of what is likely to hurt", () =>
    Effect.gen(function* () {
      const world = yield* FileWorld.make({
        settings: (dir) => ({
          orchestrator: "file",
          update_type: "update_by_config",
          log_file: join(dir, "none", "ep2.log"),
          pid_file: join(dir, "targets.json", "haproxy.pid"),
          haproxy_socket_file: [join(dir, "admin-1.sock"), join(dir, "gone", "2.sock")].join(", ")
        }),
        template: (usual) =>
          usual
            .replace("level admin expose-fd listeners", "level operator")
            .replace("stats timeout 30s", "stats timeout 30\n    nosuchkeyword 1")
            .replace("    option redispatch\n", "")
            .replace("retries 3", "option nosuchoption")
      })
      writeFileSync(fileOf(world.dir), "[{")
      mkdirSync(world.configFile)

      const { exitCode, problems, warnings } = yield* check(world)

      assert.strictEqual(exitCode, 8)
      assertLines(problems, [
        /^template .*:2: the stats socket .*admin-1\.sock does not let ep2 change servers: write ".*level admin/,
        /^template .*template: has no stats socket .*gone\/2\.sock, which haproxy_socket_file names/,
        /^template .*template:4: unknown keyword 'nosuchkeyword'/,
        /^template .*template:\d+: unknown option 'nosuchoption'/,
        /^socket .*gone\/2\.sock: there is no folder .*gone, where HAProxy is to open it: make it/,
        /^source .*targets\.json: .*JSON/,
        /^files .*haproxy\.cfg: is not a regular file: correct haproxy_config_file$/,
        /^files .*haproxy\.pid: pid_file cannot be written: a part of the path is not a folder/,
        /^files .*ep2\.log: log_file cannot be made there: there is no such folder: make the folder/
      ])
      assertLines(warnings, [
        /^template .*: web has no "option redispatch"/,
        /^template .*:3: "stats timeout 30" is 30 ms/,
        /^template .*: listen web keeps connections alive without "option idle-close-on-response"/,
        /^template .*:2: the stats socket .*admin-1\.sock has no "expose-fd listeners"/,
        /^socket .*admin-1\.sock: HAProxy does not run .*: ep2 starts it when it starts$/
      ])
    })
  )

  it.live("names all that is wrong with a conf with exit code 2, and what can be looked at in spite of it", () =>
    Effect.gen(function* () {
      const world = yield* FileWorld.make()
      edit(world.conf, (text) =>
        text.replace("node_slots = 8", "node_slots = eight").replace("new_servers = trusted", "new_servers = maybe")
      )

      const { exitCode, ok, problems, warnings } = yield* check(world)

      assert.strictEqual(exitCode, 2)
      assertLines(problems, [
        /^conf .*ep2\.conf:\d+: \[haproxy\] node_slots = "eight": expected a whole number/,
        /^conf .*ep2\.conf:\d+: \[haproxy\] new_servers = "maybe": expected /
      ])
      assert.include(warnings[0], "not looked at before that is mended: template, sources")
      assert.isTrue(ok.some((line) => /^haproxy .*HAProxy \d/.test(line)))
      assert.isTrue(ok.some((line) => /^lock .*nobody has it/.test(line)))
    })
  )

  it.live("of a HAProxy that runs finds a socket that may not change it, one that is gone, and another config", () =>
    Effect.gen(function* () {
      const world = yield* FileWorld.make({
        version: "2.2",
        processes: 2
      })
      const config = readFileSync(world.template, "utf8").replace("{{nodes}}", "")
      const operator = config.replace(/(admin-1\.sock.* level) admin/, "$1 operator")
      writeFileSync(world.configFile, operator.replace(/.*admin-2\.sock.*\n/, ""))
      yield* want(world, [])
      yield* World.startHaproxy(world, "2.2")
      yield* World.eventually(
        "HAProxy answers",
        Effect.map(world.ask("show info"), (reply) => reply !== "")
      )

      const { exitCode, problems, warnings } = yield* check(world)

      assert.strictEqual(exitCode, 8)
      assertLines(problems, [
        /^socket .*admin-1\.sock: has level operator, .*: write "level admin" on its "stats socket" line/,
        /^socket .*admin-2\.sock: .*ENOENT.*, and others answer: is that process down/
      ])
      assert.isTrue(warnings.some((line) => /^source web .*: answers, and names no endpoint$/.test(line)))
    })
  )

  it.live("asks the master where it is to reload HAProxy, and says of another socket that it is none of a master", () =>
    Effect.gen(function* () {
      const world = yield* FileWorld.make({
        settings: (dir) => ({
          orchestrator: "file",
          start_by: "master",
          haproxy_master_socket: join(dir, "master.sock")
        })
      })
      yield* Effect.scoped(startServing(world, yield* HttpBackends.makeAll(["a"])))

      const right = yield* check(world)
      symlinkSync(world.sockets[0]!, join(world.dir, "worker.sock"))
      edit(world.conf, (text) => text.replace("master.sock", "worker.sock"))
      const wrong = yield* check(world)

      assert.deepStrictEqual([right.exitCode, right.problems], [0, []])
      assert.isTrue(right.ok.some((line) => /^haproxy .*master\.sock: the master answers$/.test(line)))
      assertLines(wrong.problems, [/^haproxy .*worker\.sock: `show proc` was answered with "/])
    })
  )

  const isRoot = process.getuid?.() === 0
  it.live.skipIf(!isRoot)(
    `says what another user may not do${isRoot ? "" : " (needs root, to become that user)"}`,
    () =>
      Effect.gen(function* () {
        const world = yield* FileWorld.make()
        yield* want(world, [])
        writeFileSync(world.configFile, "")
        for (const file of [world.dir, ...readdirSync(world.dir).map((name) => join(world.dir, name))]) {
          chownSync(file, 65534, 65534)
        }
        chownSync(world.configFile, 0, 0)
        chmodSync(world.configFile, 0o600)
        chmodSync(world.dir, 0o555)
        const as = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]

        const done = spawnSync(
          as[0]!,
          [...as.slice(1), process.execPath, World.program, "check", "--conf", world.conf],
          {
            encoding: "utf8"
          }
        )

        assert.strictEqual(done.status, 8, done.stdout + done.stderr)
        assert.match(
          done.stdout,
          /problem {2}.*: ep2 puts the config file there whole, .*, and this user may not: give user 65534/
        )
        assert.match(
          done.stdout,
          /problem {2}.*haproxy\.cfg: ep2 reads its servers back from it, and this user may not/
        )
        assert.match(done.stdout, /problem {2}.*haproxy\.cfg: belongs to 0:0, and only root can keep that owner/)
        assert.match(done.stdout, /problem {2}.*haproxy\.pid: pid_file cannot be made there: this user may not/)
        assert.match(done.stdout, /problem {2}.*: cannot be used as lock_dir: permission denied/)
      })
  )
})

describe("the sources of ep2 check", () => {
  it.live(
    "tell a Consul service that is down from one that there is not, and from one that the token may not see",
    () =>
      Effect.gen(function* () {
        const acl = { enabled: true, default_policy: "deny", tokens: { master: "root" } }
        const consul = yield* ConsulServer.make({ config: { acl }, token: "root" })
        const world = yield* FileWorld.make({
          source: () => `[CONSUL]\nservice_name = web\nconsul_port = ${consul.port}\ntoken = root`,
          settings: { orchestrator: "consul" }
        })

        const missing = yield* checkSources(world)
        yield* consul.register({ id: "web-1", name: "web", port: 8080, status: "critical" })
        const down = yield* checkSources(world)
        edit(world.conf, (text) => text.replace("token = root", "token = 00000000-0000-0000-0000-000000000001"))
        const denied = yield* checkSources(world)
        yield* consul.stop()
        const gone = yield* checkSources(world)

        assertLines(missing.problems, [
          /: Consul knows no such service, or does not show it \(with this token\): correct service_name/
        ])
        assert.deepStrictEqual(down.problems, [])
        assertLines(down.warnings, [/: names no endpoint: of 1 that are registered none passes$/])
        assertLines(denied.problems, [
          /Consul answered 403 "ACL not found": give the token's policy with service:read on "web"/
        ])
        assertLines(gone.problems, [/connection refused: see whether the agent runs/])
      })
  )

  it.live("name each IAM action that is missing, and a group that there is not with what it may be meant to be", () =>
    Effect.gen(function* () {
      const moto = yield* MotoServer.make
      const proxy = yield* FaultProxy.make(moto)
      yield* moto.makeGroup("web", 0)
      const world = yield* FileWorld.make({
        source: () =>
          `[AWS]\naws_access_key_id = AKIATEST\naws_secret_access_key = not-a-secret\nasg_name = web\nregion_name = ${region}\nip_type = private\nendpoint_url = http://127.0.0.1:${proxy.port}`,
        settings: { orchestrator: "aws", backend_port: "8080" }
      })
      const denied = (code: string) => ({
        kind: "answer" as const,
        status: 403,
        headers: { "content-type": "text/xml" },
        body: code.startsWith("Access")
          ? `<ErrorResponse><Error><Code>${code}</Code><Message>no</Message></Error></ErrorResponse>`
          : `<Response><Errors><Error><Code>${code}</Code><Message>no</Message></Error></Errors></Response>`
      })
      const calls = (name: string) => (request: FaultProxy.Seen) => request.body.includes(`Action=${name}`)

      yield* proxy.setRules(
        { fault: denied("AccessDenied"), only: calls("DescribeAutoScalingGroups") },
        { fault: denied("UnauthorizedOperation"), only: calls("DescribeInstances") }
      )
      const forbidden = yield* checkSources(world)
      yield* proxy.set(denied("UnauthorizedOperation"), calls("DescribeInstances"))
      const half = yield* checkSources(world)
      yield* proxy.set({ kind: "none" })
      edit(world.conf, (text) => text.replace("asg_name = web", "asg_name = wbe"))
      const wrong = yield* checkSources(world)

      assertLines(forbidden.problems, [
        /may not call autoscaling:DescribeAutoScalingGroups \(AccessDenied.*\): allow it in their IAM policy/,
        /may not call ec2:DescribeInstances \(UnauthorizedOperation.*\): allow it in their IAM policy/
      ])
      assertLines(half.problems, [/may not call ec2:DescribeInstances/])
      assertLines(wrong.problems, [/"wbe" in .*: there is no such group; did you mean "web"\?/])
    })
  )
})
