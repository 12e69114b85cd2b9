import { execFile } from "node:child_process"
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync
} from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterEach, assert, beforeEach, describe, it } from "@effect/vitest"

// A checkout of its own, and a PATH with programs that only say their version.
let base = ""
const checkout = () => join(base, "checkout")
const programs = () => join(base, "programs")

const layProgram = (name: string, prints: string) => {
  writeFileSync(join(programs(), name), `#!/bin/sh\necho '${prints}'\n`)
  chmodSync(join(programs(), name), 0o755)
}

interface Done {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

const run = (root: string, ...args: ReadonlyArray<string>) =>
  new Promise<Done>((resume) => {
    const env = { PATH: `${programs()}:/usr/bin:/bin` }
    execFile(process.execPath, ["test/servers/provision.ts", ...args], { cwd: root, env }, (error, stdout, stderr) =>
      resume({ code: error === null ? 0 : 1, stdout, stderr })
    )
  })

beforeEach(() => {
  base = realpathSync(mkdtempSync(join(tmpdir(), "ep2-provision-")))
  mkdirSync(join(checkout(), "test", "servers"), { recursive: true })
  mkdirSync(programs())
  for (const file of readdirSync(import.meta.dirname).filter((name) => /^provision\w*\.ts$/.test(name))) {
    copyFileSync(join(import.meta.dirname, file), join(checkout(), "test", "servers", file))
  }
  writeFileSync(join(checkout(), "package.json"), '{ "type": "module" }')
  layProgram("haproxy", "HAProxy version 12.8.3-1 2025/01/01")
  layProgram("haproxy12.9", "HAProxy version 12.9.0 2025/01/01")
})

afterEach(() => rmSync(base, { recursive: true, force: true }))

describe("npm run servers", () => {
  it("takes each HAProxy on the PATH for the target of its version", async () => {
    const done = await run(checkout(), "--from-path", "haproxy-12.8", "haproxy-12.9")

    assert.include(done.stdout, `haproxy-12.8 built    12.8.3-1 from ${programs()}/haproxy\n`)
    assert.include(done.stdout, `haproxy-12.9 built    12.9.0 from ${programs()}/haproxy12.9\n`)
    assert.strictEqual(realpathSync(join(checkout(), ".servers/haproxy-12.8/bin/haproxy")), join(programs(), "haproxy"))
    assert.strictEqual(done.code, 0)
  })

  it("says in one line per target what is missing, what was found and what to do", async () => {
    const done = await run(checkout(), "--from-path", "haproxy-12.8", "haproxy-12.7")

    const [line, ...others] = done.stderr.trimEnd().split("\n")
    assert.match(
      line!,
      /^haproxy-12\.7 failed .*no HAProxy 12\.7 on the PATH.*is 12\.8\.3.*: install HAProxy 12\.7, or test/
    )
    assert.deepStrictEqual(others, [])
    assert.include(done.stdout, "haproxy-12.8 built")
    assert.strictEqual(done.code, 1)
  })

  it("names the targets where it is asked for one that there is not", async () => {
    const done = await run(checkout(), "hapoxy")

    assert.match(done.stderr, /^servers: there is no target hapoxy; there are haproxy-2\.2, .*\n$/)
    assert.strictEqual(done.code, 1)
  })

  it("leaves what stands alone, and builds it anew in a checkout that was moved or where its program was replaced", async () => {
    await run(checkout(), "--from-path", "haproxy-12.8")

    const again = await run(checkout(), "--from-path", "haproxy-12.8")
    layProgram("haproxy", "HAProxy version 12.8.4-1 2026/01/01, longer than before")
    const replaced = await run(checkout(), "--from-path", "haproxy-12.8")
    renameSync(checkout(), join(base, "moved"))
    const moved = await run(join(base, "moved"), "--from-path", "haproxy-12.8")

    assert.match(again.stdout, /^haproxy-12\.8 present {2}12\.8\.3-1 from .*\n$/)
    assert.include(replaced.stdout, "haproxy-12.8 built    12.8.4-1")
    assert.include(moved.stdout, "haproxy-12.8 built    12.8.4-1")
  })

  it("lets two runs in one checkout not meet", async () => {
    const both = await Promise.all([1, 2].map(() => run(checkout(), "--from-path", "haproxy-12.8", "haproxy-12.9")))

    assert.deepStrictEqual(
      both.map(({ code }) => code),
      [0, 0]
    )
    const built = both.filter(({ stdout }) => stdout.includes("haproxy-12.8 built"))
    assert.lengthOf(built, 1)
    assert.sameMembers(readdirSync(join(checkout(), ".servers")), [".lock", "haproxy-12.8", "haproxy-12.9"])
  })
})
