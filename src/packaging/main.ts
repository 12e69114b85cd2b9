/**
 * `npm run package`: the executable and the Debian package, into dist/package.
 *
 *   npm run package -- --compression zstd      faster; Debian 12 and later unpack it
 */
import { mkdir, rename, rm, writeFile } from "node:fs/promises"
import { basename, join, resolve } from "node:path"
import { parseArgs } from "node:util"
import about from "../../package.json" with { type: "json" }
import * as DebianPackage from "./DebianPackage.ts"
import * as Executable from "./Executable.ts"

const compressions = ["xz", "zstd", "gzip", "none"] as const

const { values } = parseArgs({ options: { compression: { type: "string", default: "xz" } } })
const compression = compressions.find((one) => one === values.compression)
if (compression === undefined) {
  throw new Error(`--compression ${values.compression}: expected ${compressions.join(", ")}`)
}

const out = resolve(import.meta.dirname, "../../dist/package")
const work = join(out, "work")
await rm(out, { recursive: true, force: true })
await mkdir(work, { recursive: true })
const built = await Executable.build(work)
const deb = await DebianPackage.build({ executable: built, version: about.version, out: work, compression })
const executable = join(out, `ep2-${about.version}-${process.platform}-${process.arch}`)
await rename(built.file, executable)
await rename(deb, join(out, basename(deb)))
await writeFile(join(out, "LICENSES.txt"), built.licences)
await rm(work, { recursive: true })
for (const one of [executable, join(out, basename(deb))]) console.log(one)
