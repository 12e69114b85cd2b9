import { assert, describe, it } from "@effect/vitest"
import { Effect, FileSystem } from "effect"
import * as Settings from "../../src/settings/Settings.ts"
import * as Conf from "./Conf.ts"

describe("Settings.survey", () => {
  const survey = (text: string) =>
    Settings.survey("ep2.conf").pipe(
      Effect.provide(
        FileSystem.layerNoop({
          stat: () => Effect.succeed({ type: "File", size: BigInt(text.length) } as unknown as FileSystem.File.Info),
          readFile: () => Effect.succeed(new TextEncoder().encode(text))
        })
      )
    )

  it.effect("gives of a good file what load gives", () =>
    Effect.gen(function* () {
      const { backends, error, shared } = yield* survey(Conf.consul)

      assert.isUndefined(error)
      assert.deepStrictEqual({ ...shared, backends }, Conf.settings(Conf.consul))
    })
  )

  it.effect("gives what does not hang on a bad key, and all that is wrong", () =>
    Effect.gen(function* () {
      const bad = Conf.withLines(Conf.consul, "CONSUL", "consul_port = x", "scheme = y")
      const half = `${bad}[backend api]\norchestrator = file\n[FILE]\npath = /api.json\n`

      const { backends, error, shared } = yield* survey(half)

      assert.strictEqual(error?.problems.length, 2)
      assert.strictEqual(shared?.haproxy.configFile, "/etc/haproxy/haproxy.cfg")
      assert.deepStrictEqual(
        backends.map(({ name }) => name),
        ["api"]
      )
    })
  )

  it.effect.each([
    ["a key of it is bad", "start_by = x", true],
    ["a line cannot be read", "a line that is none", false],
    ["a key has a name that is none", "haproxy_socket_fil = /a", false]
  ] as const)("gives nothing of HAProxy where %s, since a default is not what was meant", ([, line, hasBackends]) =>
    Effect.gen(function* () {
      const { backends, error, shared } = yield* survey(Conf.withLines(Conf.consul, "haproxy", line))

      assert.isDefined(error)
      assert.isUndefined(shared)
      assert.strictEqual(backends.length > 0, hasBackends)
    })
  )
})
