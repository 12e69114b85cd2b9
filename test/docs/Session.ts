/**
 * Runs the `sh` and `console` blocks of a page as a reader would: in one shell, one after the
 * other, on a machine of its own in a temporary folder (`Places`). The machine has an ep2.conf
 * and a template where EP2 has them, for a file that names two servers that run, and on the
 * PATH `ep2` as it is shipped, and a real `haproxy` and `consul`.
 */
import { spawn } from "node:child_process"
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync
} from "node:fs"
import { createServer, type Server } from "node:http"
import { tmpdir } from "node:os"
import { dirname, join, resolve } from "node:path"
import * as World from "../integration/World.ts"
import * as Binaries from "../servers/Binaries.ts"
import * as ConfFragment from "./ConfFragment.ts"
import type { Block } from "./Pages.ts"
import * as Places from "./Places.ts"

const root = resolve(import.meta.dirname, "../..")

/** What came of a block, or of one command of a `console` block. */
export interface Ran {
  readonly block: Block
  /** Its place among the commands of the block, from 0; 0 for `sh`. */
  readonly number: number
  /** Standard output and error, in the documentation's words; `undefined` where it was never reached. */
  readonly output: string | undefined
  /** `undefined` where it did not come to an end. */
  readonly exitCode: number | undefined
}

/** What came of a page. */
export interface Session {
  readonly ran: ReadonlyArray<Ran>
  /** The text of a file that the page has left in the folder where it began; `undefined` where there is none. */
  readonly left: (name: string) => string | undefined
}

/** How long the blocks of a page may take together. */
const limitMillis = 150_000

/** Whether a block is run, or written into a file for those behind it. */
export const takes = ({ language, marks }: Block): boolean =>
  !marks.has("no-test") && (language === "sh" || language === "console" || marks.has("file"))

/** Whether a page has anything to run. */
export const isOne = (blocks: ReadonlyArray<Block>): boolean =>
  blocks.some((block) => takes(block) && !block.marks.has("file"))

