/** The ep2.conf and the template that the documentation of EP2 1.0 prints, on HAProxy 2.6, with `ep2 -f`. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs"
import { userInfo } from "node:os"
import { join, resolve } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Binaries from "../servers/Binaries.ts"
import { ConsulServer } from "../servers/ConsulServer.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"
import * as Ports from "../servers/Ports.ts"
import * as Traffic from "../servers/Traffic.ts"
import * as World from "./World.ts"

const fixtures = resolve(import.meta.dirname, "../fixtures/ep2-1.0")
const printedTemplate = readFileSync(join(fixtures, "haproxy.cfg.template"), "utf8")
const printedConf = readFileSync(join(fixtures, "ep2.conf"), "utf8")
const lineOf = (words: string) => printedTemplate.split("\n").findIndex((line) => line.includes(words)) + 1

const errorPages = [400, 403, 408, 500, 502, 503, 504]

/** The three lines that cannot stay as they were printed, and what ep2 says to write. */
const repairs = {
  sslFc: (text: string) => text.replace("if {{ ssl_fc }}", "if { ssl_fc }"),
  sslV3: (text: string) => text.replace("no-sslsv3", "no-sslv3"),
  httpCheck: (text: string) =>
    text.replace(
      /option httpchk .*/,
      "option httpchk\n    http-check send meth HEAD uri / ver HTTP/1.1 hdr Host localhost"
    )
}

/** Writes the printed files into a world: paths, ports and the user adapted, nothing else. */
const makeWorld = Effect.fnUntraced(function* (version: Binaries.HaproxyVersion, repair: (text: string) => string) {
  const consul = yield* ConsulServer
  const world = yield* World.make({ version, source: () => "" })
  const [statsPort, statsSocketPort] = [yield* Ports.freePort, yield* Ports.freePort]
  const backend = yield* HttpBackends.make({ name: "a" })
  const isRoot = process.getuid?.() === 0
  const errors = join(world.dir, "errors")
  mkdirSync(errors)
  for (const status of errorPages) {
    writeFileSync(join(errors, `${status}.http`), `HTTP/1.0 ${status} No\r\nContent-Length: 0\r\n\r\n`)
  }

  const template = repair(printedTemplate)
    .replace("/var/run/haproxy/haproxy.sock", world.sockets[0]!)
    .replace(/^ +chroot .*$/m, isRoot ? `    chroot ${world.dir}` : "")
    .replace("user haproxy", `user ${userInfo().username}`)
    .replace(/^ +group haproxy$/m, "")
    .replaceAll("/etc/haproxy/errors", errors)
    .replace("127.0.0.1:9999", `127.0.0.1:${statsSocketPort}`)
    .replace("bind *:7001", `bind 127.0.0.1:${world.port}`)
    .replace("bind :32700", `bind 127.0.0.1:${statsPort}`)
  writeFileSync(world.template, template)

  const consulBlock = `[CONSUL]\nservice_name = web\nconsul_ip =\nconsul_port = ${consul.port}\nonly_passing =\ntags =\n`
  const conf = printedConf
    .replace(/\[AWS\][\s\S]*/, consulBlock)
    .replace("orchestrator = aws", "orchestrator = consul")
    .replace("start_by = systemd", "start_by = binary")
    .replace("/etc/haproxy/haproxy.cfg", world.configFile)
    .replace("/home/deep/elasticpyproxy/etc/haproxy.config.template", world.template)
    .replace("/home/deep/elasticpyproxy/etc", world.dir)
    .replace("/usr/sbin/haproxy", Binaries.haproxy(version))
    .replace("/var/run/haproxy/haproxy.sock", world.sockets[0]!)
    .replace("/run/haproxy.pid", world.pidFile)
    .replace("/var/log/ep2/ep2.log", join(world.dir, "ep2.log"))
    .replace("backend_port = 6003", `backend_port = ${backend.endpoint.port}`)
  writeFileSync(world.conf, conf)
  yield* consul.register({ id: "a", name: "web", address: backend.endpoint.address, port: 1234 })
  return { world, backend, log: () => readFileSync(join(world.dir, "ep2.log"), "utf8") }
})

const all = (text: string) => repairs.httpCheck(repairs.sslV3(repairs.sslFc(text)))

describe("the files that EP2 1.0 printed", () => {
  it.live.each([
    {
      what: "{{ ssl_fc }}",
      version: "2.6" as const,
      line: lineOf("ssl_fc"),
      repair: (text: string) => text,
      write: /\{ ssl_fc \}/
    },
    { what: "no-sslsv3", version: "2.6" as const, line: lineOf("no-sslsv3"), repair: repairs.sslFc, write: /no-sslv3/ },
    {
      what: "option httpchk",
      version: "3.2" as const,
      line: lineOf("option httpchk"),
      repair: (text: string) => repairs.sslV3(repairs.sslFc(text)),
      write: /http-check send meth HEAD uri \/ ver HTTP\/1\.1 hdr Host localhost/
    }
  ])("$what is refused with its line in the template and what to write", ({ line, repair, version, write }) =>
    Effect.gen(function* () {
      const { world, log } = yield* makeWorld(version, repair)
      const ep2 = yield* world.start(["-f", world.conf])

      assert.strictEqual(yield* ep2.ended, 4)

      assert.include(ep2.output(), `${world.template}:${line}: `)
      assert.match(ep2.output(), write)
      assert.match(log(), write)
      assert.deepStrictEqual(yield* world.haproxyPids, [])
    }).pipe(Effect.provide(ConsulServer.layer()))
  )

  it.live.each([
    { version: "2.6" as const, repair: (text: string) => repairs.sslV3(repairs.sslFc(text)) },
    { version: "3.2" as const, repair: all }
  ])("start HAProxy $version once repaired where HAProxy refuses them, and serve", ({ repair, version }) =>
    Effect.gen(function* () {
      const { world, log } = yield* makeWorld(version, repair)
      const ep2 = yield* world.start(["-f", world.conf])

      yield* World.eventually(
        "it serves",
        Effect.sync(() => /following the source of haproxynode/.test(log()))
      )
      const traffic = yield* Traffic.start({ port: world.port, maxRequests: 40 })
      yield* World.eventually(
        "40 requests",
        Effect.map(traffic.report, ({ requests }) => requests >= 40)
      )

      const report = yield* traffic.stop
      assert.deepStrictEqual(report.failures, [])
      assert.deepStrictEqual(Object.keys(report.byServer), ["a"])
      assert.strictEqual(ep2.output(), "", "what EP2 1.0 logs goes to its log file")
      // HAProxy 2.6 still takes the printed line of the health check, and warns.
      if (version === "2.6") {
        assert.include(log(), `${world.template}:${lineOf("option httpchk")}: `)
        assert.match(log(), /warning.*http-check send meth HEAD/)
      }
      // `node_slots = 5`: one server and four free slots.
      const slots = (yield* world.ask("show servers state haproxynode"))
        .split("\n")
        .filter((line) => / node\d /.test(line))
      assert.strictEqual(slots.length, 5)
    }).pipe(Effect.provide(ConsulServer.layer()))
  )
})
