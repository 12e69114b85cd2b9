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
  /** The lock cannot be taken at all (that somebody else has it is waited for), or was lost. */
  lock: 3,
  /** HAProxy could not be brought up with the template: it goes on as it was. */
  bootstrap: 4
} as const
