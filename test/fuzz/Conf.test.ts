import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Redacted, Result, Schema } from "effect"
import * as ConfigText from "../../src/haproxy/ConfigText.ts"
import * as Key from "../../src/settings/Key.ts"
import * as Names from "../../src/settings/Names.ts"
import * as Settings from "../../src/settings/Settings.ts"
import * as SettingsError from "../../src/settings/SettingsError.ts"
import { Edits, itMeets, mutate, property, soup } from "./Hostile.ts"

const secrets = ["s3cr3t-of-consul", "s3cr3t-id-of-aws", "s3cr3t-key-of-aws"] as const

/** A file with every key that goes together with the others, at its documented example. */
const complete = (orchestrator: "aws" | "consul" | "file"): string => {
  const given: Readonly<Record<string, string | undefined>> = {
    ...{ orchestrator, token: secrets[0], aws_access_key_id: secrets[1], aws_secret_access_key: secrets[2] },
    ...{ scheme: "https", token_file: undefined, profile: undefined, external_id: undefined, role_arn: undefined },
    ...(orchestrator === "aws" ? { backend_port: "80" } : {})
  }
  return Object.entries(Names.sections)
    .map(([name, { fields }]) => {
      const lines = Object.entries(fields).flatMap(([key, field]) => {
        const value = key in given ? given[key] : Key.docOf(field).example
        return value === undefined ? [] : [`${key} = ${value}`]
      })
      return `[${name}]\n${lines.join("\n")}\n`
    })
    .join("\n")
}

const files = { aws: complete("aws"), consul: complete("consul"), file: complete("file") }

const keys = Object.values(Names.sections).flatMap(({ fields }) => Object.keys(fields))

const words = [
  ...keys,
  ...[
    "[haproxy]",
    "[CONSUL]\n",
    "[DEFAULT]\n",
    "[AWS]\n",
    "[backend web]\n",
    "[haproxy",
    "\n  ",
    "\n# ",
    "\n; ",
    " = ",
    " : "
  ],
  ...[
    "%(token)s",
    "%(node_slots)s",
    "%%",
    "%(",
    "%s",
    "/",
    "/etc/x",
    "~/x",
    "-",
    "0",
    "-1",
    "1e3",
    "70000",
    "0.0001",
    "5s"
  ],
  ...["99999999999999999999", "True", "maybe", "10.0.0.1", "::1", "http://u:p@h/", "aws", "consul", "file", "service"],
  ...["rise 2 disabled", "check;disable", "a b", "a\\ b", "weight 0", "inter 1s", "maxconn 5", "a, b,, c", ",", "node1"]
]

const hasControls = (text: string) => /[\p{Cc}\u2028\u2029]/u.test(text)

/** What every problem and warning has to be, and no secret anywhere. */
const assertSaid = (text: string, error: SettingsError.SettingsError) => {
  const lines = text.split(/\r\n|\r|\n/).length
  for (const problem of error.problems) {
    const said = SettingsError.describeProblem("ep2.conf", problem)
    const hasPlace = problem.line !== undefined || (problem.section !== undefined && problem.key !== undefined)
    assert.isTrue(hasPlace, said)
    if (problem.line !== undefined) assert.isTrue(problem.line >= 1 && problem.line <= lines, said)
    assert.notStrictEqual(problem.expected.trim(), "", said)
    assert.isFalse(hasControls(said), JSON.stringify(said))
  }
  assert.lengthOf(error.message.split("\n"), error.problems.length)
}

const assertPath = (path: string) => assert.isTrue(path.startsWith("/") && !hasControls(path), path)

const assertBetween = (value: number, minimum: number, maximum: number) =>
  assert.isTrue(Number.isInteger(value) && value >= minimum && value <= maximum, `${value}`)

const assertTime = (value: Duration.Duration) => assertBetween(Duration.toMillis(value), 1, 86_400_000)

const assertHaproxy = ({ haproxy, lock, log }: Settings.Settings) => {
  for (const path of [haproxy.configFile, haproxy.templateFile, haproxy.binary, haproxy.pidFile, lock.dir])
    assertPath(path)
  if (log.file !== "-") assertPath(log.file)
  const sockets = [...haproxy.sockets, ...(haproxy.masterSocket === undefined ? [] : [haproxy.masterSocket])]
  for (const socket of sockets) {
    assertPath(socket)
    assert.isAtMost(Buffer.byteLength(socket), 107)
  }
  assert.strictEqual(new Set(sockets).size, sockets.length)
  assert.include(["systemd", "binary", "master"], haproxy.startBy)
  assert.isTrue(haproxy.startBy !== "master" || haproxy.masterSocket !== undefined)
  assert.include(["update_by_runtime", "update_by_config"], haproxy.updateType)
  assert.match(haproxy.serviceName, /^[\w:.@\\-]+$/)
  assert.notStrictEqual(haproxy.configFile, haproxy.templateFile)
  for (const time of [haproxy.reloadInterval, lock.retryInterval]) assertTime(time)
  assert.include(["text", "json"], log.format)
  assert.include(["debug", "info", "warning", "error"], log.level)
}

