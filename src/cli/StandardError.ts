/** Where the words of a command go whose output is for others: what would be a line of the log goes to standard error. */
import { Cause, Layer, Logger, References } from "effect"

/** Warnings and worse, each as one line of `ep2: …`. */
export const layer = Layer.merge(
  Logger.layer([
    Logger.make<unknown, void>(({ cause, fiber, message }) => {
      const { backend } = fiber.getRef(References.CurrentLogAnnotations)
      const words = (Array.isArray(message) ? message : [message]).map(String)
      if (cause.reasons.length > 0) words.push(Cause.pretty(cause))
      console.error(`ep2: ${typeof backend === "string" ? `${backend}: ` : ""}${words.join(" ")}`)
    })
  ]),
  Layer.succeed(References.MinimumLogLevel, "Warn")
)
