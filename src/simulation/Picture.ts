/**
 * Wanted against served over time, for the terminal and as an SVG.
 */

export interface Sample {
  /** From the start of the simulation. */
  readonly atMillis: number
  /** Endpoints that the source names, of all backends. */
  readonly wanted: number
  /** Endpoints that every process that runs serves. */
  readonly served: number
}
