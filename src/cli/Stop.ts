/** How a command ends that cannot do what it is for. */
import { Schema } from "effect"

/** Ends the process with one message and an exit code that systemd and scripts can tell apart. */
export class Stop extends Schema.TaggedError<Stop>()("Stop", {
  message: Schema.String,
  /** One of `exitCodes`. */
  exitCode: Schema.Int
}) {}
