/**
 * A file system in memory, with the disk full or read-only where a scenario wants
 * it: just what the config file and its backups need. Files are renamed, and told
 * apart by their inode, as on a real one; there are no symbolic links.
 *
 * A path holds a file, or is a folder because a file was put below it. Failures
 * have the codes of Linux in their cause, as those of Node have.
 */
import { dirname, resolve } from "node:path"
import { ByteSize, Clock, Effect, FileSystem, type Layer, Option, PlatformError } from "effect"

/** The files, and the hands that a scenario has on them. Paths are absolute. */
export interface MemoryFiles {
  readonly layer: Layer.Layer<FileSystem.FileSystem>
  /** The text of a file; `undefined` where there is none. */
  readonly read: (path: string) => string | undefined
  /** Puts a text there, mode 0644, with the folders above it. No fault holds this up. */
  readonly write: (path: string, text: string) => void
  /** Nothing more can be written into a file (ENOSPC); names can still be made, moved and removed. */
  readonly setFull: (isFull: boolean) => void
  /** Nothing at all can be changed (EROFS). */
  readonly setReadOnly: (isReadOnly: boolean) => void
}

interface Node {
  readonly inode: bigint
  bytes: Uint8Array
  mode: number
  uid: number
  gid: number
  modifiedAt: number
}

/** Begins empty but for `/`, with room and the right to write. */
export const make = (): MemoryFiles => {
  const files = new Map<string, Node>()
  const folders = new Set(["/"])
  let inodes = 0n
  let isFull = false
  let isReadOnly = false

  const create = (path: string, node: Omit<Node, "inode">): Node => {
    const made = { inode: ++inodes, ...node }
    files.set(path, made)
    return made
  }
  const changing = (method: string, path: string) => (isReadOnly ? fail(method, path, "EROFS") : Effect.void)
  const find = (method: string, path: string) =>
    Effect.suspend(() => {
      const node = files.get(resolve(path))
      if (node !== undefined) return Effect.succeed(node)
      return fail(method, path, folders.has(resolve(path)) ? "EISDIR" : "ENOENT")
    })
  const change = (method: string, path: string, how: (node: Node) => void) =>
    Effect.gen(function* () {
      const node = yield* find(method, path)
      yield* changing(method, path)
      how(node)
    })

  const stat = (path: string) =>
    folders.has(resolve(path))
      ? Effect.succeed(folderInfo)
      : Effect.map(find("stat", path), (node): FileSystem.File.Info => infoOf(node))

  const readFile = (path: string) => Effect.map(find("readFile", path), ({ bytes }) => bytes.slice())

  const open = Effect.fnUntraced(function* (
    path: string,
    { flag = "r", mode = 0o666 }: NonNullable<Parameters<FileSystem.FileSystem["open"]>[1]> = {}
  ) {
    const full = resolve(path)
    if (folders.has(full)) return flag === "r" ? folderHandle : yield* fail("open", path, "EISDIR")
    const there = files.get(full)
    if (there === undefined && (flag.startsWith("r") || !folders.has(dirname(full)))) {
      return yield* fail("open", path, "ENOENT")
    }
    if (there !== undefined && flag.includes("x")) return yield* fail("open", path, "EEXIST")
    if (flag !== "r") yield* changing("open", path)
    const now = yield* Clock.currentTimeMillis
    const empty = new Uint8Array()
    const node = there ?? create(full, { bytes: empty, mode: mode & ~0o022, uid: 0, gid: 0, modifiedAt: now })
    if (flag.startsWith("w")) node.bytes = empty
    return handleOf(node, flag, () => isFull)
  })

  const remove: FileSystem.FileSystem["remove"] = Effect.fnUntraced(function* (path, options) {
    if (!files.has(resolve(path)) && options?.force === true) return
    yield* find("remove", path)
    yield* changing("remove", path)
    files.delete(resolve(path))
  })

  const rename: FileSystem.FileSystem["rename"] = Effect.fnUntraced(function* (from, to) {
    const node = yield* find("rename", from)
    if (!folders.has(dirname(resolve(to)))) return yield* fail("rename", to, "ENOENT")
    if (folders.has(resolve(to))) return yield* fail("rename", to, "EISDIR")
    yield* changing("rename", from)
    files.delete(resolve(from))
    files.set(resolve(to), node)
  })

  const readDirectory: FileSystem.FileSystem["readDirectory"] = (path) =>
    Effect.suspend(() => {
      const folder = resolve(path)
      if (!folders.has(folder)) return fail("readDirectory", path, files.has(folder) ? "ENOTDIR" : "ENOENT")
      const below = folder === "/" ? "/" : `${folder}/`
      const names = [...files.keys(), ...folders].filter((one) => one.startsWith(below) && one !== below)
      return Effect.succeed([...new Set(names.map((one) => one.slice(below.length).split("/")[0]!))].sort())
    })

  const exists = (path: string) => Effect.sync(() => files.has(resolve(path)) || folders.has(resolve(path)))

  return {
    layer: FileSystem.layerNoop({
      stat: (path) => Effect.suspend(() => stat(path)),
      readFile,
      readFileString: (path) => Effect.map(readFile(path), decode),
      open,
      remove,
      rename,
      readDirectory,
      exists,
      chmod: (path, mode) =>
        change("chmod", path, (node) => {
          node.mode = mode
        }),
      chown: (path, uid, gid) =>
        change("chown", path, (node) => {
          node.uid = uid
          node.gid = gid
        }),
      readLink: (path) => Effect.flatMap(stat(path), () => fail("readLink", path, "EINVAL")),
      realPath: (path) => Effect.map(stat(path), () => resolve(path))
    }),
    read: (path) => {
      const node = files.get(resolve(path))
      return node === undefined ? undefined : decode(node.bytes)
    },
    write: (path, text) => {
      const full = resolve(path)
      for (let above = dirname(full); above !== "/"; above = dirname(above)) folders.add(above)
      const bytes = new TextEncoder().encode(text)
      const there = files.get(full)
      if (there === undefined) create(full, { bytes, mode: 0o644, uid: 0, gid: 0, modifiedAt: 0 })
      else there.bytes = bytes
    },
    setFull: (value) => {
      isFull = value
    },
    setReadOnly: (value) => {
      isReadOnly = value
    }
  }
}

