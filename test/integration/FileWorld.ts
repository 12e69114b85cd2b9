/** Worlds whose source is a file: what their tests say again and again. */
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { Effect } from "effect"
import { endpointKey } from "../../src/domain/State.ts"
import type { HttpBackend } from "../servers/HttpBackends.ts"
import * as World from "./World.ts"

/** The source's file in the folder of a world. */
export const fileOf = (dir: string) => join(dir, "targets.json")

/** The section of ep2.conf that names it. */
export const sourceOf = (dir: string) => `[FILE]\npath = ${fileOf(dir)}`

/** A world whose HAProxy is the newest and whose new servers are trusted, unless the options have it otherwise. */
export const make = (options: Partial<World.Options> = {}) =>
  World.make({
    version: World.newest,
    source: sourceOf,
    settings: { orchestrator: "file", new_servers: "trusted" },
    ...options
  })

/** Says to the source what is wanted from now on. */
export const want = (world: World.World, backends: ReadonlyArray<HttpBackend>) =>
  World.replaceFile(
    fileOf(world.dir),
    JSON.stringify([{ targets: backends.map(({ endpoint }) => endpointKey(endpoint)) }])
  )

/** Starts ep2 with these wanted, and waits until it serves them and follows the source. */
export const startServing = Effect.fnUntraced(function* (world: World.World, backends: ReadonlyArray<HttpBackend>) {
  yield* want(world, backends)
  const ep2 = yield* world.start()
  yield* World.serves(world, backends)
  yield* World.logs(ep2, /following the source/)
  return ep2
})

/** Changes a file in place. */
export const edit = (file: string, change: (text: string) => string) =>
  writeFileSync(file, change(readFileSync(file, "utf8")))

/** The lines that ep2 has written and that match. */
export const linesOf = (ep2: World.Ep2, pattern: RegExp) =>
  ep2
    .output()
    .split("\n")
    .filter((line) => pattern.test(line))

/** How many there are. */
export const count = (ep2: World.Ep2, pattern: RegExp) => linesOf(ep2, pattern).length

/** Runs a command of ep2 to its end; it may take a minute, and takes a second. */
export const run = (world: World.World, ...args: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const [name = "", ...more] = args
    const command = yield* world.start([name, "--conf", world.conf, ...more])
    return { exitCode: yield* command.ended, output: command.output() }
  }).pipe(Effect.scoped)

/** What a folder holds, in a form that shows any change. */
export const picture = (dir: string) =>
  readdirSync(dir)
    .map((name) => ({ name, ...statSync(join(dir, name)) }))
    .map(({ ino, mode, mtimeMs, name, size, uid }) => [name, ino, mode, mtimeMs, size, uid])
