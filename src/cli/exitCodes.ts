/**
 * What the exit code of ep2 means. 2 is what EP2 1.0 ended with on a bad config.
 * docs/operations.md has the same table for operators.
 */
export const exitCodes = {
  /** Done, or stopped by TERM or INT. */
  done: 0,
  /** Something unexpected, a defect of ep2 included, or a wrong command line. */
  unexpected: 1,
  /** ep2.conf, or the log that it names, cannot be used. */
  badConfig: 2,
  /** The lock cannot be taken at all, or was lost. That somebody else has it is waited for, but by `start --once`. */
  lock: 3,
  /** HAProxy could not be brought up with the template: it goes on as it was. */
  bootstrap: 4,
  /** `plan`: something would be changed, or is on its way. */
  changes: 5,
  /** `plan`, `start --once`, `render`: a source could not be asked, and nothing else says what is to be served. */
  source: 6,
  /** `plan`: HAProxy could not be asked. `start --once`: it could not be made level. */
  notLevel: 7,
  /** `check`: something other than ep2.conf is wrong. */
  checkFailed: 8
} as const
