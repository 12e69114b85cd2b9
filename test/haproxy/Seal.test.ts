import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import * as Seal from "../../src/haproxy/Seal.ts"
import { checkOptions } from "../domain/AnyStates.ts"

const Place = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 400 }))
const Length = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 8 }))

describe("a sealed text", () => {
  it.prop(
    "is intact as it was written, and no more with anything put in or taken out",
    [Schema.Array(Schema.String), Schema.NonEmptyString, Place, Length],
    ([lines, more, where, length]) => {
      const sealed = Seal.seal(`${lines.join("\n")}\n`)
      const [at, from] = [where % (sealed.length + 1), where % sealed.length]

      assert.isTrue(Seal.isIntact(sealed))
      assert.isFalse(Seal.isIntact(`${sealed.slice(0, at)}${more}${sealed.slice(at)}`))
      assert.isFalse(Seal.isIntact(`${sealed.slice(0, from)}${sealed.slice(from + length)}`))
    },
    checkOptions(300)
  )

  it("is not any other text, with or without a line that looks like a seal", () => {
    const sealed = Seal.seal("listen a\n")

    const others = ["", "\n", "listen a\n", sealed.trimEnd(), sealed.replaceAll("\n", "\r\n"), sealed.split("\n")[1]!]

    assert.deepStrictEqual(others.filter(Seal.isIntact), [])
  })
})
