import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import { slotName } from "../../src/domain/State.ts"
import * as ServerRegion from "../../src/haproxy/ServerRegion.ts"
import { checkOptions } from "../domain/AnyStates.ts"
import { line } from "./Rendering.ts"

const region = (servers = [line(1)], options: ServerRegion.LineOptions = {}) =>
  ServerRegion.write({ backend: "app", servers }, options)

describe("ServerRegion.write", () => {
  it("puts one server on each line, between two comments that name the backend", () => {
    assert.deepEqual(region([line(1), line(2)]), [
      "# ep2: servers of app, written by ep2 - edits here are lost",
      "server node1 10.0.0.1:80 check",
      "server node2 10.0.0.2:80 check",
      "# ep2: end of the servers of app"
    ])
  })

  it("writes check, inter, maxconn, the options and disabled in this order", () => {
    const options = { maxconn: 100, checkInterval: "2s", serverOptions: "rise 1 fall 2" }

    const [, first] = region([line(1, { isDisabled: true })], options)

    assert.equal(first, "server node1 10.0.0.1:80 check inter 2s maxconn 100 rise 1 fall 2 disabled")
  })

  it("says behind a disabled server what HAProxy is told after it has loaded it", () => {
    const [, first] = region([line(1, { isDisabled: true, afterLoad: "prove" })], { serverOptions: "rise 1" })

    assert.equal(first, "server node1 10.0.0.1:80 check rise 1 disabled # ep2: prove")
  })

  it("puts an IPv6 address in brackets", () => {
    const [, first] = region([line(1, { endpoint: { address: "2001:db8::5", port: 80 } })])

    assert.equal(first, "server node1 [2001:db8::5]:80 check")
  })

  it("writes options that the conf continues on further lines on one line", () => {
    const [, first] = region([line(1)], { serverOptions: "rise 1\n  fall 2\n" })

    assert.equal(first, "server node1 10.0.0.1:80 check rise 1 fall 2")
  })
})

describe("ServerRegion.read", () => {
  const Server = Schema.Struct({
    number: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 999_999 })),
    address: Schema.Literals(["10.0.0.1", "127.0.0.7", "2001:db8::5", "::1"]),
    port: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 65_535 })),
    isFree: Schema.Boolean,
    isDisabled: Schema.Boolean,
    afterLoad: Schema.Literals(["drain", "prove"])
  })
  const Options = Schema.Struct({
    maxconn: Schema.optional(Schema.Literals([1, 100])),
    checkInterval: Schema.optional(Schema.Literals(["2s", "500ms"])),
    serverOptions: Schema.optional(Schema.Literals(["", "rise 1", 'sni str("a b") ssl verify none', "disabled backup"]))
  })
  const Around = Schema.Literals([
    "",
    "listen app\n  server old 10.9.9.9:80\n",
    "global\n",
    "  # ep2: servers of other, written by ep2\n"
  ])

  it.prop(
    "reads back what was written, whatever stands around it",
    [Schema.Array(Server), Options, Around, Around, Schema.Literals(["", "    ", "\t"])],
    ([some, options, before, after, indent]) => {
      const byName = new Map(
        some.map(({ address, afterLoad, isDisabled, isFree, number, port }) => [
          slotName(number),
          line(number, {
            endpoint: isFree ? { address: "127.0.0.1", port: 1 } : { address, port },
            isDisabled,
            ...(isDisabled && !isFree ? { afterLoad } : {})
          })
        ])
      )
      const servers = [...byName.values()]

      const text = `${before}${region(servers, options)
        .map((one) => `${indent}${one}\n`)
        .join("")}${after}`

      assert.deepEqual(ServerRegion.read(text, "app"), servers)
    },
    checkOptions(200)
  )

  it.prop(
    "never throws, and names only ep2's servers, on any text",
    [
      Schema.Array(
        Schema.Union([
          Schema.String,
          Schema.Literals(["\n", "\\", '"', "'", "server node1 ", "1.2.3.4:80", "[::]:", "disabled"])
        ])
      )
    ],
    ([parts]) => {
      const found = ServerRegion.read(`${region([])[0]}\n${parts.join("")}`, "app")

      for (const { name } of found) assert.match(name, /^node[1-9]\d*$/)
    },
    checkOptions(200)
  )

  it("finds none where there is no region", () => {
    assert.deepEqual(ServerRegion.read("listen app\n  server node1 10.0.0.1:80\n", "app"), [])
    assert.deepEqual(ServerRegion.read("", "app"), [])
  })

  it("keeps apart backends of which one's name begins with the other's", () => {
    const text = ServerRegion.write({ backend: "app-2", servers: [line(2)] }, {}).join("\n")

    assert.deepEqual(ServerRegion.read(text, "app"), [])
    assert.deepEqual(ServerRegion.read(text, "app-2"), [line(2)])
  })

  it("stops at the next section where the end of the region is lost", () => {
    const text = [...region().slice(0, -1), "backend other", "  server node2 10.0.0.2:80"].join("\n")

    assert.deepEqual(ServerRegion.read(text, "app"), [line(1)])
  })

  it.each([
    "server web 10.0.0.2:80",
    "server node2",
    "server node2 web.example.org:80",
    "server node2 10.0.0.2",
    "server node2 10.0.0.256:80",
    "server node2 10.0.0.2:70000",
    "server node2 [::1:80",
    "server node1 10.0.0.9:80",
    "# server node2 10.0.0.2:80",
    "\u0000\uFFFD"
  ])("passes over what is not a server of ep2's own: %j", (strange) => {
    const [begin, end] = [region()[0], region().at(-1)]
    const text = [begin, "server node1 10.0.0.1:80 check", strange, "server node3 10.0.0.3:80 check", end].join("\r\n")

    assert.deepEqual(ServerRegion.read(text, "app"), [line(1), line(3)])
  })
})
