import { join } from "node:path"
import { Effect, Duration } from "effect"
import * as World from "../integration/World.ts"
import * as ProcessFigures from "./ProcessFigures.ts"
import * as Program from "./Program.ts"
const size = Number(process.env.SIZE ?? 10), window = Number(process.env.WINDOW ?? 30)
const variants: Record<string, Record<string,string>> = JSON.parse(process.env.VARIANTS ?? '{"base":{}}')
const addressOf = (index: number) => `127.1.${index >> 8}.${index & 255}`
const one = (program: string, label: string, env: Record<string,string>) => Effect.gen(function* () {
  const port = yield* World.freePort
  const world = yield* World.make({ version: World.newest, program, env, source: (dir) => `[FILE]\npath = ${join(dir, "targets.json")}`,
    settings: (dir) => ({ orchestrator: "file", log_file: join(dir, "ep2.log"), log_level: "info", sleep_before_next_run: "5", sleep_before_next_lock_attempt: "5", node_slots: "50", backend_port: "service", check_interval: "5s" }),
    template: (usual) => `${usual}\nlisten answers\n    bind :${port}\n` })
  yield* World.replaceFile(join(world.dir, "targets.json"), JSON.stringify([{ targets: Array.from({length:size},(_, i) => `${addressOf(i+1)}:${port}`) }]))
  yield* world.start()
  yield* World.eventually("served", Effect.andThen(Effect.sleep("500 millis"), Effect.map(world.served(), (s) => Object.keys(s).length === size)), Duration.minutes(3))
  yield* Effect.sleep("15 seconds")
  const pid = ProcessFigures.pidOf(program, world.conf)
  const a = ProcessFigures.of(pid), ta = performance.now()
  yield* Effect.sleep(`${window} seconds`)
  const b = ProcessFigures.of(pid), tb = performance.now()
  console.log(label.padEnd(30), b.residentMib.toFixed(0), b.ownMib.toFixed(0), (((b.cpuMillis - a.cpuMillis) / (tb - ta)) * 100).toFixed(2) + " %", ((b.cpuMillis)/1).toFixed(0))
  if (process.env.PROF) { process.kill(pid, "SIGTERM"); yield* Effect.sleep("3 seconds") }
}).pipe(Effect.scoped)
await Effect.runPromise(Effect.scoped(Effect.gen(function* () {
  const program = yield* Program.build
  yield* Effect.forEach(Object.entries(variants), ([label, env]) => one(program, label, env), { concurrency: "unbounded" })
})))
process.exit(0)
