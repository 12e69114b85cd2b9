/**
 * A file_sd document as desired state, so that anything that can write a file
 * can drive ep2.
 *
 * Writers should write a new file beside it and rename it over the old one: that
 * is seen at once and whole. A file that is written in place is read when it has
 * been left alone for a moment.
 */
import { createHash } from "node:crypto"
import { constants } from "node:fs"
import { open, stat } from "node:fs/promises"
import { Clock, Duration, Effect, Fiber, Latch, Layer, Option, Result } from "effect"
import { type Named, vet } from "./Candidate.ts"
import { FetchError, Fetcher, oneLine } from "./Fetcher.ts"
import * as FileSd from "./FileSd.ts"
import * as FileWatch from "./FileWatch.ts"
import * as HostNames from "./HostNames.ts"

/** One document: what `[FILE]` says for a backend. */
export interface FileTarget {
  /** JSON when it ends in `.json`, else YAML. May be a symbolic link. */
  readonly path: string
  /** The port of targets that have none; `service` refuses those. A target's own port always wins. */
  readonly portOf: number | "service"
}

/** What a test puts in the place of the system. */
export interface Options {
  /** How a host name in place of an address is looked up. The system's resolver. */
  readonly lookup?: HostNames.Lookup | undefined
}

/** A `Fetcher` for these backends. Asking for another one is a defect. */
export const layer = (targets: ReadonlyMap<string, FileTarget>, options: Options = {}) =>
  Layer.effect(Fetcher, make(targets, options))

/**
 * The service behind `layer`, for where several sources are joined.
 *
 * Its `awaitChange` never fails: a file or folder that is missing is waited for.
 */
export const make = Effect.fnUntraced(function* (targets: ReadonlyMap<string, FileTarget>, options: Options = {}) {
  const hostNames = yield* HostNames.make({ lookup: options.lookup })
  const documents = new Map<string, Document>()
  for (const [backend, target] of targets) documents.set(backend, yield* makeDocument(backend, target, hostNames))
  const documentOf = (backend: string) => {
    const document = documents.get(backend)
    return document === undefined ? Effect.die(new Error(`no file for backend ${backend}`)) : Effect.succeed(document)
  }
  return Fetcher.of({
    fetch: (backend) => Effect.flatMap(documentOf(backend), ({ fetch }) => fetch),
    awaitChange: (backend) => Effect.flatMap(documentOf(backend), ({ awaitChange }) => awaitChange)
  })
})

/** A burst of notices is one change: they are left to end for this long before the file is read. */
const burst = Duration.millis(5)

/** A file that is written in place counts as written when it stayed the same for this long. */
const settled = Duration.millis(50)

/** How often `settled` is waited for before a file that never rests is read as it is. */
const settleTries = 20

type Document = Effect.Success<ReturnType<typeof makeDocument>>

const makeDocument = Effect.fnUntraced(function* (
  backend: string,
  { path, portOf }: FileTarget,
  hostNames: HostNames.HostNames
) {
  const scope = yield* Effect.scope
  // What the last fetch found, an error included, so that a file that was bad or missing is waited for too.
  let seen: Option.Option<string> = Option.none()
  let inode: bigint | undefined
  /** The last text that was one: what it named, and its file as it was read. */
  let last: Known | undefined
  /** Whether the kernel tells of all that happens to the file now. */
  let isTold = false
  /** What the watch has read since the last fetch began. */
  let heard: string | undefined
  const hasChanged = yield* Latch.make()

  const readWhole = Effect.gen(function* () {
    let found = yield* read(path)
    // The same inode with another content was written in place, maybe half so far, and so may a file be that was not
    // there before. Another inode in place of a known one came by rename, and whole.
    const isReplaced = inode !== undefined && found.inode !== undefined && found.inode !== inode
    for (let tries = 0; tries < settleTries && !isReplaced && !Option.contains(seen, found.mark); tries++) {
      yield* Effect.sleep(settled)
      const again = yield* read(path)
      if (again.inode === found.inode && again.mark === found.mark) break
      found = again
    }
    return found
  })

  const decode = (text: string) =>
    Effect.fromResult(
      Result.mapError(
        FileSd.decode(text, { path, portOf }),
        (detail) => new FetchError({ target: path, reason: "BadResponse", detail })
      )
    )

  const fetch = Effect.gen(function* () {
    heard = undefined
    const now = yield* Clock.currentTimeMillis
    const before = yield* standing(path)
    // A file server may go on saying how a file stood some time ago, and what is written through memory may show nowhere.
    const isFresh = last !== undefined && now - last.readMillis < trustedMillis
    const isSame = isTold && isFresh && before !== undefined && before === last?.standing
    const found = isSame ? undefined : yield* readWhole
    const { mark } = found ?? last!
    seen = Option.some(mark)
    inode = (found ?? last!).inode
    // What was read by the watch meanwhile was compared with what was seen before.
    if (heard !== undefined) yield* heard === mark ? hasChanged.close : hasChanged.open
    if (found !== undefined) {
      const named = last?.mark === mark ? last.named : yield* decode(yield* found.content)
      last = { mark, inode, named, standing: before, readMillis: now }
    }
    return yield* vet(last!.named, { backend, target: path, hostNames })
  }).pipe(Effect.withSpan("FileFetcher.fetch"))

  const watch = Effect.scoped(
    Effect.gen(function* () {
      // Watched first and read second, so that nothing falls between the two.
      const { isStillTold, sign, ...told } = yield* FileWatch.make(path)
      const before = yield* standing(path)
      const { mark } = yield* read(path)
      heard = mark
      if (!Option.contains(seen, mark)) yield* hasChanged.open
      isTold = told.isTold
      // Where the path leads to the very same file, and nothing has touched it, all of that would find the same.
      const isStill = Effect.map(standing(path), (now) => now !== undefined && now === before)
      while (!(yield* sign)) if (!(yield* isStill) || (told.isTold && !(yield* isStillTold))) break
      isTold = false
      // Whoever writes for some time is not read all the while, if nobody has taken what there was.
      yield* Effect.sleep(Latch.isOpen(hasChanged) ? settled : burst)
    })
  )
  /** Goes on beside whoever waits, so that what was set up for one is there for the next. */
  const watching = yield* Effect.cached(Effect.forkIn(Effect.forever(watch), scope))

  const awaitChange = Effect.gen(function* () {
    // A watch never ends, unless by a defect, which is not to be waited out.
    yield* Effect.raceFirst(hasChanged.await, Fiber.join(yield* watching))
    yield* hasChanged.close
  }).pipe(Effect.withSpan("FileFetcher.awaitChange"))

  return { fetch, awaitChange }
})

