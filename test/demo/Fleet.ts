/**
 * The servers of the demo, and the list of them that ep2 follows: what an
 * orchestrator would start, name and end.
 */
import { Effect, Scope } from "effect"
import { endpointKey } from "../../src/domain/State.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"
import * as Ports from "../servers/Ports.ts"
import type { Sandbox } from "./Sandbox.ts"

export interface Fleet {
  /** Every server that was ever started, in order. */
  readonly all: () => ReadonlyArray<HttpBackends.HttpBackend>
  /** The names on the list now. */
  readonly listed: () => ReadonlyArray<string>
  readonly find: (name: string) => HttpBackends.HttpBackend
  /** The name of the server at an endpoint, as `endpointKey` spells it. */
  readonly nameOf: (endpoint: string) => string | undefined
  /** Starts servers of the present generation; they run, but are on no list. Returns their names. */
  readonly start: (count: number) => Effect.Effect<ReadonlyArray<string>>
  /** Servers that are started from now on are called otherwise. */
  readonly nextGeneration: () => void
  /** Replaces the list. Returns when that was done, on `performance.now()`. */
  readonly list: (names: ReadonlyArray<string>) => Effect.Effect<number>
}

const generations = ["blue", "green", "amber", "violet"] as const

/** A fleet without servers, and an empty list. What it starts ends with the scope. */
export const make = (sandbox: Sandbox): Effect.Effect<Fleet, never, Scope.Scope> =>
  Effect.gen(function* () {
    const scope = yield* Effect.scope
    const started = new Map<string, HttpBackends.HttpBackend>()
    const names = new Map<string, string>()
    let listed: ReadonlyArray<string> = []
    let generation = 0

    const find = (name: string) => {
      const server = started.get(name)
      if (server === undefined) throw new Error(`no server ${name}`)
      return server
    }
    const startOne = Effect.gen(function* () {
      const colour = generations[generation % generations.length]!
      const name = `${colour}-${[...started.keys()].filter((one) => one.startsWith(`${colour}-`)).length + 1}`
      const port = yield* Effect.promise(() => Ports.unused())
      const server = yield* HttpBackends.make({ name, address: addressOf(started.size), port })
      started.set(name, server)
      names.set(endpointKey(server.endpoint), name)
      return name
    }).pipe(Effect.provideService(Scope.Scope, scope))
    return {
      all: () => [...started.values()],
      listed: () => listed,
      find,
      nameOf: (endpoint) => names.get(endpoint),
      start: (count) => Effect.forEach(Array.from({ length: count }), () => startOne),
      nextGeneration: () => {
        generation++
      },
      list: Effect.fnUntraced(function* (wanted: ReadonlyArray<string>) {
        yield* sandbox.writeList(sandbox.targets, wanted.map(find))
        listed = wanted
        return performance.now()
      })
    }
  })

// Elsewhere, only 127.0.0.1 of the loopback addresses is there without being set up.
const addressOf = (index: number) => (process.platform === "linux" ? `127.0.0.${11 + (index % 200)}` : "127.0.0.1")
