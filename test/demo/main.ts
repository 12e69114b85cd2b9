/**
 * `npm run demo [-- --seconds N] [--keep]`: ep2 keeps a real HAProxy in step
 * with a file, while clients keep asking. Ends with 0 only if no request failed
 * and every change was served; with 2 on bad arguments, with 130 when it is stopped.
 */
import { join } from "node:path"
import { parseArgs } from "node:util"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Cause, Effect, Exit } from "effect"
import * as Acts from "./Acts.ts"
import * as Audience from "./Audience.ts"
import * as Ep2Log from "./Ep2Log.ts"
import * as Fleet from "./Fleet.ts"
import * as HaproxyBinary from "./HaproxyBinary.ts"
import * as Processes from "./Processes.ts"
import * as Sandbox from "./Sandbox.ts"
import * as Screen from "./Screen.ts"
import * as Slots from "./Slots.ts"
import * as Stage from "./Stage.ts"
import * as Summary from "./Summary.ts"

const help = `npm run demo [-- [--seconds N] [--keep]]

Starts a few small HTTP servers, a HAProxy and ep2 in a temporary folder, changes the list
of servers while clients keep asking, and shows what happens. Needs no root, and leaves
nothing behind.

  --seconds N   how long it takes, about: 10 to 3600, default 30
  --keep        leaves everything running afterwards, to play with, until Ctrl-C
  --help        this text

Exit code: 0 when no request failed and every change was served, 1 when not, 2 on bad
arguments, 130 when it is stopped before its end.
`

const { isKept, seconds } = readArguments()

/** What the exit code is: that of a stop, until the demo has come to its end. */
let exitCode = 130
/** What to say once everything has ended. */
let farewell = ""

const demo = Effect.gen(function* () {
  const haproxy = yield* HaproxyBinary.find
  const began = performance.now()
  const sandbox = yield* Sandbox.make(haproxy.file)
  farewell = `ep2, HAProxy and the servers have ended, and ${sandbox.folder} is gone.`
  const screen = yield* Screen.make
  const tell = Stage.makeTeller(screen, began)
  const fleet = yield* Fleet.make(sandbox)
  screen.say(
    Screen.paint("bold", `ep2 demo, about ${seconds} seconds`),
    Screen.paint("dim", `HAProxy ${haproxy.version}: ${haproxy.file}`),
    "",
    "A file lists the servers that there are. Each time it changes, ep2 changes the",
    `HAProxy that is running, without a reload, while ${Audience.clients} clients keep asking.`,
    "No request may fail."
  )
  const names = yield* fleet.start(2)
  yield* fleet.list(names)
  tell.act("start", `${names.join(", ")} run and are listed; ep2 starts HAProxy`)
  const ep2 = yield* Processes.startEp2(sandbox)
  const shorten = Ep2Log.makeShortener({ folder: sandbox.folder, nameOf: fleet.nameOf })
  yield* Ep2Log.follow(sandbox.log, (line) => tell.ep2(shorten(line)))
  yield* Effect.raceFirst(show({ sandbox, fleet, tell, screen, began }), ep2.died)
}).pipe(Effect.scoped)

const show = Effect.fnUntraced(function* (
  parts: Pick<Stage.Stage, "sandbox" | "fleet" | "tell"> & { readonly screen: Screen.Screen; readonly began: number }
) {
  const { began, fleet, sandbox, screen } = parts
  yield* awaitHaproxy(sandbox, fleet.listed().length)
  const audience = yield* Audience.start(sandbox.port)
  const stage = yield* Stage.make({ ...parts, audience })

  const outcomes: Array<Acts.Outcome> = []
  const rounds = Math.max(1, Math.round(seconds / 45))
  const shares = [1, ...Array.from({ length: rounds }, () => [1.1, 1.5, 1.1, 1.3]).flat()]
  const sum = shares.reduce((total, one) => total + one, 0)
  const play = Effect.fnUntraced(function* (act: Effect.Effect<Acts.Outcome>) {
    // An act builds on what the one before it left.
    if (outcomes.some(({ problem }) => problem !== "")) return
    const part = shares.slice(0, outcomes.length + 1).reduce((total, one) => total + one, 0) / sum
    outcomes.push(yield* act)
    // A picture of less than a second would show what was before.
    yield* Effect.sleep(Math.max(screen.hasPicture ? 0 : 1000, began + part * seconds * 1000 - performance.now()))
    yield* stage.showPicture
  })
  yield* play(Acts.opening(stage, began))
  for (let round = 0; round < rounds; round++) {
    yield* play(Acts.scaleOut(stage, 6))
    yield* play(Acts.dieAndReturn(stage, (seconds / sum) * 500))
    yield* play(Acts.scaleIn(stage, 3))
    yield* play(Acts.replaceAll(stage))
  }
  const totals = isKept ? yield* audience.totals : yield* audience.stop
  const summary = Summary.make({ outcomes, totals, reloads: stage.reloads(), began })
  screen.draw([])
  screen.say("", ...summary.lines)
  exitCode = summary.isGood ? 0 : 1
  if (!isKept) return undefined
  screen.say("", ...(yield* toPlayWith(stage)))
  return yield* Effect.never
})

