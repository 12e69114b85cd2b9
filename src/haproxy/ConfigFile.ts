/**
 * HAProxy's config file on disk: checked by HAProxy itself before it is put in
 * place, put in place whole or not at all, and the last good one kept beside it
 * as `<file>.lkg`. What somebody else has written there is kept as a backup
 * before it is replaced.
 */
import { basename, dirname, join, resolve } from "node:path"
import { Clock, Context, Duration, Effect, FileSystem, Layer, Option, Ref, Schema, Semaphore } from "effect"
import type { PlatformError } from "effect/PlatformError"
import { Commands } from "./Commands.ts"
import * as ConfigBackup from "./ConfigBackup.ts"
import * as ConfigProblem from "./ConfigProblem.ts"
import * as Seal from "./Seal.ts"
import type { Rendered } from "./TemplateRenderer.ts"

/** A config did not get into HAProxy. What HAProxy serves goes on being served. */
export class ReloadError extends Schema.TaggedError<ReloadError>()("ReloadError", {
  /** Path of the config file. */
  configFile: Schema.String,
  /**
   * - `ConfigInvalid`: HAProxy refuses the config; `output` is what it says.
   * - `NotWritable`: the file or its folder cannot be read or written.
   * - `NotRunnable`: `haproxy` or `systemctl` cannot be run at all.
   * - `BindConflict`: another program listens where the config wants to.
   * - `NotOurs`: HAProxy belongs to a systemd service.
   * - `Failed`: the command that starts or reloads failed; `output` is what it said.
   * - `TimedOut`: the command, or the new process, took too long.
   */
  reason: Schema.Literals([
    "ConfigInvalid",
    "NotWritable",
    "NotRunnable",
    "BindConflict",
    "NotOurs",
    "Failed",
    "TimedOut"
  ]),
  /** What was found, what was expected and what to do; a line for each thing that HAProxy refuses. */
  detail: Schema.String,
  /** What the program said, verbatim; empty when none ran. */
  output: Schema.String,
  /** The file that `output` speaks of; its lines are those of the text that was given. It is gone by now. */
  candidate: Schema.optionalKey(Schema.String),
  cause: Schema.optional(Schema.Defect())
}) {
  override get message() {
    return `${this.configFile}: ${this.detail}`
  }
}

/** A config text that HAProxy takes. */
export interface Checked {
  /** HAProxy's warnings, a line each, at the template's lines where those are known. */
  readonly warnings: ReadonlyArray<string>
}

/** What came of putting a text in place. */
export interface Installed extends Checked {
  /** False when the file held that text already; then nothing was checked or touched. */
  readonly isChanged: boolean
}

/** What is to be written: `Rendered`, or a text of which no template is known. */
export type Config = Pick<Rendered, "text"> & Partial<Pick<Rendered, "template" | "templateLine">>

/** The one config file of this ep2, and its backups. */
export class ConfigFile extends Context.Service<
  ConfigFile,
  {
    /** Absolute path, as `haproxy -f` gets it. */
    readonly path: string
    /** The text that is there now; `undefined` when there is no file. */
    readonly read: Effect.Effect<string | undefined, ReloadError>
    /** The last text that is known to be good: `<file>.lkg`; `undefined` when there is none. */
    readonly readGood: Effect.Effect<string | undefined, ReloadError>
    /** Asks HAProxy whether it takes a text (`haproxy -c`, at most 30 s), and changes nothing. */
    readonly check: (config: Config) => Effect.Effect<Checked, ReloadError>
    /**
     * Checks a text and puts it in place, with the owner and the mode of the
     * file that it replaces (mode 0644 where there was none). A symbolic link
     * stays; the file that it names is replaced.
     *
     * The replaced text becomes `.lkg` if ep2 rendered it from the same template
     * and settings as `.lkg`, or if it has no mark of ep2's and HAProxy takes it:
     * what else ep2 rendered has to be marked good.
     *
     * A replaced text that ep2 did not write, or that somebody has changed since,
     * is kept as it was (`ConfigBackup`), and a warning says where; without that
     * copy nothing is replaced. ep2's own are those that this service put in
     * place, and those whose seal is whole: other servers in them are no edit.
     * On any failure, and on interruption, the file is as it was.
     */
    readonly install: (config: Config) => Effect.Effect<Installed, ReloadError>
    /** Says that HAProxy runs what is in place now: it becomes `.lkg`. */
    readonly markGood: Effect.Effect<void, ReloadError>
    /** Puts `.lkg` back in place, as `install` does. False when there is none; then the file stays as it is. */
    readonly restore: Effect.Effect<boolean, ReloadError>
  }
