import { assert, describe, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Layer, Logger } from "effect"
import { TestClock } from "effect/testing"
import { SystemdNotify } from "../../src/cli/SystemdNotify.ts"
import { CommandError, Commands, type Ended } from "../../src/haproxy/Commands.ts"
import * as NotifySocket from "../servers/NotifySocket.ts"

const socket = "/run/systemd/notify"
const underSystemd = { NOTIFY_SOCKET: socket, WATCHDOG_USEC: "3000000", WATCHDOG_PID: String(process.pid) }
const done: Effect.Effect<Ended, CommandError> = Effect.succeed({ exitCode: 0, output: "" })

/** systemd-notify in the hands of the test: `run` is what becomes of each call. */
const makeCalls = (run: (call: number) => Effect.Effect<Ended, CommandError> = () => done) => {
  const calls: Array<{ readonly args: ReadonlyArray<string>; readonly socket: string | undefined }> = []
  const lines: Array<string> = []
  const commands = Layer.succeed(Commands, {
    run: (program, args, _timeout, environment) => {
      assert.strictEqual(program, "systemd-notify")
      calls.push({ args, socket: environment?.NOTIFY_SOCKET })
      return run(calls.length)
    }
  })
  const logger = Logger.make<unknown, void>(({ logLevel, message }) => void lines.push(`${logLevel} ${message}`))
  const provide = <A, E>(body: Effect.Effect<A, E, SystemdNotify>, environment: NodeJS.ProcessEnv = underSystemd) =>
    body.pipe(
      Effect.provide(
        SystemdNotify.layer(environment).pipe(Layer.provide(commands), Layer.provideMerge(Logger.layer([logger])))
      )
    )
  return { calls, lines, provide, said: () => calls.map(({ args }) => args.join(" ")) }
}

const everything = Effect.gen(function* () {
  const systemd = yield* SystemdNotify
  yield* systemd.ready
  yield* systemd.status("starting")
  yield* systemd.reloading
  yield* systemd.ready
  yield* systemd.stopping
})

