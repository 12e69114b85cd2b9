/**
 * What `ep2 plan` and `ep2 start --dry-run` have in common: the stack of production
 * on edges that only look, and what else is known of the ep2 that may run beside.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Effect, Layer } from "effect"
import * as Lock from "../controller/Lock.ts"
import { Memories } from "../controller/Memories.ts"
import * as Overrides from "../controller/Overrides.ts"
import * as Preview from "../controller/Preview.ts"
import { SourceReport } from "../controller/SourceReport.ts"
import * as TemplateRenderer from "../haproxy/TemplateRenderer.ts"
import type { Settings } from "../settings/Settings.ts"
import { exitCodes } from "./exitCodes.ts"
import * as Live from "./Live.ts"
import * as ReadOnly from "./ReadOnly.ts"
import * as Sources from "./Sources.ts"
import * as Stack from "./Stack.ts"
import { stopWith } from "./Stop.ts"

/** Runs something on the stack that only looks, with the template as it is now. */
export const lookingOnly = Effect.fnUntraced(function* (settings: Settings) {
  const template = yield* TemplateRenderer.read(settings.haproxy.templateFile).pipe(
    Effect.provide(NodeServices.layer),
    Effect.mapError(cannotBeRendered)
  )
  // Nobody overrules what does nothing: a pause is told, and what it holds up is shown.
  const memories = Layer.mergeAll(
    Sources.Sources.layer,
    SourceReport.layer,
    Memories.layer,
    Overrides.Overrides.layerNone
  )
  return Stack.layer(settings, template, ReadOnly.edges(Live.edges(settings))).pipe(Layer.provideMerge(memories))
})

/** What the next pass would do as things are now. */
export const preview = Effect.fnUntraced(function* (settings: Settings) {
  const lock = { dir: settings.lock.dir, configFile: settings.haproxy.configFile }
  const running = yield* Lock.holderOf(lock).pipe(Effect.orElseSucceed(() => undefined))
  const nobody = { paused: undefined, isReleased: false }
  const overrules = yield* Overrides.seen(lock).pipe(Effect.orElseSucceed(() => nobody))
  const sources = new Map(settings.backends.map((backend) => [backend.name, Sources.describe(backend)]))
  return yield* Preview.make(Stack.backendsOf(settings), { sources, running, ...overrules })
})

/** Of a template or a config file that a start of ep2 would not get any further with either. */
export const cannotBeRendered = stopWith(exitCodes.bootstrap)
