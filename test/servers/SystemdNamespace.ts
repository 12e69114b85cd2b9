/**
 * A real systemd that owns a HAProxy: PID 1 of namespaces of its own, over an
 * overlay of this machine, whose files it leaves alone. Root only. Everything in
 * it ends with the scope.
 */
import { spawn } from "node:child_process"
import { existsSync, readdirSync, readFileSync, rmdirSync } from "node:fs"
import { join } from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import { Effect } from "effect"

const script = join(import.meta.dirname, "systemd-namespace.sh")
const bootMillis = 30_000

export interface SystemdNamespace {
  /** What has to stand before a command so that it runs inside. */
  readonly inside: ReadonlyArray<string>
  /** Runs a command inside to its end; dies with what it said when it fails. */
  readonly run: (...command: ReadonlyArray<string>) => Effect.Effect<string>
}

/**
 * Boots it with one unit, `haproxy.service`, that runs `binary` on `configFile`,
 * its pid in /run/haproxy.pid. `dir`, which holds both files that HAProxy needs, is
 * the same folder inside and outside. Dies with one line that says why it cannot be.
 */
export const make = (options: { readonly dir: string; readonly binary: string; readonly configFile: string }) =>
  Effect.acquireRelease(
    Effect.promise(() => boot(options)),
    (booted) => Effect.promise(() => end(booted))
  ).pipe(
    Effect.map(({ pid }): SystemdNamespace => {
      const inside = ["nsenter", "-t", String(pid), "-m", "-p", "-C", "-i", "-u", "--root", "--wd"]
      return { inside, run: (...command) => Effect.promise(() => run([...inside, ...command])) }
    })
  )

interface Booted {
  readonly pid: number
  readonly launcher: number
}

const boot = async ({ binary, configFile, dir }: Parameters<typeof make>[0]): Promise<Booted> => {
  if (!existsSync("/lib/systemd/systemd")) {
    throw new Error(
      "there is no systemd on this machine: `apt-get install systemd`, or leave this test to a machine that has it"
    )
  }
  let said = ""
  const launcher = spawn(script, [dir, binary, configFile], { stdio: ["ignore", "pipe", "pipe"], detached: true })
  for (const stream of [launcher.stdout, launcher.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      said = (said + text).slice(-2000)
    })
  }
  const deadline = Date.now() + bootMillis
  while (Date.now() < deadline && launcher.exitCode === null && launcher.signalCode === null) {
    const pid = systemdBelow(launcher.pid!)
    if (pid !== undefined) {
      const booted = { pid, launcher: launcher.pid! }
      try {
        const state = await run([
          "nsenter",
          "-t",
          String(pid),
          "-m",
          "-p",
          "-C",
          "-i",
          "-u",
          "--root",
          "systemctl",
          "is-active",
          "haproxy"
        ])
        if (state.trim() === "active") return booted
      } catch {
        // Not up yet.
      }
    }
    await sleep(50)
  }
  const pid = systemdBelow(launcher.pid!)
  await end({ pid: pid ?? 0, launcher: launcher.pid! })
  throw new Error(
    `a systemd in namespaces of its own cannot be booted here (it needs root, CAP_SYS_ADMIN, overlayfs and a cgroup2 tree): ${said.trim() || "it said nothing"}`
  )
}

const end = async ({ launcher, pid }: Booted): Promise<void> => {
  for (const one of [pid, launcher]) {
    try {
      if (one > 0) process.kill(one, "SIGKILL")
    } catch {
      // It has ended.
    }
  }
  for (let tries = 0; tries < 100 && existsSync(`/proc/${launcher}`) && tries < 100; tries++) await sleep(20)
  for (const tree of ["/sys/fs/cgroup/unified/ep2-systemd", "/sys/fs/cgroup/ep2-systemd"]) removeGroups(tree)
}

/** Control groups go from the innermost on; one that is in use by another run stays. */
const removeGroups = (folder: string): void => {
  try {
    for (const one of readdirSync(folder, { withFileTypes: true }))
      if (one.isDirectory()) removeGroups(join(folder, one.name))
    rmdirSync(folder)
  } catch {
    // Not there, or in use.
  }
}

/** The systemd that a launcher has become, or has below it. */
const systemdBelow = (launcher: number): number | undefined => {
  const pids = [launcher]
  for (let at = 0; at < pids.length; at++) {
    const cmdline = read(`/proc/${pids[at]}/cmdline`)
    if (cmdline.includes("--unit=lab.target") && cmdline.startsWith("/lib/systemd/systemd")) return pids[at]
    const children = read(`/proc/${pids[at]}/task/${pids[at]}/children`)
    pids.push(
      ...children
        .split(" ")
        .filter((one) => one !== "")
        .map(Number)
    )
  }
  return undefined
}

const read = (path: string): string => {
  try {
    return readFileSync(path, "utf8")
  } catch {
    return ""
  }
}

const run = ([file, ...args]: ReadonlyArray<string>): Promise<string> =>
  new Promise((done, failed) => {
    const child = spawn(file!, args, { stdio: ["ignore", "pipe", "pipe"] })
    let said = ""
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        said += text
      })
    }
    child.on("error", failed)
    child.on("close", (code) =>
      code === 0 ? done(said) : failed(new Error(`${args.join(" ")} ended with ${code}: ${said}`))
    )
  })
