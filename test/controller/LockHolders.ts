/** What the tests of the lock share: folders for it, and other processes that want it. */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { createInterface } from "node:readline"
import { Effect, Schedule } from "effect"

const everyMoment = Schedule.spaced("10 millis")

/** An empty lock folder, and a config file in another one. */
export const folders = Effect.acquireRelease(
  Effect.promise(async () => {
    const root = await mkdtemp(join(tmpdir(), "ep2-lock-"))
    const [dir, configFile] = [join(root, "lock"), join(root, "haproxy.cfg")]
    await mkdir(dir)
    await writeFile(configFile, "")
    return { root, dir, configFile }
  }),
  ({ root }) => Effect.promise(() => rm(root, { recursive: true }))
)

/** Another process that wants the lock: `LockHolder.ts` with these arguments. It is killed with the scope. */
export const start = Effect.fnUntraced(function* (...args: ReadonlyArray<string>) {
  const child = yield* Effect.acquireRelease(
    Effect.sync(() => spawn(process.execPath, [resolve(import.meta.dirname, "LockHolder.ts"), ...args])),
    end("SIGKILL")
  )
  const lines: Array<string> = []
  let warnings = ""
  createInterface({ input: child.stdout }).on("line", (line) => lines.push(line))
  child.stderr.on("data", (chunk) => {
    warnings += String(chunk)
  })
  return {
    said: () => lines,
    warned: () => warnings,
    kill: end("SIGKILL")(child),
    /** Lets it end by itself, which gives the lock back. */
    leave: Effect.promise(async () => {
      const gone = once(child, "exit")
      child.stdin.end()
      await gone
    }),
    signal: (signal: NodeJS.Signals) => Effect.sync(() => void child.kill(signal)),
    until: (pattern: RegExp) =>
      Effect.sync(() => lines.find((line) => pattern.test(line))).pipe(
        Effect.repeat({ until: (line) => line !== undefined, schedule: everyMoment }),
        Effect.timeout("20 seconds"),
        Effect.map((line) => line!)
      )
  }
})

/** Whatever `start` gives. */
export type Holder = Effect.Success<ReturnType<typeof start>>

const end = (signal: NodeJS.Signals) => (child: ChildProcess) =>
  Effect.promise(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return
    const gone = once(child, "exit")
    child.kill(signal)
    await gone
  })