describe("SystemdNotify", () => {
  it.effect("sends what it is told in that order, to the socket of systemd, before its scope ends", () =>
    Effect.gen(function* () {
      const { calls, provide, said } = makeCalls()

      yield* provide(everything)

      const withoutTime = said().map((one) => one.replace(/MONOTONIC_USEC=\d+/, "MONOTONIC_USEC="))
      assert.deepStrictEqual(withoutTime, [
        "READY=1",
        "STATUS=starting",
        "RELOADING=1 MONOTONIC_USEC=",
        "READY=1",
        "STOPPING=1"
      ])
      assert.deepStrictEqual([...new Set(calls.map((one) => one.socket))], [socket])
    })
  )

  it.effect("does nothing where no systemd asks for it", () =>
    Effect.gen(function* () {
      const { calls, provide } = makeCalls()

      yield* provide(
        Effect.andThen(
          everything,
          SystemdNotify.use(({ feedWatchdog }) => feedWatchdog(Effect.succeed([])))
        ),
        {}
      )

      assert.deepStrictEqual(calls, [])
    })
  )

  it.effect("holds up nobody, runs one systemd-notify at a time, and of the statuses meanwhile sends the last", () =>
    Effect.gen(function* () {
      const slow = yield* Deferred.make<void>()
      const { provide, said } = makeCalls((call) => (call === 1 ? Effect.andThen(Deferred.await(slow), done) : done))

      const saidMeanwhile = yield* provide(
        Effect.gen(function* () {
          const systemd = yield* SystemdNotify
          yield* systemd.ready
          for (const text of ["serves 1", "serves 2", "serves 3"]) yield* systemd.status(text)
          yield* TestClock.adjust("1 second")
          const before = said()
          yield* Deferred.succeed(slow, undefined)
          return before
        })
      )

      assert.deepStrictEqual(saidMeanwhile, ["READY=1"])
      assert.deepStrictEqual(said(), ["READY=1", "STATUS=serves 3"])
    })
  )

  it.effect("says a status again only when it is another one, on one line that systemd takes whole", () =>
    Effect.gen(function* () {
      const { provide, said } = makeCalls()

      yield* provide(
        Effect.gen(function* () {
          const { status } = yield* SystemdNotify
          for (const text of ["a\nMAINPID=1", "a\nMAINPID=1", "b", "é".repeat(5000), "b"]) {
            yield* status(text)
            yield* TestClock.adjust("1 millis")
          }
        })
      )

      assert.deepStrictEqual(said(), ["STATUS=a MAINPID=1", "STATUS=b", `STATUS=${"é".repeat(1000)}`, "STATUS=b"])
    })
  )

  it.effect.each<{ what: string; result: Effect.Effect<Ended, CommandError>; line: RegExp }>([
    {
      what: "cannot be run",
      result: Effect.fail(new CommandError({ command: "", reason: "NotRunnable", detail: "", output: "" })),
      line: /it cannot be run; it comes with systemd/
    },
    {
      what: "hangs",
      result: Effect.fail(
        new CommandError({ command: "", reason: "TimedOut", detail: "took longer than 10 s", output: "" })
      ),
      line: /took longer than 10 s/
    },
    {
      what: "fails",
      result: Effect.succeed({ exitCode: 1, output: "Failed to notify init system: Connection refused\n" }),
      line: /Failed to notify init system: Connection refused$/
    }
  ])("logs once that systemd-notify $what, and goes on trying", ({ line, result }) =>
    Effect.gen(function* () {
      const { lines, provide, said } = makeCalls(() => result)

      yield* provide(everything)

      assert.strictEqual(said().length, 5)
      assert.strictEqual(lines.length, 1)
      assert.match(lines[0]!, line)
    })
  )

  it.effect("feeds the watchdog three times in its period, while no loop hangs", () =>
    Effect.gen(function* () {
      const { lines, provide, said } = makeCalls()
      let hanging: ReadonlyArray<string> = []

      const counts = yield* provide(
        Effect.gen(function* () {
          const systemd = yield* SystemdNotify
          const overdue = Effect.sync(() => hanging)
          yield* Effect.forkChild(systemd.feedWatchdog(overdue), { startImmediately: true })
          yield* TestClock.adjust("3 seconds")
          const fed = said().length
          hanging = ["the passes of web"]
          yield* TestClock.adjust("9 seconds")
          const hung = said().length
          hanging = []
          yield* TestClock.adjust("1 second")
          return { fed, hung, back: said().length }
        })
      )

      assert.deepStrictEqual(counts, { fed: 4, hung: 4, back: 5 })
      assert.deepStrictEqual([...new Set(said())], ["WATCHDOG=1"])
      assert.deepStrictEqual(lines, ["Error systemd's watchdog is not fed any more: the passes of web hangs"])
    })
  )

  it.effect.each<{ what: string; environment: NodeJS.ProcessEnv }>([
    { what: "is another process's", environment: { ...underSystemd, WATCHDOG_PID: "1" } },
    { what: "is off", environment: { NOTIFY_SOCKET: socket } },
    { what: "has no sensible period", environment: { ...underSystemd, WATCHDOG_USEC: "often" } }
  ])("does not feed a watchdog that $what", ({ environment }) =>
    Effect.gen(function* () {
      const { calls, provide } = makeCalls()

      yield* provide(
        SystemdNotify.use(({ feedWatchdog }) => feedWatchdog(Effect.succeed([]))),
        environment
      )

      assert.deepStrictEqual(calls, [])
    })
  )

  it.live("reaches a datagram socket as systemd has one, and hands its name to nothing else that ep2 runs", () =>
    Effect.gen(function* () {
      const listener = yield* NotifySocket.make
      const environment = { NOTIFY_SOCKET: listener.path }

      yield* everything.pipe(Effect.provide(SystemdNotify.layer(environment).pipe(Layer.provide(Commands.layer))))
      const other = yield* Effect.gen(function* () {
        process.env.NOTIFY_SOCKET = listener.path
        return yield* Commands.use(({ run }) => run("env", [], Duration.seconds(5)))
      }).pipe(Effect.provide(Commands.layer), Effect.ensuring(Effect.sync(() => delete process.env.NOTIFY_SOCKET)))

      const [ready, status, reloading, again, stopping] = listener.messages()
      assert.deepStrictEqual([ready, status, again, stopping], ["READY=1", "STATUS=starting", "READY=1", "STOPPING=1"])
      assert.match(reloading!, /^RELOADING=1\nMONOTONIC_USEC=\d+$/)
      assert.notInclude(other.output, "NOTIFY_SOCKET")
    })
  )
})
