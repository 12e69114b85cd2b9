/** How a command ends that cannot do what it is for. */
import { Effect, Schema } from "effect"
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

/** Loads a part of ep2 that most of what it does has no use for. */
export const loadPart = <A>(part: () => Promise<A>) =>
  Effect.tryPromise({
    try: part,
    catch: (cause) =>
      new Stop({
        message: `a part of ep2 cannot be loaded: ${String(cause)}: install it anew`,
        exitCode: exitCodes.unexpected
      })
  })
