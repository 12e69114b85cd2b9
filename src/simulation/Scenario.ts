/**
 * What a simulation plays.
 */
import type { Endpoint } from "../domain/State.ts"
import type { Timed } from "./Event.ts"

export interface Scenario {
  /** As `--scenario` takes it, or the file that it was read from. */
  readonly name: string
  /** One sentence without a full stop. */
  readonly description: string
  /** What it needs of the settings, so that it means anything. */
  readonly needs?: { readonly processes: number } | undefined
  /** How long it is played unless the operator says otherwise. */
  readonly durationMillis: number
  /** What the source names at the start, and what runs, by backend. */
  readonly start: ReadonlyMap<string, ReadonlyArray<Endpoint>>
  /** In the order of their times. */
  readonly events: ReadonlyArray<Timed>
}
