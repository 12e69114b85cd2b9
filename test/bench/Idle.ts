/** What a pass costs that finds nothing to do. */
import { Effect } from "effect"
import * as Binaries from "../servers/Binaries.ts"
import * as BareClient from "./BareClient.ts"
import * as Level from "./Level.ts"
import { inTurn, median, ratio, timed } from "./Measure.ts"
import { atMost, count, duration, type Effort, type Section, times } from "./Section.ts"

const casesOf = ({ level }: Effort): ReadonlyArray<readonly [Binaries.HaproxyVersion, number]> => {
  if (level === "smoke") return [[Binaries.haproxyVersions().at(-1)!, 4]]
  if (level === "quick") return [["3.2", 1000]]
  return (["2.6", "3.2"] as const).flatMap((version) =>
    [100, 1000, 10_000].map((servers) => [version, servers] as const)
  )
}

export const run = Effect.fnUntraced(function* (effort: Effort) {
  const rows: Array<ReadonlyArray<string>> = []
  for (const [version, servers] of casesOf(effort)) {
    yield* Effect.logInfo(`idle: HAProxy ${version}, ${count(servers)} servers`)
    yield* Effect.gen(function* () {
      const { backends, passes, socket, untilRowsDiffer } = yield* Level.make({ version, backends: 1, servers })
      const bare = BareClient.askAlone(socket, `show servers state ${backends[0]}`)
      const sides = [passes, bare].map((side) => Effect.andThen(untilRowsDiffer, timed(side)))
      const [pass, floor] = yield* inTurn(sides, effort.rounds)
      const toFloor = ratio(pass!, floor!)
      const figures = [duration(median(floor!)), duration(median(pass!)), times(toFloor), atMost(2, toFloor)]
      rows.push([version, count(servers), ...figures])
    }).pipe(Effect.scoped)
  }
  return {
    title: "A pass with nothing to do",
    how: "`Reconciler.pass` of a HAProxy that is as it should be, against a bare client that connects, asks `show servers state` and reads the answer without looking at it. More than a second without work lies before each of the two, with one look at the process, so that no row of HAProxy's answer is the same text as before; the pass asks over the connection that the look has left open, as it does in `ep2 start`.",
    columns: ["HAProxy", "servers", "bare", "pass", "pass/bare", "goal"],
    rows
  } satisfies Section
})
