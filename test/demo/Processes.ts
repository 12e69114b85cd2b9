/**
 * What the demo runs beside itself: ep2, and the HAProxy that ep2 starts as a
 * daemon. Both are ended with the scope, by process id, and only if they are ours.
 */
import { execFileSync, spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { basename, resolve } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { Effect, type Scope } from "effect"
import { DemoError, type Sandbox } from "./Sandbox.ts"

const main = resolve(import.meta.dirname, "../../src/main.ts")

export interface Ep2 {
  readonly pid: number
  /** Fails when ep2 ends of its own accord, with what it said; never succeeds. */
  readonly died: Effect.Effect<never, DemoError>
}

/** Starts `ep2 start --conf FILE`. When the scope ends, ep2 is ended first, and then the HAProxy that it started. */
export const startEp2 = (sandbox: Sandbox): Effect.Effect<Ep2, never, Scope.Scope> =>
  Effect.gen(function* () {
    yield* Effect.addFinalizer(() => Effect.promise(() => endHaproxy(sandbox)))
    const child = yield* Effect.acquireRelease(
      Effect.sync(() =>
        // A group of its own: Ctrl-C is for the demo, which then ends ep2 in its turn.
        spawn(process.execPath, [main, "start", "--conf", sandbox.conf], {
          detached: true,
          stdio: ["ignore", "pipe", "pipe"]
        })
      ),
      (started) =>
        Effect.promise(async () => {
          if (started.pid === undefined || started.exitCode !== null || started.signalCode !== null) return
          const ended = once(started, "exit")
          started.kill("SIGTERM")
          const killing = setTimeout(() => started.kill("SIGKILL"), 5000)
          await ended
          clearTimeout(killing)
        })
    )
    let said = ""
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (data: Buffer) => {
        said = `${said}${data.toString("utf8")}`.slice(-8000)
      })
    }
    const died = new Promise<DemoError>((end) => {
      const because = (how: string) => {
        const words = said.trim() === "" ? ", and said nothing on its standard outputs" : `, saying:\n${said.trim()}`
        end(new DemoError({ message: `ep2 ended by itself with ${how}${words}` }))
      }
      child.once("error", (cause) => because(cause.message))
      child.once("close", (code, signal) => because(signal ?? `exit code ${code}`))
    })
    return {
      pid: child.pid ?? 0,
      died: Effect.flatMap(
        Effect.promise(() => died),
        Effect.fail
      )
    }
  })

/** Asks HAProxy's master to end; what is still there after a while is ended itself, at last by force. */
const endHaproxy = async (sandbox: Sandbox): Promise<void> => {
  const masters = oursOf(sandbox).filter((pid) => readPids(sandbox.pidFile).includes(pid))
  for (const pid of masters) kill(pid, "SIGTERM")
  if (await isGone(sandbox, masters.length > 0 ? 3000 : 0)) return
  for (const signal of ["SIGTERM", "SIGKILL"] as const) {
    for (const pid of oursOf(sandbox)) kill(pid, signal)
    if (await isGone(sandbox, 3000)) return
  }
}

const isGone = async (sandbox: Sandbox, withinMillis: number): Promise<boolean> => {
  for (const until = performance.now() + withinMillis; oursOf(sandbox).length > 0; await sleep(20)) {
    if (performance.now() >= until) return false
  }
  return true
}

const readPids = (file: string): ReadonlyArray<number> =>
  existsSync(file) ? readFileSync(file, "utf8").split(/\s+/).filter(Boolean).map(Number) : []

const kill = (pid: number, signal: NodeJS.Signals): void => {
  try {
    process.kill(pid, signal)
  } catch {
    // It ended meanwhile.
  }
}

/**
 * HAProxy's processes with an argument that names the demo's folder, which
 * nobody else has. One that has ended, but was not collected yet, has no arguments.
 */
const oursOf = ({ folder }: Sandbox): ReadonlyArray<number> =>
  commands().flatMap(([pid, command]) =>
    basename(command.split(" ")[0] ?? "").startsWith("haproxy") && command.includes(`${folder}/`) ? [pid] : []
  )

const commands = (): ReadonlyArray<readonly [pid: number, command: string]> => {
  if (!existsSync("/proc/self/cmdline")) {
    const lines = execFileSync("ps", ["-axo", "pid=,args="], { encoding: "utf8" }).split("\n")
    return lines.map((line) => [Number.parseInt(line, 10), line.trim().replace(/^\d+\s+/, "")])
  }
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((name) => [Number(name), commandOf(name)])
}

const commandOf = (pid: string): string => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ")
  } catch {
    return ""
  }
}
