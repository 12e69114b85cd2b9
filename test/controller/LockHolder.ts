/**
 * A program that takes a lock and says so: `held`, `standing by` … on standard
 * output, each a line, and why it lost it. With `--child` it then starts a program that outlives it,
 * as ep2 starts HAProxy, and says its pid. It ends when its standard input does.
 */
import { spawn } from "node:child_process"
import { Duration, Effect, Fiber, Logger } from "effect"
import * as Lock from "../../src/controller/Lock.ts"

const [dir, configFile, child] = process.argv.slice(2)

const toStdout = Logger.layer([Logger.make(({ message }) => console.log(String(message)))])

const holder = Effect.gen(function* () {
  const { lost } = yield* Lock.acquire({ dir: dir!, configFile: configFile!, retryEvery: Duration.millis(50) })
  console.log("held")
  if (child === "--child") {
    const program = spawn("sleep", ["60"], { detached: true, stdio: "ignore" })
    program.unref()
    console.log(`child ${program.pid}`)
  }
  return yield* lost
}).pipe(Effect.scoped, Effect.provide(toStdout))

const fiber = Effect.runFork(holder)
fiber.addObserver((exit) => {
  if (exit._tag === "Failure") console.log(String(exit.cause))
})
process.stdin.resume().on("end", () => void Effect.runPromise(Fiber.interrupt(fiber)).then(() => process.exit(0)))
