import { isIP, SocketAddress } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import { Result, Schema } from "effect"
import * as State from "../../src/domain/State.ts"
import { checkOptions } from "./AnyStates.ts"

const unspecified = "is the unspecified address, which is the HAProxy host itself"
const notAnAddress = "is not an IPv4 or IPv6 address"
const multicast = "is a multicast or broadcast address"
const linkLocal = "is a link-local address, which cannot be reached without a zone"

describe("State.endpoint", () => {
  const canonical = [
    ["10.0.0.1", "10.0.0.1"],
    ["127.0.0.1", "127.0.0.1"],
    ["223.255.255.255", "223.255.255.255"],
    ["2001:db8::5", "2001:db8::5"],
    ["2001:DB8::5", "2001:db8::5"],
    ["2001:0db8:0000:0000:0000:0000:0000:0005", "2001:db8::5"],
    ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["::1", "::1"],
    ["0:0:0:0:0:0:0:1", "::1"],
    ["fd00::1", "fd00::1"],
    ["::ffff:10.0.0.1", "10.0.0.1"],
    ["::FFFF:0a00:0001", "10.0.0.1"],
    ["64:ff9b::192.0.2.1", "64:ff9b::c000:201"],
    ["::1.2.3.4", "::102:304"],
    ["ff::1", "ff::1"],
    ["fe8::1", "fe8::1"]
  ] as const
  for (const [address, expected] of canonical) {
    it(`reads ${address} as ${expected}`, () => {
      assert.deepStrictEqual(State.endpoint(address, 80), Result.succeed({ address: expected, port: 80 }))
    })
  }

  const refused = [
    ["", notAnAddress],
    ["localhost", notAnAddress],
    ["web.example.org", notAnAddress],
    ["10.0.0", notAnAddress],
    ["10.0.0.1.", notAnAddress],
    ["10.0.0.1.2", notAnAddress],
    ["10.0.0.256", notAnAddress],
    ["10.0.0.1:80", notAnAddress],
    ["10.0.0.1/32", notAnAddress],
    [" 10.0.0.1", notAnAddress],
    ["10.0.0.1\n", notAnAddress],
    ["10.0.0.1\nset server web/node2 state maint", notAnAddress],
    ["10.0.0.1;show info", notAnAddress],
    ["10.0.0.01", notAnAddress],
    ["010.0.0.1", notAnAddress],
    ["10.0.00.1", notAnAddress],
    ["0x0a.0.0.1", notAnAddress],
    ["167772161", notAnAddress],
    ["١٠.0.0.1", notAnAddress],
    ["[::1]", notAnAddress],
    ["2001:db8::5%eth0", notAnAddress],
    ["2001:db8::5::6", notAnAddress],
    ["2001:db8:::5", notAnAddress],
    ["2001:db8::12345", notAnAddress],
    [":", notAnAddress],
    [":::", notAnAddress],
    ["1:2:3:4:5:6:7:8:9", notAnAddress],
    ["/run/app.sock", notAnAddress],
    ["unix@/run/app.sock", notAnAddress],
    ["0.0.0.0", unspecified],
    ["0.1.2.3", unspecified],
    ["::", unspecified],
    ["0:0:0:0:0:0:0:0", unspecified],
    ["::ffff:0.0.0.0", unspecified],
    ["224.0.0.1", multicast],
    ["239.1.2.3", multicast],
    ["240.0.0.1", multicast],
    ["255.255.255.255", multicast],
    ["ff02::1", multicast],
    ["fe80::1", linkLocal],
    ["febf::1", linkLocal]
  ] as const
  for (const [address, reason] of refused) {
    it(`refuses ${JSON.stringify(address)}: it ${reason}`, () => {
      assert.deepStrictEqual(State.endpoint(address, 80), Result.fail(reason))
    })
  }

  for (const port of [0, -1, 65_536, 70_000, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
    it(`refuses port ${port}, which HAProxy would take and get wrong`, () => {
      assert.deepStrictEqual(State.endpoint("10.0.0.1", port), Result.fail("is not a port from 1 to 65535"))
    })
  }

  it("takes the first and the last port", () => {
    assert.isTrue(Result.isSuccess(State.endpoint("10.0.0.1", 1)))
    assert.isTrue(Result.isSuccess(State.endpoint("10.0.0.1", 65_535)))
  })

  it("refuses the ports of 127.0.0.1 where free slots stand, in whatever spelling, and no others", () => {
    for (const port of State.placeholderPorts) {
      for (const address of ["127.0.0.1", "::ffff:127.0.0.1", "::ffff:7f00:1"]) {
        assert.deepStrictEqual(State.endpoint(address, port), Result.fail("is where ep2 keeps its free slots"))
      }
      assert.isTrue(Result.isSuccess(State.endpoint("127.0.0.2", port)))
    }
    assert.isTrue(Result.isSuccess(State.endpoint("127.0.0.1", 80)))
  })
})

/** Text that is an address, nearly one, or has the letters of one. */
const AnyAddress = Schema.Array(
  Schema.Literals([
    "0",
    "1",
    "10",
    "127",
    "224",
    "255",
    "256",
    "01",
    ".",
    ".",
    ":",
    ":",
    "::",
    "ffff",
    "2001",
    "fe80",
    "db8",
    "g",
    " ",
    "%"
  ])
).check(Schema.isMaxLength(15))
const AnyOctets = Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 300 }))).check(
  Schema.isBetweenLength(4, 4)
)
const AnyGroups = Schema.Array(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 0xffff }))).check(
  Schema.isBetweenLength(8, 8)
)

