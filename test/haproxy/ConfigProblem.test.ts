import { spawnSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { type ConfigProblem, explain } from "../../src/haproxy/ConfigProblem.ts"
import { type CheckCase, cases, rendered } from "../fixtures/CheckCases.ts"
import * as Binaries from "../servers/Binaries.ts"

const caseOf = (name: string): CheckCase => cases.find((one) => one.name === name)!

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "ep2-p-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true }))
)

/** What HAProxy said when the fixtures were recorded. */
const recorded = Effect.fnUntraced(function* (version: Binaries.HaproxyVersion, one: CheckCase) {
  const output = readFileSync(join(import.meta.dirname, `../fixtures/haproxy-check/${version}/${one.name}.txt`), "utf8")
  const paths = { candidatePath: "/etc/haproxy/haproxy.cfg", templatePath: "/etc/ep2/t" }
  return explain({ output, rendered: yield* rendered(one, yield* folder), ...paths })
})

/** What HAProxy says now. */
const live = Effect.fnUntraced(function* (version: Binaries.HaproxyVersion, one: CheckCase) {
  const dir = yield* folder
  const candidatePath = join(dir, "candidate.cfg")
  const config = yield* rendered(one, dir)
  writeFileSync(candidatePath, config.text)
  const { status, stderr, stdout } = spawnSync(Binaries.haproxy(version), ["-c", "-f", candidatePath], {
    encoding: "utf8"
  })
  const problems = explain({ output: stdout + stderr, rendered: config, candidatePath, templatePath: "/etc/ep2/t" })
  return { status, problems }
})

const shown = (problems: ReadonlyArray<ConfigProblem>) =>
  problems.map(({ level, line, message }) => `${level} ${line ?? "-"} ${message}`)

const versions = ["2.2", "2.6", "3.0", "3.2"] as const
const isOld = (version: Binaries.HaproxyVersion) => version === "2.2" || version === "2.6"

/** Both lines of the printed template that HAProxy complains of. */
const inSample = (version: Binaries.HaproxyVersion): ReadonlyArray<string> => {
  const write =
    'write two lines: "option httpchk" and "http-check send meth HEAD uri / ver HTTP/1.1 hdr Host localhost"'
  const hides = "'option httpchk' : hiding headers or body at the end of the version string is"
  return [
    `alert 21 unknown option 'no-sslsv3' on global statement 'ssl-default-bind-options'; write "no-sslv3" for "no-sslsv3"`,
    isOld(version)
      ? `warning 48 ${hides} deprecated. Please, consider to use 'http-check send' directive instead; ${write}`
      : `alert 48 ${hides} unsupported.Use 'http-check send' directive instead; ${write}`
  ]
}

describe.each(versions)("explain, on what HAProxy %s said", (version) => {
  it.effect("names the line of the printed template that it refuses, and what to write there", () =>
    Effect.gen(function* () {
      assert.deepEqual(shown(yield* recorded(version, caseOf("sample"))), inSample(version))
    })
  )

  it.effect("finds nothing where nothing is wrong", () =>
    Effect.gen(function* () {
      assert.deepEqual(yield* recorded(version, caseOf("sample-repaired")), [])
    })
  )

  it.effect("says each of many problems once, at the template's line", () =>
    Effect.gen(function* () {
      const found = shown(yield* recorded(version, caseOf("many")))

      const meant = (word: string) => (version === "2.2" ? "" : `; did you mean '${word}' maybe ?`)
      const server = version === "2.2" ? "'server node1'" : "'server app/node1' :"
      assert.deepEqual(
        found.filter((one) => !one.includes("httpchk")),
        [
          `alert 2 unknown keyword 'maxcon' in 'global' section${meant("maxconn")}`,
          `alert 10 unknown keyword 'balanc' in 'listen' section${meant("balance")}`,
          `alert 11 unknown keyword 'use_server' in 'listen' section${meant("use-server")}`,
          "alert 14 unknown keyword '{' in 'listen' section; a comment of the template is written {% comment %} … {% endcomment %}",
          `alert 18 ${server} unknown keyword 'chek'${meant("check")}; ep2 writes this line: see server_options, check_interval and backend_maxconn in ep2.conf`,
          "alert 20 proxy 'app' has the same name as proxy 'app' declared at /etc/ep2/t:15.",
          ...(version === "3.2"
            ? [
                "warning 20 proxy 'app' has the same name as proxy 'app' declared at /etc/ep2/t:15. This is dangerous and will not be supported anymore in version 3.3."
              ]
            : [])
        ]
      )
    })
  )

  it.effect("writes a health check with escaped headers in today's words", () =>
    Effect.gen(function* () {
      const found = (yield* recorded(version, caseOf("many"))).find(({ message }) => message.includes("httpchk"))

      assert.equal(found?.level, isOld(version) ? "warning" : "alert")
      assert.equal(found?.line, 17)
      const send = String.raw`"http-check send meth GET uri /health?a=1 ver HTTP/1.1 hdr Host www.example.org hdr X-Probe a\ b"`
      assert.isTrue(found?.message.endsWith(`; write two lines: "option httpchk" and ${send}`), found?.message)
    })
  )

  it.effect("keeps problems without a line, and joins what goes on over several", () =>
    Effect.gen(function* () {
      const found = yield* recorded(version, caseOf("lineless"))

      assert.deepEqual(
        found.map(({ level, line }) => [level, line]),
        [
          ["alert", undefined],
          ["warning", undefined],
          ["warning", undefined]
        ]
      )
      assert.equal(found[0]?.message, "Proxy 'web': unable to find required default_backend: 'nowhere'.")
      assert.match(
        found[1]?.message ?? "",
        /^missing timeouts for frontend 'web'\. While .* 'client', 'connect', 'server'\.$/
      )
    })
  )

  it.effect("tells what to do about several processes, where they are refused", () =>
    Effect.gen(function* () {
      const found = yield* recorded(version, caseOf("nbproc"))

      const one = "since HAProxy 2.5 there is one process, and one stats socket is enough"
      const advice = [
        'remove "nbproc 2", keep one stats socket, and name that one alone in haproxy_socket_file',
        `remove "process 1": ${one}`,
        `remove "process 2": ${one}`
      ]
      assert.deepEqual(
        found.map(({ line, message }) => [line, message.split("; ").at(-1)]),
        version === "2.2" ? [] : advice.map((text, index) => [index + 2, text])
      )
    })
  )
})