/** Runs the blocks of a page, up to the first that fails. What is still running afterwards is ended. */
export const run = async (blocks: ReadonlyArray<Block>): Promise<Session> => {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), "ep2-docs-")))
  const servers: Array<Server> = []
  const places = await Places.make(folder, blocks.map(({ text }) => text).join("\n"))
  try {
    furnish(folder, places)
    for (const offset of [901, 902]) servers.push(await serve(places.base + offset))
    const steps = blocks.filter(takes).flatMap((block, index) => stepsOf(block, index, folder, places))
    const script = join(folder, "page.sh")
    writeFileSync(script, ["set -eo pipefail", sleep, ...steps.map(({ text }) => text), ""].join("\n"))
    await runScript(script, folder, places.base)
    const read = (name: string) => (existsSync(name) ? readFileSync(name, "utf8") : undefined)
    const ran = steps.flatMap(({ block, name, number }) => {
      if (name === undefined) return []
      // What was run before it says why it was never reached.
      const [output, exitCode] = [read(`${name}.out`) ?? read(`${name}.before`), read(`${name}.exit`)]
      return {
        block,
        number,
        output: output === undefined ? undefined : places.there(output),
        exitCode: exitCode === undefined ? undefined : Number(exitCode)
      }
    })
    const home = join(folder, "home")
    const files = readdirSync(home, { withFileTypes: true }).filter((entry) => entry.isFile())
    const texts = new Map(files.map((file) => [file.name, readFileSync(join(home, file.name), "utf8")]))
    return { ran, left: (name) => texts.get(name) }
  } finally {
    await endAllIn(folder)
    for (const server of servers) await end(server)
    places.giveBack()
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Waits longer where the machine is busier than a reader's: up to three times as long. */
const sleep = `sleep() {
  local factor=1
  if [ -r /proc/loadavg ]; then
    factor=$(awk -v cores="$(nproc)" '{ f = $1 / cores; print (f < 1 ? 1 : (f > 3 ? 3 : f)) }' /proc/loadavg)
  fi
  command sleep "$(awk -v s="$1" -v f="$factor" 'BEGIN { print s * f }')"
}`

interface Step {
  readonly block: Block
  readonly number: number
  /** The files that its output and its exit code go to, without their ends; `undefined` where nothing is run. */
  readonly name: string | undefined
  /** The shell's words. */
  readonly text: string
}

const stepsOf = (block: Block, index: number, folder: string, places: Places.Places): ReadonlyArray<Step> => {
  const { before, language, marks, text } = block
  const file = marks.get("file")
  if (file !== undefined) {
    const whole = language === "ini" ? ConfFragment.withPaths(ConfFragment.complete(text)) : text
    const source = join(folder, `file-${index}`)
    writeFileSync(source, places.here(whole))
    const target = places.here(file)
    return [{ block, number: 0, name: undefined, text: `mkdir -p "$(dirname ${target})"; cp ${source} ${target}` }]
  }
  const commands = language === "console" ? commandsOf(text).map(({ command }) => command) : [text]
  return commands.map((command, number) => {
    const name = join(folder, `block-${index}-${number}`)
    const prepared = number === 0 && before.length > 0 ? [`exec > ${name}.before 2>&1`, ...before.map(places.here)] : []
    return { block, number, name, text: [...prepared, stepOf(places.here(command), name, marks)].join("\n") }
  })
}

/** A command that fails ends the page there, as it would make a reader stop, unless its exit code is the one of the mark. */
const stepOf = (command: string, name: string, marks: Block["marks"]): string => {
  const said = marks.get("background")
  if (said !== undefined) {
    const isUp = said === "" ? "true" : `grep -qF -e ${quoted(said)} ${name}.out`
    return [
      `(trap - EXIT; exec > ${name}.out 2>&1; eval ${quoted(`exec ${command}`)}) &`,
      `until ${isUp}; do sleep 0.05; done`,
      `echo 0 > ${name}.exit`
    ].join("\n")
  }
  const begin = `exec > ${name}.out 2>&1; trap 'echo $? > ${name}.exit' EXIT`
  const code = marks.get("exit")
  if (code === undefined) return `${begin}\neval ${quoted(command)}\necho 0 > ${name}.exit`
  return `${begin}\nset +e\neval ${quoted(command)}\ncode=$?; set -e\n[ $code = ${Number(code)} ] || exit $code\necho $code > ${name}.exit`
}

const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`

/** The commands of a `console` block, and what it shows that each says. */
export const commandsOf = (text: string): ReadonlyArray<{ readonly command: string; readonly output: string }> =>
  text
    .split(/^\$ /m)
    .slice(1)
    .map((part) => {
      const [, command = "", output = ""] = /^((?:[^\n]*\\\n)*[^\n]*\n?)(.*)$/s.exec(part) ?? []
      return { command: command.trimEnd(), output }
    })

/** What the machine has before the page begins. */
const furnish = (folder: string, { here }: Places.Places) => {
  const write = (path: string, text: string) => {
    const target = here(path)
    mkdirSync(dirname(target), { recursive: true })
    writeFileSync(target, here(text))
  }
  const folders = ["/etc/haproxy", "/etc/bash_completion.d", "/run/haproxy", "/run/ep2", "/var/lib/haproxy"]
  const more = ["/var/log/ep2", "/usr/local/share/zsh/site-functions", "/etc/systemd/system"]
  for (const path of [...folders, ...more]) mkdirSync(here(path), { recursive: true })
  for (const path of ["home/.config/fish/completions", "bin"]) mkdirSync(join(folder, path), { recursive: true })
  write("/etc/ep2/ep2.conf", ConfFragment.withPaths(conf))
  write("/etc/ep2/haproxy.cfg.template", template)
  write("/etc/ep2/targets.json", '[{ "targets": ["127.0.0.1:8901", "127.0.0.1:8902"] }]\n')
  for (const name of ["ep2", "consul"]) {
    copyFileSync(join(import.meta.dirname, "bin", `${name}.mjs`), join(folder, "bin", name))
    chmodSync(join(folder, "bin", name), 0o755)
  }
  symlinkSync(Binaries.haproxy(World.newest), join(folder, "bin", "haproxy"))
}

/** One of the servers that the machine's ep2.conf is about. */
const serve = (port: number) =>
  new Promise<Server>((done, fail) => {
    const server = createServer((_, response) => response.end(`server ${port}\n`))
    server.once("error", fail).listen(port, "127.0.0.1", () => done(server))
  })

const end = (server: Server) =>
  new Promise<void>((done) => {
    server.close(() => done())
    server.closeAllConnections()
  })

const conf = `[haproxy]
orchestrator = file
backend_name = web
backend_port = service
haproxy_socket_file = /run/haproxy/admin.sock
new_servers = trusted

[FILE]
path = /etc/ep2/targets.json
`

const template = `global
    stats socket /run/haproxy/admin.sock mode 600 level admin expose-fd listeners
    stats timeout 30s

defaults
    mode http
    timeout connect 5s
    timeout client 50s
    timeout server 50s
    option redispatch

listen web
    bind 127.0.0.1:8080
    balance roundrobin
    {{ nodes }}
`

/** Runs it to its end, or until its time is over. */
const runScript = (script: string, folder: string, base: number) =>
  new Promise<void>((done) => {
    const env = {
      PATH: `${join(folder, "bin")}:${dirname(process.execPath)}:${process.env.PATH}`,
      HOME: join(folder, "home"),
      EP2_DOCS_FOLDER: folder,
      EP2_DOCS_BASE: String(base),
      EP2_DOCS_PROGRAM: World.program,
      EP2_DOCS_CONSUL: join(root, ".servers/consul-1.8/bin/consul"),
      NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
      LANG: "C.UTF-8",
      NO_COLOR: "1"
    }
    const child = spawn("bash", [script], {
      cwd: join(folder, "home"),
      env,
      stdio: "ignore",
      detached: true,
      timeout: limitMillis,
      killSignal: "SIGKILL"
    })
    child.once("exit", () => done())
  })

/** Ends what a page has left running: whatever has the folder in its command line, or is at home in it. */
const endAllIn = async (folder: string) => {
  const pids = () =>
    readdirSync("/proc").filter((pid) => {
      if (!/^\d+$/.test(pid) || Number(pid) === process.pid) return false
      try {
        const isThere = readlinkSync(`/proc/${pid}/cwd`).startsWith(folder)
        return isThere || readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(folder)
      } catch {
        return false
      }
    })
  for (const signal of ["SIGTERM", "SIGKILL", "SIGKILL"] as const) {
    for (const pid of pids()) {
      try {
        process.kill(Number(pid), signal)
      } catch {
        // It ended by itself.
      }
    }
    for (let tries = 0; tries < 20 && pids().length > 0; tries++) await new Promise((done) => setTimeout(done, 50))
  }
}
