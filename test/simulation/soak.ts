/**
 * `npm run simulate:soak -- --minutes N [--from SEED]`: plays one seed after the other
 * for so long, and ends with exit code 1 if one of them breaks a rule.
 *
 * `npm run simulate:soak -- --seed SEED`: shows what happens in one.
 */
import { parseArgs } from "node:util"
import { Effect } from "effect"
import * as Simulated from "../../src/cli/Simulated.ts"
import * as Summary from "../../src/simulation/Summary.ts"
import * as Timeline from "../../src/simulation/Timeline.ts"
import * as Cases from "./Cases.ts"
import * as SeedFailure from "./SeedFailure.ts"

const options = { minutes: { type: "string" }, from: { type: "string" }, seed: { type: "string" } } as const

/** A number as it has to be, or an end with what is wrong. */
const read = (name: keyof typeof options, text: string, isGood: (number: number) => boolean, expected: string) => {
  const number = text.trim() === "" ? Number.NaN : Number(text)
  if (isGood(number)) return number
  console.error(`--${name} ${JSON.stringify(text)}: expected ${expected}`)
  return process.exit(2)
}
const seedOf = (name: "from" | "seed", text: string) =>
  read(name, text, (number) => Number.isInteger(number) && number >= 1, "a whole number from 1")
const minutesOf = (text: string) => read("minutes", text, (number) => number > 0, "a number of minutes, such as 30")

const show = async (seed: number) => {
  const outcome = await Effect.runPromise(Simulated.play(Cases.ofSeed(seed)))
  console.log(JSON.stringify(Cases.variantOf(seed), undefined, 2))
  console.log([...Timeline.lines(outcome.entries), "", ...Summary.lines(outcome.summary)].join("\n"))
  const failure = await Effect.runPromise(SeedFailure.tryOne(seed, Simulated.play))
  if (failure !== undefined) console.log(`\n${failure.text}`)
  return failure === undefined
}

const soak = async (minutes: number, from: number) => {
  const until = performance.now() + minutes * 60_000
  let [seed, failures] = [from, 0]
  for (; performance.now() < until; seed++) {
    const failure = await Effect.runPromise(SeedFailure.tryOne(seed, Simulated.play))
    if (failure === undefined) continue
    failures++
    console.log(`${failure.text}\n`)
  }
  console.log(`${seed - from} seeds from ${from} on: ${failures} broke a rule`)
  return failures === 0
}

const { values } = parseArgs({ options })
const isGood =
  values.seed === undefined
    ? await soak(minutesOf(values.minutes ?? "1"), seedOf("from", values.from ?? "1"))
    : await show(seedOf("seed", values.seed))
process.exitCode = isGood ? 0 : 1
