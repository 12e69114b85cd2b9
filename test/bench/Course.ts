/**
 * A round trip of changes to one backend, from an empty pool back to one: what ep2
 * does for it, and the very same commands without ep2.
 */
import { Effect } from "effect"
import * as Plan from "../../src/domain/Plan.ts"
import type { Endpoint } from "../../src/domain/State.ts"
import type * as Binaries from "../servers/Binaries.ts"
import * as BareClient from "./BareClient.ts"
import * as PooledHaproxy from "./PooledHaproxy.ts"

/** What is changed, in this order. */
export const steps = ["all in", "all replaced", "half out", "rest out"] as const
export type Step = (typeof steps)[number]

/** Times of each step, in milliseconds. */
export interface Took {
  /** In `Haproxy.apply`, over all passes of the step. */
  readonly apply: number
  /** In observe, plan and apply. */
  readonly passes: number
  /** Processor time of this process for the passes. */
  readonly cpu: number
}

export interface Options {
  readonly version: Binaries.HaproxyVersion
  readonly processes: number
  readonly kind: "slots" | "dynamic"
  readonly size: number
}

/** From so many on HAProxy itself takes long for each command, but for the slots of 3.2, and there nothing is replaced. */
const many = 10_000

export interface Course {
  /** Whether the course has this step. */
  readonly has: (step: Step) => boolean
  /** ep2 makes the passes of a step until nothing is left to do. */
  readonly ep2: (step: Step) => Effect.Effect<Took>
  /** The same commands, per step, as the last `ep2` sent them. */
  readonly batches: (step: Step) => ReadonlyArray<BareClient.Batch>
  /** What leads from "all in" back to an empty pool at once. */
  readonly reset: ReadonlyArray<BareClient.Batch>
}

/** A step that takes more passes than this is stuck. */
const mostPasses = 30

export const make = Effect.fnUntraced(function* ({ kind, processes, size, version }: Options) {
  const isReplaced = size < many || (kind === "slots" && version === "3.2")
  const has = (step: Step) => step !== "all replaced" || isReplaced
  const slots = isReplaced ? 2 * size : size
  const server = yield* PooledHaproxy.make({ version, processes, slots: kind === "slots" ? slots : 0 })
  const { haproxy, hear } = yield* PooledHaproxy.connect(server.sockets)
  const wanted: Record<Step, ReadonlyArray<Endpoint>> = {
    "all in": PooledHaproxy.endpoints(1, size),
    "all replaced": PooledHaproxy.endpoints(size + 1, size),
    "half out": PooledHaproxy.endpoints(isReplaced ? size + 1 : 1, Math.floor(size / 2)),
    "rest out": []
  }
  const options = {
    prove: false,
    drainTimeoutMillis: 30_000,
    drainTimeoutAction: "wait",
    proveTimeoutMillis: 30_000,
    growth: kind === "slots" ? undefined : ({ by: "add", keep: 0 } as const)
  } as const
  const sent = new Map<Step, ReadonlyArray<PooledHaproxy.Sent>>()
  let memory = Plan.emptyMemory

  const ep2 = Effect.fnUntraced(function* (step: Step) {
    const desired = {
      backend: "web",
      wanted: wanted[step].map((endpoint) => ({ endpoint, origin: "bench" })),
      refused: [],
      pending: [],
      leaving: []
    }
    const all: Array<PooledHaproxy.Sent> = []
    let apply = 0
    const [began, cpu] = [performance.now(), process.cpuUsage()]
    for (let pass = 1; ; pass++) {
      const observed = yield* haproxy.observe("web")
      const plan = Plan.make(desired, observed, memory, { ...options, nowMillis: Date.now() })
      memory = plan.memory
      if (Plan.isSettled(plan)) break
      if (pass === mostPasses) return yield* Effect.die(new Error(`${step}: not done after ${pass} passes`))
      const begun = performance.now()
      const done = yield* hear(haproxy.apply(plan, observed))
      apply += performance.now() - begun
      if (done.value.length > 0) return yield* Effect.die(done.value[0]!.error)
      all.push(...done.sent)
    }
    const { system, user } = process.cpuUsage(cpu)
    sent.set(step, all)
    return { apply, passes: performance.now() - began, cpu: (system + user) / 1000 } satisfies Took
  })

  const batches = (step: Step) => {
    const bySocket = Map.groupBy(sent.get(step) ?? [], ({ socket }) => socket)
    return [...bySocket].map(([socket, those]) =>
      BareClient.batch(
        socket,
        those.map(({ command }) => command)
      )
    )
  }
  const reset = server.sockets.map((socket) =>
    BareClient.batch(
      socket,
      Array.from({ length: size }, (_, index) => {
        const name = `web/node${index + 1}`
        const maint = `set server ${name} state maint`
        if (kind === "dynamic") return [maint, `del server ${name}`]
        return [maint, `set server ${name} addr 127.0.0.1 port 1`, `set server ${name} weight 100%`]
      }).flat()
    )
  )
  return { has, ep2, batches, reset } satisfies Course
})
