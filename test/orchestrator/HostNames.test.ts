import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Result } from "effect"
import * as HostNames from "../../src/orchestrator/HostNames.ts"

const v4 = (address: string) => ({ address, family: 4 })
const v6 = (address: string) => ({ address, family: 6 })

const failing = (code: string) => Promise.reject(Object.assign(new Error(code), { code }))

/** A resolver whose answers the test changes as it goes. */
const makeNames = Effect.fnUntraced(function* (first: HostNames.Lookup) {
  const resolver = { answer: first, asked: [] as Array<string> }
  const lookup: HostNames.Lookup = (name) => {
    resolver.asked.push(name)
    return resolver.answer(name)
  }
  const names = yield* HostNames.make({ lookup, patience: Duration.millis(200) })
  return { names, resolver }
})

describe("HostNames.isHostName", () => {
  it.each(["localhost", "web-1.example.com", "web_1.service.consul.", "1.pool.ntp.org", "a"])("takes %s", (text) => {
    assert.isTrue(HostNames.isHostName(text))
  })

  it.each([
    "",
    ".",
    "10.0.0.256",
    "127.1",
    "0x7f000001",
    "web..example",
    "-web",
    "web-",
    "web:80",
    "/run/web.sock",
    "we b",
    "web\nserver",
    "x".repeat(64),
    `${"x.".repeat(130)}com`
  ])("does not take %j", (text) => {
    assert.isFalse(HostNames.isHostName(text))
  })
})

describe("HostNames.resolve", () => {
  it.live("asks the system's resolver, which knows localhost", () =>
    Effect.gen(function* () {
      const names = yield* HostNames.make({})

      const addresses = Result.getOrThrow(yield* names.resolve("localhost"))

      assert.include(["127.0.0.1", "::1"], addresses[0])
    })
  )

  it.live("puts IPv4 before IPv6, each in the order of their text, whatever the resolver's order", () =>
    Effect.gen(function* () {
      const { names } = yield* makeNames(async () => [
        v6("2001:db8::2"),
        v4("10.0.0.2"),
        v6("2001:db8::1"),
        v4("10.0.0.1")
      ])

      const addresses = yield* names.resolve("web")

      assert.deepEqual(addresses, Result.succeed(["10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2"]))
    })
  )

  it.live("keeps an address first as long as the name has it", () =>
    Effect.gen(function* () {
      const { names, resolver } = yield* makeNames(async () => [v4("10.0.0.5")])
      yield* names.resolve("web")

      resolver.answer = async () => [v4("10.0.0.1"), v4("10.0.0.5")]
      const kept = yield* names.resolve("web")
      resolver.answer = async () => [v4("10.0.0.1")]
      const moved = yield* names.resolve("web")

      assert.deepEqual(kept, Result.succeed(["10.0.0.5", "10.0.0.1"]))
      assert.deepEqual(moved, Result.succeed(["10.0.0.1"]))
    })
  )

  it.live("says that a name is not known when DNS says so", () =>
    Effect.gen(function* () {
      const { names } = yield* makeNames(() => failing("ENOTFOUND"))

      assert.deepEqual(yield* names.resolve("web"), Result.fail("is not known to DNS"))
    })
  )

  it.live("fails when the resolver cannot tell, and gives the last answer once there was one", () =>
    Effect.gen(function* () {
      const { names, resolver } = yield* makeNames(() => failing("EAI_AGAIN"))

      const before = yield* Effect.flip(names.resolve("web"))
      resolver.answer = async () => [v4("10.0.0.1")]
      yield* names.resolve("web")
      resolver.answer = () => failing("EAI_AGAIN")
      const after = yield* names.resolve("web")

      assert.equal(before.detail, "EAI_AGAIN")
      assert.deepEqual(after, Result.succeed(["10.0.0.1"]))
    })
  )

  it.live("waits for a resolver that hangs no longer than its patience, and asks it once", () =>
    Effect.gen(function* () {
      const { names, resolver } = yield* makeNames(() => new Promise(() => undefined))

      const error = yield* Effect.flip(names.resolve("web"))
      yield* Effect.flip(names.resolve("web"))

      assert.equal(error.detail, "no answer within 0.2 s")
      assert.deepEqual(resolver.asked, ["web"])
    })
  )

  it.live("asks for two names at a time", () =>
    Effect.gen(function* () {
      let [running, most] = [0, 0]
      const { names } = yield* makeNames(async () => {
        most = Math.max(most, ++running)
        await new Promise((done) => setTimeout(done, 5))
        running--
        return [v4("10.0.0.1")]
      })

      yield* Effect.forEach(["a", "b", "c", "d", "e", "f"], names.resolve, { concurrency: "unbounded" })

      assert.equal(most, 2)
    })
  )
})
