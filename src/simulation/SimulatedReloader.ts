/**
 * The simulated side of `Reloader`: new processes from the config that is in
 * place, as the real one starts them, but without masters, pid files and ports.
 */
import { Clock, Duration, Effect, Layer, Option, Ref, type Scope, Semaphore } from "effect"
import { ConfigFile, ReloadError } from "../haproxy/ConfigFile.ts"
import type { Session, SocketError } from "../haproxy/HaproxySocket.ts"
import { type Answering, type Loaded, Reloader, type Silent } from "../haproxy/Reloader.ts"
import * as RuntimeApi from "../haproxy/RuntimeApi.ts"

/** What became of a command to reload. */
export type Outcome =
  /** New processes have the sockets; these old ones still have sessions. */
  | { readonly _tag: "Loaded"; readonly leaving: ReadonlyArray<number> }
  /** The signal got lost: everything is as before, and nobody says so. */
  | { readonly _tag: "Lost" }
  /** HAProxy does not take the config, and says why. */
  | { readonly _tag: "Refused"; readonly output: string }

/** The processes, as far as a reload deals with them. */
export interface Processes {
  readonly sockets: ReadonlyArray<string>
  readonly connect: (socket: string) => Effect.Effect<Session, SocketError, Scope.Scope>
  /** Some process is there, whether or not it answers. */
  readonly isAnyThere: () => boolean
  readonly load: (configText: string) => Outcome
  /** Called when every socket answers from a new process. */
  readonly succeeded: () => void
}

/** `reload_interval`, 5 s without it, and how long a reload takes, 150 ms without it. */
export interface Timing {
  readonly reloadInterval?: Duration.Duration
  readonly reloadTime?: Duration.Duration
}

const pollEvery = Duration.millis(100)
const readyTimeout = Duration.seconds(15)

/** A layer of `Reloader` over these processes. */
export const layer = (timing: Timing, processes: Processes): Layer.Layer<Reloader, never, ConfigFile> =>
  Layer.effect(Reloader, make(timing, processes))

const make = Effect.fnUntraced(function* (timing: Timing, processes: Processes) {
  const configFile = yield* ConfigFile
  const turn = yield* Semaphore.make(1)
  const notBefore = yield* Ref.make(0)
  const intervalMillis = Duration.toMillis(timing.reloadInterval ?? Duration.seconds(5))
  const reloadTime = timing.reloadTime ?? Duration.millis(150)

  const fail = (reason: ReloadError["reason"], detail: string, output = "") =>
    new ReloadError({ configFile: configFile.path, reason, detail, output })

  const ask = Effect.fnUntraced(function* (socket: string) {
    const session = yield* processes.connect(socket)
    const [info = "", mark = ""] = yield* session.ask([RuntimeApi.showInfo.text, RuntimeApi.showMark.text])
    return { socket, pid: RuntimeApi.parsePid(info) ?? 0, mark: RuntimeApi.parseMark(mark) } satisfies Answering
  }, Effect.scoped)

  const look = Effect.gen(function* () {
    const answering: Array<Answering> = []
    const silent: Array<Silent> = []
    const asked = processes.sockets.map((socket) =>
      ask(socket).pipe(
        Effect.match({
          onSuccess: (one) => answering.push(one),
          onFailure: ({ detail }) => silent.push({ socket, detail })
        })
      )
    )
    yield* Effect.all(asked, { concurrency: "unbounded" })
    return { answering, silent }
  })

  /** Every socket answers with the mark, from a process that was not there before. */
  const awaitReady = Effect.fnUntraced(function* (mark: string, before: ReadonlySet<number>) {
    const last = yield* Ref.make<ReadonlyArray<Answering | Silent>>([])
    const ready = Effect.gen(function* () {
      while (true) {
        const { answering, silent } = yield* look
        const missing = [...silent, ...answering.filter((one) => before.has(one.pid) || one.mark !== mark)]
        if (missing.length === 0) return answering
        yield* Ref.set(last, missing)
        yield* Effect.sleep(pollEvery)
      }
    })
    const answering = yield* Effect.timeoutOption(ready, readyTimeout)
    if (Option.isSome(answering)) return answering.value
    const [first] = yield* Ref.get(last)
    const why = first === undefined ? "no socket answers" : `${first.socket}: ${whyNot(first)}`
    return yield* fail(
      "TimedOut",
      `HAProxy does not run the new config ${Duration.toSeconds(readyTimeout)} s after the command: ${why}`
    )
  })

  const load = Effect.fnUntraced(function* (mark: string, before: ReadonlySet<number>) {
    const text = yield* configFile.read
    if (text === undefined) return yield* fail("Failed", "HAProxy finds no config file")
    yield* Effect.sleep(reloadTime)
    const outcome = processes.load(text)
    if (outcome._tag === "Refused") {
      return yield* fail("Failed", "haproxy ended with exit code 1", outcome.output)
    }
    const answering = yield* awaitReady(mark, before)
    processes.succeeded()
    yield* configFile.markGood.pipe(
      Effect.catch((error) =>
        Effect.logWarning(`HAProxy runs the new config, but it is not kept as good: ${error.message}`)
      )
    )
    return { answering, leaving: outcome._tag === "Loaded" ? outcome.leaving : [] } satisfies Loaded
  })

  /** Where the old ones serve on, the file has to be the old one again, for whoever starts HAProxy next. */
  const putBack = Effect.fnUntraced(function* (mark: string, before: ReadonlySet<number>) {
    const { answering } = yield* look
    if (!answering.some((one) => one.mark === mark && !before.has(one.pid))) yield* configFile.restore
  })

  const untilAllowed = Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    yield* Effect.sleep(Duration.millis(Math.max(0, (yield* Ref.get(notBefore)) - now)))
  })

  const inTurn = Effect.fnUntraced(function* (mark: string) {
    yield* untilAllowed
    const before = new Set((yield* look).answering.map(({ pid }) => pid))
    if (processes.isAnyThere()) yield* Ref.set(notBefore, (yield* Clock.currentTimeMillis) + intervalMillis)
    return yield* load(mark, before).pipe(
      Effect.tapError((error) =>
        putBack(mark, before).pipe(
          Effect.catch((second) =>
            fail(
              error.reason,
              `${error.detail}; and the config before it is not put back: ${second.detail}`,
              error.output
            )
          )
        )
      )
    )
  })

  const reload = (mark: string) => turn.withPermit(inTurn(mark))
  return Reloader.of({
    state: Effect.map(look, ({ answering, silent }) => ({
      isRunning: answering.length > 0 || processes.isAnyThere(),
      answering,
      silent
    })),
    start: reload,
    reload,
    turn: turn.withPermit(untilAllowed)
  })
})

/** What a socket lacks. */
const whyNot = (one: Answering | Silent): string =>
  "pid" in one ? `pid ${one.pid} still answers, with the mark ${one.mark}` : one.detail
