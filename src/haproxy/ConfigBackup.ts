/**
 * Copies of config files that somebody else has written where ep2 writes:
 * `<file>.<UTC time>.bak` beside the file, at most ten of them.
 */
import { basename, dirname, join } from "node:path"
import { Effect, FileSystem } from "effect"

/** How many stay; the oldest go first. */
const longest = 10

/** The path of a copy that is made now: `/etc/haproxy/haproxy.cfg.20261124T050112.345Z.bak`. */
export const pathAt = (file: string, nowMillis: number): string =>
  `${file}.${new Date(nowMillis).toISOString().replaceAll(/[-:]/g, "")}.bak`

/** A copy that holds just these bytes already, so that a try again, and a tool that writes the same each time, make no more. */
export const find = Effect.fnUntraced(function* (file: string, bytes: Uint8Array) {
  const fs = yield* FileSystem.FileSystem
  for (const copy of yield* list(file)) {
    const kept = yield* fs.readFile(copy).pipe(Effect.option)
    if (kept._tag === "Some" && Buffer.compare(kept.value, bytes) === 0) return copy
  }
  return undefined
})

/** Removes what is more than ten. One that cannot be removed stays. */
export const removeOldest = Effect.fnUntraced(function* (file: string) {
  const fs = yield* FileSystem.FileSystem
  for (const copy of (yield* list(file)).slice(longest)) yield* fs.remove(copy, { force: true }).pipe(Effect.ignore)
})

/** The newest first. None where the folder cannot be read. */
const list = Effect.fnUntraced(function* (file: string) {
  const fs = yield* FileSystem.FileSystem
  const folder = dirname(file)
  const begin = `${basename(file)}.`
  const names = yield* fs.readDirectory(folder).pipe(Effect.orElseSucceed(() => []))
  return names
    .filter((name) => name.startsWith(begin) && /^\d{8}T\d{6}\.\d{3}Z\.bak$/.test(name.slice(begin.length)))
    .sort()
    .reverse()
    .map((name) => join(folder, name))
})
