/** When AWS is asked: on virtual time, with an API that answers as it is told. */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Logger, Result } from "effect"
import { TestClock } from "effect/testing"
import type * as AsgMembership from "../../src/orchestrator/AsgMembership.ts"
import * as AwsAccount from "../../src/orchestrator/AwsAccount.ts"
import { FetchError } from "../../src/orchestrator/Fetcher.ts"
import type * as InstanceAddresses from "../../src/orchestrator/InstanceAddresses.ts"

const down = new FetchError({ target: "AWS", reason: "Unavailable", detail: "refused" })

const running = (id: string): InstanceAddresses.Instance => ({
  id,
  state: "running",
  private: "10.0.0.1",
  public: "203.0.113.1",
  ipv6: undefined
})

const groupOf = (...ids: ReadonlyArray<string>): AsgMembership.Group => ({
  name: "web",
  members: ids.map((id) => ({ id, zone: "eu-central-1a", lifecycle: "InService", health: "Healthy" }))
})

const makeAccount = Effect.fnUntraced(function* (
  options: { readonly ipType?: InstanceAddresses.IpType; readonly asked?: ReadonlyArray<AwsAccount.Asked> } = {}
) {
  const aws = {
    group: groupOf("i-1"),
    known: new Map([["i-1", running("i-1")]]),
    groupsDown: false,
    instancesDown: false,
    delayMillis: 0,
    clockOffMillis: 0,
    groupCalls: 0,
    instanceCalls: [] as Array<ReadonlyArray<string>>
  }
  const account = yield* AwsAccount.make({
    asked: options.asked ?? [{ groups: ["web"], ipType: options.ipType ?? "private" }],
    interval: Duration.seconds(10),
    api: {
      groups: () =>
        Effect.gen(function* () {
          aws.groupCalls++
          yield* Effect.sleep(Duration.millis(aws.delayMillis))
          return aws.groupsDown ? yield* down : [aws.group]
        }),
      instances: (ids) =>
        Effect.gen(function* () {
          aws.instanceCalls.push(ids)
          return aws.instancesDown ? yield* down : ids.flatMap((id) => aws.known.get(id) ?? [])
        }),
      someNames: Effect.succeed([]),
      clockOffMillis: Effect.sync(() => aws.clockOffMillis)
    }
  })
  return { aws, account }
})

/** Follows an account as the loop does: asks, waits until it is due, and asks again. */
const follow = Effect.fnUntraced(function* (account: AwsAccount.AwsAccount) {
  const polls: Array<AwsAccount.Poll> = []
  yield* Effect.gen(function* () {
    let seen = 0
    while (true) {
      const poll = yield* account.after(seen)
      polls.push(poll)
      seen = poll.number
      yield* account.awaitDue(seen)
    }
  }).pipe(Effect.forkChild)
  yield* TestClock.adjust("1 millis")
  return polls
})

