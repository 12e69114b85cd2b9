/** A datagram socket such as systemd listens on for what its services say. Needs python3, as Node has no such sockets. */
import { spawn, spawnSync } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect } from "effect"

/** The file descriptor that comes with systemd-notify's BARRIER=1 is closed by not taking it, and that is its answer. */
const program = `
import json, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print(json.dumps("bound"), flush=True)
while True:
    print(json.dumps(s.recv(4096).decode()), flush=True)
`

export interface NotifySocket {
  /** For `NOTIFY_SOCKET`. */
  readonly path: string
  /** What came, in order, without the barriers of systemd-notify. */
  readonly messages: () => ReadonlyArray<string>
}

/** Listens until the scope ends. Dies with one line on a machine that lacks what is needed to be told anything. */
export const make = Effect.gen(function* () {
  if (spawnSync("systemd-notify", ["--version"]).status !== 0)
    return yield* Effect.die(new Error("there is no systemd-notify on this machine: `apt-get install systemd`"))
  const dir = yield* Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "ep2-notify-"))),
    (made) => Effect.sync(() => rmSync(made, { recursive: true }))
  )
  const path = join(dir, "notify")
  const got: Array<string> = []
  const child = yield* Effect.acquireRelease(
    Effect.sync(() => spawn("python3", ["-c", program, path], { stdio: ["ignore", "pipe", "inherit"] })),
    (started) => Effect.sync(() => started.kill("SIGKILL"))
  )
  yield* Effect.callback<void>((resume) => {
    let rest = ""
    child.on("error", (cause) => resume(Effect.die(new Error(`this test needs python3: ${cause.message}`))))
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      const lines = (rest + text).split("\n")
      rest = lines.pop()!
      got.push(...lines.map((line) => JSON.parse(line)))
      if (got.length > 0) resume(Effect.void)
    })
  })
  return { path, messages: () => got.filter((one) => one !== "bound" && one !== "BARRIER=1") } satisfies NotifySocket
})
