import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit } from "effect"
import { Command } from "effect/cli"
import { TestConsole } from "effect/testing"
import * as Simulate from "../../src/cli/Simulate.ts"
import { Stop } from "../../src/cli/Stop.ts"
import type { Outcome } from "../../src/simulation/Outcome.ts"

const calm: Outcome = {
  entries: [{ atMillis: 60_000, kind: "event", level: "info", text: "the source of web names 300 endpoints" }],
  samples: [
    { atMillis: 0, wanted: 3, served: 3 },
    { atMillis: 60_000, wanted: 300, served: 3 },
    { atMillis: 62_000, wanted: 300, served: 300 }
  ],
  broken: [],
  summary: {
    playedMillis: 900_000,
    serveMillis: [1200],
    unserved: 0,
    requests: { sent: 100, failed: 0 },
    apiCalls: 15,
    commands: 900,
    reloads: 1,
    heldPasses: 0,
    cutDrains: 0,
    brokenRules: 0
  }
}
const bad: Outcome = {
  ...calm,
  broken: [
    { atMillis: 723_250, rule: "placeholder", detail: "web/node7 takes traffic" },
    { atMillis: 730_000, rule: "served", detail: "10.0.0.1:8080 waits" }
  ]
}

const template = `defaults
  mode http
global
  stats socket /run/haproxy/haproxy.sock mode 600 level admin
listen web
  bind 127.0.0.1:8080
  {{ nodes }}
`

/** Runs the command in a folder of its own, and says what came of it. */
const run = Effect.fnUntraced(function* (
  args: (folder: string) => ReadonlyArray<string>,
  { files = {}, outcome = calm }: { readonly files?: Readonly<Record<string, string>>; readonly outcome?: Outcome } = {}
) {
  const folder = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "ep2-simulate-"))),
    (path) => Effect.sync(() => rmSync(path, { recursive: true }))
  )
  const conf = `[haproxy]
orchestrator = consul
backend_name = web
template_file = ${folder}/web.template
haproxy_socket_file = /run/haproxy/haproxy.sock
[CONSUL]
service_name = web
`
  for (const [name, text] of Object.entries({ "ep2.conf": conf, "web.template": template, ...files })) {
    writeFileSync(join(folder, name), text)
  }
  const played: Array<Simulate.Play> = []
  const command = Simulate.commandWith((given) =>
    Effect.sync(() => {
      played.push(given)
      return outcome
    })
  )
  const exit = yield* Command.runWith(command, { version: "0" })([
    "--conf",
    join(folder, "ep2.conf"),
    ...args(folder)
  ]).pipe(Effect.provide(NodeServices.layer), Effect.result, Effect.exit)
  const failure = Exit.isSuccess(exit) && exit.value._tag === "Failure" ? exit.value.failure : undefined
  return {
    folder,
    played,
    stop: failure instanceof Stop ? failure : undefined,
    out: (yield* TestConsole.logLines).map(String).join("\n"),
    err: (yield* TestConsole.errorLines).map(String).join("\n").replaceAll(folder, "…")
  }
})

