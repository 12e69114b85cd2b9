/** The HAProxy that the demo runs: the machine's own, or else one that is put into the checkout. */
import { execFile, spawn } from "node:child_process"
import { existsSync, readdirSync } from "node:fs"
import { delimiter, join, resolve } from "node:path"
import { Effect } from "effect"
import { DemoError } from "./Sandbox.ts"

export interface Found {
  readonly file: string
  /** `3.2.4` */
  readonly version: string
}

const root = resolve(import.meta.dirname, "../..")
const servers = join(root, ".servers")

/** What is put into the checkout where there is none. */
const target = "haproxy-3.2"

/**
 * `haproxy` on the PATH or in an sbin folder where it is 2.2 or newer, else the
 * newest one in the checkout, else one that is brought there, which prints its
 * progress and takes up to a minute.
 */
export const find: Effect.Effect<Found, DemoError> = Effect.gen(function* () {
  const folders = [...(process.env.PATH ?? "").split(delimiter), "/usr/local/sbin", "/usr/sbin", "/sbin"]
  const own = folders.filter((folder) => folder !== "").map((folder) => join(folder, "haproxy"))
  const standing = yield* firstUsable([...own, ...inCheckout()])
  if (standing !== undefined) return standing

  const isBrought = yield* bring
  const brought = yield* firstUsable(inCheckout())
  if (brought !== undefined) return brought
  const said = isBrought ? `${target} was brought, but does not run` : `${target} could not be brought, as said above`
  return yield* new DemoError({ message: `${said}: install HAProxy 2.2 or newer, so that \`haproxy\` is on the PATH` })
})

const inCheckout = (): ReadonlyArray<string> => {
  if (!existsSync(servers)) return []
  const names = readdirSync(servers).filter((name) => /^haproxy-\d+\.\d+$/.test(name))
  const newestFirst = names.toSorted((one, other) => other.localeCompare(one, "en", { numeric: true }))
  return newestFirst.map((name) => join(servers, name, "bin", "haproxy"))
}

const firstUsable = Effect.fnUntraced(function* (files: ReadonlyArray<string>) {
  for (const file of files) {
    const version = existsSync(file) ? yield* versionOf(file) : undefined
    const [major = 0, minor = 0] = (version ?? "").split(".").map(Number)
    if (version !== undefined && (major > 2 || (major === 2 && minor >= 2))) return { file, version }
  }
  return undefined
})

/** Undefined where it does not run. */
const versionOf = (file: string) =>
  Effect.promise(
    (signal) =>
      new Promise<string | undefined>((resume) => {
        execFile(file, ["-v"], { signal, timeout: 5000 }, (_, out) => resume(/version (\d+\.\d+[.\d]*)/.exec(out)?.[1]))
      })
  )

/** Runs what `npm run servers` runs. An interruption ends it, and it ends what it started. */
const bring = Effect.callback<boolean>((resume) => {
  console.log(`No HAProxy 2.2 or newer here yet: putting ${target} into .servers of this checkout (once).`)
  const child = spawn(process.execPath, ["test/servers/provision.ts", target], { cwd: root, stdio: "inherit" })
  const ended = new Promise<boolean>((end) => {
    child.once("error", () => end(false))
    child.once("exit", (code) => end(code === 0))
  })
  void ended.then((isDone) => resume(Effect.succeed(isDone)))
  return Effect.promise(() => {
    child.kill("SIGTERM")
    return ended
  })
})
