import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Duration, Effect, Exit, FileSystem, Layer } from "effect"
import * as ReadOnly from "../../src/cli/ReadOnly.ts"
import { Commands } from "../../src/haproxy/Commands.ts"
import { ConfigFile } from "../../src/haproxy/ConfigFile.ts"
import { HaproxySocket } from "../../src/haproxy/HaproxySocket.ts"
import { Reloader } from "../../src/haproxy/Reloader.ts"
import { Fetcher } from "../../src/orchestrator/Fetcher.ts"

/** A world in which whatever is done is noted. */
const makeWorld = (done: Array<string>) => {
  const note = (what: string) => Effect.sync(() => void done.push(what))
  const loaded = { answering: [], leaving: [] }
  return ReadOnly.edges({
    sockets: Layer.succeed(HaproxySocket, {
      sockets: ["/a.sock"],
      session: (socket) =>
        Effect.succeed({
          socket,
          ask: (commands) => Effect.as(note(commands.join()), commands)
        })
    }),
    reloader: Layer.succeed(Reloader, {
      state: Effect.succeed({ isRunning: true, answering: [], silent: [] }),
      start: () => Effect.as(note("start"), loaded),
      reload: () => Effect.as(note("reload"), loaded),
      turn: Effect.void
    }),
    commands: Layer.succeed(Commands, {
      run: (program) => Effect.as(note(program), { exitCode: 0, output: "" })
    }),
    files: NodeServices.layer,
    fetcher: Layer.mock(Fetcher, {})
  })
}

const defectOf = (exit: Exit.Exit<unknown, unknown>) =>
  Exit.isFailure(exit) && Cause.hasDies(exit.cause) ? String(Cause.squash(exit.cause)) : "none"

describe("edges that only look", () => {
  it.effect("let HAProxy be asked, and never be told anything", () =>
    Effect.gen(function* () {
      const done: Array<string> = []
      const { session } = yield* HaproxySocket.pipe(Effect.provide(makeWorld(done).sockets))
      const { ask } = yield* session("/a.sock")

      yield* ask(["show info", "show servers state web"])
      const told = yield* Effect.exit(ask(["show info", "set server web/node1 weight 0%"]))

      assert.deepStrictEqual(done, ["show info,show servers state web"])
      assert.match(defectOf(told), /wants to tell HAProxy "set server web\/node1 weight 0%"/)
    })
  )

  it.effect("know HAProxy's state, and neither start nor reload it, nor run any program", () =>
    Effect.gen(function* () {
      const done: Array<string> = []
      const world = makeWorld(done)
      const unused = Layer.mergeAll(Layer.mock(ConfigFile, { path: "/haproxy.cfg" }), world.commands, world.sockets)
      const { reload, start, state } = yield* Reloader.pipe(Effect.provide(Layer.provide(world.reloader, unused)))
      const { run } = yield* Commands.pipe(Effect.provide(world.commands))

      const { isRunning } = yield* state
      const ends = [
        yield* Effect.exit(start("mark")),
        yield* Effect.exit(reload("mark")),
        yield* Effect.exit(run("haproxy", ["-c"], Duration.seconds(1)))
      ]

      assert.deepStrictEqual([isRunning, done], [true, []])
      for (const end of ends) assert.match(defectOf(end), /something that only looks wants to/)
    })
  )

  it.live("read files, and neither write nor remove one", () =>
    Effect.gen(function* () {
      const dir = mkdtempSync(join(tmpdir(), "ep2-test-"))
      yield* Effect.addFinalizer(() => Effect.sync(() => rmSync(dir, { recursive: true })))
      const file = join(dir, "file")
      writeFileSync(file, "before")
      const written = statSync(file).mtimeMs
      const fs = yield* FileSystem.FileSystem.pipe(Effect.provide(makeWorld([]).files))

      const text = yield* fs.readFileString(file)
      yield* Effect.forEach(
        [
          fs.writeFileString(file, "after"),
          fs.remove(file),
          fs.rename(file, join(dir, "other")),
          fs.open(join(dir, "new"), { flag: "w" }),
          fs.chmod(file, 0o600)
        ],
        (one) => Effect.exit(Effect.scoped(Effect.asVoid(one)))
      )

      assert.strictEqual(text, "before")
      assert.strictEqual(readFileSync(file, "utf8"), "before")
      assert.strictEqual(statSync(file).mtimeMs, written)
      assert.deepStrictEqual(readdirSync(dir), ["file"])
    })
  )
})
