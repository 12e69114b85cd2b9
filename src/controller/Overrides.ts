/**
 * What the operator has told ep2 besides its settings: `ep2 pause`, `resume` and
 * `release`. They are files beside the lock, so that they work when nothing else
 * does, whether ep2 runs or not, and so that a pause survives a restart.
 *
 * | file | while it is there |
 * | --- | --- |
 * | `….paused` | ep2 goes on watching, says what it would do, and changes nothing |
 * | `….release` | it is taken away, and what the guard holds is let go once |
 */
import { readFile, rename, rm, writeFile } from "node:fs/promises"
import { Context, Duration, Effect, Layer, Queue, Ref, Schedule, Schema } from "effect"
import * as Lock from "./Lock.ts"
import * as Status from "./Status.ts"

/** A file of these cannot be written or removed. */
export class OverrideError extends Schema.TaggedError<OverrideError>()("OverrideError", {
  path: Schema.String,
  /** What was found and what to do, in one line without a full stop. */
  detail: Schema.String
}) {
  override get message() {
    return `${this.path}: ${this.detail}`
  }
}

/** What the operator did just now. */
export type Change = "paused" | "resumed" | "released"

export class Overrides extends Context.Service<
  Overrides,
  {
    readonly isPaused: Effect.Effect<boolean>
    /** Whether the operator has released this backend since that was last asked. */
    readonly takeRelease: (backend: string) => Effect.Effect<boolean>
    /** Waits for the next change, of those that nobody has taken yet. */
    readonly awaitChange: Effect.Effect<Change>
  }
>()("ep2/controller/Overrides") {
  /** Looks at the files each second. */
  static readonly layer = (options: Lock.Options) => Layer.effect(Overrides, make(options))
}

/** How often the files are looked at. */
const lookEvery = Duration.seconds(1)

const make = Effect.fnUntraced(function* (options: Lock.Options) {
  const files = yield* pathsOf(options)
  const paused = yield* Ref.make<string | undefined>(undefined)
  /** Numbers of releases: of all backends, and of single ones; and those that each backend has taken. */
  const released = yield* Ref.make<ReadonlyArray<Release>>([])
  const taken = new Map<string, number>()
  const changes = yield* Queue.unbounded<Change>()

  const look = Effect.gen(function* () {
    const text = yield* readOrNone(files.paused)
    const before = yield* Ref.getAndSet(paused, text)
    yield* Status.pause(text !== undefined)
    if (text !== undefined && before === undefined) {
      yield* Effect.logWarning(`paused (${text.trim()}): nothing is changed until \`ep2 resume\``)
      yield* Queue.offer(changes, "paused")
    }
    if (text === undefined && before !== undefined) {
      yield* Effect.logInfo("resumed by the operator")
      yield* Queue.offer(changes, "resumed")
    }
    const release = yield* readOrNone(files.release)
    if (release === undefined) return
    yield* Effect.promise(() => rm(files.release, { force: true }).catch(() => {}))
    const backends = release.split("\n").filter((line) => line !== "")
    yield* Ref.update(released, (all) => [...all, { number: all.length + 1, backends }])
    yield* Queue.offer(changes, "released")
  })

  yield* look
  yield* look.pipe(Effect.repeat(Schedule.spaced(lookEvery)), Effect.forkScoped)

  const takeRelease = (backend: string) =>
    Effect.map(Ref.get(released), (all) => {
      const last = taken.get(backend) ?? 0
      taken.set(backend, all.length)
      return all.some(({ backends, number }) => number > last && (backends.length === 0 || backends.includes(backend)))
    })
  return Overrides.of({
    isPaused: Effect.map(Ref.get(paused), (text) => text !== undefined),
    takeRelease,
    awaitChange: Queue.take(changes)
  })
})

interface Release {
  readonly number: number
  /** None: all. */
  readonly backends: ReadonlyArray<string>
}

/** `ep2 pause`. `who` and the time are what the log says of it. */
export const pause = Effect.fn("Overrides.pause")(function* (options: Lock.Options & { readonly who: string }) {
  const files = yield* pathsOf(options)
  const now = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
  yield* put(files.paused, `since ${new Date(now).toISOString()} by ${options.who}\n`)
  return files.paused
})

/** `ep2 resume`. Returns whether there was a pause. */
export const resume = Effect.fn("Overrides.resume")(function* (options: Lock.Options) {
  const files = yield* pathsOf(options)
  const isThere = (yield* readOrNone(files.paused)) !== undefined
  yield* attempt(files.paused, () => rm(files.paused, { force: true }))
  return isThere
})

/** `ep2 release`, of these backends or, without any, of all. */
export const release = Effect.fn("Overrides.release")(function* (
  options: Lock.Options & { readonly backends: ReadonlyArray<string> }
) {
  const files = yield* pathsOf(options)
  yield* put(files.release, options.backends.map((name) => `${name}\n`).join(""))
  return files.release
})

const pathsOf = (options: Lock.Options) =>
  Effect.map(Lock.pathOf(options), (path) => {
    const base = path.replace(/\.lock$/, "")
    return { paused: `${base}.paused`, release: `${base}.release` }
  })

const readOrNone = (path: string): Effect.Effect<string | undefined> =>
  Effect.promise(() => readFile(path, "utf8").catch(() => undefined))

/** Whole or not at all, since it is looked for all the time. */
const put = (path: string, text: string) =>
  attempt(path, async () => {
    const fresh = `${path}.${process.pid}.new`
    await writeFile(fresh, text, { mode: 0o644 })
    await rename(fresh, path)
  })

const attempt = (path: string, body: () => Promise<void>) =>
  Effect.tryPromise({
    try: body,
    catch: (cause) =>
      new OverrideError({
        path,
        detail: `cannot be written: ${cause instanceof Error ? cause.message : String(cause)}; run this as the user that runs ep2, or as root`
      })
  })
