/**
 * What the operator has told ep2 besides its settings: `ep2 pause`, `resume` and
 * `release`. They are files beside the lock, so that they work when nothing else
 * does, whether ep2 runs or not, and so that a pause survives a restart.
 *
 * | file | while it is there |
 * | --- | --- |
 * | `….paused` | ep2 goes on watching, says what it would do, and changes nothing |
 * | `….release` | it is taken away, and what the guard holds then is let go once |
 *
 * What cannot be read is not "not there": the last thing that was known holds. A
 * release counts for what is held at that time: half a minute after it was seen it
 * is over, and one that is ten minutes old when it is seen is not taken.
 */
import { chmod, readFile, rename, rm, stat, writeFile } from "node:fs/promises"
import { dirname } from "node:path"
import { Clock, Context, Duration, Effect, Layer, Queue, Ref, Schema } from "effect"
import * as FileWatch from "../orchestrator/FileWatch.ts"
import * as Lock from "./Lock.ts"
import * as Report from "./Report.ts"
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

/** What the operator wants now. Never fails: what cannot be read counts as before. */
export class Overrides extends Context.Service<
  Overrides,
  {
    readonly isPaused: Effect.Effect<boolean>
    /** Whether the operator has released this backend just now. Says so once. */
    readonly takeRelease: (backend: string) => Effect.Effect<boolean>
    /** Waits for the next change, of those that nobody has taken yet. */
    readonly awaitChange: Effect.Effect<Change>
  }
>()("ep2/controller/Overrides") {
  /** Looks at the files when something happens to them (`FileWatch`). Where `isOver` is so, ep2 has lost the right to change anything, and is paused for good. */
  static readonly layer = (options: Lock.Options & { readonly isOver?: () => boolean }) =>
    Layer.effect(Overrides, make(options))

  /** An operator who overrules nothing. */
  static readonly layerNone = Layer.succeed(Overrides, {
    isPaused: Effect.succeed(false),
    takeRelease: () => Effect.succeed(false),
    awaitChange: Effect.never
  })
}

/** For as long after it was seen a release counts: time for each backend to make its next pass. */
const releaseCounts = Duration.seconds(30)
/** A release that was written longer ago speaks of what was held then. */
const releaseIsOld = Duration.minutes(10)

const make = Effect.fnUntraced(function* (options: Lock.Options & { readonly isOver?: () => boolean }) {
  const files = yield* pathsOf(options)
  const paused = yield* Ref.make<string | undefined>(undefined)
  /** Those that still count: one that follows another at once leaves to that what nobody has taken yet. */
  const releases = yield* Ref.make<ReadonlyArray<Release>>([])
  const troubles = yield* Report.makeStanding
  const changes = yield* Queue.unbounded<Change>()

  const lookForPause = Effect.gen(function* () {
    const found = yield* read(files.paused)
    const before = yield* Ref.get(paused)
    const text = found._tag === "Unknown" ? before : found._tag === "There" ? found.text : undefined
    yield* Ref.set(paused, text)
    if (text !== undefined && before === undefined) {
      yield* Effect.logWarning(`paused (${text.trim()}): nothing is changed until \`ep2 resume\``)
      yield* Queue.offer(changes, "paused")
    }
    if (text === undefined && before !== undefined) {
      yield* Effect.logInfo("resumed by the operator")
      yield* Queue.offer(changes, "resumed")
    }
    yield* Status.pause(text !== undefined)
    return found
  })

  const lookForRelease = Effect.gen(function* () {
    const found = yield* read(files.release)
    if (found._tag !== "There") return found
    // Only once it is gone: one that stays would count again and again.
    const failure = yield* Effect.promise(() =>
      rm(files.release).then(
        () => undefined,
        (cause: NodeJS.ErrnoException) => cause.code ?? String(cause)
      )
    )
    if (failure !== undefined) return { _tag: "Unknown", why: `cannot be removed (${failure})` } as const
    const now = yield* Clock.currentTimeMillis
    if (now - found.mtimeMillis > Duration.toMillis(releaseIsOld)) {
      const written = new Date(found.mtimeMillis).toISOString()
      yield* Effect.logWarning(`\`ep2 release\` of ${written} is too old and lets go of nothing: run it again`)
      return found
    }
    const backends = found.text.split("\n").filter((line) => line !== "")
    const untilMillis = now + Duration.toMillis(releaseCounts)
    yield* Ref.update(releases, (before) => [
      ...before.filter((one) => now <= one.untilMillis),
      { backends, untilMillis, taken: new Set<string>() }
    ])
    yield* Queue.offer(changes, "released")
    return found
  })

  const look = Effect.gen(function* () {
    const looks = [
      [files.paused, yield* lookForPause],
      [files.release, yield* lookForRelease]
    ] as const
    yield* troubles.say(
      new Map(looks.flatMap(([path, found]) => (found._tag === "Unknown" ? [[path, `${path}: ${found.why}`]] : []))),
      (path) => `${path} can be used again`
    )
  })

  /** Watched first and looked at second, so that nothing falls between the two. */
  const lookAgain = Effect.scoped(
    Effect.gen(function* () {
      const { isStillTold, sign } = yield* FileWatch.make(files.paused, files.release)
      do yield* look
      while (!(yield* sign) && (yield* isStillTold))
    })
  )

  yield* look
  yield* Effect.forkScoped(Effect.forever(lookAgain))

  const takeRelease = Effect.fnUntraced(function* (backend: string) {
    const now = yield* Clock.currentTimeMillis
    const meant = (yield* Ref.get(releases)).filter(
      ({ backends, taken, untilMillis }) =>
        now <= untilMillis && !taken.has(backend) && (backends.length === 0 || backends.includes(backend))
    )
    for (const { taken } of meant) taken.add(backend)
    return meant.length > 0
  })
  return Overrides.of({
    isPaused: Effect.map(Ref.get(paused), (text) => text !== undefined || options.isOver?.() === true),
    takeRelease,
    awaitChange: Queue.take(changes)
  })
})

