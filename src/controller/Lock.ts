/**
 * One ep2 at a time for each HAProxy config file; another one stands by.
 *
 * The lock is SQLite's, and so the kernel's: `BEGIN EXCLUSIVE` holds a POSIX
 * record lock on the file, which goes with its holder however that dies, is not
 * inherited by the programs that it starts, and needs no native dependency of
 * ours. Nothing is ever written to that file, and it is never removed: whoever
 * locked a removed file would share the lock with nobody.
 */
import { createHash } from "node:crypto"
import { access, constants, readFile, readlink, realpath, rm, stat, writeFile } from "node:fs/promises"
import { basename, dirname, join, resolve } from "node:path"
import type { DatabaseSync } from "node:sqlite"
import { Duration, Effect, Result, Schema, Scope } from "effect"
import * as Progress from "./Progress.ts"
import * as Status from "./Status.ts"

/** The lock cannot be used at all. That another ep2 holds it is no error. */
export class LockError extends Schema.TaggedError<LockError>()("LockError", {
  /** The lock file, or the path that keeps us from one. */
  path: Schema.String,
  /** What was found and what to do, in one line without a full stop. */
  detail: Schema.String,
  cause: Schema.optional(Schema.Defect())
}) {
  override get message() {
    return `${this.path}: ${this.detail}`
  }
}

/** Which lock: there is one for each config file in each folder. */
export interface Options {
  /** `lock_dir`. Must exist. */
  readonly dir: string
  /** `haproxy_config_file`. It need not exist, its folder must. Two names of one file are one lock. */
  readonly configFile: string
}

/** What `tryAcquire` found. */
export type Attempt =
  | { readonly isHeld: true }
  /** Another ep2 has it; `holder` is its pid as far as it has said so. */
  | { readonly isHeld: false; readonly holder: number | undefined }

/**
 * Takes the lock until the scope ends, and waits for it as long as another ep2
 * has it, asking each `retryEvery`; with `standsBy` false it fails instead. Logs one line when it begins to stand by and
 * one when it takes over. Fails where the lock cannot be used at the start; what
 * befalls `lock_dir` while standing by is said and waited for.
 *
 * `lost` is to be run while the lock is held. It takes the lock anew when its file
 * was removed, and fails when another ep2 has taken that first: two would go on
 * otherwise, each with a file of its own.
 */
export const acquire = Effect.fn("Lock.acquire")(function* (
  options: Options & { readonly retryEvery: Duration.Duration; readonly standsBy?: false }
) {
  const scope = yield* Effect.scope
  const first = yield* take(options)
  if (first.isHeld) return { lost: keep(options, first, scope) }
  if (options.standsBy === false) {
    const detail = `held: ${whoLooksAfter(options.configFile, first.holder)}`
    return yield* new LockError({ path: yield* pathOf(options), detail })
  }
  yield* Effect.logInfo(`standing by: ${whoLooksAfter(options.configFile, first.holder)}`)
  const held = yield* standBy(options, first.holder)
  yield* Effect.logInfo(`taking over: ${options.configFile} is ours now`)
  return { lost: keep(options, held, scope) }
})

const whoLooksAfter = (configFile: string, holder: number | undefined): string =>
  `${nameOf(holder)} looks after ${configFile}`

/** Takes the lock until the scope ends if nobody has it, and returns at once either way. */
export const tryAcquire = (options: Options): Effect.Effect<Attempt, LockError, Scope.Scope> =>
  Effect.map(take(options), (taken) => (taken.isHeld ? { isHeld: true } : taken))

type Taken = ({ readonly isHeld: true } & Held) | Extract<Attempt, { readonly isHeld: false }>

interface Held {
  readonly path: string
  /** Tells the lock file from any other one that may come to stand at its path. */
  readonly identity: string | undefined
}

const take: (options: Options) => Effect.Effect<Taken, LockError, Scope.Scope> = Effect.fn("Lock.tryAcquire")(
  function* ({ configFile, dir }: Options) {
    const path = yield* pathOf({ configFile, dir })
    const sqlite = yield* Effect.promise(loadSqlite)
    const taken = yield* Effect.try({
      try: () => openExclusively(sqlite, path),
      catch: (cause) => unusable(path, cause)
    }).pipe(
      Effect.tap((database) =>
        database === undefined ? Effect.void : Effect.addFinalizer(() => letGo(database, path))
      ),
      Effect.uninterruptible
    )
    if (taken === undefined) return { isHeld: false, holder: yield* Effect.promise(() => readPid(pidFileOf(path))) }
    // Only to be read by whoever stands by: the lock holds without it.
    yield* Effect.promise(() => writeFile(pidFileOf(path), `${process.pid}\n`).catch(() => {}))
    return { isHeld: true, path, identity: yield* identify(path) }
  }
)

