/**
 * `ep2 render`: the config file as ep2 would leave it now, on standard output and
 * nothing else there. It changes nothing, and works beside an ep2 that runs.
 *
 * | source | what its backend has |
 * | --- | --- |
 * | answers | what it names, less what the guard holds, under the names that HAProxy or the file has |
 * | does not answer | what HAProxy serves, or else what the file has; a warning |
 * | none answers, and neither HAProxy nor a file of ep2's is there | nothing is printed: exit code 6 |
 * | `--empty` | free slots only; neither source nor HAProxy is asked |
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Console, Duration, Effect, FileSystem, Layer, Option } from "effect"
import { Command, Flag } from "effect/cli"
import * as FirstStep from "../controller/FirstStep.ts"
import { Memories } from "../controller/Memories.ts"
import type { DesiredState } from "../domain/State.ts"
import { markOf } from "../haproxy/ConfigFile.ts"
import * as EndState from "../haproxy/EndState.ts"
import { Haproxy } from "../haproxy/Haproxy.ts"
import { HaproxySocket } from "../haproxy/HaproxySocket.ts"
import type { BackendServers } from "../haproxy/ServerRegion.ts"
import * as TemplateRenderer from "../haproxy/TemplateRenderer.ts"
import * as Settings from "../settings/Settings.ts"
import * as ConfFlag from "./ConfFlag.ts"
import { exitCodes } from "./exitCodes.ts"
import { Sources } from "./Sources.ts"
import * as Stack from "./Stack.ts"
import * as StandardError from "./StandardError.ts"
import { badInput, Stop } from "./Stop.ts"

const empty = Flag.Boolean("empty").pipe(
  Flag.withDescription("With free slots only: ask neither the source nor HAProxy"),
  Flag.withDefault(false)
)

/** The command, for the root. */
export const command = Command.make("render", { conf: ConfFlag.conf, empty }, ({ conf, empty: isEmpty }) =>
  Effect.gen(function* () {
    const text = yield* render(conf, isEmpty)
    yield* Console.log(text.replace(/\n$/, ""))
  }).pipe(
    Effect.tapError((stop) => Console.error(`ep2: ${stop.message}`)),
    Effect.provide(StandardError.layer)
  )
).pipe(
  Command.withDescription("Print the config file that ep2 would write now; nothing is changed"),
  Command.withExamples([
    { command: "ep2 render --conf /etc/ep2/ep2.conf", description: "What HAProxy would get, on standard output" },
    { command: "ep2 render | diff /etc/haproxy/haproxy.cfg -", description: "What would change in its file" },
    {
      command: "ep2 render --empty | haproxy -c -f /dev/stdin",
      description: "Whether HAProxy takes the template, in CI"
    }
  ])
)

/** An AWS answer may take that long, with all of its tries. */
const patience = Duration.seconds(50)

const render = Effect.fn("Render.render")(function* (conf: string, isEmpty: boolean) {
  const { settings, warnings } = yield* Settings.load(conf).pipe(Effect.mapError(badInput))
  for (const warning of warnings) yield* Effect.logWarning(warning)
  const { backends, haproxy } = settings
  const { sockets, templateFile } = haproxy
  const source = yield* TemplateRenderer.read(templateFile).pipe(Effect.mapError(badInput))
  const flaws = TemplateRenderer.errorsIn({ templateFile, source, backends, sockets })
  if (flaws.length > 0) return yield* badInput({ message: flaws.map(({ message }) => message).join("\n") })
  const servers = isEmpty ? backends.map(freeSlots) : yield* asTheyAre(settings)
  const { text } = yield* TemplateRenderer.TemplateRenderer.use((renderer) => renderer.render(servers)).pipe(
    Effect.provide(TemplateRenderer.TemplateRenderer.layer({ templateFile, source, backends, sockets })),
    Effect.mapError(badInput)
  )
  return text
}, Effect.provide(NodeServices.layer))

const freeSlots = ({ name, nodeSlots }: Settings.BackendSettings): BackendServers =>
  EndState.fresh({ backend: name, wanted: [], known: { backend: name, servers: [] }, nodeSlots })

const asTheyAre = Effect.fnUntraced(function* (settings: Settings.Settings) {
  const { configFile, sockets } = settings.haproxy
  const fs = yield* FileSystem.FileSystem
  const onDisk = yield* fs.readFileString(configFile).pipe(Effect.orElseSucceed(() => ""))
  const answers = yield* answersOf(settings.backends).pipe(Effect.provide(Sources.layer))
  return yield* Effect.gen(function* () {
    const backends = Stack.backendsOf(settings)
    const { processes } = yield* (yield* Haproxy).observe(backends[0]!.name)
    if (answers.size === 0 && processes.length === 0 && markOf(onDisk) === undefined) {
      return yield* new Stop({
        message: `no source answers, HAProxy does not, and ${configFile} is none of ep2's: ep2 would wait; see --empty`,
        exitCode: exitCodes.source
      })
    }
    const firsts = yield* Effect.forEach(backends, (one) =>
      FirstStep.firstServers(one, answers.get(one.name), onDisk, true)
    )
    return firsts.map(({ servers }) => servers)
  }).pipe(
    Effect.provide(
      Layer.merge(Stack.haproxyLayer(settings).pipe(Layer.provide(HaproxySocket.layer({ sockets }))), Memories.layer)
    )
  )
})

/** What the sources say that answer; of the others there is a warning. */
const answersOf = Effect.fnUntraced(function* (backends: ReadonlyArray<Settings.BackendSettings>) {
  const { fetch } = yield* (yield* Sources).fetcherOf(backends)
  const answers = new Map<string, DesiredState>()
  yield* Effect.forEach(
    backends,
    Effect.fnUntraced(function* ({ name }) {
      const answer = yield* fetch(name).pipe(
        Effect.tapError(({ message }) => Effect.logWarning(message)),
        Effect.timeoutOption(patience),
        Effect.option
      )
      const desired = Option.flatten(answer)
      if (Option.isSome(desired)) answers.set(name, desired.value)
      else yield* Effect.logWarning(`${name} has what HAProxy or its file has: its source does not answer`)
    }),
    { concurrency: "unbounded", discard: true }
  )
  return answers
}, Effect.scoped)
