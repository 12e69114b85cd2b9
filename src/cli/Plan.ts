/**
 * `ep2 plan`: what the next pass would do, and why. Nothing is changed, no lock is
 * taken, and so it works beside an ep2 that runs.
 */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { Console, Duration, Effect, Logger, Schema } from "effect"
import { Command, Flag } from "effect/cli"
import { isTransient, troubleOf } from "../controller/Controller.ts"
import * as Preview from "../controller/Preview.ts"
import { Reconciler } from "../controller/Reconciler.ts"
import { SourceReport } from "../controller/SourceReport.ts"
import * as Settings from "../settings/Settings.ts"
import * as ConfFlag from "./ConfFlag.ts"
import { exitCodes } from "./exitCodes.ts"
import * as Foresight from "./Foresight.ts"
import * as PlanTable from "./PlanTable.ts"
import { badInput, Stop } from "./Stop.ts"

/** How long the sources together may take, as at a start. */
const patience = Duration.seconds(5)

const json = Flag.Boolean("json").pipe(
  Flag.withDescription("Print all of it as JSON, in the shape that docs/commands.md tells"),
  Flag.withDefault(false)
)

/** The command. Ends with 0 where nothing is to do, 5 where something is, and 2, 4, 6 or 7 where it cannot tell. */
export const command = Command.make("plan", { conf: ConfFlag.conf, json }, (given) =>
  // What would be done is what is printed; what ep2 would log on the way is not.
  plan(given).pipe(
    Effect.provide(Logger.layer([])),
    Effect.tapError((stop) =>
      stop.exitCode === exitCodes.changes ? Effect.void : Console.error(`ep2: ${stop.message}`)
    )
  )
).pipe(
  Command.withDescription(
    "Show what the next pass would do and why, and change nothing; exit code 0: nothing to do, 5: something"
  ),
  Command.withExamples([
    {
      command: "ep2 plan --conf /etc/ep2/ep2.conf",
      description: "Look before ep2 is started, or beside one that runs"
    },
    {
      command: "ep2 plan --json | jq '.backends[].processes[].servers[] | select(.action != \"keep\")'",
      description: "Only what would not stay as it is"
    }
  ])
)

const plan = Effect.fnUntraced(function* (given: { readonly conf: string; readonly json: boolean }) {
  const { settings } = yield* Settings.load(given.conf).pipe(
    Effect.provide(NodeFileSystem.layer),
    Effect.mapError(badInput)
  )
  const looking = yield* Foresight.lookingOnly(settings)
  const found = yield* Effect.andThen(
    askSources(settings),
    Foresight.preview(settings).pipe(Effect.mapError(Foresight.cannotBeRendered))
  ).pipe(Effect.provide(looking), Effect.scoped)

  const text = given.json
    ? JSON.stringify(yield* Schema.encodeEffect(Preview.Preview)(found).pipe(Effect.orDie), undefined, 2)
    : PlanTable.lines(found, { isColoured: PlanTable.isColoured(process.stdout, process.env) }).join("\n")
  yield* Console.log(text)
  const exit = exitOf(found)
  if (exit !== undefined) return yield* exit
})

/** Each source once, and again while that can help: as a start would. What fails is known to `SourceReport`. */
const askSources = Effect.fnUntraced(function* ({ backends }: Settings.Settings) {
  const { fetch } = yield* Reconciler
  const report = yield* SourceReport
  const ask = (backend: string) =>
    fetch(backend).pipe(
      Effect.tapError((error) => report.heard(backend, troubleOf(error))),
      Effect.retry({ while: isTransient, times: 1 }),
      Effect.ignore
    )
  yield* Effect.forEach(backends, ({ name }) => ask(name), { concurrency: "unbounded", discard: true }).pipe(
    Effect.timeoutOption(patience)
  )
})

/** With what the command ends, and what it says of it; `undefined` where there is nothing to do. */
const exitOf = ({ backends, isChange, step }: Preview.Preview): Stop | undefined => {
  const mute = backends.flatMap(({ name, sourceError }) =>
    sourceError === null ? [] : [`the source of ${name}: ${sourceError}`]
  )
  if (mute.length > 0) return new Stop({ message: mute.join("\n"), exitCode: exitCodes.source })
  const silent = new Set(backends.flatMap(({ processes }) => processes.flatMap(({ error }) => error ?? [])))
  if (silent.size > 0) {
    return new Stop({ message: `HAProxy cannot be asked: ${[...silent].join("\n")}`, exitCode: exitCodes.notLevel })
  }
  if (step.action === "wait") return new Stop({ message: step.reason, exitCode: exitCodes.notLevel })
  return isChange ? new Stop({ message: "something would be changed", exitCode: exitCodes.changes }) : undefined
}