/** What is accepted is an address to Node too, in one spelling, and reading it again changes nothing. */
const assertAgrees = (address: string) => {
  const result = State.endpoint(address, 80)
  if (Result.isFailure(result)) {
    // A zone is part of an address to Node; it means nothing to another process.
    const isAddress = isIP(address) !== 0 && !address.includes("%")
    assert.strictEqual(result.failure === notAnAddress, !isAddress, `${address}: ${result.failure}`)
    return
  }
  const read = result.success.address
  assert.notStrictEqual(isIP(address), 0, address)
  assert.deepStrictEqual(State.endpoint(read, 80), result)
  const spelt = (one: string) => new SocketAddress({ address: one, family: isIP(one) === 6 ? "ipv6" : "ipv4" }).address
  assert.strictEqual(spelt(read), spelt(address).replace(/^::ffff:(?=\d+\.)/, ""))
}

describe("State.endpoint agrees with Node about what an address is", () => {
  it.prop("for IPv4", [AnyOctets], ([octets]) => assertAgrees(octets.join(".")), checkOptions(1_000))

  it.prop(
    "for IPv6, in full and shortened",
    [AnyGroups, Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 7 })), Schema.Boolean],
    ([groups, at, isShort]) => {
      const texts = groups.map((group) => group.toString(16))
      assertAgrees(isShort ? `${texts.slice(0, at).join(":")}::${texts.slice(at + 1).join(":")}` : texts.join(":"))
    },
    checkOptions(1_000)
  )

  it.prop(
    "for text that is nearly an address",
    [AnyAddress],
    ([parts]) => assertAgrees(parts.join("")),
    checkOptions(5_000)
  )
})

describe("State", () => {
  it("spells endpoints as HAProxy's config does", () => {
    assert.strictEqual(State.endpointKey({ address: "10.0.0.1", port: 80 }), "10.0.0.1:80")
    assert.strictEqual(State.endpointKey({ address: "2001:db8::5", port: 80 }), "[2001:db8::5]:80")
  })

  it("knows the names of ep2's own servers from all others", () => {
    assert.strictEqual(State.slotNumber("node7"), 7)
    assert.strictEqual(State.slotNumber("node999999"), 999_999)
    for (const name of [
      "node0",
      "node07",
      "node",
      "node1000000",
      "Node1",
      "node1 ",
      "node1\n",
      "web-node1",
      "node-1"
    ]) {
      assert.isUndefined(State.slotNumber(name), JSON.stringify(name))
    }
  })

  it.prop(
    "names and numbers of slots go with each other",
    [Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 999_999 }))],
    ([number]) => {
      assert.strictEqual(State.slotNumber(State.slotName(number)), number)
    },
    checkOptions(200)
  )
})
