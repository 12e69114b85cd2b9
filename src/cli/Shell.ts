/**
 * How the command line meets the shell: help, errors, version and completions, in
 * colours only where somebody sees them.
 *
 * Help that was asked for, and the version, go to standard output; what is said
 * of a wrong command line goes to standard error with all of its help, so that
 * nothing of it runs into whatever reads the output.
 */
import { isatty } from "node:tty"
import { Console, Effect, Layer, Option } from "effect"
import { CliConfig, CliOutput, Completions, GlobalFlag } from "effect/cli"
import { loadPart } from "./Stop.ts"
import * as Version from "./version.ts"

const output = 1
const errors = 2

/**
 * Whether what is written to a file descriptor may have colours: only a terminal,
 * and neither where `NO_COLOR` says something nor where `TERM` says that it is dumb.
 *
 * Source: no-color.org. `FORCE_COLOR` is left alone: who pipes wants text.
 */
export const hasColour = (
  descriptor: number,
  { NO_COLOR = "", TERM }: Readonly<Record<string, string | undefined>> = process.env,
  isTerminal: (descriptor: number) => boolean = isatty
): boolean => NO_COLOR === "" && TERM !== "dumb" && isTerminal(descriptor)

const formatterOf = (descriptor: number) => CliOutput.defaultFormatter({ colors: hasColour(descriptor) })

const presenter: CliOutput.Presenter = {
  present: (event) => {
    switch (event._tag) {
      case "Help":
        return Console.log(formatterOf(output).formatHelpDoc(event.helpDoc))
      case "Version":
        return Console.log(Version.whole)
      case "InvalidInvocation": {
        const formatter = formatterOf(errors)
        return Console.error(
          `${formatter.formatHelpDoc(event.helpDoc)}\n${formatter.formatErrors(event.errors).trimEnd()}`
        )
      }
    }
  }
}

/** What completes the value of a flag, which takes any text: a list cannot be the whole of it, and a path is not looked at. */
const valuesOf = (scenarios: ReadonlyArray<string>): Readonly<Record<string, Completions.FlagType>> => ({
  conf: { _tag: "Path", pathType: "file" },
  plot: { _tag: "Path", pathType: "file" },
  dir: { _tag: "Path", pathType: "directory" },
  scenario: { _tag: "Choice", values: scenarios }
})

const completed = (
  command: Completions.CommandDescriptor,
  values: Readonly<Record<string, Completions.FlagType>>
): Completions.CommandDescriptor => ({
  ...command,
  flags: command.flags.map((flag) => ({ ...flag, type: values[flag.name] ?? flag.type })),
  subcommands: command.subcommands.map((one) => completed(one, values))
})

/** `--completions SHELL`, as Effect has it, with what ep2 knows of its flags besides. */
const completions = GlobalFlag.Action({
  flag: GlobalFlag.Completions.flag,
  run: Effect.fnUntraced(function* (shell, { command }) {
    if (Option.isNone(shell)) return
    const { name } = command
    const { names } = yield* loadPart(() => import("./Scenarios.ts")).pipe(
      Effect.tapError(({ message }) => Console.error(`ep2: ${message}`)),
      Effect.orDie
    )
    yield* Console.log(
      Completions.generate(name, shell.value, completed(Completions.fromCommand(command), valuesOf(names)))
    )
  })
})

/** What the command line is run with. The flags of Effect's that mean nothing here are left out: log_level is in ep2.conf. */
export const layer = Layer.mergeAll(
  CliConfig.layer({ builtIns: [GlobalFlag.Help, GlobalFlag.Version, completions] }),
  CliOutput.layerPresenter(presenter)
)