>()("ep2/haproxy/ConfigFile") {
  /** The file on this machine's disk, checked by this machine's HAProxy. */
  static readonly layer = (options: {
    /** `haproxy_config_file`. Need not exist; its folder must. */
    readonly configFile: string
    /** `haproxy_binary`. */
    readonly binary: string
  }) => Layer.effect(ConfigFile, make(options))
}

const checkTimeout = Duration.seconds(30)
const defaultMode = 0o644
const candidateEnd = ".ep2-candidate"
const theTemplate = "the template"

/** How many this process has made: settings that are looked at before they are used make some of their own. */
let candidates = 0

const make = Effect.fnUntraced(function* (options: { readonly configFile: string; readonly binary: string }) {
  const fs = yield* FileSystem.FileSystem
  const commands = yield* Commands
  const path = resolve(options.configFile)
  const turn = yield* Semaphore.make(1)
  /** What this service has put in place. */
  const placed = yield* Ref.make<Uint8Array | undefined>(undefined)

  const fail = (reason: ReloadError["reason"], detail: string, more: Partial<ReloadError> = {}) =>
    new ReloadError({
      configFile: path,
      reason,
      detail,
      output: more.output ?? "",
      ...(more.candidate === undefined ? {} : { candidate: more.candidate }),
      cause: more.cause
    })
  const cannot = (doing: string, file: string) => (cause: PlatformError) =>
    fail("NotWritable", `cannot ${doing} ${file}: ${systemWords(cause)}`, { cause })

  const readBytes = (file: string) =>
    fs.readFile(file).pipe(
      Effect.catchIf(isMissing, () => Effect.undefined),
      Effect.mapError(cannot("read", file))
    )
  const readFrom = (file: string) =>
    Effect.map(readBytes(file), (bytes) => (bytes === undefined ? undefined : decode(bytes)))

  /** Where the text is kept: behind every symbolic link, also behind one whose file is not there yet. */
  const target: (file: string, links?: number) => Effect.Effect<string, ReloadError> = Effect.fnUntraced(function* (
    file,
    links = 0
  ) {
    const linked = yield* fs.readLink(file).pipe(Effect.option)
    if (Option.isSome(linked) && links < 40) return yield* target(resolve(dirname(file), linked.value), links + 1)
    const folder = yield* fs.realPath(dirname(file)).pipe(Effect.mapError(cannot("use the folder", dirname(file))))
    return join(folder, basename(file))
  })

  /** A file beside `file` that is gone when the scope ends, whatever happens, unless it was renamed. */
  const candidate = Effect.fnUntraced(function* (file: string, bytes: Uint8Array) {
    const name = join(dirname(file), `.${basename(file)}.${process.pid}.${++candidates}${candidateEnd}`)
    yield* Effect.addFinalizer(() => fs.remove(name, { force: true }).pipe(Effect.ignore))
    yield* Effect.gen(function* () {
      yield* fs.remove(name, { force: true })
      const open = yield* fs.open(name, { flag: "wx", mode: 0o600 })
      yield* open.writeAll(bytes)
      yield* open.sync
    }).pipe(Effect.scoped, Effect.uninterruptible, Effect.mapError(cannot("write a candidate beside", file)))
    return name
  })

  /** Takes the place of `file` in one step, looking like `like`. */
  const replace = Effect.fnUntraced(function* (file: string, from: string, like: string) {
    const info = yield* fs.stat(like).pipe(
      Effect.asSome,
      Effect.catchIf(isMissing, () => Effect.succeedNone),
      Effect.mapError(cannot("read", like))
    )
    const owned = yield* fs.stat(from).pipe(Effect.mapError(cannot("read", from)))
    if (Option.isSome(info)) {
      const uid = Option.getOrElse(info.value.uid, () => 0)
      const gid = Option.getOrElse(info.value.gid, () => 0)
      const isOwned = Option.getOrUndefined(owned.uid) === uid && Option.getOrUndefined(owned.gid) === gid
      if (!isOwned) {
        yield* fs.chown(from, uid, gid).pipe(Effect.mapError(cannot(`keep the owner ${uid}:${gid} of`, like)))
      }
    }
    const mode = Option.match(info, { onNone: () => defaultMode, onSome: (found) => found.mode & 0o7777 })
    yield* fs.chmod(from, mode).pipe(Effect.mapError(cannot("set the mode of", from)))
    yield* fs.rename(from, file).pipe(Effect.mapError(cannot("replace", file)))
    // The name is on the disk only when the folder is.
    yield* fs.open(dirname(file), { flag: "r" }).pipe(
      Effect.flatMap((folder) => folder.sync),
      Effect.scoped,
      Effect.mapError(cannot("sync the folder of", file))
    )
  }, Effect.uninterruptible)

  const write = Effect.fnUntraced(function* (file: string, bytes: Uint8Array, like: string) {
    yield* replace(file, yield* candidate(file, bytes), like)
  }, Effect.scoped)

  const checkFile = Effect.fnUntraced(function* (file: string, config: Config) {
    const ended = yield* commands.run(options.binary, ["-c", "-f", file], checkTimeout).pipe(
      Effect.mapError((cause) =>
        fail(cause.reason === "Killed" ? "Failed" : cause.reason, `cannot be checked: ${cause.message}`, {
          output: cause.output,
          cause
        })
      )
    )
    const templatePath = config.template ?? path
    const problems = ConfigProblem.explain({
      output: ended.output,
      rendered: { text: config.text, templateLine: config.templateLine ?? ((line) => line) },
      candidatePath: file,
      templatePath
    })
    const lines = (level: ConfigProblem.ConfigProblem["level"]) =>
      problems
        .filter((problem) => problem.level === level)
        .map(({ line, message }) => `${templatePath}${line === undefined ? "" : `:${line}`}: ${message}`)
    if (ended.exitCode === 0) return { warnings: lines("warning") } satisfies Checked
    const alerts = lines("alert")
    const why = alerts.length > 0 ? alerts.join("\n") : `exit code ${ended.exitCode}: ${ended.output.trim()}`
    return yield* fail("ConfigInvalid", `HAProxy refuses the config:\n${why}`, {
      output: ended.output,
      candidate: file
    })
  })

  const check = Effect.fn("ConfigFile.check")(function* (config: Config) {
    return yield* checkFile(yield* candidate(yield* target(path), encode(config.text)), config)
  }, Effect.scoped)

  /** Keeps what is in place and not ep2's own. Returns its copy; `undefined` where there is nothing to keep. */
  const keepTheirs = Effect.fnUntraced(
    function* (file: string, now: Uint8Array) {
      // An empty file holds nothing that somebody could miss.
      const isOwn = now.length === 0 || isSame(now, yield* Ref.get(placed)) || Seal.isIntact(decode(now))
      if (isOwn) return undefined
      const known = yield* ConfigBackup.find(file, now)
      if (known !== undefined) return known
      const copy = ConfigBackup.pathAt(file, yield* Clock.currentTimeMillis)
      yield* write(copy, now, file).pipe(
        Effect.mapError(({ cause, detail }) =>
          fail("NotWritable", `somebody else has written or changed it, and it cannot be kept as a backup: ${detail}`, {
            cause
          })
        )
      )
      yield* ConfigBackup.removeOldest(file)
      return copy
    },
    Effect.provideService(FileSystem.FileSystem, fs)
  )

  /** Puts a candidate in place of the config file, looking like `like`; `theirs` is the copy of what somebody else had there. */
  const place = Effect.fnUntraced(function* (
    file: string,
    next: {
      readonly from: string
      readonly like: string
      readonly theirs: string | undefined
      readonly template: string
    }
  ) {
    const bytes = yield* readBytes(next.from)
    yield* replace(file, next.from, next.like)
    yield* Ref.set(placed, bytes)
    if (next.theirs !== undefined) {
      yield* Effect.logWarning(
        `${path}: somebody else had written or changed it; theirs is kept as ${next.theirs}, and ep2's is in its place: what is to stay belongs into ${next.template}`
      )
    }
  }, Effect.uninterruptible)

  /** Whether the text in place is one to go back to, and not kept yet. */
  const isGood = Effect.fnUntraced(function* (
    now: Uint8Array,
    good: Uint8Array | undefined,
    theirs: string | undefined
  ) {
    if (isSame(now, good)) return false
    const text = decode(now)
    const mark = markOf(text)
    if (theirs === undefined) return mark === undefined || (good !== undefined && mark === markOf(decode(good)))
    return mark === undefined && Option.isSome(yield* Effect.option(checkFile(theirs, { text })))
  })

  const install = Effect.fn("ConfigFile.install")(function* (config: Config) {
    const file = yield* target(path)
    const bytes = encode(config.text)
    if (isSame(bytes, yield* readBytes(file))) {
      yield* Ref.set(placed, bytes)
      return { isChanged: false, warnings: [] } satisfies Installed
    }
    const next = yield* candidate(file, bytes)
    const { warnings } = yield* checkFile(next, config)
    // Not before: the check takes its time, and what somebody puts there meanwhile is to be kept.
    const now = yield* readBytes(file)
    const theirs = now === undefined ? undefined : yield* keepTheirs(file, now)
    if (now !== undefined && (yield* isGood(now, yield* readBytes(goodOf(file)), theirs)))
      yield* write(goodOf(file), now, file)
    yield* place(file, { from: next, like: file, theirs, template: config.template ?? theTemplate })
    return { isChanged: true, warnings } satisfies Installed
  }, Effect.scoped)

  const markGood = Effect.gen(function* () {
    const file = yield* target(path)
    const now = yield* readBytes(file)
    if (now !== undefined && !isSame(now, yield* readBytes(goodOf(file)))) yield* write(goodOf(file), now, file)
  }).pipe(Effect.withSpan("ConfigFile.markGood"))

  const restore = Effect.gen(function* () {
    const file = yield* target(path)
    const good = yield* readBytes(goodOf(file))
    if (good === undefined) return false
    const now = yield* readBytes(file)
    if (isSame(good, now)) return true
    const theirs = now === undefined ? undefined : yield* keepTheirs(file, now)
    yield* place(file, { from: yield* candidate(file, good), like: goodOf(file), theirs, template: theTemplate })
    return true
  }).pipe(Effect.scoped, Effect.withSpan("ConfigFile.restore"))

  yield* removeStale(yield* Effect.option(target(path)))
  return ConfigFile.of({
    path,
    read: readFrom(path),
    readGood: Effect.flatMap(target(path), (file) => readFrom(goodOf(file))),
    check,
    install: (config) => turn.withPermit(install(config)),
    markGood: turn.withPermit(markGood),
    restore: turn.withPermit(restore)
  })
})

