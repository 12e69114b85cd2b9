/** What ep2 costs while nothing changes. */
import { join } from "node:path"
import { Duration, Effect } from "effect"
import { service } from "../../src/cli/Units.ts"
import * as World from "../integration/World.ts"
import { ConsulServer } from "../servers/ConsulServer.ts"
import * as FaultProxy from "../servers/FaultProxy.ts"
import { MotoServer, region } from "../servers/MotoServer.ts"
import * as Ports from "../servers/Ports.ts"
import * as UnixProxy from "../servers/UnixProxy.ts"
import * as ProcessFigures from "./ProcessFigures.ts"
import * as Program from "./Program.ts"
import { atMost, count, type Effort, type Section, threeFigures } from "./Section.ts"

type Kind = "file" | "consul" | "aws"

interface Case {
  readonly kind: Kind
  readonly size: number
}

const casesOf = ({ level }: Effort): ReadonlyArray<Case> => {
  if (level === "smoke") return [{ kind: "file", size: 2 }]
  if (level === "quick") return (["file", "consul"] as const).map((kind) => ({ kind, size: 10 }))
  return (["file", "consul", "aws"] as const).flatMap((kind) => [10, 1000].map((size) => ({ kind, size })))
}

/** How long each is left alone, and then looked at. */
const secondsOf = ({ level }: Effort) =>
  ({ full: { settle: 120, window: 60 }, quick: { settle: 1, window: 6 }, smoke: { settle: 0, window: 1 } })[level]

/** A source that names so many endpoints of 127.0.0.0/8, and what is asked of it. */
interface Source {
  readonly section: (dir: string) => string
  /** Names them, in the folder of the world. */
  readonly fill: (dir: string) => Effect.Effect<void>
  readonly calls: () => number
}

const addressOf = (index: number) => `127.1.${index >> 8}.${index & 255}`

const sourceOf = Effect.fnUntraced(function* ({ kind, size }: Case, port: number) {
  const numbers = Array.from({ length: size }, (_, index) => index + 1)
  switch (kind) {
    case "file": {
      const text = JSON.stringify([{ targets: numbers.map((number) => `${addressOf(number)}:${port}`) }])
      return {
        section: (dir) => `[FILE]\npath = ${join(dir, "targets.json")}`,
        fill: (dir) => World.replaceFile(join(dir, "targets.json"), text),
        calls: () => 0
      } satisfies Source
    }
    case "consul": {
      const consul = yield* ConsulServer.make()
      const proxy = yield* FaultProxy.make(consul)
      const register = (number: number) =>
        consul.register({ id: `web-${number}`, name: "web", address: addressOf(number), port, status: "none" })
      return {
        section: () => `[CONSUL]\nservice_name = web\nconsul_ip = ${proxy.host}\nconsul_port = ${proxy.port}`,
        fill: () => Effect.forEach(numbers, register, { concurrency: 8, discard: true }),
        calls: () => proxy.requests().length
      } satisfies Source
    }
    case "aws": {
      const moto = yield* MotoServer.make
      const proxy = yield* FaultProxy.make(moto)
      // Each group has a subnet of its own, with room for 250.
      const groups = Array.from({ length: Math.ceil(size / 200) }, (_, index) => ({
        name: `web${index}`,
        size: Math.min(200, size - index * 200)
      }))
      return {
        section: () => `[AWS]
aws_access_key_id = AKIATEST
aws_secret_access_key = not-a-secret
asg_name = ${groups.map(({ name }) => name).join(", ")}
region_name = ${region}
ip_type = private
endpoint_url = http://${proxy.host}:${proxy.port}`,
        fill: () => Effect.forEach(groups, (group) => moto.makeGroup(group.name, group.size), { discard: true }),
        calls: () => proxy.requests().length
      } satisfies Source
    }
  }
})

/** What the unit sets for ep2. */
const environment = Object.fromEntries(
  [...service.matchAll(/^Environment=(.*)$/gm)]
    .flatMap(([, words = ""]) => words.split(" "))
    .map((word) => word.split("=") as [string, string])
)

