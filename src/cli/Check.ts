/**
 * `ep2 check`: everything that can be wrong, at once. It changes nothing, and works
 * beside an ep2 that runs.
 *
 * | part | is looked at where |
 * | --- | --- |
 * | HAProxy, its sockets, files | `[haproxy]` can be read |
 * | sources | of each backend that can be read |
 * | template | nothing is wrong with the conf |
 * | lock | the conf says where it is |
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Console, Effect, Layer, Result } from "effect"
import { Command, Flag } from "effect/cli"
import { Commands } from "../haproxy/Commands.ts"
import { HaproxySocket } from "../haproxy/HaproxySocket.ts"
import * as Settings from "../settings/Settings.ts"
import { describePlace, describeProblem, type SettingsError } from "../settings/SettingsError.ts"
import * as CheckConfig from "./CheckConfig.ts"
import * as CheckFiles from "./CheckFiles.ts"
import * as CheckHaproxy from "./CheckHaproxy.ts"
import * as CheckReport from "./CheckReport.ts"
import * as CheckSource from "./CheckSource.ts"
import * as ConfFlag from "./ConfFlag.ts"
import { exitCodes } from "./exitCodes.ts"
import * as Shell from "./Shell.ts"
import { Sources } from "./Sources.ts"
import * as StandardError from "./StandardError.ts"
import { Stop } from "./Stop.ts"

const json = Flag.Boolean("json").pipe(Flag.withDescription("Print the findings as JSON"), Flag.withDefault(false))

/** The command, for the root. */
export const command = Command.make("check", { conf: ConfFlag.conf, json }, ({ conf, json: isJson }) =>
  Effect.gen(function* () {
    const entries = yield* examine(conf)
    const isColoured = Shell.hasColour(1)
    yield* Console.log(isJson ? CheckReport.json(entries) : CheckReport.lines(entries, { isColoured }).join("\n"))
    const bad = entries.filter(({ level }) => level === "problem")
    if (bad.length === 0) return
    const isConf = bad.some(({ subject }) => subject === "conf")
    return yield* new Stop({
      message: `${bad.length} problems`,
      exitCode: isConf ? exitCodes.badConfig : exitCodes.checkFailed
    })
  }).pipe(Effect.provide(StandardError.layer))
).pipe(
  Command.withDescription("Look for everything that can be wrong, at once, and say what to do; nothing is changed"),
  Command.withExamples([
    { command: "ep2 check --conf /etc/ep2/ep2.conf", description: "Before ep2 is started, and after an edit" },
    { command: "ep2 check --json | jq '.findings[] | select(.level != \"ok\")'", description: "For monitoring" }
  ])
)

/** All that is found, in the order of the report. */
export const examine = Effect.fn("Check.examine")(function* (conf: string) {
  const surveyed = yield* Effect.result(Settings.survey(conf).pipe(Effect.provide(NodeServices.layer)))
  if (Result.isFailure(surveyed)) return inOrder({ conf: ofConf(surveyed.failure) })
  const { backends, error, shared, warnings } = surveyed.success
  const confFindings = [
    ...(error === undefined
      ? [CheckReport.ok(conf, `can be read: ${backends.map(({ name }) => name).join(", ")}`)]
      : ofConf(error)),
    ...warnings.map((line) => CheckReport.placed("warning", line))
  ]
  const [first, ...more] = backends
  const settings =
    error === undefined && shared !== undefined && first !== undefined
      ? { ...shared, backends: [first, ...more] as const }
      : undefined
  const left = [
    ...(shared === undefined ? ["HAProxy", "its sockets", "files"] : []),
    ...(settings === undefined ? ["template"] : []),
    ...(backends.length === 0 ? ["sources"] : [])
  ]
  if (left.length > 0) {
    confFindings.push(CheckReport.warning(conf, `not looked at before that is mended: ${left.join(", ")}`))
  }
  const [haproxy, source, files, lock] = yield* Effect.all(
    [
      shared === undefined ? nothing : ofHaproxy(shared, settings),
      backends.length === 0 ? none : CheckSource.sources(backends).pipe(Effect.provide(Sources.layer)),
      shared === undefined ? none : CheckFiles.files(shared),
      ofLock(conf)
    ],
    { concurrency: "unbounded" }
  )
  return inOrder({ conf: confFindings, ...haproxy, source, files, lock })
})

type Found = Partial<Record<CheckReport.Entry["subject"], ReadonlyArray<CheckReport.Finding>>>

const none = Effect.succeed<ReadonlyArray<CheckReport.Finding>>([])
const nothing = Effect.succeed<Found>({})

const inOrder = (found: Found): ReadonlyArray<CheckReport.Entry> =>
  CheckReport.subjects.flatMap((subject) => (found[subject] ?? []).map((finding) => ({ subject, ...finding })))

const ofConf = ({ file, problems }: SettingsError): ReadonlyArray<CheckReport.Finding> =>
  problems.map((one) => {
    const place = describePlace(file, one)
    return CheckReport.problem(place, describeProblem(file, one).slice(place.length + 2))
  })

const ofHaproxy = Effect.fnUntraced(
  function* (shared: Omit<Settings.Settings, "backends">, settings: Settings.Settings | undefined) {
    const { haproxy } = shared
    const binary = yield* CheckHaproxy.binary(haproxy.binary)
    const config = settings === undefined ? undefined : yield* CheckConfig.config(settings, binary.version)
    const sockets = yield* CheckHaproxy.sockets(haproxy, config?.mark).pipe(
      Effect.provide(HaproxySocket.layer({ sockets: haproxy.sockets }))
    )
    const started = yield* CheckHaproxy.startBy(haproxy, sockets.running)
    const found: Found = {
      haproxy: [...binary.findings, ...started],
      template: config?.findings ?? [],
      socket: sockets.findings
    }
    return found
  },
  Effect.provide(Layer.merge(NodeServices.layer, Commands.layer))
)

/** Of the conf no more is needed than where the lock is. */
const ofLock = Effect.fnUntraced(function* (conf: string) {
  const identity = yield* Effect.result(Settings.loadIdentity(conf).pipe(Effect.provide(NodeServices.layer)))
  return Result.isFailure(identity) ? [] : yield* CheckFiles.lock(identity.success.lock)
})
