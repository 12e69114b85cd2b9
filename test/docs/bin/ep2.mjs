#!/usr/bin/env node
/**
 * `ep2` on the PATH of a page (`Session`): the program as it is shipped. Where its default is
 * the ep2.conf of this machine it gets the page's, and it is not run with an ep2.conf, or in a
 * way, by which it would change anything outside of the page's folder.
 */
import { readFileSync, realpathSync } from "node:fs"
import { dirname } from "node:path"

const folder = process.env.EP2_DOCS_FOLDER
const args = process.argv.slice(2)
const command = args[0]?.startsWith("-") === false ? args[0] : ""
const says = (...flags) => args.some((arg) => flags.includes(arg.split("=")[0]))
const refuse = (why) => {
  console.error(`not run in a test: ${why}; see docs/decisions/docs.md`)
  process.exit(97)
}

const wantsConf = command !== "init" && !says("--help", "-h", "--version", "-v", "--completions", "--list")
if (command === "init" && !says("--dir") && !says("--help", "-h")) refuse("ep2 init without --dir writes into /etc")
if (wantsConf) {
  const at = args.findIndex((arg) => arg === "--conf" || arg === "-f")
  if (at === -1) args.push("--conf", `${folder}/etc/ep2/ep2.conf`)
  const conf = at === -1 ? args.at(-1) : args[at + 1]
  if (["", "start", "pause", "resume", "release"].includes(command)) {
    const text = readFileSync(conf, "utf8")
    for (const key of ["haproxy_config_file", "haproxy_socket_file", "pid_file", "lock_dir", "log_file"]) {
      const value = new RegExp(`^${key}[ \\t]*[=:][ \\t]*(.*)$`, "m").exec(text)?.[1]?.trim()
      const isInside = value === "-" || (value !== undefined && isIn(value))
      // The log of `ep2 init` goes to standard output.
      if (!isInside) refuse(`${conf} has ${value === undefined ? "no" : `${value} for`} ${key}`)
    }
  }
}

function isIn(path) {
  try {
    return `${realpathSync(dirname(path))}/`.startsWith(`${folder}/`)
  } catch {
    return path.startsWith(`${folder}/`)
  }
}

process.argv.splice(2, process.argv.length, ...args)
process.argv[1] = process.env.EP2_DOCS_PROGRAM
await import(process.env.EP2_DOCS_PROGRAM)
