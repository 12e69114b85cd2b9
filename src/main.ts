/** The process: runs the command line, turns signals into a clean end, and the end into an exit code. */
import "./requireNode.ts"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Cause, Effect, Exit } from "effect"
import { Command } from "effect/cli"
import * as ConfFlag from "./cli/ConfFlag.ts"
import { exitCodes } from "./cli/exitCodes.ts"
import * as Overrule from "./cli/Overrule.ts"
import * as Plan from "./cli/Plan.ts"
import * as Simulate from "./cli/Simulate.ts"
import * as Simulated from "./cli/Simulated.ts"
import * as Start from "./cli/Start.ts"
import { Stop } from "./cli/Stop.ts"
import { version } from "./cli/version.ts"

/** `ep2` by itself, and `ep2 -f FILE`, start the loop, as EP2 1.0 did. */
const root = Command.make("ep2", { conf: ConfFlag.conf }, ({ conf }) => Start.run(conf)).pipe(
  Command.withDescription(
    "Keeps the servers of HAProxy backends in step with Consul, a file or AWS. Without a command: start."
  ),
  Command.withExamples([
    { command: "ep2 start --conf /etc/ep2/ep2.conf", description: "Keep HAProxy in step until a signal comes" },
    { command: "ep2 -f /etc/ep2/ep2.conf", description: "The same, as EP2 1.0 was started" }
  ]),
  Command.withSubcommands([Start.command, Plan.command, ...Overrule.commands, Simulate.commandWith(Simulated.play)])
)

const exitCode = (exit: Exit.Exit<unknown, unknown>): number => {
  if (Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause)) return exitCodes.done
  const error = Cause.squash(exit.cause)
  return error instanceof Stop ? error.exitCode : exitCodes.unexpected
}

root.pipe(
  Command.run({ version }),
  Effect.provide(NodeServices.layer),
  // Everything that can go wrong has been said by whoever knows what to do about it.
  NodeRuntime.runMain({ disableErrorReporting: true, teardown: (exit, onExit) => onExit(exitCode(exit)) })
)
