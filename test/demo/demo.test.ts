import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { stripVTControlCharacters } from "node:util"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"

const main = resolve(import.meta.dirname, "main.ts")

interface Run {
  readonly child: ChildProcess
  /** Everything that it has said so far. */
  readonly output: () => string
  readonly ended: Promise<number | null>
  /** Where it puts its files. */
  readonly temporary: string
}

const start = (...args: ReadonlyArray<string>) =>
  Effect.acquireRelease(
    Effect.sync((): Run => {
      const temporary = mkdtempSync(join(tmpdir(), "ep2-test-"))
      const env = { ...process.env, TMPDIR: temporary }
      const child = spawn(process.execPath, [main, ...args], { env, stdio: ["ignore", "pipe", "pipe"] })
      let output = ""
      for (const stream of [child.stdout, child.stderr]) {
        stream.on("data", (data: Buffer) => {
          output += data.toString("utf8")
        })
      }
      const ended = once(child, "close").then(([code]) => code as number | null)
      return { child, output: () => output, ended, temporary }
    }),
    ({ child, ended, temporary }) =>
      Effect.promise(async () => {
        if (child.exitCode === null && child.signalCode === null) child.kill("SIGTERM")
        await ended
        rmSync(temporary, { recursive: true, force: true })
      })
  )

const exitCode = ({ ended }: Run) => Effect.promise(() => ended)

const untilSaid = Effect.fnUntraced(function* (run: Run, text: string) {
  for (let tries = 0; tries < 600 && !run.output().includes(text); tries++) yield* Effect.sleep(50)
  assert.include(run.output(), text)
})

/** Processes that were told of the folder, by their arguments. */
const processesOf = ({ temporary }: Run): ReadonlyArray<string> => {
  const ids = existsSync("/proc/self/cmdline") ? readdirSync("/proc").filter((name) => /^\d+$/.test(name)) : []
  return ids.flatMap((id) => {
    try {
      const command = readFileSync(`/proc/${id}/cmdline`, "utf8").replaceAll("\0", " ")
      return command.includes(temporary) ? [command] : []
    } catch {
      return []
    }
  })
}

describe("the demo", () => {
  it.live(
    "scales, replaces and survives a death without a failed request, and says so in plain lines",
    () =>
      Effect.gen(function* () {
        const run = yield* start("--seconds", "12")

        const code = yield* exitCode(run)

        const output = run.output()
        assert.strictEqual(code, 0, output)
        assert.match(output, /^ {2}requests {2}[\d,]{3,}, of which 0 failed$/m)
        assert.match(output, /^ {2}reloads {3}0$/m)
        for (const change of ["start", "scale out 2 → 6", "blue-2 comes back", "scale in 6 → 3", "replace all 3"]) {
          assert.match(output, new RegExp(`^ +${change} +.*\\d m?s`, "m"))
        }
        for (const server of ["blue-1", "blue-6", "green-1", "green-3"]) {
          assert.match(output, new RegExp(`ep2 node\\d+ ${server} |^ {2}answered .*${server}`, "m"))
        }
        assert.include(output, "No request failed, and every change was served.")
        assert.strictEqual(stripVTControlCharacters(output), output)
        assert.notInclude(output, "\r")
        assert.deepStrictEqual(processesOf(run), [])
        assert.deepStrictEqual(readdirSync(run.temporary), [])
      }).pipe(Effect.scoped),
    90_000
  )

  it.live(
    "leaves nothing running and nothing on disk when it is stopped in the middle",
    () =>
      Effect.gen(function* () {
        const run = yield* start("--seconds", "10")
        yield* untilSaid(run, "arrives")
        const running = processesOf(run)

        run.child.kill("SIGINT")
        const code = yield* exitCode(run)

        assert.isTrue(running.length > 0 || !existsSync("/proc"))
        assert.strictEqual(code, 130, run.output())
        assert.deepStrictEqual(processesOf(run), [])
        assert.deepStrictEqual(readdirSync(run.temporary), [])
      }).pipe(Effect.scoped),
    90_000
  )

  it.live(
    "with --keep goes on after its summary, and ends as well as it went when it is stopped",
    () =>
      Effect.gen(function* () {
        const run = yield* start("--seconds", "10", "--keep")
        yield* untilSaid(run, "Everything goes on until Ctrl-C")
        const port = /curl (http:\S+)/.exec(run.output())?.[1] ?? ""

        const answer = yield* Effect.promise(() => fetch(port).then((response) => response.text()))
        run.child.kill("SIGTERM")
        const code = yield* exitCode(run)

        assert.match(answer, /^green-\d$/)
        assert.strictEqual(code, 0, run.output())
        assert.deepStrictEqual(processesOf(run), [])
        assert.deepStrictEqual(readdirSync(run.temporary), [])
      }).pipe(Effect.scoped),
    90_000
  )

  it.live("refuses arguments that it does not understand, in one line each", () =>
    Effect.gen(function* () {
      for (const args of [["--seconds", "3"], ["--seconds", "abc"], ["--second", "30"], ["more"]]) {
        const run = yield* start(...args)

        const code = yield* exitCode(run)

        assert.strictEqual(code, 2)
        assert.match(run.output(), /^demo: .+; --help shows what there is\n$/)
      }
    }).pipe(Effect.scoped)
  )
})
