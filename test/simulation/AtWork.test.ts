/** The picture in README.md, and what is said below it, are what `ep2 simulate` makes of docs/at-work.yml. */
import { spawnSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as World from "../integration/World.ts"

const root = resolve(import.meta.dirname, "../..")
const read = (path: string) => readFileSync(join(root, path), "utf8")

const template = `global
    stats socket /var/run/haproxy/haproxy.sock mode 600 level admin
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
listen web
    bind :80
    {{nodes}}
`

describe("README.md", () => {
  it("shows the picture that docs/at-work.yml makes, and its numbers", () => {
    const folder = mkdtempSync(join(tmpdir(), "ep2-at-work-"))
    const [conf, plot, templateFile] = ["ep2.conf", "plot.svg", "template"].map((name) => join(folder, name))
    writeFileSync(templateFile!, template)
    const source = "[FILE]\npath = /etc/ep2/targets.json\n"
    const text = `[haproxy]\norchestrator = file\nbackend_name = web\nbackend_port = 8080\ntemplate_file = ${templateFile}\n`
    writeFileSync(conf!, `${text}${source}`)

    const done = spawnSync(
      process.execPath,
      [World.program, "simulate", "--conf", conf!, "--scenario", "docs/at-work.yml", "--plot", plot!],
      { cwd: root, encoding: "utf8" }
    )
    const svg = done.status === 0 ? readFileSync(plot!, "utf8") : ""
    rmSync(folder, { recursive: true })

    assert.strictEqual(done.status, 0, done.stdout + done.stderr)
    assert.strictEqual(svg, read("docs/at-work.svg"))
    const [, sent = ""] = /requests that would have failed +0 of ([\d,]+)/.exec(done.stdout) ?? []
    assert.match(done.stdout, /^reloads +0$/m)
    assert.include(read("README.md"), `Of ${sent} requests none would have failed, and ep2 made no reload`)
  })
})
