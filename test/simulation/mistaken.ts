/**
 * `node test/simulation/mistaken.ts MISTAKE SEEDS`: plays seeds from 1 on with one of
 * the `Mistakes` made, until one of them breaks a rule. Prints that seed and rule as
 * JSON, or `null` where none does.
 */
import { registerHooks } from "node:module"
import { Effect } from "effect"
import { mistakes } from "./Mistakes.ts"

const [name, count] = process.argv.slice(2)
const mistake = mistakes.find((one) => one.name === name)
if (mistake === undefined) throw new Error(`no mistake ${JSON.stringify(name)}`)
let isMade = false

registerHooks({
  load: (url, context, next) => {
    const loaded = next(url, context)
    if (!url.endsWith(`/src/${mistake.file}`)) return loaded
    const source = String(loaded.source)
    const parts = source.split(mistake.from)
    if (parts.length !== 2) throw new Error(`${mistake.file} has ${parts.length - 1} times what "${name}" replaces`)
    isMade = true
    return { ...loaded, source: parts.join(mistake.to) }
  }
})

const Cases = await import("./Cases.ts")
const { play } = await import("../../src/cli/Simulated.ts")
if (!isMade) throw new Error(`src/${mistake.file} was not loaded`)

let caught: { readonly seed: number; readonly rule: string } | null = null
for (let seed = 1; caught === null && seed <= Number(count); seed++) {
  const [first] = (await Effect.runPromise(play(Cases.ofSeed(seed)))).broken
  if (first !== undefined) caught = { seed, rule: first.rule }
}
console.log(JSON.stringify(caught))
