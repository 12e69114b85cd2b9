/**
 * The simulated edges in place of the real ones: settings and a template, played in
 * a scenario by the stack that `ep2 start` runs.
 */
import { Duration, Effect, Layer } from "effect"
import { Memories } from "../controller/Memories.ts"
import { Overrides } from "../controller/Overrides.ts"
import { SourceReport } from "../controller/SourceReport.ts"
import type { BackendSettings } from "../settings/Settings.ts"
import * as Simulation from "../simulation/Simulation.ts"
import type { Play } from "./Simulate.ts"
import * as Stack from "./Stack.ts"

/** Plays it. */
export const play = ({ quietMillis, scenario, seed, settings, template, untilMillis, version }: Play) =>
  Simulation.run({
    scenario,
    seed,
    untilMillis,
    quietMillis,
    version,
    sockets: settings.haproxy.sockets,
    configFile: settings.haproxy.configFile,
    reloadInterval: settings.haproxy.reloadInterval,
    backends: settings.backends.map(backendOf),
    program: (edges) =>
      Stack.follow(settings, template, { edges, mayStart: true, onUp: Effect.void }).pipe(
        Effect.provide(Layer.mergeAll(SourceReport.layer, Memories.layer, Overrides.layerNone))
      )
  })

const backendOf = ({ guard, interval, name, source }: BackendSettings): Simulation.Backend => ({
  name,
  kind: source._tag === "Aws" || source._tag === "Custom" ? "poll" : "watch",
  // Nobody knows its own words.
  source: source._tag === "Custom" ? "File" : source._tag,
  intervalMillis: Duration.toMillis(interval),
  allowEmpty: guard.allowEmpty,
  minServers: guard.minServers,
  maxRemovalPercent: guard.maxRemovalPercent,
  confirmations: guard.confirmations,
  windowMillis: Duration.toMillis(guard.window),
  proveTimeoutMillis: Stack.proveTimeoutMillis
})