/** Waits until ep2 has started HAProxy. */
const awaitHaproxy = Effect.fnUntraced(function* (sandbox: Sandbox.Sandbox, servers: number) {
  for (const end = performance.now() + 20_000; performance.now() < end; ) {
    const slots = yield* Slots.read(sandbox.socket)
    if (slots !== undefined && slots.byEndpoint.size >= servers) return
    yield* Effect.sleep(20)
  }
  return yield* new Sandbox.DemoError({
    message: "ep2 did not bring HAProxy up within 20 s; what it said stands above"
  })
})

/** Some servers more, two lists to put in place, and where everything is. */
const toPlayWith = Effect.fnUntraced(function* ({ fleet, sandbox }: Stage.Stage) {
  const listed = fleet.listed()
  const spare = yield* fleet.start(3)
  const [more, fewer] = [join(sandbox.folder, "more.json"), join(sandbox.folder, "fewer.json")]
  yield* sandbox.writeList(more, [...listed, ...spare].map(fleet.find))
  yield* sandbox.writeList(fewer, listed.slice(0, 2).map(fleet.find))
  return [
    "Everything goes on until Ctrl-C, which ends it and removes its files.",
    "",
    `  ask HAProxy       curl http://127.0.0.1:${sandbox.port}/`,
    `  its statistics    http://127.0.0.1:${sandbox.statsPort}/`,
    "",
    `  cd ${sandbox.folder}`,
    "  change the list   edit targets.json, or put another list in its place:",
    "  three more        cp more.json targets.json",
    "  only two          cp fewer.json targets.json",
    "  ep2's files       ep2.conf, haproxy.cfg.template, ep2.log",
    "  HAProxy's files   haproxy.cfg (ep2 writes it), haproxy.sock, haproxy.pid"
  ]
})

function readArguments(): { readonly seconds: number; readonly isKept: boolean } {
  const refuse = (what: string): never => {
    console.error(`demo: ${what}; --help shows what there is`)
    return process.exit(2)
  }
  const parse = () => {
    try {
      const options = { seconds: { type: "string" }, keep: { type: "boolean" }, help: { type: "boolean" } } as const
      return parseArgs({ options }).values
    } catch (cause) {
      return refuse((cause as Error).message.split(/\. |\n/)[0]!)
    }
  }
  const values = parse()
  if (values.help === true) {
    process.stdout.write(help)
    process.exit(0)
  }
  const text = values.seconds ?? "30"
  const seconds = /^\d{1,4}$/.test(text) ? Number(text) : 0
  if (seconds < 10 || seconds > 3600) refuse(`--seconds ${text}: expected a whole number from 10 to 3600`)
  return { seconds, isKept: values.keep === true }
}

// A closed terminal, or a reader of our output that went away, stops the demo as Ctrl-C does.
const stop = () => process.emit("SIGTERM")
process.on("SIGHUP", stop)
process.stdout.on("error", stop)

NodeRuntime.runMain(demo, {
  disableErrorReporting: true,
  teardown: (exit, onExit) => {
    if (Exit.isFailure(exit) && !Cause.hasInterruptsOnly(exit.cause)) {
      const error = Cause.squash(exit.cause)
      console.error(`\ndemo: ${error instanceof Sandbox.DemoError ? error.message : Cause.pretty(exit.cause)}`)
      exitCode = 1
    }
    if (farewell !== "") console.log(`\n${farewell}`)
    onExit(exitCode)
  }
})
