import { assert, describe, it } from "@effect/vitest"
import { Effect, Logger } from "effect"
import * as Report from "../../src/controller/Report.ts"

/** Runs something and gives the lines that it logs: level and message. */
const logged = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.gen(function* () {
    const lines: Array<string> = []
    const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
      lines.push(`${logLevel} ${Array.isArray(message) ? message.join(" ") : String(message)}`)
    })
    yield* effect.pipe(Effect.provide(Logger.layer([logger])))
    return lines
  })

describe("a standing fact", () => {
  it.effect("is said when it begins and when it ends, and not in between", () =>
    Effect.gen(function* () {
      const lines = yield* logged(
        Effect.gen(function* () {
          const standing = yield* Report.makeStanding
          const say = (...facts: ReadonlyArray<string>) =>
            standing.say(new Map(facts.map((fact) => [fact, `${fact} holds`])), (key) => `${key} is over`)
          yield* say("a")
          yield* say("a")
          yield* say("a", "b")
          yield* say("b")
          yield* say()
        })
      )

      assert.deepStrictEqual(lines, ["Warn a holds", "Warn b holds", "Info a is over", "Info b is over"])
    })
  )

  it.effect("is said again when its words change", () =>
    Effect.gen(function* () {
      const lines = yield* logged(
        Effect.gen(function* () {
          const standing = yield* Report.makeStanding
          yield* standing.say(new Map([["slots", "1 has none"]]), () => "over")
          yield* standing.say(new Map([["slots", "2 have none"]]), () => "over")
        })
      )

      assert.deepStrictEqual(lines, ["Warn 1 has none", "Warn 2 have none"])
    })
  )
})
