/**
 * `npm run bench [-- [--quick] [--write] [PART ...]]`: how close to the wire ep2 is.
 *
 * Prints what each part finds, with its goals beside the figures; nothing is
 * asserted. What is compared is measured in one run, in turn. `--quick` takes a
 * sample of each part and ends within a minute; `--write` writes
 * docs/benchmarks.md; with names only those parts run.
 */
import { writeFileSync } from "node:fs"
import { resolve } from "node:path"
import { parseArgs } from "node:util"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Console, Effect, Logger } from "effect"
import * as Machine from "./Machine.ts"
import * as Parts from "./Parts.ts"
import type { Effort } from "./Section.ts"
import { print } from "./Section.ts"

const page = resolve(import.meta.dirname, "../../docs/benchmarks.md")

const usage = `usage: npm run bench [-- [--quick] [--write] [PART ...]]; parts: ${Parts.names.join(", ")}`

const argumentsOf = (args: ReadonlyArray<string>) => {
  const options = { quick: { type: "boolean" }, smoke: { type: "boolean" }, write: { type: "boolean" } } as const
  try {
    const { positionals, values } = parseArgs({ args: [...args], options, allowPositionals: true })
    const unknown = positionals.filter((name) => !Parts.names.includes(name))
    return unknown.length > 0 ? undefined : { ...values, parts: positionals }
  } catch {
    return undefined
  }
}

const introduction = `# Benchmarks

How close ep2 is to what it stands on: HAProxy's socket, Consul, Node. \`npm run bench\` measures it and prints this page
(\`--write\` writes it, \`--quick\` takes a minute, and names of parts choose: ${Parts.names.join(", ")}).
What is compared is measured in one run and in turn (A B A B …), so that ratios hold on any machine; a time is the median,
and a ratio the median of the rounds. Goals stand beside the figures, and no test asserts them.
`

const main = Effect.gen(function* () {
  const given = argumentsOf(process.argv.slice(2))
  if (given === undefined) {
    yield* Console.error(usage)
    process.exitCode = 2
    return
  }
  const level = given.smoke === true ? "smoke" : given.quick === true ? "quick" : "full"
  const effort: Effort = { level, rounds: level === "smoke" ? 1 : 7 }
  const chosen = Parts.all.filter(({ name }) => given.parts.length === 0 || given.parts.includes(name))
  const began = performance.now()
  const loadBefore = Machine.load()
  const texts: Array<string> = []
  for (const { run } of chosen) {
    const text = print(yield* Effect.scoped(run(effort)))
    texts.push(text)
    yield* Console.log(text)
  }
  const busy =
    loadBefore > 1
      ? ["- The machine did other work meanwhile: times are longer than they are without, and ratios less sharp"]
      : []
  const machine = [
    ...Machine.describe(["2.2", "2.6", "3.0", "3.2"]),
    `- ${new Date().toISOString().slice(0, 10)}, in ${((performance.now() - began) / 60_000).toFixed(1)} minutes; load ${loadBefore.toFixed(1)} before it and ${Machine.load().toFixed(1)} after it`,
    ...busy
  ]
  yield* Console.log(machine.join("\n"))
  if (given.write !== true) return
  writeFileSync(page, [introduction, machine.join("\n").concat("\n"), ...texts].join("\n"))
  yield* Console.log(`written: ${page}`)
})

// What goes on is said beside the figures, and each part decides what of ep2's own log is heard.
const log = Logger.make<unknown, void>(({ message }) => void process.stderr.write(`… ${String(message)}\n`))

main.pipe(Effect.provide(Logger.layer([log])), NodeRuntime.runMain)