const decode = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)

/** Codes and the names that Effect gives them. */
const reasons = {
  ENOENT: "NotFound",
  EEXIST: "AlreadyExists",
  EISDIR: "BadResource",
  ENOTDIR: "BadResource",
  EINVAL: "Unknown",
  ENOSPC: "Unknown",
  EROFS: "Unknown"
} as const

const fail = (method: string, path: string, code: keyof typeof reasons) =>
  Effect.fail(
    PlatformError.systemError({
      _tag: reasons[code],
      module: "FileSystem",
      method,
      pathOrDescriptor: path,
      cause: Object.assign(new Error(`${code}: ${method} '${path}'`), { code })
    })
  )

const handleOf = (node: Node, flag: FileSystem.OpenFlag, isFull: () => boolean): FileSystem.File => {
  let position = 0
  const writeAll = (bytes: Uint8Array) =>
    Effect.gen(function* () {
      if (flag === "r") return yield* Effect.die(new Error("written to a file that was opened to be read"))
      if (isFull() && bytes.length > 0) return yield* fail("write", String(node.inode), "ENOSPC")
      const at = flag.startsWith("a") ? node.bytes.length : position
      const next = new Uint8Array(Math.max(node.bytes.length, at + bytes.length))
      next.set(node.bytes)
      next.set(bytes, at)
      node.bytes = next
      node.modifiedAt = yield* Clock.currentTimeMillis
      position = at + bytes.length
    })
  return {
    ...folderHandle,
    stat: Effect.sync(() => infoOf(node)),
    write: (bytes) => Effect.as(writeAll(bytes), bytes.length),
    writeAll
  }
}

const unknown = (what: string) => Effect.die(new Error(`the file system in memory cannot ${what} an open file`))

const infoOf = ({ bytes, gid, inode, mode, modifiedAt, uid }: Node): FileSystem.File.Info => ({
  ...folderInfo,
  type: "File",
  ino: Option.some(inode),
  mode: 0o100000 | mode,
  uid: Option.some(uid),
  gid: Option.some(gid),
  size: ByteSize.bytes(bytes.length),
  mtime: Option.some(new Date(modifiedAt))
})

const folderInfo: FileSystem.File.Info = {
  type: "Directory",
  mtime: Option.none(),
  atime: Option.none(),
  birthtime: Option.none(),
  dev: 1n,
  ino: Option.none(),
  mode: 0o40755,
  nlink: Option.none(),
  uid: Option.some(0),
  gid: Option.some(0),
  rdev: Option.none(),
  size: ByteSize.bytes(0),
  blksize: Option.none(),
  blocks: Option.none()
}

/** A folder can be synced and no more. */
const folderHandle: FileSystem.File = {
  [FileSystem.FileTypeId]: FileSystem.FileTypeId,
  stat: Effect.succeed(folderInfo),
  sync: Effect.void,
  seek: () => unknown("seek in"),
  read: () => unknown("read from"),
  readAlloc: () => unknown("read from"),
  truncate: () => unknown("truncate"),
  write: () => unknown("write to"),
  writeAll: () => unknown("write to")
}
