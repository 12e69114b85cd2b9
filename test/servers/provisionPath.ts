/**
 * Servers that the machine brings itself: what is on the PATH becomes a target,
 * by a link or a small script, where Debian's packages cannot be used.
 */

import { mkdir, realpath, symlink } from "node:fs/promises"
import { delimiter, join } from "node:path"
import { onPath, run } from "./provisionApt.ts"
import type { Target } from "./provisionTargets.ts"
import { motoEnvironment, writeScript } from "./provisionTree.ts"

/** What was found: the program's file, and the version that it prints. */
export interface Found {
  readonly file: string
  readonly version: string
}

/**
 * The program of a target on the PATH. HAProxy has to be of the target's
 * version, be it called `haproxy`, `haproxy-2.6` or `haproxy2.6`; of Consul and
 * moto any version is taken. Rejects with what was found instead, to follow
 * the target's name.
 */
export const find = async (target: Target): Promise<Found> => {
  const version = target.name.slice(target.name.lastIndexOf("-") + 1)
  const names = [target.command, `${target.command}-${version}`, `${target.command}${version}`]
  const files = names.map(onPathOrSbin).filter((file) => file !== undefined)
  const printed = await Promise.all(
    files.map((file) => run(file, target.probe.args, file).catch((cause: Error) => cause.message))
  )
  const index = printed.findIndex((text) => target.probe.prints.test(text))
  const file = files[index]
  if (file !== undefined) return { file, version: versionIn(printed[index]!) }
  const others = files.map((one, i) => `${one} is ${versionIn(printed[i]!)}`)
  throw new Error(
    target.command === "haproxy"
      ? `no HAProxy ${version} on the PATH (${others.length === 0 ? "nor any other" : others.join(", ")})`
      : `no ${target.command} on the PATH${others.length === 0 ? "" : ` that runs (${others.join(", ")})`}`
  )
}

/** Fills `built/bin` with the way to the program. */
export const lay = async (target: Target, found: Found, built: string): Promise<void> => {
  await mkdir(join(built, "bin"), { recursive: true })
  const command = join(built, "bin", target.command)
  // A script that its package manager wraps may look at the name it is called by, so the link is to the file as found.
  if (target.command !== "moto_server") return symlink(found.file, command)
  await writeScript(command, `exec ${motoEnvironment} '${await realpath(found.file)}' "$@"`)
}

const versionIn = (text: string) => /(?<![\d.])\d+\.\d+(?:\.[\w.+~-]+)?/.exec(text)?.[0] ?? "unknown version"

// HAProxy is in an sbin folder, which is not on the PATH of everybody.
const onPathOrSbin = (command: string): string | undefined => {
  const before = process.env.PATH
  process.env.PATH = [before, "/usr/local/sbin", "/usr/sbin", "/sbin"].join(delimiter)
  try {
    return onPath(command)
  } finally {
    process.env.PATH = before
  }
}
