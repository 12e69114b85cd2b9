/**
 * One key of `ep2.conf`: the Schema of its value, whether it may be absent, and
 * what the documentation says about it, all in one place.
 */
import { Effect, Schema } from "effect"
import { expectedOf, type Value } from "./Value.ts"

/** What an operator has to know about a key. */
export interface KeyDoc {
  /** One sentence without a full stop. */
  readonly meaning: string
  /** Of the number: `s`, `%`. Absent where there is none. */
  readonly unit?: string
  /** As it would stand behind `=`. */
  readonly example: string
  /** Never shown, in no message. */
  readonly isSecret?: boolean
}

/** A key's documentation together with what the Schema knows. */
export interface DocumentedKey extends KeyDoc {
  /** What an absent key means: the text that would have the same effect, `none`, or `required`. */
  readonly default: string
  /** The phrase that follows "expected" in a message. */
  readonly expected: string
}

/** A key that has to be there. */
export const required = <A>(doc: KeyDoc, value: Value<A>) => value.annotateKey(annotations("required", doc, value))

/** A key that may be absent. */
export const optional = <A>(doc: KeyDoc, value: Value<A>) =>
  Schema.optionalKey(value).annotateKey(annotations("none", doc, value))

/** A key that means `text` when it is absent. */
export const withDefault = <A>(text: string, doc: KeyDoc, value: Value<A>) =>
  value.pipe(Schema.withDecodingDefaultKey(Effect.succeed(text)), Schema.annotateKey(annotations(text, doc, value)))

/** What was said about a key when it was made by one of the above. */
export const docOf = (key: Schema.Constraint): DocumentedKey => {
  const doc = Schema.resolveAnnotationsKey(key)?.[annotation] as DocumentedKey | undefined
  if (doc === undefined) throw new Error("a key without documentation: make it with required, optional or withDefault")
  return doc
}

const annotation = "ep2/key"

const annotations = (absent: string, doc: KeyDoc, value: Schema.Constraint) => ({
  description: doc.meaning,
  [annotation]: { ...doc, default: absent, expected: expectedOf(value) } satisfies DocumentedKey
})
