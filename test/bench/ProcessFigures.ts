/** What a process costs, as the kernel counts it. Source: proc_pid_stat(5), proc_pid_status(5). */
import { execFileSync } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"

export interface Figures {
  /** Processor time so far, in milliseconds. */
  readonly cpuMillis: number
  /** Resident memory now, in MiB. */
  readonly residentMib: number
  /** The part of it that is not of files, as Node's own program is, which all that run it share. */
  readonly ownMib: number
}

const ticksPerSecond = Number(execFileSync("getconf", ["CLK_TCK"], { encoding: "utf8" }))

/** Throws where there is no such process. */
export const of = (pid: number): Figures => {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)!.split(" ")
  // Of fields that are counted from 1, the 14th and 15th; the first one here is the 3rd.
  const ticks = Number(fields[11]) + Number(fields[12])
  const status = readFileSync(`/proc/${pid}/status`, "utf8")
  const mib = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(status)?.[1]) / 1024
  return { cpuMillis: (ticks * 1000) / ticksPerSecond, residentMib: mib("VmRSS"), ownMib: mib("RssAnon") }
}

/** The process that runs this program with this argument. Throws where there is none. */
export const pidOf = (program: string, argument: string): number => {
  for (const name of readdirSync("/proc").filter((one) => /^\d+$/.test(one))) {
    const args = commandLine(name)
    if (args.includes(program) && args.includes(argument)) return Number(name)
  }
  throw new Error(`nothing runs ${program} ${argument}`)
}

const commandLine = (pid: string): ReadonlyArray<string> => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0")
  } catch {
    // It has just ended.
    return []
  }
}
