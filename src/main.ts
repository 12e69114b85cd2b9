/** The process: runs the command line. */
import "./requireNode.ts"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Effect } from "effect"
import { Command } from "effect/cli"
import * as Check from "./cli/Check.ts"
import * as ConfFlag from "./cli/ConfFlag.ts"
import * as Init from "./cli/Init.ts"
import * as Overrule from "./cli/Overrule.ts"
import * as Plan from "./cli/Plan.ts"
import * as Render from "./cli/Render.ts"
import { runMain } from "./cli/runMain.ts"
import * as Shell from "./cli/Shell.ts"
import * as Simulate from "./cli/Simulate.ts"
import * as Simulated from "./cli/Simulated.ts"
import * as Start from "./cli/Start.ts"
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
  Command.withSubcommands([
    Start.command,
    Plan.command,
    Check.command,
    Render.command,
    Init.command,
    ...Overrule.commands,
    Simulate.commandWith(Simulated.play)
  ])
)

root.pipe(Command.run({ version }), Effect.provide([NodeServices.layer, Shell.layer]), runMain)
