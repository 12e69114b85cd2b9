import { spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync
} from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"

// A checkout of its own, with nothing in it but what with24.mjs looks at.
let root = ""
const bin = () => join(root, "node_modules", ".bin")
const script = () => join(root, "test", "node", "with24.mjs")
const outside = join(import.meta.dirname, "with24.mjs")

const layNode = (how: "this one" | "Node 20" | "none") => {
  rmSync(join(bin(), "node"), { force: true })
  if (how === "this one") symlinkSync(process.execPath, join(bin(), "node"))
  if (how === "Node 20") {
    writeFileSync(join(bin(), "node"), "#!/bin/sh\necho v20.19.0\n")
    chmodSync(join(bin(), "node"), 0o755)
  }
}

const run = (...args: ReadonlyArray<string>) =>
  spawnSync(process.execPath, [script(), ...args], { encoding: "utf8", env: { ...process.env, PATH: "/usr/bin:/bin" } })

beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), "ep2-with24-"))
  mkdirSync(bin(), { recursive: true })
  mkdirSync(join(root, "test", "node"), { recursive: true })
  copyFileSync(outside, script())
  const packages = { "": {}, "node_modules/one": { version: "1.0.0" } }
  writeFileSync(join(root, "package-lock.json"), JSON.stringify({ packages }))
  writeFileSync(join(root, "node_modules", ".package-lock.json"), JSON.stringify({ packages }))
})

afterAll(() => rmSync(root, { recursive: true, force: true }))

describe("with24", () => {
  it("runs the command on the Node of the checkout, and passes its arguments and exit code on", () => {
    layNode("this one")

    const done = run("node", "-e", "console.log(process.version, process.argv[1]); process.exitCode = 7", "a b")

    assert.strictEqual(done.stdout, `${process.version} a b\n`)
    assert.strictEqual(done.status, 7)
  })

  it("stops with one line, and without running the command, where the command would run on an older Node", () => {
    layNode("Node 20")

    const done = run("sh", "-c", "echo ran")

    assert.match(done.stderr, /^ep2: this checkout needs Node 24 or newer, .*found v20\.19\.0 on the PATH.*\n$/)
    assert.strictEqual(done.stdout, "")
    assert.strictEqual(done.status, 1)
  })

  it("installs what package-lock.json names where it is not there, and only then", () => {
    layNode("this one")
    const present = join(root, "node_modules", ".package-lock.json")
    const npm = join(root, "npm.js")
    const install = `require("fs").copyFileSync("package-lock.json", ${JSON.stringify(present)}); console.log("installed")`
    writeFileSync(npm, install)
    writeFileSync(present, JSON.stringify({ packages: { "node_modules/one": { version: "0.9.0" } } }))
    const env = { ...process.env, npm_execpath: npm }

    const [first, second] = [1, 2].map(() => spawnSync(process.execPath, [script(), "true"], { encoding: "utf8", env }))

    assert.match(first!.stderr, /installed\n$/)
    assert.strictEqual(first!.status, 0)
    assert.strictEqual(second!.stderr, "")
  })

  it("stops where npm ends well without having installed what package-lock.json names", () => {
    layNode("this one")
    const lock = readFileSync(join(root, "package-lock.json"), "utf8")
    const npm = join(root, "npm.js")
    writeFileSync(npm, "")
    writeFileSync(join(root, "package-lock.json"), lock.replace("1.0.0", "1.1.0"))

    const done = spawnSync(process.execPath, [script(), "true"], {
      encoding: "utf8",
      env: { ...process.env, npm_execpath: npm }
    })

    writeFileSync(join(root, "package-lock.json"), lock)
    assert.match(done.stderr, /\nep2: `npm install` did not bring what package-lock\.json names.*\n$/)
    assert.strictEqual(done.status, 1)
  })

  it("names a command that there is not", () => {
    layNode("this one")

    const done = run("no-such-command")

    assert.match(done.stderr, /^ep2: no-such-command: .*\n$/)
    assert.strictEqual(done.status, 1)
  })

  it.each(["SIGTERM", "SIGINT", "SIGHUP"] as const)("passes %s on and waits for the command to end", async (signal) => {
    layNode("this one")
    const body = `process.on("${signal}", () => setTimeout(() => process.exit(5), 50)); setInterval(() => {}, 1e6); console.log("up")`
    const child = spawn(process.execPath, [script(), "node", "-e", body], { stdio: ["ignore", "pipe", "inherit"] })
    await once(child.stdout, "data")

    child.kill(signal)

    const [code] = await once(child, "exit")
    assert.strictEqual(code, 5)
  })
})
