/**
 * What happens when a pool has no slot left for what is wanted.
 *
 * | HAProxy | the pool grows |
 * | --- | --- |
 * | takes servers while it runs, in every process | by those: nothing is reloaded |
 * | is older than 2.6, refuses them, or has a config that they do not fit into (`AddObstacle`) | by one reload, to twice its size at least |
 * | cannot be reloaded at the moment | not: what leaves makes room |
 *
 * A refusal counts for as long as ep2 runs: what HAProxy does not take is in the
 * template or in server_options.
 */
import { Effect, Ref } from "effect"
import type * as Plan from "../domain/Plan.ts"
import { largestSlot, type ObservedState } from "../domain/State.ts"
import * as EndState from "../haproxy/EndState.ts"
import type { Failure } from "../haproxy/Haproxy.ts"
import { TemplateRenderer } from "../haproxy/TemplateRenderer.ts"
import { ConfigWriter, type Load, type Offer } from "./ConfigWriter.ts"

/** How a pool may grow, and what stands in the way of the better one. */
export interface Way {
  readonly growth: Plan.Options["growth"]
  /** Why not by adding servers; `undefined` where it is so. */
  readonly obstacle: string | undefined
}

/** What one backend has learnt of how its pool can grow. */
export interface Growth {
  /** How the pool may grow in this pass. */
  readonly way: (observed: ObservedState) => Effect.Effect<Way>
  /** Learns from what HAProxy refused. True: the plan was made for another way, and the next pass has to be. */
  readonly heed: (failures: ReadonlyArray<Failure>) => Effect.Effect<boolean>
  /** What the file is to hold after this pass, and whether HAProxy has to load it because the pool is too small. */
  readonly endState: (plan: Plan.Plan, observed: ObservedState) => Effect.Effect<Offer>
}

/**
 * HAProxy takes no such server. It is no error of the pass: there is another way.
 * That the socket has no rights, or that somebody else has just made a server of
 * that name, is one.
 */
export const isRefusal = ({ action, error }: Failure): boolean =>
  action?._tag === "Add" &&
  error._tag === "CommandRejected" &&
  error.command.startsWith("add server ") &&
  !/^(?:Permission denied|Already exists|No such backend)/.test(error.reply)

/**
 * For one backend; it begins without having been refused anything. Needs the renderer and the writer
 * of its config file.
 */
export const make = Effect.fnUntraced(function* (options: {
  readonly name: string
  readonly nodeSlots: number
  readonly updateBy: "runtime" | "config"
  readonly plan: { readonly prove: boolean }
}) {
  const { name, nodeSlots, updateBy } = options
  const renderer = yield* TemplateRenderer
  const writer = yield* ConfigWriter
  const refusal = yield* Ref.make<string | undefined>(undefined)
  /** Whether the last pass found that servers can be added. */
  const isElastic = yield* Ref.make(false)

  const obstacleTo = Effect.fnUntraced(function* ({ processes }: ObservedState) {
    const unable = processes.find(({ canAdd }) => canAdd !== true)
    if (unable !== undefined) return "this HAProxy takes no servers while it runs (2.6 and later do)"
    return (yield* renderer.addObstacle(name)) ?? (yield* Ref.get(refusal))
  })

  const way = Effect.fnUntraced(function* (observed: ObservedState) {
    if (updateBy === "config") return { growth: { by: "add", keep: 0 }, obstacle: undefined } satisfies Way
    const obstacle = yield* obstacleTo(observed)
    yield* Ref.set(isElastic, obstacle === undefined)
    if (obstacle === undefined) return { growth: { by: "add", keep: nodeSlots }, obstacle } satisfies Way
    const growth = (yield* writer.isStuck) ? undefined : ({ by: "reload" } as const)
    return { growth, obstacle } satisfies Way
  })

  const heed = Effect.fnUntraced(function* (failures: ReadonlyArray<Failure>) {
    const refused = failures.find(isRefusal)
    if (refused?.error._tag !== "CommandRejected") return false
    const words = `HAProxy refuses to add servers to ${name} while it runs (${JSON.stringify(refused.error.reply.split("\n")[0])})`
    yield* Ref.set(refusal, words)
    yield* Effect.logInfo(`${words}: its pool grows by a reload instead`)
    return true
  })

  const endState = Effect.fnUntraced(function* (plan: Plan.Plan, observed: ObservedState) {
    const offer = (pool: EndState.Pool, load: Load | undefined): Offer => {
      const servers = EndState.make(plan, observed, pool)
      return { servers, forLoad: EndState.forLoad(servers, plan, observed, options.plan), load }
    }
    if (yield* Ref.get(isElastic)) return offer({ size: nodeSlots, isElastic: true }, undefined)
    const present = largestSlot(observed.processes.flatMap(({ servers }) => servers))
    const needed = plan.placed.length + plan.unplaced.length
    const isShort = plan.unplaced.length > 0 || plan.isIncomplete
    // Slots that are on their way out count as taken, so that room is made where there is none.
    const enough = isShort ? EndState.grown(present, present + plan.unplaced.length) : nodeSlots
    const size = Math.max(nodeSlots, enough)
    const pool = { size, isElastic: false }
    if (!isShort) return offer(pool, undefined)
    const reason =
      plan.unplaced.length > 0
        ? `the pool of ${name} grows from ${present} to ${size} slots for ${needed} endpoints`
        : `a process lacks servers of ${name} that the others have`
    return offer(pool, { reason, pids: observed.processes.map(({ pid }) => pid) })
  })

  return { way, heed, endState } satisfies Growth
})