describe.each(Binaries.haproxyVersions())("explain, on HAProxy %s as it runs here", (version) => {
  it.live("names the lines of the printed template that it refuses", () =>
    Effect.gen(function* () {
      const { problems, status } = yield* live(version, caseOf("sample"))

      assert.equal(status, 1)
      assert.deepEqual(shown(problems), inSample(version))
    })
  )

  it.live("has nothing to say about the printed template once it is repaired as told", () =>
    Effect.gen(function* () {
      const { problems, status } = yield* live(version, caseOf("sample-repaired"))

      assert.deepEqual([status, problems], [0, []])
    })
  )

  it.live("gives advice on health checks that HAProxy takes", () =>
    Effect.gen(function* () {
      const { problems } = yield* live(version, caseOf("many"))
      const advice = problems.find(({ message }) => message.includes("httpchk"))?.message ?? ""
      const [, option, send] = /write two lines: "(.*)" and "(.*)"$/.exec(advice) ?? []

      const timeouts = "timeout connect 1s\ntimeout client 1s\ntimeout server 1s"
      const template = `defaults\nmode http\n${timeouts}\nlisten app\nbind 127.0.0.1:1\n${option}\n${send}\n{{ nodes }}\n`
      const again = yield* live(version, { name: "advice", template, backend: { name: "app" } })

      assert.deepEqual([again.status, again.problems], [0, []])
    })
  )
})

describe("explain", () => {
  const config = { text: "listen a\nbogus\n", templateLine: (line: number) => (line === 2 ? 7 : undefined) }
  const said = (output: string) =>
    explain({ output, rendered: config, candidatePath: "/etc/x+(1).cfg", templatePath: "/t" })

  it("takes a path with any characters, as it stands", () => {
    const output =
      "[ALERT]    (1) : config : parsing [/etc/x+(1).cfg:2] : unknown keyword 'bogus' in 'listen' section\n"

    assert.deepEqual(said(output), [
      { level: "alert", line: 7, message: "unknown keyword 'bogus' in 'listen' section" }
    ])
  })

  it("names the rendered line where the template has none for it", () => {
    const output = "[ALERT]    (1) : config : parsing [/etc/x+(1).cfg:1] : no\n"

    assert.deepEqual(said(output), [{ level: "alert", message: "line 1 of the rendered config: no" }])
  })

  it("keeps HAProxy's summary where it says nothing else", () => {
    const output = "[ALERT]    (1) : config : Fatal errors found in configuration.\n"

    assert.deepEqual(said(output), [{ level: "alert", message: "Fatal errors found in configuration." }])
  })

  it("finds nothing in what is not HAProxy's", () => {
    assert.deepEqual(said("Segmentation fault\n\u0000[ALERT\n"), [])
  })
})