const measure = Effect.fnUntraced(function* (given: Case, program: string, effort: Effort) {
  const { settle, window } = secondsOf(effort)
  const port = yield* Ports.freePort
  const source = yield* sourceOf(given, port)
  const world = yield* World.make({
    version: World.newest,
    program,
    env: environment,
    source: source.section,
    settings: (dir) => ({
      orchestrator: given.kind,
      log_file: join(dir, "ep2.log"),
      log_level: "info",
      // As ep2 has them by itself.
      sleep_before_next_run: "5",
      sleep_before_next_lock_attempt: "5",
      node_slots: "50",
      backend_port: given.kind === "aws" ? String(port) : "service",
      check_interval: "5s"
    }),
    // HAProxy itself is what answers the checks, at all addresses.
    template: (usual) => `${usual}\nlisten answers\n    bind :${port}\n`
  })
  yield* source.fill(world.dir)
  yield* world.start()
  const isServed = Effect.map(world.served(), (served) => Object.keys(served).length === given.size)
  yield* World.eventually(
    `${given.size} of ${given.kind} are served`,
    Effect.andThen(Effect.sleep("500 millis"), isServed),
    Duration.minutes(3)
  )
  const socket = yield* UnixProxy.takeOver(world.sockets[0]!)
  yield* Effect.sleep(`${settle} seconds`)
  const pid = ProcessFigures.pidOf(program, world.conf)
  const look = () => ({
    ...ProcessFigures.of(pid),
    atMillis: performance.now(),
    lines: socket.lines(),
    calls: source.calls()
  })
  const before = look()
  yield* Effect.sleep(`${window} seconds`)
  const after = look()
  const minutes = (after.atMillis - before.atMillis) / 60_000
  return {
    residentMib: after.residentMib,
    ownMib: after.ownMib,
    cpuPercent: ((after.cpuMillis - before.cpuMillis) / (after.atMillis - before.atMillis)) * 100,
    linesPerMinute: (after.lines - before.lines) / minutes,
    callsPerMinute: (after.calls - before.calls) / minutes
  }
}, Effect.scoped)

export const run = Effect.fnUntraced(function* (effort: Effort) {
  const { settle, window } = secondsOf(effort)
  const cases = casesOf(effort)
  yield* Effect.logInfo(`rest: ${cases.length} of ep2, for ${window} s`)
  const program = yield* Program.build
  // Beside one another: each is counted by itself, and at rest they leave the processor alone.
  const all = yield* Effect.forEach(cases, (given) => measure(given, program, effort), { concurrency: "unbounded" })
  return {
    title: "At rest",
    how: `ep2 as it is shipped, in the environment that its unit gives it, with HAProxy ${World.newest}, for ${window} s in which nothing changes, ${settle} s after it served all (what runs often is compiled by then), with the default poll of 5 s (Consul is watched). Memory is what is resident at the end of it, processor time what the kernel counts. Commands are lines to HAProxy's socket, the look at each process once a second included; calls are requests to the source.`,
    columns: [
      ...["source", "endpoints", "memory", "goal", "of it not Node's file", "processor", "goal", "per hour"],
      ...["commands a minute", "calls a minute"]
    ],
    rows: all.map(({ callsPerMinute, cpuPercent, linesPerMinute, ownMib, residentMib }, index) => {
      const { kind, size } = cases[index]!
      return [
        ...[kind, count(size), `${residentMib.toFixed(0)} MiB`, atMost(kind === "aws" ? 140 : 80, residentMib, " MiB")],
        `${ownMib.toFixed(0)} MiB`,
        ...[`${cpuPercent.toFixed(2)} %`, atMost(0.3, cpuPercent, " %"), `${threeFigures(cpuPercent * 36)} s`],
        ...[linesPerMinute.toFixed(0), kind === "file" ? "none" : callsPerMinute.toFixed(0)]
      ]
    })
  } satisfies Section
})
