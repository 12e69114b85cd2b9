/**
 * The simulated edges in place of the real ones: settings and a template, played in
 * a scenario by the stack that `ep2 start` runs.
 */
import { Duration, Effect } from "effect"
import type { BackendSettings } from "../settings/Settings.ts"
import * as Simulation from "../simulation/Simulation.ts"
import type { Play } from "./Simulate.ts"
import * as Stack from "./Stack.ts"

/** What is played, with other layers in place of some of the simulated ones. */
export interface Swapped extends Play {
  /** Given the simulated edges, returns those to play on. */
  readonly swap?: (edges: Simulation.Edges) => Stack.Edges
}

/** Plays it. Never fails: what went wrong, and each rule that was broken, is in the outcome. */
export const play = ({ quietMillis, scenario, seed, settings, swap, template, untilMillis, version }: Swapped) =>
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
      Stack.follow(settings, template, {
        edges: swap === undefined ? edges : swap(edges),
        mayStart: true,
        onUp: Effect.void
      }).pipe(Effect.provide(Stack.layerAlone))
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
