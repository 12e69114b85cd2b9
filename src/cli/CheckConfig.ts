/**
 * The template, and what HAProxy says of the config file that it makes: rendered
 * into a file of its own, so that the real one is never touched.
 */
import { mkdtemp, readFile, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { basename, join } from "node:path"
import { Effect, Result } from "effect"
import * as ConfigAdvice from "../haproxy/ConfigAdvice.ts"
import { ConfigFile } from "../haproxy/ConfigFile.ts"
import * as EndState from "../haproxy/EndState.ts"
import * as ServerRegion from "../haproxy/ServerRegion.ts"
import * as TemplateRenderer from "../haproxy/TemplateRenderer.ts"
import type { Settings } from "../settings/Settings.ts"
import { type Finding, ok, placed, problem, warning } from "./CheckReport.ts"

/** What is known of the template, and of the config that it makes. */
export interface Config {
  readonly findings: ReadonlyArray<Finding>
  /** By which a HAProxy that runs this can be told; `undefined` where nothing could be rendered. */
  readonly mark: string | undefined
}

/** Reads and renders the template, asks HAProxy about it, and looks for what is likely to hurt. */
export const config = Effect.fnUntraced(function* (settings: Settings, version: ConfigAdvice.Version | undefined) {
  const { backends, haproxy } = settings
  const { templateFile } = haproxy
  const read = yield* Effect.result(TemplateRenderer.read(templateFile))
  if (Result.isFailure(read))
    return { findings: [placed("problem", read.failure.message)], mark: undefined } satisfies Config
  const source = read.success
  const flaws = TemplateRenderer.errorsIn({ templateFile, source, backends, sockets: haproxy.sockets })
  const problems = flaws.map(({ message }) => placed("problem", message))
  // A socket that lacks keeps HAProxy from nothing: it can be asked about the rest all the same.
  if (TemplateRenderer.errorsIn({ templateFile, source, backends }).length > 0) {
    return { findings: problems, mark: undefined } satisfies Config
  }
  const onDisk = yield* Effect.promise(() => readFile(haproxy.configFile, "utf8").catch(() => ""))
  const rendered = yield* TemplateRenderer.TemplateRenderer.use(({ render }) =>
    render(backends.map((backend) => sample(backend, onDisk)))
  ).pipe(
    Effect.provide(TemplateRenderer.TemplateRenderer.layer({ templateFile, source, backends })),
    // Nothing is wrong with it: it was looked at.
    Effect.orDie
  )
  const asked = yield* ask(rendered, haproxy)
  const advice = ConfigAdvice.find(rendered.text, {
    backends: backends.map((backend) => ({
      name: backend.name,
      lineOptions: ServerRegion.optionsText(backend),
      nodeSlots: backend.nodeSlots
    })),
    sockets: haproxy.sockets,
    updateBy: haproxy.updateType === "update_by_config" ? "config" : "runtime",
    startBy: haproxy.startBy,
    version
  })
  const warnings = advice.map(({ line, text }) => {
    const at = line === undefined ? undefined : rendered.templateLine(line)
    return warning(at === undefined ? templateFile : `${templateFile}:${at}`, text)
  })
  return { findings: [...problems, ...asked, ...warnings], mark: rendered.mark } satisfies Config
})

/** Servers as a config file of ep2's has them, at least one: what is wrong with its line is wrong with all. */
const sample = (backend: Settings["backends"][number], onDisk: string) => {
  const known = { backend: backend.name, servers: ServerRegion.read(onDisk, backend.name) }
  return EndState.fresh({ backend: backend.name, wanted: [], known, nodeSlots: Math.max(1, backend.nodeSlots) })
}

/** What HAProxy says of it. */
const ask = Effect.fnUntraced(function* (
  rendered: TemplateRenderer.Rendered,
  { binary, configFile, templateFile }: Settings["haproxy"]
) {
  const folder = yield* Effect.acquireRelease(
    Effect.promise(() => mkdtemp(join(tmpdir(), "ep2-check-"))),
    (made) => Effect.promise(() => rm(made, { recursive: true, force: true }))
  )
  // Its other files may be named from the folder that it stands in.
  const isBound = /^\s*default-path\s+(?:config|parent)\b/m.test(rendered.text)
  const path = isBound ? configFile : join(folder, basename(configFile))
  const said = yield* ConfigFile.use(({ check }) => check(rendered)).pipe(
    Effect.provide(ConfigFile.layer({ configFile: path, binary })),
    Effect.result
  )
  if (Result.isSuccess(said)) {
    return [
      ok(templateFile, "HAProxy takes what it makes"),
      ...said.success.warnings.map((line) => placed("warning", line))
    ]
  }
  const { detail, reason } = said.failure
  if (reason !== "ConfigInvalid") return [problem(templateFile, `HAProxy could not be asked: ${detail}`)]
  // The first line says that there are some.
  return detail
    .split("\n")
    .slice(1)
    .map((line) => placed("problem", line))
}, Effect.scoped)