/** Asks for the lock until it has it. Watched (`Progress`) until then, while the lock is held on. */
const standBy = (options: Options & { readonly retryEvery: Duration.Duration }, first: number | undefined) =>
  Effect.scopedWith(
    Effect.fnUntraced(function* (watched) {
      const beat = yield* Progress.register("the wait for the lock").pipe(Scope.provide(watched))
      let holder = first
      let said: string | undefined
      while (true) {
        yield* Status.standBy(whoLooksAfter(options.configFile, holder))
        yield* beat(options.retryEvery)
        yield* Effect.sleep(options.retryEvery)
        const asked = yield* Effect.result(take(options))
        if (Result.isSuccess(asked)) {
          if (said !== undefined) yield* Effect.logInfo("the lock can be asked for again")
          said = undefined
          if (asked.success.isHeld) {
            yield* Status.standBy(undefined)
            return asked.success
          }
          holder = asked.success.holder
        } else if (said !== asked.failure.message) {
          said = asked.failure.message
          yield* Effect.logWarning(`still standing by, though the lock cannot be asked for: ${said}`)
        }
      }
    })
  )

const keep = Effect.fn("Lock.keep")(function* (
  options: Options & { readonly retryEvery: Duration.Duration },
  first: Held,
  /** Whose lock it is: one that is taken anew is let go with it, and not before. */
  scope: Scope.Scope
) {
  const beat = yield* Progress.register("the watch over the lock")
  let held = first
  let said: string | undefined
  for (let look = 1; ; look++) {
    yield* beat(options.retryEvery)
    // Twice as often as those who stand by, so that what was removed is mostly taken again before they find out.
    yield* Effect.sleep(Duration.times(options.retryEvery, 0.5))
    // Where the lock has its place is found out anew each second time: the config file may be behind another link by now.
    const path = yield* Effect.result(look % looksPerPlace === 0 ? pathOf(options) : Effect.succeed(held.path))
    const found = Result.isSuccess(path) && path.success === held.path ? yield* identify(path.success) : undefined
    if (found !== undefined && found === held.identity) continue
    // What was held stays open until the scope ends: it is on nobody's path any more.
    const again = yield* Effect.result(take(options).pipe(Scope.provide(scope)))
    if (Result.isFailure(again)) {
      if (said !== again.failure.message) yield* Effect.logWarning(`the lock is not safe: ${again.failure.message}`)
      said = again.failure.message
    } else if (again.success.isHeld) {
      said = undefined
      held = again.success
      yield* Effect.logWarning("the lock file was removed while ep2 held it, and is taken anew: leave it where it is")
    } else {
      return yield* new LockError({
        path: options.dir,
        detail: `the lock file was removed while ep2 held it, and ${nameOf(again.success.holder)} has taken it since: this one ends`
      })
    }
  }
}, Effect.scoped)

const looksPerPlace = 2

const nameOf = (holder: number | undefined) => (holder === undefined ? "another ep2" : `another ep2 (pid ${holder})`)

/** The pid of the ep2 that has the lock, as far as it has said so and runs. */
export const holderOf = Effect.fnUntraced(function* (options: Options) {
  const pid = yield* Effect.flatMap(placeOf(options), (path) => Effect.promise(() => readPid(pidFileOf(path))))
  return pid !== undefined && (yield* Effect.sync(() => isRunning(pid))) ? pid : undefined
})

const isRunning = (pid: number): boolean => {
  try {
    return process.kill(pid, 0)
  } catch (cause) {
    // It runs, as another user.
    return cause instanceof Error && "code" in cause && cause.code === "EPERM"
  }
}

/** `undefined` where there is no file. */
const identify = (path: string) =>
  Effect.promise(() =>
    stat(path).then(
      ({ dev, ino }) => `${dev} ${ino}`,
      () => undefined
    )
  )

