/**
 * The numbers of a simulation.
 */

/** Counts and times of one whole simulation, over all backends and processes. */
export interface Summary {
  /** How much virtual time was played. */
  readonly playedMillis: number
  /** From when the source first named an endpoint until every process that runs served it; one for each endpoint that came and was served. */
  readonly serveMillis: ReadonlyArray<number>
  /** Endpoints that are wanted at the end and not served. */
  readonly unserved: number
  /** The modelled load, and how many of its requests would have failed. */
  readonly requests: { readonly sent: number; readonly failed: number }
  /** Calls to the source. */
  readonly apiCalls: number
  /** Commands to HAProxy's sockets. */
  readonly commands: number
  readonly reloads: number
  /** Passes of which the guard held something back. */
  readonly heldPasses: number
  /** Drains that were ended by `drain_timeout` with sessions left. */
  readonly cutDrains: number
  readonly brokenRules: number
}
