/**
 * When something may have happened to a file: written, replaced, removed, come
 * back, or reached through another symbolic link.
 */
import { type FSWatcher, watch } from "node:fs"
import { lstat, readlink, realpath, stat, statfs } from "node:fs/promises"
import { basename, dirname, isAbsolute, join, resolve } from "node:path"
import { Duration, Effect, Latch, Option } from "effect"

/** How long nothing is looked at where the kernel tells of all that happens: a folder above may be another one by then. */
const toldEvery = Duration.seconds(10)

/** How often is looked where it does not: NFS, a folder behind a link or that is not there yet, no watches left. */
const untoldEvery = Duration.seconds(1)

/** What tells that something may have happened to some files. */
export interface FileWatch {
  /**
   * Waits for a first sign and says that there was one, or until it is time to look without:
   * after ten seconds, or one where nobody tells.
   */
  readonly sign: Effect.Effect<boolean>
  /** Whether all that happens in their folders is heard. What is written through another hard link is not. */
  readonly isTold: boolean
  /** Whether it is still told of what happens at these paths. Where not, it has to be made anew. */
  readonly isStillTold: Effect.Effect<boolean>
}

/**
 * Watches the folders that files depend on until the scope ends. What is heard after
 * this returned is never missed. Replacing a file is seen as well as writing to it,
 * since it is the folder that is watched.
 */
export const make = Effect.fnUntraced(function* (...paths: ReadonlyArray<string>) {
  const latch = yield* Latch.make()
  const places = yield* Effect.promise(() => placesOf(paths))
  const heard = new Map<string, string | undefined>()
  for (const [folder, names] of places) {
    const watcher = yield* Effect.acquireRelease(
      Effect.sync(() => open(folder, names, () => latch.openUnsafe())),
      (one) => Effect.sync(() => one?.close())
    )
    heard.set(folder, watcher === undefined ? undefined : yield* Effect.promise(() => hears(folder, names)))
  }
  const isTold = ![...heard.values()].includes(undefined)
  const areTheSame = async () => {
    for (const [folder, identity] of heard) if (identity !== (await identityOf(folder))) return false
    return true
  }
  return {
    sign: Effect.map(Effect.timeoutOption(latch.await, isTold ? toldEvery : untoldEvery), Option.isSome),
    isTold,
    isStillTold: isTold ? Effect.promise(areTheSame) : Effect.succeed(false)
  } satisfies FileWatch
})

const open = (folder: string, names: ReadonlySet<string>, onSign: () => void): FSWatcher | undefined => {
  try {
    const watcher = watch(folder, { persistent: true }, (_, name) => {
      // The folder itself goes by its own name.
      if (name === null || names.has(name) || name === basename(folder)) onSign()
    })
    // One that breaks again and again is made anew each second, and not at once.
    watcher.on("error", () => setTimeout(onSign, Duration.toMillis(untoldEvery)).unref())
    return watcher
  } catch {
    return undefined
  }
}

/**
 * Which folder it is that is watched, if all that happens in it is heard: nobody but this
 * machine's kernel can change it, the way to it leads through no link, and nothing is
 * mounted over its files. What is written through another hard link, or another mount of
 * the same file system, is not heard all the same.
 *
 * Source: statfs(2), "Filesystem type constants"; inotify(7), "Limitations and caveats".
 */
const hears = async (folder: string, names: ReadonlySet<string>): Promise<string | undefined> => {
  try {
    if (!localTypes.has((await statfs(folder)).type) || (await realpath(folder)) !== resolve(folder)) return undefined
    const { dev } = await stat(folder)
    const files = await Promise.all([...names].map((name) => lstat(join(folder, name)).catch(() => undefined)))
    return files.every((file) => file === undefined || file.dev === dev) ? await identityOf(folder) : undefined
  } catch {
    return undefined
  }
}

/** Tells a folder from another one that may come to stand at its path. */
const identityOf = (folder: string): Promise<string | undefined> =>
  stat(folder).then(
    ({ dev, ino }) => `${dev} ${ino}`,
    () => undefined
  )

/** ext2 to ext4, XFS, Btrfs, tmpfs, ramfs, overlayfs, F2FS and ZFS. */
const localTypes = new Set([0xef53, 0x58465342, 0x9123683e, 0x01021994, 0x858458f6, 0x794c7630, 0xf2f52010, 0x2fc12fc1])

/**
 * The folders, and the names in them that matter. A Kubernetes ConfigMap has its
 * file behind two links, and an update swaps the inner one: `file → ..data/file`,
 * `..data → ..2026_11_23`.
 */
const placesOf = async (paths: ReadonlyArray<string>): Promise<ReadonlyMap<string, ReadonlySet<string>>> => {
  const places = new Map<string, Set<string>>()
  const add = (folder: string, name: string) => places.set(folder, (places.get(folder) ?? new Set()).add(name))
  for (const path of paths) {
    add(dirname(path), basename(path))
    const link = await readlink(path).catch(() => undefined)
    if (link !== undefined && !isAbsolute(link)) add(dirname(path), link.split("/")[0]!)
    const real = await realpath(path).catch(() => undefined)
    if (real !== undefined) add(dirname(real), basename(real))
  }
  return places
}
