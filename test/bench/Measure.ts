/** How the bench measures: what is compared runs in turn, so that whatever else the machine does falls on both. */
import { Effect } from "effect"

/** One of the things that are compared. Returns how long it took, in milliseconds, of what is to count. */
export type Side<E = never, R = never> = Effect.Effect<number, E, R>

/** The wall time of an effect, in milliseconds. */
export const timed = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<number, E, R> =>
  Effect.suspend(() => {
    const began = performance.now()
    return Effect.map(effect, () => performance.now() - began)
  })

/** The processor time that this process took for an effect, in milliseconds, whatever other processes did for it. */
export const timedCpu = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<number, E, R> =>
  Effect.suspend(() => {
    const began = process.cpuUsage()
    return Effect.map(effect, () => {
      const { system, user } = process.cpuUsage(began)
      return (system + user) / 1000
    })
  })

/**
 * Runs the sides one after the other, A B A B …, after a first time that does not
 * count. Returns the times of each, round by round.
 */
export const inTurn = Effect.fnUntraced(function* <E, R>(sides: ReadonlyArray<Side<E, R>>, rounds: number) {
  const times: ReadonlyArray<Array<number>> = sides.map(() => [])
  for (let round = 0; round <= rounds; round++) {
    for (const [index, side] of sides.entries()) {
      const took = yield* side
      if (round > 0) times[index]!.push(took)
    }
  }
  return times as ReadonlyArray<ReadonlyArray<number>>
})

/** The value below which that part of the values is, from 0 to 1; not a number where there are none. */
export const quantile = (values: ReadonlyArray<number>, part: number): number => {
  const sorted = values.toSorted((one, other) => one - other)
  const at = part * (sorted.length - 1)
  const [low, high] = [sorted[Math.floor(at)] ?? Number.NaN, sorted[Math.ceil(at)] ?? Number.NaN]
  return low + (high - low) * (at - Math.floor(at))
}

export const median = (values: ReadonlyArray<number>): number => quantile(values, 0.5)

/** How many times as long one side took: the median of the rounds, each compared with itself. */
export const ratio = (one: ReadonlyArray<number>, other: ReadonlyArray<number>): number =>
  median(one.map((took, round) => took / other[round]!))

/** A size, and what it cost. */
export interface Sample {
  readonly size: number
  readonly cost: number
}

/**
 * The exponent with which a cost grows: 1 where twice the size costs twice as much.
 * The slope of the straight line through the logarithms, by least squares.
 */
export const exponent = (samples: ReadonlyArray<Sample>): number => {
  const points = samples.map(({ cost, size }) => [Math.log(size), Math.log(cost)] as const)
  const mean = (of: (point: readonly [number, number]) => number) =>
    points.reduce((sum, point) => sum + of(point), 0) / points.length
  const [x, y] = [mean(([one]) => one), mean(([, one]) => one)]
  return mean((point) => (point[0] - x) * (point[1] - y)) / mean((point) => (point[0] - x) ** 2)
}
