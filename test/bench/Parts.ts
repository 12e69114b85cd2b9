/** The parts of the bench, in the order of the page. */
import type { Effect, Scope } from "effect"
import * as Apply from "./Apply.ts"
import * as Growth from "./Growth.ts"
import * as Idle from "./Idle.ts"
import * as Reaction from "./Reaction.ts"
import * as Rest from "./Rest.ts"
import type { Effort, Section } from "./Section.ts"
import * as Simulated from "./Simulated.ts"
import * as Start from "./Start.ts"

export interface Part {
  readonly name: string
  readonly run: (effort: Effort) => Effect.Effect<Section, never, Scope.Scope>
}

export const all: ReadonlyArray<Part> = [
  { name: "apply", run: Apply.run },
  { name: "idle", run: Idle.run },
  { name: "reaction", run: Reaction.run },
  { name: "rest", run: Rest.run },
  { name: "start", run: Start.run },
  { name: "growth", run: Growth.run },
  { name: "simulation", run: Simulated.run }
]

export const names: ReadonlyArray<string> = all.map(({ name }) => name)
