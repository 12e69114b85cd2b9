/**
 * The process. It is a small file that loads the rest, so that whoever asks for the version alone waits for no more,
 * and so that Node can keep what it compiles.
 */
import "./requireNode.ts"
import { enableCompileCache } from "node:module"
import { whole } from "./cli/version.ts"

// systemd makes it for the user of ep2 alone (CacheDirectory=). The usual place is one where anybody may write.
const { CACHE_DIRECTORY: cache } = process.env
if (cache !== undefined && cache !== "") enableCompileCache(cache)

if (process.argv.length === 3 && process.argv[2] === "--version") console.log(whole)
else import("./cli/CommandLine.ts").then(({ run }) => run())
