/** How the process runs and ends: signals become a clean end, and the end an exit code. */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Cause, type Effect, Exit } from "effect"
import { exitCodes } from "./exitCodes.ts"
import { Stop } from "./Stop.ts"

/**
 * Runs an effect as the whole of this process. INT and TERM interrupt it and end with
 * 0, a `Stop` with its exit code, anything else with 1. Prints nothing: what
 * can go wrong has been said by whoever knows what to do about it.
 */
export const runMain = <A, E>(effect: Effect.Effect<A, E>): void =>
  NodeRuntime.runMain(effect, {
    disableErrorReporting: true,
    teardown: (exit, onExit) => onExit(exitCode(exit))
  })

const exitCode = (exit: Exit.Exit<unknown, unknown>): number => {
  if (Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause)) return exitCodes.done
  const error = Cause.squash(exit.cause)
  return error instanceof Stop ? error.exitCode : exitCodes.unexpected
}