describe("ep2 simulate", () => {
  it.effect("plays scale-out with the conf and the template, and shows timeline, picture and numbers", () =>
    Effect.gen(function* () {
      const { out, played, stop } = yield* run(() => [])

      assert.isUndefined(stop)
      assert.deepInclude(played[0], { template, version: "3.2", seed: 1, untilMillis: 900_000 })
      assert.equal(played[0]?.scenario.name, "scale-out")
      assert.equal(played[0]?.settings.backends[0].name, "web")
      assert.match(out, /^scale-out: from 3 endpoints to 300 at once; seed 1, HAProxy 3\.2$/m)
      assert.match(out, /^00:01:00\.000 {2}\* event the source of web names 300 endpoints$/m)
      assert.match(out, /^300 \| +[#.]+$/m)
      assert.match(out, /^reloads +1$/m)
    })
  )

  it.effect("plays what the flags say: scenario, seed, time and version", () =>
    Effect.gen(function* () {
      const { played } = yield* run(() => [
        ...["--scenario", "flapping", "--seed", "7", "--until", "90s", "--version-of-haproxy", "2.2"]
      ])

      assert.deepInclude(played[0], { version: "2.2", seed: 7, untilMillis: 90_000 })
      assert.equal(played[0]?.scenario.name, "flapping")
    })
  )

  it.effect("plays a random scenario for a seed alone", () =>
    Effect.gen(function* () {
      const { played } = yield* run(() => ["--seed", "42"])

      assert.equal(played[0]?.scenario.description, "what chance makes of seed 42")
    })
  )

  it.effect("plays a file", () =>
    Effect.gen(function* () {
      const own = "duration: 5m\nstart: { web: { fleet: 2 } }\nevents: [{ at: 1m, want: { fleet: 4 } }]"

      const { played } = yield* run((folder) => ["--scenario", join(folder, "own.yml")], { files: { "own.yml": own } })

      assert.equal(played[0]?.untilMillis, 300_000)
      assert.equal(played[0]?.scenario.events.length, 1)
    })
  )

  it.effect("lists the scenarios and plays none", () =>
    Effect.gen(function* () {
      const { out, played } = yield* run(() => ["--list"], { files: { "ep2.conf": "bogus" } })

      assert.equal(played.length, 0)
      assert.equal(out.split("\n").length, 11)
      assert.match(out, /^source-outage +the source does not answer for an hour/m)
      assert.match(out, /^random +/m)
    })
  )

  it.effect("prints all of it as JSON, and nothing else", () =>
    Effect.gen(function* () {
      const { out } = yield* run(() => ["--json"])

      const printed = JSON.parse(out)
      assert.deepEqual(printed.samples, calm.samples)
      assert.deepEqual(printed.summary.timeToServe, { endpoints: 1, p50Millis: 1200, p95Millis: 1200, maxMillis: 1200 })
      assert.deepInclude(printed, { scenario: "scale-out", seed: 1, version: "3.2", broken: [] })
    })
  )

  it.effect("writes the picture into a file, and says where it cannot", () =>
    Effect.gen(function* () {
      const good = yield* run((folder) => ["--plot", join(folder, "own.svg")])
      const svg = readFileSync(join(good.folder, "own.svg"), "utf8")

      const { err, stop } = yield* run((folder) => ["--plot", join(folder, "no", "own.svg")])

      assert.match(svg, /^<svg [\s\S]*scale-out: from 3 endpoints[\s\S]*<\/svg>\n$/)
      assert.equal(stop?.exitCode, 1)
      assert.match(err, /…\/no\/own\.svg cannot be written/)
    })
  )

  it.effect("ends with 1 where a rule was broken, with the seed, the moment and how to see it again", () =>
    Effect.gen(function* () {
      const { err, out, stop } = yield* run(() => ["--seed", "9", "--until", "1h"], { outcome: bad })

      assert.equal(stop?.exitCode, 1)
      assert.equal(
        err,
        "ep2: a rule was broken with seed 9, at 00:12:03.250 (placeholder): web/node7 takes traffic, and 1 more; to see it again: ep2 simulate --conf …/ep2.conf --scenario random --seed 9 --version-of-haproxy 3.2 --until 1h"
      )
      assert.match(out, /^rule broken at 00:12:10\.000 \(served\): 10\.0\.0\.1:8080 waits$/m)
    })
  )

  it.effect.each([
    [
      "a conf",
      [],
      { "ep2.conf": "[haproxy]\nnode_slots = abc\n" },
      /ep2\.conf:2: \[haproxy\] node_slots = "abc": expected/
    ],
    ["a template", [], { "web.template": "listen web\n  {{ nodez }}\n" }, /web\.template:2: .*nodez/],
    [
      "a template that is not there",
      [],
      { "ep2.conf": "[haproxy]\norchestrator = consul\ntemplate_file = /nowhere\n[CONSUL]\nservice_name = web\n" },
      /\/nowhere/
    ],
    ["a scenario", ["--scenario", "scale-up"], {}, /no scenario and no file "scale-up"; the scenarios are scale-out, /],
    ["a scenario that needs more", ["--scenario", "dead-process"], {}, /needs 4 processes of HAProxy, and .* has 1/]
  ] as const)("ends with 2 for %s that cannot be used, and plays nothing", ([, args, files, expected]) =>
    Effect.gen(function* () {
      const { err, played, stop } = yield* run(() => args, { files })

      assert.equal(stop?.exitCode, 2)
      assert.match(err, expected)
      assert.equal(played.length, 0)
    })
  )

  it.effect("ends with 2 for a scenario file that is wrong, and says all that is", () =>
    Effect.gen(function* () {
      const own = "duration: long\nstart: {}\nevents: [{ at: 1m, want: { fleet: -1 } }]"

      const { err, stop } = yield* run((folder) => ["-s", join(folder, "own.yml")], { files: { "own.yml": own } })

      assert.equal(stop?.exitCode, 2)
      assert.match(err, /own\.yml:1: duration: found "long"/)
      assert.match(err, /own\.yml:3: events\[1\]\.want\.fleet: found -1/)
    })
  )

  it.effect("ends with 1 for a time that is none", () =>
    Effect.gen(function* () {
      const { err, stop } = yield* run(() => ["--until", "soon"])

      assert.equal(stop?.exitCode, 1)
      assert.match(err, /--until "soon": expected a duration/)
    })
  )
})