/** How long a file that stands as it did is not read again. */
const trustedMillis = 60_000

/** What is there now. Two finds with the same `mark` give the same answer. */
interface Found {
  readonly mark: string
  /** `undefined` when there is no file. */
  readonly inode: bigint | undefined
  readonly content: Effect.Effect<string, FetchError>
}

/** What a text named, and how its file stood when it was read. */
interface Known {
  readonly mark: string
  readonly inode: bigint | undefined
  readonly named: Named
  readonly standing: string | undefined
  readonly readMillis: number
}

/** Two changes of a file may leave one and the same time, if they are close together. */
const restMillis = 2000n

/** What a change of a file would change. `undefined` where that cannot be relied on: it is not there, or was changed a moment ago. */
const standing = (path: string): Effect.Effect<string | undefined> =>
  Effect.promise(async () => {
    const found = await stat(path, { bigint: true }).catch(() => undefined)
    if (found === undefined) return undefined
    const sinceMillis = BigInt(Date.now()) - found.ctimeMs
    if (sinceMillis < restMillis) return undefined
    return [found.dev, found.ino, found.size, found.mtimeNs, found.ctimeNs].join(" ")
  })

const maxBytes = 64 * 1024 * 1024

const read = (path: string): Effect.Effect<Found> =>
  Effect.promise(() =>
    readFile(path).catch((cause: NodeJS.ErrnoException): Found => {
      const content = describe(path, cause)
      return { mark: content.detail, inode: undefined, content }
    })
  )

const readFile = async (path: string): Promise<Found> => {
  // Without O_NONBLOCK, a FIFO would hold up one of Node's few threads until somebody writes to it.
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    const stat = await handle.stat({ bigint: true })
    const refuse = (detail: string): Found => {
      return { mark: detail, inode: stat.ino, content: new FetchError({ target: path, reason: "BadResponse", detail }) }
    }
    if (stat.isDirectory()) return refuse("is a folder, expected a file")
    if (!stat.isFile()) return refuse("is not a regular file")
    if (stat.size > maxBytes) return refuse("is larger than 64 MiB")
    const text = decodeUtf8(await handle.readFile())
    if (text === undefined) return refuse("is not UTF-8, expected JSON or YAML in it: is it binary, or cut off?")
    return { mark: createHash("sha256").update(text).digest("hex"), inode: stat.ino, content: Effect.succeed(text) }
  } finally {
    await handle.close()
  }
}

/** Not what `toString` does: a byte that it puts U+FFFD for may have been half of a target that then is no longer wanted. */
const decodeUtf8 = (bytes: Uint8Array): string | undefined => {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    return undefined
  }
}

const describe = (path: string, cause: NodeJS.ErrnoException): FetchError => {
  const fail = (reason: FetchError["reason"], detail: string) => new FetchError({ target: path, reason, detail, cause })
  switch (cause.code) {
    case "ENOENT":
    case "ENOTDIR":
      return fail("TargetMissing", "there is no such file: ep2 waits for it")
    case "EACCES":
    case "EPERM":
      return fail(
        "Unauthorized",
        `cannot be read (${cause.code}): give the user of ep2 read permission on it and its folders`
      )
    default:
      return fail("Unavailable", `cannot be read (${oneLine(cause.code ?? String(cause))})`)
  }
}
