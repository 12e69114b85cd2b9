import { once } from "node:events"
import { type AddressInfo, createServer } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as BindConflict from "../../src/haproxy/BindConflict.ts"

describe("BindConflict", () => {
  it.each([
    ["bind :80", ["0.0.0.0", 80, 80]],
    ["bind *:80 ssl crt /etc/x.pem", ["0.0.0.0", 80, 80]],
    ["bind 127.0.0.1:8000-8010 # note", ["127.0.0.1", 8000, 8010]],
    ["bind ipv4@10.0.0.1:443", ["10.0.0.1", 443, 443]],
    ["bind [2001:DB8::1]:443", ["2001:db8::1", 443, 443]],
    ["bind :::80", ["::", 80, 80]],
    ["bind ipv6@:80", ["::", 80, 80]]
  ] as const)("reads `%s`", (line, [address, firstPort, lastPort]) => {
    const [bind] = BindConflict.binds(`frontend f\n  ${line}\n`)

    assert.deepEqual([bind?.address, bind?.firstPort, bind?.lastPort], [address, firstPort, lastPort])
  })

  it.each([
    "bind /run/x.sock",
    "bind unix@/run/x.sock:80",
    "bind abns@x",
    "bind fd@3",
    `bind "\${HOST}:80"`,
    `bind :\${PORT}`,
    "bind quic4@:443",
    "bind www.example.org:80",
    "bind 10.0.0.1:80 namespace blue",
    "bind :80 interface eth1",
    "# bind :80",
    "http-request set-var(txn.bind) str(x:80)"
  ])("leaves `%s` to HAProxy", (line) => {
    assert.deepEqual(BindConflict.binds(`frontend f\n  ${line}\n`), [])
  })

  it("reads every address of a line, each once", () => {
    const binds = BindConflict.binds("  bind 127.0.0.1:1,127.0.0.1:2\n  bind 127.0.0.1:2\n")

    assert.deepEqual(
      binds.map(({ text }) => text),
      ["127.0.0.1:1", "127.0.0.1:2"]
    )
  })

  it.live("names who listens where a new line wants to, on the same address and on all of them", () =>
    Effect.gen(function* () {
      const port = yield* listenOn("127.0.0.1")
      for (const address of ["127.0.0.1", "*", ""]) {
        const found = yield* BindConflict.find(`bind ${address}:${port}`, "", [])

        assert.include(found, `the new line \`bind ${address}:${port}\` wants a port on which `)
        assert.include(found, `(pid ${process.pid}) listens (127.0.0.1:${port})`)
      }
      assert.include(yield* BindConflict.find(`bind 127.0.0.1:${port - 1}-${port + 1}`, "", []), String(process.pid))
      assert.isUndefined(yield* BindConflict.find(`bind 127.0.0.2:${port}`, "", []))
      assert.isUndefined(yield* BindConflict.find(`bind :::${port}`, "", []))
    })
  )

  it.live("does not look at lines that run already, nor at HAProxy's own listeners", () =>
    Effect.gen(function* () {
      const port = yield* listenOn("127.0.0.1")

      assert.isUndefined(yield* BindConflict.find(`bind 127.0.0.1:${port}`, `  bind 127.0.0.1:${port} ssl`, []))
      assert.isUndefined(yield* BindConflict.find(`bind *:${port}`, "", [process.pid]))
    })
  )

  it.live("tells a program that has IPv4 along with :: from one that has only IPv6", () =>
    Effect.gen(function* () {
      const dual = yield* listenOn("::")
      const six = yield* listenOn("::", true)

      assert.include(yield* BindConflict.find(`bind *:${dual}`, "", []), `listens ([::]:${dual})`)
      assert.include(yield* BindConflict.find(`bind 127.0.0.1:${dual}`, "", []), `listens ([::]:${dual})`)
      assert.isUndefined(yield* BindConflict.find(`bind *:${six}`, "", []))
      assert.include(yield* BindConflict.find(`bind [::1]:${six}`, "", []), `listens ([::]:${six})`)
    })
  )
})

const listenOn = (host: string, ipv6Only = false) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const server = createServer().listen({ host, port: 0, ipv6Only })
      await once(server, "listening")
      return server
    }),
    (server) =>
      Effect.promise(async () => {
        server.close()
        await once(server, "close")
      })
  ).pipe(Effect.map((server) => (server.address() as AddressInfo).port))