interface Release {
  /** None: all. */
  readonly backends: ReadonlyArray<string>
  readonly untilMillis: number
  /** Those that have asked for it. */
  readonly taken: Set<string>
}

/** `ep2 pause`. `who` and the time are what the log says of it. */
export const pause = Effect.fn("Overrides.pause")(function* (options: Lock.Options & { readonly who: string }) {
  const files = yield* pathsOf(options)
  const now = yield* Effect.clockWith((clock) => clock.currentTimeMillis)
  yield* put(files.paused, `since ${new Date(now).toISOString()} by ${options.who}\n`)
  return files.paused
})

/** Since when and by whom ep2 is paused, in the words of the log; `undefined` where it is not. Changes nothing. */
export const pausedBy = Effect.fnUntraced(function* (options: Lock.Options) {
  const found = yield* read((yield* pathsOf(options)).paused)
  return found._tag === "There" ? found.text.trim() : undefined
})

/** `ep2 resume`. Returns whether there was a pause. */
export const resume = Effect.fn("Overrides.resume")(function* (options: Lock.Options) {
  const files = yield* pathsOf(options)
  const found = yield* read(files.paused)
  yield* attempt(files.paused, () => rm(files.paused, { force: true }))
  return found._tag !== "Absent"
})

/** `ep2 release`, of these backends or, without any, of all. What was asked and is not taken yet counts as well. */
export const release = Effect.fn("Overrides.release")(function* (
  options: Lock.Options & { readonly backends: ReadonlyArray<string> }
) {
  const files = yield* pathsOf(options)
  const before = yield* read(files.release)
  const isAll = options.backends.length === 0 || (before._tag === "There" && before.text.trim() === "")
  const names = [...options.backends, ...(before._tag === "There" ? before.text.split("\n") : [])]
  const lines = [...new Set(names.filter((name) => name !== ""))].map((name) => `${name}\n`)
  yield* put(files.release, isAll ? "\n" : lines.join(""))
  return files.release
})

/** What stands there now, for whoever only looks: the words of a pause, and whether a release waits to be taken. */
export const seen = Effect.fn("Overrides.seen")(function* (options: Lock.Options) {
  const files = filesAt(yield* Lock.placeOf(options))
  const [paused, released] = [yield* read(files.paused), yield* read(files.release)]
  const now = yield* Clock.currentTimeMillis
  return {
    paused: paused._tag === "There" ? paused.text.trim() : undefined,
    isReleased: released._tag === "There" && now - released.mtimeMillis <= Duration.toMillis(releaseIsOld)
  }
})

const pathsOf = (options: Lock.Options) => Effect.map(Lock.pathOf(options), filesAt)

const filesAt = (lock: string) => {
  const base = lock.replace(/\.lock$/, "")
  return { paused: `${base}.paused`, release: `${base}.release` }
}

type Found =
  | { readonly _tag: "There"; readonly text: string; readonly mtimeMillis: number }
  | { readonly _tag: "Absent" }
  | { readonly _tag: "Unknown"; readonly why: string }

const read = (path: string): Effect.Effect<Found> =>
  Effect.promise(async (): Promise<Found> => {
    try {
      const [text, { mtimeMs }] = [await readFile(path, "utf8"), await stat(path)]
      return { _tag: "There", text, mtimeMillis: mtimeMs }
    } catch (cause) {
      const code = (cause as NodeJS.ErrnoException).code ?? String(cause)
      if (code === "EACCES") {
        // It can be seen, and so it is there, whatever it says.
        const seen = await stat(path).catch(() => undefined)
        if (seen !== undefined)
          return { _tag: "There", text: "by somebody whose file ep2 may not read\n", mtimeMillis: seen.mtimeMs }
      }
      if (code === "ENOENT" && (await stat(dirname(path)).catch(() => undefined)) !== undefined)
        return { _tag: "Absent" }
      return { _tag: "Unknown", why: `cannot be read (${code}); what was known before holds` }
    }
  })

/** Whole or not at all, since it is looked for all the time, and for ep2 to read, whoever it runs as. */
const put = (path: string, text: string) =>
  attempt(path, async () => {
    const fresh = `${path}.${process.pid}.new`
    await writeFile(fresh, text)
    await chmod(fresh, 0o644)
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
