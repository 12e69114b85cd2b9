/** What `ep2 simulate` does: finds the scenario, plays it, and shows what came of it. */
import { Console, Effect, FileSystem, Option, Result } from "effect"
import * as TemplateRenderer from "../haproxy/TemplateRenderer.ts"
import * as Settings from "../settings/Settings.ts"
import type { Broken, Outcome } from "../simulation/Outcome.ts"
import * as Picture from "../simulation/Picture.ts"
import * as RandomScenario from "../simulation/RandomScenario.ts"
import * as Scenario from "../simulation/Scenario.ts"
import * as ScenarioFile from "../simulation/ScenarioFile.ts"
import * as Summary from "../simulation/Summary.ts"
import * as Timeline from "../simulation/Timeline.ts"
import { exitCodes } from "./exitCodes.ts"
import { defaults, type Play } from "./Simulate.ts"
import { badInput, Stop } from "./Stop.ts"

const random = {
  name: defaults.withSeed,
  description: "every kind of event by chance, from --seed; all is repaired in the end"
}

const all = [...Scenario.builtIns, random]

/** What `--scenario` takes besides a file. */
export const names: ReadonlyArray<string> = all.map(({ name }) => name)

/** Prints the names of the scenarios and what they are. */
export const list = Effect.gen(function* () {
  const width = Math.max(...names.map((name) => name.length))
  for (const { description, name } of all) yield* Console.log(`${name.padEnd(width)}  ${description}`)
})

/** What the flags say. */
export interface Given {
  readonly conf: string
  readonly scenario: Option.Option<string>
  readonly seed: Option.Option<number>
  readonly json: boolean
  readonly until: Option.Option<string>
  readonly plot: Option.Option<string>
  readonly version: Play["version"]
}

/** Plays one of them and prints it. A rule that was broken ends it with 1. */
export const simulate = Effect.fnUntraced(function* (
  given: Given,
  play: (given: Play) => Effect.Effect<Outcome, Stop>
) {
  const { settings, template } = yield* load(given.conf)
  const seed = Option.getOrElse(given.seed, () => 1)
  const name = Option.getOrElse(given.scenario, () => (Option.isSome(given.seed) ? random.name : defaults.scenario))
  const scenario = yield* scenarioOf(name, settings, seed)
  const untilMillis = yield* untilOf(given.until, scenario)

  const outcome = yield* play({ settings, template, scenario, version: given.version, seed, untilMillis })

  const title = `${scenario.name}: ${scenario.description}; seed ${seed}, HAProxy ${given.version}`
  const shown = given.json ? [asJson(outcome, scenario, seed, given)] : asText(outcome, title, untilMillis)
  yield* Console.log(shown.join("\n"))
  if (Option.isSome(given.plot)) {
    const events = outcome.entries.filter(({ kind }) => kind === "event").map(({ atMillis }) => atMillis)
    yield* plot(given.plot.value, Picture.svg(outcome.samples, { title, untilMillis, events }))
  }
  const [first] = outcome.broken
  if (first !== undefined) {
    const again = `ep2 simulate --conf ${given.conf} --scenario ${name} --seed ${seed} --version-of-haproxy ${given.version}`
    const until = Option.match(given.until, { onNone: () => "", onSome: (text) => ` --until ${text}` })
    const more = outcome.broken.length === 1 ? "" : `, and ${outcome.broken.length - 1} more`
    return yield* new Stop({
      message: `a rule was broken with seed ${seed}, ${ruleOf(first)}${more}; to see it again: ${again}${until}`,
      exitCode: exitCodes.unexpected
    })
  }
})

/** Settings and template, both looked at as a start does; HAProxy itself is not asked. */
const load = Effect.fnUntraced(function* (conf: string) {
  const { settings } = yield* Settings.load(conf)
  const { backends, haproxy } = settings
  const template = yield* TemplateRenderer.read(haproxy.templateFile)
  const nobody = backends.map(({ name }) => ({ backend: name, servers: [] }))
  yield* TemplateRenderer.TemplateRenderer.use(({ render }) => render(nobody)).pipe(
    Effect.provide(
      TemplateRenderer.TemplateRenderer.layer({
        templateFile: haproxy.templateFile,
        source: template,
        backends,
        sockets: haproxy.sockets
      })
    )
  )
  return { settings, template }
}, Effect.mapError(badInput))

const scenarioOf = Effect.fnUntraced(function* (name: string, settings: Settings.Settings, seed: number) {
  const processes = settings.haproxy.sockets.length
  const backends = settings.backends.map(({ name: backend, nodeSlots, port }) => ({
    name: backend,
    slots: nodeSlots,
    port: port === "service" ? undefined : port
  }))
  const builtIn = Scenario.builtIns.find((one) => one.name === name)
  const scenario =
    builtIn !== undefined
      ? builtIn.make({ backends, seed })
      : name === random.name
        ? RandomScenario.make({ backends, seed, processes })
        : yield* fromFile(name, backends)
  const needed = scenario.needs?.processes ?? 1
  if (needed > processes) {
    return yield* badInput({
      message: `${name} needs ${needed} processes of HAProxy, and ${settings.file} has ${processes}: name ${needed} sockets in haproxy_socket_file`
    })
  }
  return scenario
})

const fromFile = Effect.fnUntraced(function* (file: string, backends: ReadonlyArray<Scenario.BackendOptions>) {
  const fs = yield* FileSystem.FileSystem
  const text = yield* fs.readFileString(file).pipe(
    Effect.mapError(({ reason }) =>
      badInput({
        message:
          reason._tag === "NotFound"
            ? `there is no scenario and no file ${JSON.stringify(file)}; the scenarios are ${names.join(", ")}`
            : `${file} cannot be read: ${reason.message}`
      })
    )
  )
  return yield* Effect.fromResult(Result.mapError(ScenarioFile.parse(file, text, backends), badInput))
})

const untilOf = (until: Option.Option<string>, scenario: Scenario.Scenario) => {
  if (Option.isNone(until)) return Effect.succeed(scenario.durationMillis)
  const millis = ScenarioFile.readDuration(until.value)
  if (millis !== undefined && millis > 0) return Effect.succeed(millis)
  const message = `--until ${JSON.stringify(until.value)}: expected a duration such as 90s, 15m or 24h`
  return Effect.fail(new Stop({ message, exitCode: exitCodes.unexpected }))
}

const ruleOf = ({ atMillis, detail, rule }: Broken): string => `at ${Timeline.clock(atMillis)} (${rule}): ${detail}`

const asText = ({ broken, entries, samples, summary }: Outcome, title: string, untilMillis: number) => [
  title,
  "",
  ...Timeline.lines(entries),
  "",
  ...Picture.terminal(samples, { width: Math.min(process.stdout.columns ?? 80, 120), untilMillis }),
  "",
  ...Summary.lines(summary),
  ...broken.map((one) => `rule broken ${ruleOf(one)}`)
]

const asJson = (outcome: Outcome, scenario: Scenario.Scenario, seed: number, { version }: Given): string =>
  JSON.stringify(
    {
      scenario: scenario.name,
      seed,
      version,
      summary: Summary.numbers(outcome.summary),
      broken: outcome.broken,
      samples: outcome.samples,
      entries: outcome.entries
    },
    undefined,
    2
  )

const plot = Effect.fnUntraced(function* (file: string, svg: string) {
  const fs = yield* FileSystem.FileSystem
  yield* fs
    .writeFileString(file, svg)
    .pipe(
      Effect.mapError(
        ({ reason }) =>
          new Stop({ message: `${file} cannot be written: ${reason.message}`, exitCode: exitCodes.unexpected })
      )
    )
})