const goodOf = (file: string): string => `${file}.lkg`

/** What `TemplateRenderer` says a text was rendered from; nothing in a text of somebody else. */
export const markOf = (text: string): string | undefined => /^\s*setenv\s+EP2_CONFIG\s+(\S+)/m.exec(text)?.[1]

const encode = (text: string): Uint8Array => new TextEncoder().encode(text)
const decode = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)

// Bytes and not text: a file of somebody else need not be UTF-8.
const isSame = (one: Uint8Array | undefined, other: Uint8Array | undefined): boolean =>
  one === other || (one !== undefined && other !== undefined && Buffer.compare(one, other) === 0)

/** When this process began, in Unix milliseconds. */
const startedAt = Date.now() - process.uptime() * 1000

/** Candidates that an ep2 left which was killed, be it one that had our pid. One of an ep2 that runs is its own. */
const removeStale = Effect.fnUntraced(function* (file: Option.Option<string>) {
  if (Option.isNone(file)) return
  const fs = yield* FileSystem.FileSystem
  const folder = dirname(file.value)
  const name = basename(file.value)
  const names = yield* fs.readDirectory(folder).pipe(Effect.orElseSucceed(() => []))
  for (const one of names) {
    if (!one.endsWith(candidateEnd) || !(one.startsWith(`.${name}.`) || one.startsWith(`.${name}.lkg.`))) continue
    const pid = Number(one.slice(0, -candidateEnd.length).split(".").at(-2))
    const isInUse =
      pid === process.pid
        ? yield* fs.stat(join(folder, one)).pipe(
            Effect.map(({ mtime }) => Option.exists(mtime, (time) => time.getTime() >= startedAt)),
            Effect.orElseSucceed(() => false)
          )
        : yield* fs.exists(`/proc/${pid}`).pipe(Effect.orElseSucceed(() => false))
    if (!isInUse) yield* fs.remove(join(folder, one), { force: true }).pipe(Effect.ignore)
  }
})

const isMissing = (error: PlatformError): boolean => error.reason._tag === "NotFound"

const hints: Record<string, string> = {
  ENOENT: "the folder or file does not exist",
  ENOTDIR: "a folder of the path is a file",
  EACCES: "permission denied; ep2 must be able to write to that folder",
  EPERM: "not permitted to this user",
  EROFS: "the file system is read-only; mount it writable",
  ENOSPC: "the disk is full; make room on it",
  EDQUOT: "the disk quota is used up; make room, or raise it",
  EFBIG: "it would be larger than this process may write; raise its limit (LimitFSIZE, ulimit -f)",
  EISDIR: "it is a folder and not a file",
  ELOOP: "its symbolic links lead in a circle"
}

/** The system's own reason, out of Effect's wrapping. */
const systemWords = (error: PlatformError): string => {
  const cause: unknown = error.reason.cause
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : undefined
  const hint = code === undefined ? undefined : hints[code]
  return hint === undefined ? error.message.replaceAll("\n", " ") : `${hint} (${code})`
}
