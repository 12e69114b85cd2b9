/** What the figures were measured on, and with what. */
import { execFileSync } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"
import { cpus, loadavg, release, totalmem } from "node:os"
import { dirname, join } from "node:path"
import effect from "effect/package.json" with { type: "json" }
import about from "../../package.json" with { type: "json" }
import * as Binaries from "../servers/Binaries.ts"

/** One line each, as Markdown. */
export const describe = (versions: ReadonlyArray<Binaries.HaproxyVersion>): ReadonlyArray<string> => {
  const [first] = cpus()
  const memory = Math.round(totalmem() / 1024 ** 3)
  return [
    `- ep2 ${about.version}${revision()}, Node ${process.version}, Effect ${effect.version}`,
    `- HAProxy ${versions.map((version) => firstWord(Binaries.haproxy(version), ["-v"], /version (\S+)/i)).join(", ")}; Consul ${firstWord(Binaries.consul(), ["version"], /Consul v?(\S+)/)}; moto ${motoVersion()}`,
    `- ${cpus().length} × ${first?.model.trim() ?? "unknown processor"}, ${memory} GiB, ${system()}, Linux ${release()}`
  ]
}

/** How busy the machine is at the moment: processes that run or wait to, a mean over one minute. */
export const load = (): number => loadavg()[0] ?? 0

const revision = (): string => {
  try {
    const git = (...args: ReadonlyArray<string>) =>
      execFileSync("git", [...args], {
        cwd: import.meta.dirname,
        encoding: "utf8",
        stdio: ["ignore", "pipe", "ignore"]
      })
    return ` (${git("rev-parse", "--short", "HEAD").trim()}${git("status", "--porcelain", "--", "../../src").trim() === "" ? "" : ", changed"})`
  } catch {
    return ""
  }
}

const system = (): string => {
  try {
    return /^PRETTY_NAME="?([^"\n]*)/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1] ?? process.platform
  } catch {
    return process.platform
  }
}

/** It does not say it itself. */
const motoVersion = (): string => {
  try {
    const packages = join(dirname(Binaries.moto()), "../usr/lib/python3/dist-packages")
    return (
      readdirSync(packages)
        .map((name) => /^moto-(.*)\.dist-info$/.exec(name)?.[1])
        .find(Boolean) ?? "?"
    )
  } catch {
    return "?"
  }
}

const firstWord = (program: string, args: ReadonlyArray<string>, pattern: RegExp): string => {
  try {
    return pattern.exec(execFileSync(program, [...args], { encoding: "utf8" }))?.[1] ?? "?"
  } catch {
    return "?"
  }
}
