/**
 * When something may have happened to a file: written, replaced, removed, come
 * back, or reached through another symbolic link.
 */
import { type FSWatcher, watch } from "node:fs"
import { readlink, realpath } from "node:fs/promises"
import { basename, dirname, isAbsolute } from "node:path"
import { type Duration, Effect, Latch, Option } from "effect"

/**
 * Watches the folders that a file depends on until the scope ends. `sign` waits
 * for a first sign, and says that there was one, or for `atMost`: file systems without
 * notices (NFS, a folder that is not there yet, no watches left in the kernel)
 * are looked at each `atMost`.
 *
 * What happens after this returned is never missed. Replacing a file is seen as
 * well as writing to it, since it is the folder that is watched.
 */
export const make = Effect.fnUntraced(function* (path: string, atMost: Duration.Duration) {
  const latch = yield* Latch.make()
  const places = yield* Effect.promise(() => placesOf(path))
  for (const [folder, names] of places) {
    yield* Effect.acquireRelease(
      Effect.sync(() => open(folder, names, () => latch.openUnsafe())),
      (watcher) => Effect.sync(() => watcher?.close())
    )
  }
  return { sign: Effect.map(Effect.timeoutOption(latch.await, atMost), Option.isSome) }
})

const open = (folder: string, names: ReadonlySet<string>, onSign: () => void): FSWatcher | undefined => {
  try {
    const watcher = watch(folder, { persistent: true }, (_, name) => {
      if (name === null || names.has(name)) onSign()
    })
    watcher.on("error", onSign)
    return watcher
  } catch {
    return undefined
  }
}

/**
 * The folders, and the names in them that matter. A Kubernetes ConfigMap has its
 * file behind two links, and an update swaps the inner one: `file → ..data/file`,
 * `..data → ..2026_11_23`.
 */
const placesOf = async (path: string): Promise<ReadonlyMap<string, ReadonlySet<string>>> => {
  const places = new Map<string, Set<string>>()
  const add = (folder: string, name: string) => places.set(folder, (places.get(folder) ?? new Set()).add(name))
  add(dirname(path), basename(path))
  const link = await readlink(path).catch(() => undefined)
  if (link !== undefined && !isAbsolute(link)) add(dirname(path), link.split("/")[0]!)
  const real = await realpath(path).catch(() => undefined)
  if (real !== undefined) add(dirname(real), basename(real))
  return places
}
