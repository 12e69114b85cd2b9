/** What a simulation leaves behind: the input of the timeline, the numbers and the picture. */
import type * as Picture from "./Picture.ts"
import type * as Summary from "./Summary.ts"
import type * as Timeline from "./Timeline.ts"

/** A rule that did not hold. */
export interface Broken {
  /** From the start of the simulation. */
  readonly atMillis: number
  /** The rule, as a person would say it: `only what the source vouched for is served`. */
  readonly rule: string
  /** What was seen instead, in one line. */
  readonly detail: string
}

/** What was seen, from the start to the end. */
export interface Outcome {
  /** In the order of their times. */
  readonly entries: ReadonlyArray<Timeline.Entry>
  /** In the order of their times; the picture holds a value until the next one. */
  readonly samples: ReadonlyArray<Picture.Sample>
  readonly summary: Summary.Summary
  readonly broken: ReadonlyArray<Broken>
}
