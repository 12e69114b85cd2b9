/**
 * The process. It is a small file that loads the rest, so that whoever asks for the version alone waits for no more,
 * and so that Node can keep what it compiles.
 */
import "./requireNode.ts"
import { enableCompileCache } from "node:module"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { whole } from "./cli/version.ts"

// The unit has systemd make it for the user of ep2 alone (CacheDirectory=). The usual place is one where anybody may write.
const [cache = ""] = process.env.CACHE_DIRECTORY?.split(":") ?? []
if (cache !== "") enableCompileCache(cache)

// A simulation is nothing but a burst; whatever else lives for long should be small at rest.
if (process.argv[2] !== "simulate") {
  // V8 would give what is young up to 32 MiB for the bursts of a day, and keep them.
  setFlagsFromString("--semi-space-growth-factor=1")
  // What works for milliseconds in each second is seldom worth V8's last optimization: its helpers took as much memory
  // and processor time as that ever spared. Node 22 has none but the last.
  if (Number.parseInt(process.versions.node, 10) >= 24) setFlagsFromString("--no-opt")
  // What a start leaves behind it would collect only once as much again has come together.
  setTimeout(collectGarbage, 10_000).unref()
}

if (process.argv.length === 3 && process.argv[2] === "--version") console.log(whole)
else {
  import("./cli/CommandLine.ts").then(
    ({ run }) => run(),
    (cause: unknown) => {
      console.error(`ep2: a part of it cannot be loaded: ${cause}: install it anew`)
      process.exitCode = 1
    }
  )
}

function collectGarbage() {
  setFlagsFromString("--expose-gc")
  runInNewContext("globalThis.gc")?.({ type: "major", execution: "async" })
}