const letGo = (database: DatabaseSync, path: string) =>
  Effect.promise(() => rm(pidFileOf(path), { force: true }).catch(() => {})).pipe(
    Effect.andThen(Effect.sync(() => database.close()))
  )

/** Where the lock of a config file is: `….lock`. Nothing is asked of that place. */
export const placeOf = Effect.fnUntraced(function* ({ configFile, dir }: Options) {
  const target = yield* Effect.tryPromise({
    try: () => realTarget(resolve(configFile)),
    catch: (cause) =>
      new LockError({
        path: configFile,
        detail: `cannot use the folder of haproxy_config_file: ${words(cause)}`,
        cause
      })
  })
  const hash = createHash("sha256").update(target).digest("hex").slice(0, 12)
  return join(dir, `ep2-${basename(target)}-${hash}.lock`)
})

/** `placeOf`. Fails where that place cannot be written. */
export const pathOf = Effect.fnUntraced(function* ({ configFile, dir }: Options) {
  const path = yield* placeOf({ configFile, dir })
  yield* Effect.tryPromise({
    try: async () => {
      if (!(await stat(dir)).isDirectory()) throw new Error("it is not a folder")
      await access(dir, constants.W_OK | constants.X_OK)
    },
    catch: (cause) => new LockError({ path: dir, detail: `cannot be used as lock_dir: ${words(cause)}`, cause })
  })
  return path
})

/** The file behind all symbolic links, also where it does not exist yet. */
const realTarget = async (path: string, links = 0): Promise<string> => {
  const linked = await readlink(path).catch(() => undefined)
  if (linked !== undefined && links < 40) return realTarget(resolve(dirname(path), linked), links + 1)
  return join(await realpath(dirname(path)), basename(path))
}

const pidFileOf = (path: string): string => path.replace(/\.lock$/, ".pid")

const readPid = async (path: string): Promise<number | undefined> => {
  const text = await readFile(path, "utf8").catch(() => "")
  return /^[1-9]\d*\n$/.test(text) ? Number(text) : undefined
}

type Sqlite = typeof import("node:sqlite")

/**
 * Node 22 warns that SQLite is experimental. What we use of it is older than
 * Node itself, so that one warning is left out, and no other.
 */
const loadSqlite = async (): Promise<Sqlite> => {
  const emitWarning = process.emitWarning
  process.emitWarning = (warning: string | Error, ...rest: Array<unknown>) => {
    if (!String(warning).includes("SQLite is an experimental feature")) {
      Reflect.apply(emitWarning, process, [warning, ...rest])
    }
  }
  try {
    return await import("node:sqlite")
  } finally {
    process.emitWarning = emitWarning
  }
}

/** SQLite's result codes. Source: https://sqlite.org/rescode.html */
const resultCode = { busy: 5, locked: 6, readOnly: 8, cannotOpen: 14, notADatabase: 26 }

/** The open database, which is the lock, or `undefined` while somebody else has it. Never waits. */
const openExclusively = (sqlite: Sqlite, path: string): DatabaseSync | undefined => {
  const database = new sqlite.DatabaseSync(path, { timeout: 0 })
  try {
    // A journal in memory: no second file appears beside the first.
    database.exec("PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE")
    return database
  } catch (cause) {
    database.close()
    const code = codeOf(cause)
    if (code === resultCode.busy || code === resultCode.locked) return undefined
    throw cause
  }
}

/** The result code without what SQLite adds to it in the higher bits. */
const codeOf = (cause: unknown): number | undefined =>
  cause instanceof Error && "errcode" in cause ? Number(cause.errcode) & 0xff : undefined

const unusable = (path: string, cause: unknown): LockError => {
  const code = codeOf(cause)
  const detail =
    code === resultCode.readOnly || code === resultCode.cannotOpen
      ? "cannot be opened for writing; does it belong to another user? ep2 must run as one user for each lock_dir"
      : code === resultCode.notADatabase
        ? "is not a lock file of ep2; remove it"
        : `cannot be locked: ${words(cause)}`
  return new LockError({ path, detail, cause })
}

const hints: Record<string, string> = {
  ENOENT: "no such folder",
  ENOTDIR: "a part of the path is not a folder",
  EACCES: "permission denied",
  EROFS: "the file system is read-only"
}

const words = (cause: unknown): string => {
  if (!(cause instanceof Error)) return String(cause)
  const code = "code" in cause ? String(cause.code) : ""
  return hints[code] ?? cause.message
}
