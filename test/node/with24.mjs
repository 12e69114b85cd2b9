// Runs a command of an npm script on the Node of this checkout: `node test/node/with24.mjs COMMAND [ARG ...]`.
//
// Plain JavaScript without dependencies, because the machine's own Node (18, 20 …) starts it before anything is
// installed. It installs what package-lock.json names when that is not there yet, puts node_modules/.bin first on the
// PATH (where the npm package node-linux-* keeps Node 24), and stops with one line where the command would run on an
// older Node all the same.
import { execFileSync, spawn, spawnSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { constants } from "node:os"
import { delimiter, dirname, join, resolve } from "node:path"
import { fileURLToPath } from "node:url"

const minimum = 24
const root = resolve(dirname(fileURLToPath(import.meta.url)), "../..")
const bin = join(root, "node_modules", ".bin")

const stop = (line) => {
  console.error(`ep2: ${line}`)
  process.exit(1)
}

/** Whether node_modules holds what package-lock.json asks for, optional packages of other platforms aside. */
const isInstalled = () => {
  const packagesOf = (file) => JSON.parse(readFileSync(join(root, file), "utf8")).packages
  try {
    const wanted = Object.entries(packagesOf("package-lock.json")).filter(([path]) => path.startsWith("node_modules/"))
    const present = packagesOf("node_modules/.package-lock.json")
    return wanted.every(([path, one]) =>
      present[path] === undefined ? one.optional === true || one.link === true : present[path].version === one.version
    )
  } catch {
    return false
  }
}

const install = () => {
  console.error("ep2: installing the packages of package-lock.json (once) …")
  // Not `npm ci`: it refuses where a registry lacks a package for another platform, as a mirror may. This installs the
  // versions of package-lock.json just the same, and leaves that file alone. It would warn at length about the machine's
  // old Node, which nothing here runs on.
  const npm = process.env.npm_execpath
  const args = ["install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error"]
  const done = npm?.endsWith(".js")
    ? spawnSync(process.execPath, [npm, ...args], { cwd: root, stdio: ["ignore", 2, 2] })
    : spawnSync("npm", args, { cwd: root, stdio: ["ignore", 2, 2] })
  if (done.status !== 0) stop("`npm install` failed; its own words stand above")
  if (!isInstalled()) stop("`npm install` did not bring what package-lock.json names: is it level with package.json?")
}

if (!isInstalled()) install()

const env = { ...process.env, PATH: `${bin}${delimiter}${process.env.PATH ?? ""}` }
const version = (() => {
  try {
    return execFileSync("node", ["--version"], { env, encoding: "utf8" }).trim()
  } catch (cause) {
    return stop(`no Node to run with: ${cause.message}`)
  }
})()
if (Number(version.slice(1).split(".")[0]) < minimum) {
  stop(
    `this checkout needs Node ${minimum} or newer, and the npm package that brings it has none for ` +
      `${process.platform}-${process.arch} (found ${version} on the PATH): install Node ${minimum} and try again`
  )
}

const [command, ...args] = process.argv.slice(2)
if (command === undefined) stop("usage: node test/node/with24.mjs COMMAND [ARG ...]")
const child = spawn(command, args, { cwd: root, env, stdio: "inherit" })
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, () => {
    // A terminal sends Ctrl-C to the child as well, and a second one would cut its orderly end short.
    if (signal !== "SIGINT" || !process.stdin.isTTY) child.kill(signal)
  })
}
child.on("error", (cause) => stop(`${command}: ${cause.message}`))
child.on("exit", (code, signal) => process.exit(code ?? 128 + constants.signals[signal]))
