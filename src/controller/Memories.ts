/**
 * What the passes of each backend remember. It outlives the settings, so that new
 * ones (HUP) go on from where the old ones were.
 */
import { Context, Layer } from "effect"
import * as Guard from "../domain/Guard.ts"
import * as Plan from "../domain/Plan.ts"
import type { DesiredState } from "../domain/State.ts"
import type * as Report from "./Report.ts"

/** Of one backend. Its passes change it, one at a time. */
export interface Memory {
  /** The last good answer of the source, and its number from 1. */
  answer: DesiredState | undefined
  number: number
  guard: Guard.Memory
  plan: Plan.Memory
  origins: Report.Origins
}

/** The memory of each backend, by its name. */
export class Memories extends Context.Service<
  Memories,
  {
    /** A backend's memory. What a source with another key has said, and was held against, is forgotten. */
    readonly of: (backend: string, source: string) => Memory
  }
>()("ep2/controller/Memories") {
  /** Begins with nothing remembered. */
  static readonly layer = Layer.sync(Memories, () => {
    const known = new Map<string, Memory & { source: string }>()
    const of = (backend: string, source: string): Memory => {
      const before = known.get(backend)
      if (before?.source === source) return before
      const fresh = {
        source,
        answer: undefined,
        number: 0,
        guard: Guard.emptyMemory,
        plan: before?.plan ?? Plan.emptyMemory,
        origins: before?.origins ?? new Map()
      }
      known.set(backend, fresh)
      return fresh
    }
    return Memories.of({ of })
  })
}
