/** ep2 at the shell: help, version, completions and colours, of the program as it is shipped. */
import { spawnSync } from "node:child_process"
import { readFileSync } from "node:fs"
import { join, resolve } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { exitCodes } from "../../src/cli/exitCodes.ts"
import * as Shell from "../../src/cli/Shell.ts"
import * as World from "../integration/World.ts"

const root = resolve(import.meta.dirname, "../..")
const plain: NodeJS.ProcessEnv = { ...process.env, NO_COLOR: undefined, FORCE_COLOR: undefined, TERM: "xterm" }

/** Runs ep2 with its output in pipes. */
const run = (args: ReadonlyArray<string>, env: NodeJS.ProcessEnv = plain) =>
  spawnSync(process.execPath, [World.program, ...args], { encoding: "utf8", env })

/** Runs ep2 on a terminal of its own, and gives what it wrote there. */
const onTerminal = (args: ReadonlyArray<string>, env: NodeJS.ProcessEnv) => {
  const spawn = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"
  const done = spawnSync("python3", ["-c", spawn, process.execPath, World.program, ...args], { encoding: "utf8", env })
  assert.strictEqual(done.error, undefined)
  return done.stdout
}

const colour = "\u001b["

/** The names of all commands, as the help of ep2 lists them. */
const commands = () => {
  const [, list = ""] = /\nSUBCOMMANDS\n((?: {2}.*\n)+)/.exec(run(["--help"]).stdout) ?? []
  return list
    .trimEnd()
    .split("\n")
    .map((line) => line.trim().split(/\s+/)[0]!)
}

describe("help", () => {
  it("has a description and an example for every command, and each example begins as it is typed", () => {
    const names = commands()

    assert.includeMembers(names, ["start", "check", "render", "init", "pause", "resume", "release", "simulate"])
    for (const args of [[], ...names.map((name) => [name])]) {
      const { status, stderr, stdout } = run([...args, "--help"])
      assert.deepStrictEqual([status, stderr], [0, ""])
      assert.match(stdout, /^DESCRIPTION\n {2}\S.{20,}\n/)
      const [, examples = ""] = /\nEXAMPLES\n(.*)$/s.exec(stdout) ?? []
      assert.match(examples, new RegExp(`^ {2}# \\S.*\\n {2}ep2 ${args[0] ?? ""}`), `the examples of ${args[0]}`)
    }
  })

  it("goes to standard error with what is wrong with a command line, and nothing to standard output", () => {
    const wrong = [["bogus"], ["render", "--nosuch", "x"]]

    for (const args of wrong) {
      const { status, stderr, stdout } = run(args)
      assert.deepStrictEqual([status, stdout], [1, ""])
      assert.match(stderr, /\nUSAGE\n {2}ep2/)
      assert.match(stderr, /\nERROR\n {2}\S.*\n$/)
    }
  })
})

describe("--version", () => {
  it("names ep2, Node, and the Effect that is bundled", () => {
    const version = (file: string) => JSON.parse(readFileSync(join(root, file), "utf8")).version

    const { stdout } = run(["--version"])

    const effect = version("node_modules/effect/package.json")
    assert.strictEqual(stdout, `ep2 ${version("package.json")} (Node ${process.version}, Effect ${effect})\n`)
  })
})

describe("colours", () => {
  it("are on a terminal, and neither in a pipe, whatever FORCE_COLOR says, nor where NO_COLOR is set", () => {
    const args = ["check", "--conf", "/nowhere/ep2.conf"]

    assert.include(onTerminal(["bogus"], plain), colour)
    assert.include(onTerminal(args, plain), `${colour}31mproblem`)
    assert.notInclude(onTerminal(["bogus"], { ...plain, NO_COLOR: "1" }), colour)
    assert.notInclude(onTerminal(args, { ...plain, NO_COLOR: "1" }), colour)
    for (const one of [["bogus"], args]) {
      const { stderr, stdout } = run(one, { ...plain, FORCE_COLOR: "1" })
      assert.notInclude(stdout + stderr, colour)
    }
  })

  it.each([
    ["a terminal", {}, true, true],
    ["a terminal and an empty NO_COLOR", { NO_COLOR: "" }, true, true],
    ["a terminal and NO_COLOR", { NO_COLOR: "1" }, true, false],
    ["a dumb terminal", { TERM: "dumb" }, true, false],
    ["no terminal", {}, false, false],
    ["no terminal and FORCE_COLOR", { FORCE_COLOR: "1" }, false, false]
  ])("on %s", (_, environment, isTerminal, expected) => {
    assert.strictEqual(
      Shell.hasColour(1, environment, () => isTerminal),
      expected
    )
  })
})

describe("completions", () => {
  it("complete commands, flags, files and the names of scenarios in a real bash", () => {
    const lines = ["ep2 ch", "ep2 check --", "ep2 render --conf package-l", "ep2 simulate --scenario source-"]
    // As readline calls it; one line of answers for each.
    const complete = (line: string) => {
      const words = line.split(" ")
      return `COMP_WORDS=(${words.join(" ")}) COMP_CWORD=${words.length - 1} COMP_LINE="${line}" COMP_POINT=${line.length}
_ep2 ep2 "\${COMP_WORDS[COMP_CWORD]}" "\${COMP_WORDS[COMP_CWORD-1]}"; echo "\${COMPREPLY[*]}"`
    }
    const script = ['source <("$NODE" "$EP2" --completions bash)', "complete -p ep2", ...lines.map(complete)].join("\n")

    const done = spawnSync("bash", ["--norc", "-c", script], {
      encoding: "utf8",
      cwd: root,
      env: { ...plain, NODE: process.execPath, EP2: World.program }
    })

    assert.deepStrictEqual([done.status, done.stderr], [0, ""])
    const [registered, commands, flags = "", ...values] = done.stdout.trimEnd().split("\n")
    assert.match(registered!, /^complete .*-F _ep2 ep2$/)
    assert.strictEqual(commands, "check")
    assert.includeMembers(flags.split(" "), ["--conf", "--json"])
    assert.deepStrictEqual(values, ["package-lock.json", "source-outage"])
  })

  it("are written for zsh and fish too", () => {
    const [zsh, fish] = [run(["--completions", "zsh"]), run(["--completions", "fish"])]

    assert.match(zsh.stdout, /^#compdef ep2/m)
    assert.match(fish.stdout, /^complete -c ep2 /m)
    for (const { status, stdout } of [zsh, fish]) {
      assert.strictEqual(status, 0)
      assert.include(stdout, "source-outage")
    }
  })
})

describe("exit codes", () => {
  it("stand all on one page, each once, in the order of their numbers", () => {
    const page = readFileSync(join(root, "docs/operations.md"), "utf8")
    const [, table = ""] = /\n\| exit code \| meaning \|\n\| --- \| --- \|\n((?:\|.*\n)+)/.exec(page) ?? []

    const documented = [...table.matchAll(/^\| (\d+) \| \S.{3,} \|$/gm)].map(([, code]) => Number(code))

    assert.deepStrictEqual(
      documented,
      Object.values(exitCodes).toSorted((one, other) => one - other)
    )
  })
})