const assertBackend = (backend: Settings.BackendSettings) => {
  const { checkInterval, guard, maxconn, serverOptions, source } = backend
  assert.match(backend.name, /^[A-Za-z0-9_.:-]{1,255}$/)
  if (backend.port !== "service") assertBetween(backend.port, 1, 65_535)
  if (maxconn !== undefined) assertBetween(maxconn, 0, 1_000_000)
  if (checkInterval !== undefined) assert.match(checkInterval, /^\d+(?:ms|s|m|h|d)?$/)
  if (serverOptions !== undefined) {
    assert.notMatch(serverOptions, /[\p{Cc}\u2028\u2029;#"'\\]/u)
    assert.isTrue(ConfigText.split(serverOptions).isWhole)
    for (const word of ["disabled", "enabled", "weight"]) {
      assert.notInclude(ConfigText.split(serverOptions.toLowerCase()).words, word)
    }
  }
  assertBetween(backend.nodeSlots, 0, 4096)
  for (const time of [backend.drainTimeout, backend.interval, guard.window]) assertTime(time)
  assertBetween(guard.minServers, 0, 4096)
  assertBetween(guard.maxRemovalPercent, 0, 100)
  assertBetween(guard.confirmations, 1, 100)
  switch (source._tag) {
    case "File":
      return assertPath(source.path)
    case "Consul": {
      assertBetween(source.port, 1, 65_535)
      assert.match(source.address, /^[\w.:-]+$/)
      for (const name of [source.service, source.datacenter ?? "dc", source.namespace ?? "ns", ...source.tags]) {
        assert.isFalse(name === "" || hasControls(name))
      }
      assert.isFalse(source.token !== undefined && source.tokenFile !== undefined)
      assert.strictEqual(source.certFile === undefined, source.keyFile === undefined)
      if (source.token !== undefined) assert.match(Redacted.value(source.token), /^[\x21-\x7e]+$/)
      return
    }
    case "Aws": {
      assert.notStrictEqual(backend.port, "service")
      assert.isNotEmpty(source.groups)
      for (const group of source.groups) assert.isFalse(group === "" || hasControls(group))
      assert.match(source.region, /^[a-z]+(?:-[a-z]+)+-\d+$/)
      if (source.endpointUrl !== undefined) assert.match(new URL(source.endpointUrl).protocol, /^https?:$/)
    }
  }
}

const assertDecoded = (text: string) =>
  Effect.sync(() => {
    const result = Settings.decode("ep2.conf", text)
    const shown = Result.match(result, {
      onFailure: (error) => {
        assertSaid(text, error)
        return error.message + JSON.stringify(error.problems)
      },
      onSuccess: ({ settings, warnings }) => {
        assertHaproxy(settings)
        settings.backends.forEach(assertBackend)
        for (const warning of warnings) assert.isFalse(hasControls(warning), JSON.stringify(warning))
        return warnings.join("\n") + JSON.stringify(settings)
      }
    })
    return { shown, outcome: Result.isSuccess(result) ? "accepted" : "refused" }
  })

/** Whether a text still has its secrets where secrets belong: what stands behind another key is that key's value. */
const isSecretKept = (text: string): boolean => {
  // What a key asks for by `%(token)s` is its value, too.
  if (/%\((?:token|aws_access_key_id|aws_secret_access_key)\)s/i.test(text)) return false
  const lines = text.split(/\r\n|\r|\n/)
  return lines.every((line) => {
    const secret = /s3cr3t/.exec(line)
    return secret === null || /^\s*(?:token|aws_access_key_id|aws_secret_access_key)\s*[=:]/i.test(line)
  })
}

describe("Settings.decode, whatever the text,", () => {
  property(
    "ep2.conf, mutated",
    "gives settings of the promised types or all problems with place and expectation, and shows no secret: mutations of good files",
    [Schema.Literals(["aws", "consul", "file"]), Edits],
    ([orchestrator, edits]) =>
      Effect.gen(function* () {
        const text = mutate(files[orchestrator], edits, words)

        const { outcome, shown } = yield* assertDecoded(text)

        if (isSecretKept(text)) assert.notInclude(shown, "s3cr3t")
        return outcome
      })
  )

  property(
    "ep2.conf, any text",
    "gives settings of the promised types or all problems with place and expectation: text of any characters",
    [
      Schema.Literals(["", "[haproxy]\n", "[haproxy]\norchestrator = file\n[FILE]\npath = /x\n[CONSUL]\n"]),
      soup(words)
    ],
    ([begin, parts]) => Effect.map(assertDecoded(begin + parts.join("")), ({ outcome }) => outcome)
  )

  itMeets(["accepted", "refused"], ["ep2.conf, mutated", "ep2.conf, any text"])

  it.each(["aws", "consul", "file"] as const)("accepts the file that the mutations begin with: %s", (orchestrator) => {
    const result = Settings.decode("ep2.conf", files[orchestrator])

    assert.isTrue(Result.isSuccess(result), Result.isFailure(result) ? result.failure.message : "")
  })
})
