/** How long ep2 takes to begin, and how much of that is Node. */
import { spawn } from "node:child_process"
import { dirname, join } from "node:path"
import { Effect } from "effect"
import * as FileWorld from "../integration/FileWorld.ts"
import * as World from "../integration/World.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"
import * as Http from "./Http.ts"
import { inTurn, median, timed } from "./Measure.ts"
import * as Program from "./Program.ts"
import { atMost, duration, type Effort, type Section, times } from "./Section.ts"

/** Runs Node to its end. */
const node = (args: ReadonlyArray<string>) =>
  Effect.promise(
    () =>
      new Promise<void>((done, failed) => {
        const child = spawn(process.execPath, args, { stdio: "ignore" })
        child.once("error", failed)
        child.once("exit", (code) => (code === 0 ? done() : failed(new Error(`node ${args.join(" ")}: ${code}`))))
      })
  )

/** Starts ep2 again and again on a HAProxy that runs; each time a server is wanted that HAProxy does not have. */
const makeStarts = Effect.fnUntraced(function* (program: string, env: Readonly<Record<string, string>> = {}) {
  const world = yield* World.make({
    version: World.newest,
    program,
    env,
    source: FileWorld.sourceOf,
    settings: { orchestrator: "file", new_servers: "trusted", log_level: "info" }
  })
  const backends = yield* HttpBackends.makeAll(["a", "b"])
  const client = yield* Http.makeClient(world.port)
  let round = 0
  return Effect.gen(function* () {
    const next = backends[round++ % 2]!
    yield* FileWorld.want(world, [next])
    const began = performance.now()
    const ep2 = yield* world.start()
    yield* client.untilAnswers(next.name)
    const took = performance.now() - began
    yield* World.serves(world, [next])
    ep2.signal("SIGTERM")
    yield* ep2.ended
    return took
  }).pipe(Effect.scoped)
})

export const run = Effect.fnUntraced(function* (effort: Effort) {
  yield* Effect.logInfo("start")
  const program = yield* Program.build
  const rounds = { full: 15, quick: 3, smoke: 1 }[effort.level]
  // The first start, which does not count, is the one that starts HAProxy.
  const cache = { CACHE_DIRECTORY: join(dirname(program), "cache") }
  const [bare, version, start, cachedStart] = yield* inTurn(
    [
      timed(node(["-e", "0"])),
      timed(node([program, "--version"])),
      yield* makeStarts(program),
      yield* makeStarts(program, cache)
    ],
    rounds
  )
  const nodeAlone = median(bare!)
  const row = (name: string, took: ReadonlyArray<number>, limit?: number) => {
    const millis = median(took)
    const goal = limit === undefined ? "" : atMost(limit, millis, " ms")
    return [name, duration(millis), duration(Math.max(0, millis - nodeAlone)), times(millis / nodeAlone), goal]
  }
  return {
    title: "Start",
    how: `The program as it is shipped, started ${rounds} times: \`ep2 --version\` to its end, and \`ep2 start\` to the first request that HAProxy ${World.newest} sends to a server which it did not have before (source: a file; \`new_servers = trusted\`; HAProxy runs all the time). Node alone is \`node -e 0\`. With a \`CACHE_DIRECTORY\`, as its unit gives it, Node keeps what it has compiled there.`,
    columns: ["what", "time", "without Node", "times Node", "goal"],
    rows: [
      row("node alone", bare!),
      row("ep2 --version", version!, 150),
      row("ep2 start", start!, 600),
      row("ep2 start, with CACHE_DIRECTORY", cachedStart!, 600)
    ]
  } satisfies Section
})
