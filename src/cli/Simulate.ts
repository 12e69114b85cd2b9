/**
 * `ep2 simulate`: what these settings and this template do in a scenario, in hours
 * of virtual time and seconds of real time. Nothing outside of ep2 is touched.
 *
 * What it does is loaded when it is asked for: `ep2 start` has no use for it.
 */
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { Console, Effect } from "effect"
import { Command, Flag } from "effect/cli"
import type * as Settings from "../settings/Settings.ts"
import type { Outcome } from "../simulation/Outcome.ts"
import type * as Scenario from "../simulation/Scenario.ts"
import * as ConfFlag from "./ConfFlag.ts"
import { loadPart, type Stop } from "./Stop.ts"

/** The HAProxy that is simulated: those differ in what they can do. */
export const versions = ["2.2", "2.6", "3.0", "3.2"] as const

/** What is played, and with what. */
export interface Play {
  readonly settings: Settings.Settings
  /** The text of the template. */
  readonly template: string
  readonly scenario: Scenario.Scenario
  readonly version: (typeof versions)[number]
  readonly seed: number
  readonly untilMillis: number
  /** Ends sooner, once nothing more happens and all has been as it should be for so long. */
  readonly quietMillis?: number
}

/** What is played where no scenario is named: this, or with a seed what chance makes of it. */
export const defaults = { scenario: "scale-out", withSeed: "random" } as const

const flags = {
  conf: ConfFlag.conf,
  scenario: Flag.String("scenario").pipe(
    Flag.withAlias("s"),
    Flag.withDescription(
      `Name of a scenario (see --list), or a file in YAML (default: ${defaults.scenario}; ${defaults.withSeed} with --seed)`
    ),
    Flag.optional
  ),
  seed: Flag.Int("seed").pipe(
    Flag.withDescription("Number that decides chance: the same plays the same"),
    Flag.optional
  ),
  list: Flag.Boolean("list").pipe(
    Flag.withDescription("List the scenarios and do nothing else"),
    Flag.withDefault(false)
  ),
  json: Flag.Boolean("json").pipe(Flag.withDescription("Print all of it as JSON"), Flag.withDefault(false)),
  until: Flag.String("until").pipe(
    Flag.withDescription("Virtual time to play, such as 90s, 15m or 24h (default: the scenario's own)"),
    Flag.optional
  ),
  plot: Flag.String("plot").pipe(
    Flag.withDescription("Write wanted against served over time into this file, as an SVG"),
    Flag.optional
  ),
  version: Flag.Literals("version-of-haproxy", versions).pipe(
    Flag.withDescription(`HAProxy that is simulated (default: ${versions.at(-1)})`),
    Flag.withDefault("3.2" as const)
  )
}

/** The command, with what plays. */
export const commandWith = (play: (given: Play) => Effect.Effect<Outcome, Stop>) =>
  Command.make("simulate", flags, (given) =>
    loadPart(() => import("./Scenarios.ts")).pipe(
      Effect.flatMap((Scenarios) => (given.list ? Scenarios.list : Scenarios.simulate(given, play))),
      Effect.provide(NodeFileSystem.layer),
      Effect.tapError((stop) => Console.error(`ep2: ${stop.message}`))
    )
  ).pipe(
    Command.withDescription("Show what these settings do in a scenario: virtual time, nothing is touched"),
    Command.withExamples([
      { command: "ep2 simulate --conf /etc/ep2/ep2.conf", description: "From 3 servers to 300 at once" },
      {
        command: "ep2 simulate --scenario source-outage --plot outage.svg",
        description: "The source is out for an hour"
      },
      { command: "ep2 simulate --seed 42 --until 24h", description: "A day of whatever can happen" }
    ])
  )
