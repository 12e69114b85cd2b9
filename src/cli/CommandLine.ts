/** All commands of `ep2` together. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Effect } from "effect"
import { Command } from "effect/cli"
import * as Check from "./Check.ts"
import * as ConfFlag from "./ConfFlag.ts"
import * as Init from "./Init.ts"
import * as Overrule from "./Overrule.ts"
import * as Plan from "./Plan.ts"
import * as Render from "./Render.ts"
import { runMain } from "./runMain.ts"
import * as Shell from "./Shell.ts"
import * as Simulate from "./Simulate.ts"
import * as Start from "./Start.ts"
import { loadPart } from "./Stop.ts"
import { version } from "./version.ts"

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
    Simulate.commandWith((given) =>
      Effect.flatMap(
        loadPart(() => import("./Simulated.ts")),
        ({ play }) => play(given)
      )
    )
  ])
)

/** Runs what the arguments of this process say, as the whole of it. */
export const run = (): void =>
  root.pipe(Command.run({ version }), Effect.provide([NodeServices.layer, Shell.layer]), runMain)