describe("AwsAccount", () => {
  it.effect("is due after 80 to 95 % of its interval, never at the same beat", () =>
    Effect.gen(function* () {
      const { account, aws } = yield* makeAccount()
      const times: Array<number> = []
      const polls = yield* follow(account)
      for (let second = 0; second < 1000; second++) {
        const before = polls.length
        yield* TestClock.adjust("100 millis")
        if (polls.length > before) times.push(second / 10)
      }

      const gaps = times.slice(1).map((time, index) => time - times[index]!)
      assert.isAtLeast(Math.min(...gaps), 7.9)
      assert.isAtMost(Math.max(...gaps), 9.7)
      assert.isAbove(new Set(gaps.map((gap) => gap.toFixed(1))).size, 2)
      assert.equal(aws.groupCalls, polls.length)
    })
  )

  it.effect("asks once for all who ask at the same time or soon after, and gives nobody the same answer twice", () =>
    Effect.gen(function* () {
      const { account, aws } = yield* makeAccount()
      aws.delayMillis = 500
      const both = yield* Effect.forkChild(
        Effect.all([account.after(0), Effect.delay(account.after(0), "300 millis")], { concurrency: 2 })
      )
      yield* TestClock.adjust("1 second")
      const [one, other] = yield* Fiber.join(both)
      const late = yield* account.after(0)
      const again = yield* Effect.forkChild(account.after(late.number))
      yield* TestClock.adjust("1 second")

      assert.deepEqual([one.number, other.number, late.number, (yield* Fiber.join(again)).number], [1, 1, 1, 2])
      assert.equal(aws.groupCalls, 2)
    })
  )

  it.effect("finds the very same while its groups are that, and an address that can move is not due", () =>
    Effect.gen(function* () {
      const { account, aws } = yield* makeAccount({ ipType: "public" })
      const polls = yield* follow(account)
      yield* TestClock.adjust("100 seconds")
      const settled = new Set(polls.slice(1).map(({ result }) => Result.getOrThrow(result)))
      const sooner = polls.length

      aws.known.set("i-1", { ...running("i-1"), public: "203.0.113.2" })
      yield* TestClock.adjust("100 seconds")
      const later = Result.getOrThrow(polls.at(-1)!.result)

      assert.isAbove(sooner, 8)
      assert.strictEqual(settled.size, 1)
      assert.strictEqual(later.addresses.get("i-1")?.instance?.public, "203.0.113.2")
    })
  )

  it.effect("does not answer with what is older than an interval", () =>
    Effect.gen(function* () {
      const { account } = yield* makeAccount()
      yield* account.after(0)
      yield* TestClock.adjust("10 seconds")

      assert.equal((yield* account.after(0)).number, 2)
    })
  )

  it.effect("gives the answer of a poll that took longer than the interval to who waited for it", () =>
    Effect.gen(function* () {
      const { account, aws } = yield* makeAccount()
      aws.delayMillis = 25_000
      yield* Effect.forkChild(Effect.timeoutOption(account.after(0), "1 second"))
      yield* TestClock.adjust("26 seconds")

      assert.equal((yield* account.after(0)).number, 1)
      assert.equal(aws.groupCalls, 1)
    })
  )

  it.effect("goes on with a poll whose first asker gave up", () =>
    Effect.gen(function* () {
      const { account, aws } = yield* makeAccount()
      aws.delayMillis = 5000
      const first = yield* Effect.forkChild(Effect.timeoutOption(account.after(0), "1 second"))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(first)
      const second = yield* Effect.forkChild(account.after(0))
      yield* TestClock.adjust("4 seconds")

      assert.isTrue(Result.isSuccess((yield* Fiber.join(second)).result))
      assert.equal(aws.groupCalls, 1)
    })
  )

  it.effect("wakes who waits when somebody else's poll has ended", () =>
    Effect.gen(function* () {
      const { account } = yield* makeAccount()
      const { number } = yield* account.after(0)
      const waiting = yield* Effect.forkChild(account.awaitDue(number), { startImmediately: true })
      yield* TestClock.adjust("1 second")
      assert.isUndefined(waiting.pollUnsafe())

      yield* account.after(number)
      yield* TestClock.adjust("1 millis")

      assert.isDefined(waiting.pollUnsafe())
    })
  )

  it.effect("is not due by itself after a poll that failed, so that who asks can back off", () =>
    Effect.gen(function* () {
      const { account, aws } = yield* makeAccount()
      aws.groupsDown = true
      const { number, result } = yield* account.after(0)
      const waiting = yield* Effect.forkChild(account.awaitDue(number), { startImmediately: true })
      yield* TestClock.adjust("1 hour")
      assert.isTrue(Result.isFailure(result))
      assert.isUndefined(waiting.pollUnsafe())

      aws.groupsDown = false
      yield* account.after(number)
      yield* TestClock.adjust("1 millis")

      assert.isDefined(waiting.pollUnsafe())
    })
  )

  it.effect("is due sooner while an instance is not known yet, ever later if that lasts, and asks for it alone", () =>
    Effect.gen(function* () {
      const { account, aws } = yield* makeAccount()
      aws.group = groupOf("i-1", "i-2")
      yield* follow(account)
      yield* TestClock.adjust("1100 millis")
      assert.deepEqual(aws.instanceCalls, [["i-1", "i-2"], ["i-2"]])

      yield* TestClock.adjust("5 minutes")
      const calls = aws.instanceCalls.length
      assert.isTrue(aws.instanceCalls.slice(1).every((ids) => ids.join() === "i-2"))
      assert.isTrue(calls >= 8 && calls <= 13, `${calls} calls in 5 minutes`)

      aws.known.set("i-2", running("i-2"))
      yield* TestClock.adjust("70 seconds")
      const known = aws.instanceCalls.length
      yield* TestClock.adjust("10 minutes")
      assert.equal(aws.instanceCalls.length, known)
    })
  )

  it.effect("counts a poll whose second call failed as failed, and asks for the same instances again", () =>
    Effect.gen(function* () {
      const { account, aws } = yield* makeAccount()
      aws.instancesDown = true
      const failed = yield* account.after(0)
      aws.instancesDown = false
      const next = yield* account.after(failed.number)

      assert.isTrue(Result.isFailure(failed.result))
      assert.isTrue(Result.isSuccess(next.result))
      assert.deepEqual(aws.instanceCalls, [["i-1"], ["i-1"]])
    })
  )

  it.effect("asks for addresses that can move each few minutes, and for each instance of two backends once", () =>
    Effect.gen(function* () {
      const { account, aws } = yield* makeAccount({
        asked: [
          { groups: ["web"], ipType: "private" },
          { groups: ["web"], ipType: "public" }
        ]
      })
      yield* follow(account)
      yield* TestClock.adjust("10 minutes")

      assert.deepEqual(aws.instanceCalls, [["i-1"], ["i-1"], ["i-1"], ["i-1"]])
    })
  )

  it.effect("remembers an instance that left the group for ten minutes, and asks anew for it after that", () =>
    Effect.gen(function* () {
      const { account, aws } = yield* makeAccount()
      const polls = yield* follow(account)
      const departed = () =>
        Result.getOrThrow(polls.at(-1)!.result).departed.map(({ group, member }) => [group, member.id])
      aws.group = groupOf()
      yield* TestClock.adjust("11 seconds")
      const atFirst = departed()
      yield* TestClock.adjust("10 minutes")
      yield* TestClock.adjust("11 seconds")
      const later = departed()
      aws.group = groupOf("i-1")
      yield* TestClock.adjust("11 seconds")

      assert.deepEqual(atFirst, [["web", "i-1"]])
      assert.deepEqual([later, departed()], [[], []])
      assert.deepEqual(aws.instanceCalls, [["i-1"], ["i-1"]])
    })
  )

  it.effect("does not forget the members of a group that is missing from one answer", () =>
    Effect.gen(function* () {
      const { account, aws } = yield* makeAccount()
      yield* follow(account)
      const { group } = aws
      aws.group = { ...group, name: "another" }
      yield* TestClock.adjust("30 seconds")
      aws.group = group
      yield* TestClock.adjust("30 seconds")

      assert.deepEqual(aws.instanceCalls, [["i-1"]])
    })
  )

  it.effect("says once that the clock of the host is off, and once that it is right again", () =>
    Effect.gen(function* () {
      const lines: Array<string> = []
      const logger = Logger.make<unknown, void>(({ logLevel, message }) => void lines.push(`${logLevel} ${message}`))
      yield* Effect.gen(function* () {
        const { account, aws } = yield* makeAccount()
        yield* follow(account)
        aws.clockOffMillis = -3_600_400
        yield* TestClock.adjust("60 seconds")
        aws.clockOffMillis = 900
        yield* TestClock.adjust("60 seconds")
      }).pipe(Effect.provide(Logger.layer([logger])))

      assert.deepEqual(lines, [
        "Warn the clock of this host is 3600 s behind AWS's; requests are signed with AWS's time: set the clock, and see to NTP",
        "Info the clock of this host agrees with AWS's again"
      ])
    })
  )
})
