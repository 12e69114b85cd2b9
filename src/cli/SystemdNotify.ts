/**
 * Tells systemd how ep2 is: READY, RELOADING, STOPPING, STATUS and WATCHDOG.
 *
 * They go to a datagram UNIX socket, which Node has none of, so `systemd-notify`
 * sends them: it is wherever systemd is. It sends in its own name unless it has
 * CAP_SYS_ADMIN, so the unit needs `NotifyAccess=all` (tried on systemd 252).
 *
 * Source: sd_notify(3), systemd-notify(1), sd_watchdog_enabled(3).
 */
import { type Cause, Context, Duration, Effect, Fiber, Layer, Queue, Ref } from "effect"
import { Commands } from "../haproxy/Commands.ts"

/**
 * Messages are sent in the order of the calls, one at a time, beside whoever
 * calls: each call returns at once and never fails. That systemd cannot be told
 * is logged once. Without `NOTIFY_SOCKET` nothing is done. What is still to be
 * sent when the scope ends gets five seconds for it.
 */
export class SystemdNotify extends Context.Service<
  SystemdNotify,
  {
    /** ep2 is started, or done with a reload of its settings. */
    readonly ready: Effect.Effect<void>
    /** ep2 begins to read its settings anew; `ready` follows when it is done, whatever came of it. */
    readonly reloading: Effect.Effect<void>
    /** ep2 has begun to stop. */
    readonly stopping: Effect.Effect<void>
    /** What ep2 is at. Of several that wait to be sent only the last one is, and none that is known already. */
    readonly status: (text: string) => Effect.Effect<void>
    /**
     * Feeds the watchdog three times within its period, as long as no loop is
     * `overdue`; that one is, is logged when it begins. Runs until it is
     * interrupted, and ends at once where systemd does not ask this process for it.
     */
    readonly feedWatchdog: (overdue: Effect.Effect<ReadonlyArray<string>>) => Effect.Effect<void>
  }
>()("ep2/cli/SystemdNotify") {
  /** For the environment that systemd starts ep2 with. */
  static readonly layer = (environment: NodeJS.ProcessEnv) => Layer.effect(SystemdNotify, make(environment))
}

/** How long one message may take. `systemd-notify` itself waits up to 5 s until systemd has read it. */
const sendTimeout = Duration.seconds(10)

/** How long a stop of ep2 waits for its last messages. */
const lastTimeout = Duration.seconds(5)

/** More than can ever wait: they come from few places, and a status replaces the one before it. */
const queueLimit = 64

/** A message, made up when it is sent; `undefined` when there is nothing to say any more. */
type Message = () => ReadonlyArray<string> | undefined

const make = Effect.fnUntraced(function* (environment: NodeJS.ProcessEnv) {
  const socket = environment.NOTIFY_SOCKET
  if (socket === undefined || socket === "") return silent
  const send = yield* makeSender(socket)
  let wanted = ""
  let told = ""

  const feedWatchdog = Effect.fnUntraced(function* (overdue: Effect.Effect<ReadonlyArray<string>>) {
    const period = watchdogPeriod(environment)
    if (period === undefined) return
    let isSaid = false
    while (true) {
      const names = yield* overdue
      if (names.length === 0) yield* send(() => ["WATCHDOG=1"])
      else if (!isSaid) yield* Effect.logError(`systemd's watchdog is not fed any more: ${names.join(", ")} hangs`)
      isSaid = names.length > 0
      yield* Effect.sleep(Duration.times(period, 1 / 3))
    }
  })

  return SystemdNotify.of({
    ready: send(() => ["READY=1"]),
    // The kernel's monotonic clock, as systemd asks for with Type=notify-reload; Node's `hrtime` is that one.
    reloading: send(() => ["RELOADING=1", `MONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`]),
    stopping: send(() => ["STOPPING=1"]),
    status: (text) =>
      Effect.suspend(() => {
        const line = oneLine(text)
        if (line === wanted) return Effect.void
        wanted = line
        return send(() => {
          if (wanted === told) return undefined
          told = wanted
          return [`STATUS=${wanted}`]
        })
      }),
    feedWatchdog
  })
})

const silent = SystemdNotify.of({
  ready: Effect.void,
  reloading: Effect.void,
  stopping: Effect.void,
  status: () => Effect.void,
  feedWatchdog: () => Effect.void
})

/** A queue of messages, and the fiber that sends them one after the other. */
const makeSender = Effect.fnUntraced(function* (socket: string) {
  const commands = yield* Commands
  const queue = yield* Queue.dropping<Message, Cause.Done>(queueLimit)
  const isSaid = yield* Ref.make(false)

  const sendOne = Effect.fnUntraced(function* (assignments: ReadonlyArray<string>) {
    const ended = yield* commands.run("systemd-notify", assignments, sendTimeout, { NOTIFY_SOCKET: socket })
    if (ended.exitCode !== 0) yield* sayOnce(ended.output.trim() || `it ended with exit code ${ended.exitCode}`)
  })
  const sayOnce = Effect.fnUntraced(function* (why: string) {
    if (yield* Ref.getAndSet(isSaid, true)) return
    yield* Effect.logWarning(`systemd cannot be told how ep2 is: systemd-notify: ${why}`)
  })

  // To end after what is waiting, it is told to, and not interrupted.
  const worker = yield* Queue.take(queue).pipe(
    Effect.flatMap((message) => {
      const assignments = message()
      return assignments === undefined ? Effect.void : sendOne(assignments)
    }),
    Effect.catchTag("CommandError", ({ detail, reason }) =>
      sayOnce(reason === "NotRunnable" ? "it cannot be run; it comes with systemd" : detail)
    ),
    Effect.forever,
    Effect.ignoreCause,
    Effect.forkScoped
  )
  yield* Effect.addFinalizer(() =>
    Queue.end(queue).pipe(Effect.andThen(Fiber.await(worker)), Effect.timeoutOption(lastTimeout))
  )
  return (message: Message) => Effect.asVoid(Queue.offer(queue, message))
})

/** Within which period the watchdog wants to be fed; `undefined` where there is none, or it is another process's. */
const watchdogPeriod = ({ WATCHDOG_PID, WATCHDOG_USEC }: NodeJS.ProcessEnv): Duration.Duration | undefined => {
  if (WATCHDOG_PID !== undefined && WATCHDOG_PID !== "" && WATCHDOG_PID !== String(process.pid)) return undefined
  const micros = Number(WATCHDOG_USEC)
  return Number.isFinite(micros) && micros > 0 ? Duration.millis(micros / 1000) : undefined
}

/** systemd takes no message of more than 4096 bytes; a character has up to 3. */
const longestStatus = 1000

/** A line break would begin another assignment. */
const oneLine = (text: string): string =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  text.replace(/[\u0000-\u001f\u007f]+/g, " ").slice(0, longestStatus)
