/** What tests of commands that look and change nothing have in common. */
import { createHash } from "node:crypto"
import { readdirSync, readFileSync, statSync } from "node:fs"
import { join } from "node:path"
import { Effect, Schema } from "effect"
import * as Preview from "../../src/controller/Preview.ts"
import { endpointKey, type Server } from "../../src/domain/State.ts"
import type { HttpBackend } from "../servers/HttpBackends.ts"
import type * as World from "./World.ts"

/** Runs a command of ep2 to its end, and gives its exit code and what it said. */
export const run = Effect.fnUntraced(function* (world: World.World, ...args: ReadonlyArray<string>) {
  const [name = "", ...more] = args
  const command = yield* world.start([name, "--conf", world.conf, ...more])
  return { exitCode: yield* command.ended, output: command.output() }
})

/** `ep2 plan --json`, decoded by its Schema, which lets nothing pass that it does not name. */
export const planned = Effect.fnUntraced(function* (world: World.World) {
  const { exitCode, output } = yield* run(world, "plan", "--json")
  const [json = ""] = /^\{$[\s\S]*?^\}$/m.exec(output) ?? []
  const preview = Schema.decodeUnknownSync(Schema.fromJsonString(Preview.Preview))(json, { onExcessProperty: "error" })
  return { exitCode, preview }
})

/** Backend, or server where it is none of these → what would become of it, and how. */
export const fates = (
  { preview }: { readonly preview: Preview.Preview },
  backends: ReadonlyArray<HttpBackend>,
  process = 0
): Readonly<Record<string, string>> => {
  const names = new Map(backends.map(({ endpoint, name }) => [endpointKey(endpoint), name]))
  const rows = preview.backends[0]?.processes[process]?.servers ?? []
  return Object.fromEntries(
    rows.map(({ action, by, endpoint, server }) => [
      names.get(endpoint ?? "") ?? server,
      by === null ? action : `${action} ${by}`
    ])
  )
}

/** All that could have been changed: every file of the world with its time, HAProxy's processes and their servers. */
export const fingerprint = Effect.fnUntraced(function* (world: World.World) {
  const files = readdirSync(world.dir)
    .sort()
    .map((name) => {
      const path = join(world.dir, name)
      const found = statSync(path)
      const sum = found.isFile() ? createHash("sha256").update(readFileSync(path)).digest("hex") : ""
      return [name, found.mtimeMs, found.ino, found.mode, sum]
    })
  const pids = yield* world.haproxyPids
  const servers = pids.length === 0 ? [] : yield* Effect.forEach(world.sockets, (socket) => world.servers(socket))
  return JSON.stringify({ files, pids, servers: servers.map((all) => all.map(settled)) }, undefined, 1)
})

/** What a health check changes by itself is left out. */
const settled = ({ admin, endpoint, isMarked, name }: Server) => ({ admin, endpoint, isMarked, name })
