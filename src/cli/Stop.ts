/** How a command ends that cannot do what it is for. */
import { Schema } from "effect"
import { exitCodes } from "./exitCodes.ts"

/** Ends the process with one message and an exit code that systemd and scripts can tell apart. */
export class Stop extends Schema.TaggedError<Stop>()("Stop", {
  message: Schema.String,
  /** One of `exitCodes`. */
  exitCode: Schema.Int
}) {}

/** Makes an error that says what there is to say the end of the process. */
export const stopWith = (exitCode: number) => (error: { readonly message: string }) =>
  new Stop({ message: error.message, exitCode })

/** The same of a conf, or of what it names, that cannot be used. */
export const badInput = stopWith(exitCodes.badConfig)
