/**
 * What happened in a simulation, line by line, as a person reads it.
 */

export interface Entry {
  /** From the start of the simulation. */
  readonly atMillis: number
  /**
   * - `event`: the scenario did it.
   * - `ep2`: ep2 did it, in the words of its log, which say why.
   * - `rule`: a rule was broken.
   */
  readonly kind: "event" | "ep2" | "rule"
  readonly level: "debug" | "info" | "warning" | "error"
  readonly text: string
}
