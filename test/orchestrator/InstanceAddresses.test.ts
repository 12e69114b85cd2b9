import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import * as InstanceAddresses from "../../src/orchestrator/InstanceAddresses.ts"

const instance = (id: string, some: Partial<InstanceAddresses.Instance> = {}): InstanceAddresses.Instance => ({
  id,
  state: "running",
  private: "10.0.0.1",
  public: undefined,
  ipv6: undefined,
  ...some
})

const served = (...types: ReadonlyArray<InstanceAddresses.IpType>): InstanceAddresses.Need => ({
  types: new Set(types),
  isServed: true
})

const leaving: InstanceAddresses.Need = { types: new Set(["private"]), isServed: false }

/** A memory over time: asks when something is due, and is answered with what EC2 would have now. */
const makeBook = (needs: Readonly<Record<string, InstanceAddresses.Need>>) => {
  const all = new Map(Object.entries(needs))
  let known = InstanceAddresses.empty
  return {
    /** What was asked for at this time. */
    at: (nowMillis: number, ...instances: ReadonlyArray<InstanceAddresses.Instance>) => {
      const asked = InstanceAddresses.due(known, all, nowMillis)
      const found = instances.filter(({ id }) => asked.includes(id))
      known = InstanceAddresses.learn(known, all, { asked, instances: found, nowMillis })
      return asked
    },
    needs: all,
    address: (id: string, type: InstanceAddresses.IpType = "private") =>
      Result.match(InstanceAddresses.addressOf(known, id, type), {
        onSuccess: (address) => address,
        onFailure: ({ reason }) => reason
      }),
    isUnknown: (id: string) =>
      Result.match(InstanceAddresses.addressOf(known, id, "private"), {
        onSuccess: () => false,
        onFailure: ({ isUnknown }) => isUnknown
      }),
    last: (id: string) => InstanceAddresses.lastAddressOf(known, id, "private"),
    retry: () => InstanceAddresses.nextRetry(known, all)
  }
}

const minute = 60_000

describe("InstanceAddresses", () => {
  it("asks for a private address once, however long it is served", () => {
    const book = makeBook({ "i-1": served("private") })

    assert.deepEqual(book.at(0, instance("i-1")), ["i-1"])
    for (let now = 1000; now < 1000 * minute; now += minute) assert.deepEqual(book.at(now), [])
    assert.equal(book.address("i-1"), "10.0.0.1")
    assert.isUndefined(book.retry())
  })

  it.each(["public", "ipv6"] as const)("asks again for a %s address each 3 minutes, and follows it", (type) => {
    const book = makeBook({ "i-1": served(type) })

    book.at(0, instance("i-1", { [type]: "203.0.113.1" }))
    assert.deepEqual(book.at(3 * minute - 1), [])
    assert.deepEqual(book.at(3 * minute, instance("i-1", { [type]: "203.0.113.2" })), ["i-1"])
    assert.equal(book.address("i-1", type), "203.0.113.2")
    assert.isUndefined(book.retry())
  })

  it.each([
    ["EC2 does not know", [], "is not known to EC2 yet", true],
    ["has no address", [instance("i-1", { private: undefined })], "has no private address yet", false],
    ["does not run yet", [instance("i-1", { state: "pending" })], "is pending, as EC2 says", false]
  ])("asks again for one that %s: after 1, 2, 4 … 60 s", (_, answer, reason, isUnknown) => {
    const book = makeBook({ "i-1": served("private") })
    const asked: Array<number> = []
    for (let now = 0; now <= 200_000; now += 500) if (book.at(now, ...answer).length > 0) asked.push(now / 1000)

    assert.deepEqual(asked, [0, 1, 3, 7, 15, 31, 63, 123, 183])
    assert.equal(book.address("i-1"), reason)
    assert.equal(book.isUnknown("i-1"), isUnknown)
    assert.equal(book.retry(), 243_000)
  })

  it("keeps what it knew of an instance that EC2 leaves out of one answer", () => {
    const book = makeBook({ "i-1": served("public") })
    book.at(0, instance("i-1", { public: "203.0.113.1" }))

    assert.deepEqual(book.at(3 * minute), ["i-1"])

    assert.equal(book.address("i-1", "public"), "203.0.113.1")
  })

  it("asks a second time, soon, before it believes that a public address was taken away", () => {
    const book = makeBook({ "i-1": served("public") })
    book.at(0, instance("i-1", { public: "203.0.113.1" }))

    book.at(3 * minute, instance("i-1"))
    assert.equal(book.address("i-1", "public"), "203.0.113.1")
    assert.equal(book.retry(), 3 * minute + 1000)
    assert.deepEqual(book.at(3 * minute + 1000, instance("i-1")), ["i-1"])

    assert.equal(
      book.address("i-1", "public"),
      "has no public address yet; if its subnet gives none, set ip_type = private"
    )
  })

  it("does not serve an instance that stops", () => {
    const book = makeBook({ "i-2": served("public") })
    book.at(0, instance("i-2", { public: "203.0.113.2" }))

    book.at(3 * minute, instance("i-2", { public: "203.0.113.2", state: "stopping" }))

    assert.equal(book.address("i-2", "public"), "is stopping, as EC2 says")
  })

  it.each(["private", "public"] as const)(
    "asks at once for a %s one that is served again only if it can have moved",
    (type) => {
      const book = makeBook({ "i-1": served(type) })
      const before = instance("i-1", { public: "203.0.113.1" })
      book.at(0, before)
      book.needs.set("i-1", { types: new Set([type]), isServed: false })
      book.at(1000, before)
      book.needs.set("i-1", served(type))

      assert.deepEqual(book.at(2000, instance("i-1", { public: "203.0.113.9" })), type === "public" ? ["i-1"] : [])
      assert.equal(book.address("i-1", type), type === "public" ? "203.0.113.9" : "10.0.0.1")
    }
  )

  it("asks once for one that is leaving, found or not, and again when it is to be served", () => {
    const book = makeBook({ "i-1": leaving, "i-2": leaving })
    assert.deepEqual(book.at(0, instance("i-1")), ["i-1", "i-2"])
    assert.deepEqual(book.at(minute), [])
    assert.deepEqual([book.last("i-1"), book.last("i-2"), book.retry()], ["10.0.0.1", undefined, undefined])

    book.needs.set("i-2", served("private"))

    assert.deepEqual(book.at(2 * minute, instance("i-2")), ["i-2"])
  })

  it("keeps the address of one that leaves, and forgets it with its group", () => {
    const book = makeBook({ "i-1": served("private") })
    book.at(0, instance("i-1"))
    book.needs.set("i-1", leaving)
    book.at(1000)
    assert.equal(book.last("i-1"), "10.0.0.1")

    book.needs.delete("i-1")
    book.at(2000)

    assert.isUndefined(book.last("i-1"))
  })

  it("asks again for one whose other kind of address is wanted later", () => {
    const book = makeBook({ "i-1": served("private") })
    book.at(0, instance("i-1"))
    book.needs.set("i-1", served("private", "public"))

    assert.deepEqual(book.at(3 * minute, instance("i-1", { public: "203.0.113.1" })), ["i-1"])
    assert.equal(book.address("i-1"), "10.0.0.1")
    assert.equal(book.address("i-1", "public"), "203.0.113.1")
  })
})
