/**
 * Puts the real servers of the tests and the demo into `.servers/` of the
 * checkout: `npm run servers [-- [--mirror URL] [--force] [--from-path] [TARGET ...]]`.
 *
 * On Debian for amd64 they come out of Debian's own packages, whose signatures
 * and sums apt checks, each into a folder of its own; nothing outside of
 * `.servers` is written, and nobody needs to be root. Elsewhere, what is on the
 * PATH is taken. A target that stands is left alone, so a second run takes a
 * fraction of a second.
 */
import { existsSync } from "node:fs"
import { mkdir, rename, rm } from "node:fs/promises"
import { dirname, join, resolve } from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { configuredMirror, lacking, openSuite, run, type Suite, unpack } from "./provisionApt.ts"
import { lock } from "./provisionLock.ts"
import * as Path from "./provisionPath.ts"
import { goodStamp, type Stamp, writeStamp } from "./provisionStamp.ts"
import { haproxyOfVersion, type Target, targets } from "./provisionTargets.ts"
import { finish, type Patchelf } from "./provisionTree.ts"

const servers = resolve(dirname(fileURLToPath(import.meta.url)), "../..", ".servers")
const work = join(servers, ".work")
const homeOf = (target: Target) => join(servers, target.name)

const main = async (): Promise<boolean> => {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: { mirror: { type: "string" }, force: { type: "boolean" }, "from-path": { type: "boolean" } }
  })
  const asked = positionals.length > 0 ? positionals.map(targetOf) : targets.filter(({ isOptional }) => !isOptional)
  const standing = (target: Target) => (values.force === true ? undefined : goodStamp(target, homeOf(target)))
  if (asked.every((target) => standing(target) !== undefined)) {
    for (const target of asked) report(target, standing(target)!, "present")
    return true
  }
  await mkdir(servers, { recursive: true })
  const unlock = await lock(join(servers, ".lock"), () => console.log("another run is at work here: waiting for it …"))
  try {
    await clean()
    const source = await sourceOf({ mirror: values.mirror, isFromPath: values["from-path"] === true })
    const progress = makeProgress()
    const results = await Promise.allSettled(
      asked.map(async (target) => {
        // Looked at again: the run that was waited for may have made it.
        const stamp = standing(target)
        return stamp === undefined
          ? ({ stamp: await build(target, source, progress), how: "built" } as const)
          : ({ stamp, how: "present" } as const)
      })
    )
    progress.end()
    results.forEach((result, i) => {
      if (result.status === "fulfilled") report(asked[i]!, result.value.stamp, result.value.how)
      else console.error(`${asked[i]!.name.padEnd(12)} failed   ${result.reason.message}`)
    })
    return results.every(({ status }) => status === "fulfilled")
  } finally {
    await clean()
    unlock()
  }
}

/** Where targets come from on this machine, or in one phrase why Debian's packages are out. */
type Source =
  | {
      readonly _tag: "Debian"
      readonly suite: (name: string) => Promise<Suite>
      readonly patchelf: () => Promise<Patchelf>
    }
  | { readonly _tag: "Path"; readonly reason: string }

const sourceOf = async (options: {
  readonly mirror: string | undefined
  readonly isFromPath: boolean
}): Promise<Source> => {
  if (options.isFromPath) return { _tag: "Path", reason: "--from-path asks for the PATH alone" }
  const lacks = lacking()
  if (lacks.length > 0) return { _tag: "Path", reason: `Debian's packages cannot be used here: ${lacks.join("; ")}` }
  const mirror = options.mirror ?? process.env.DEBIAN_MIRROR ?? configuredMirror()
  if (mirror === undefined) {
    const reason = "apt is configured with no Debian mirror: give one with --mirror URL or DEBIAN_MIRROR=URL"
    return { _tag: "Path", reason }
  }
  const suite = once((name) => openSuite({ name, mirror: mirror.replace(/\/$/, ""), folder: join(work, name) }))
  const patchelf = once(async () => {
    const folder = join(work, "patchelf")
    await unpack(await (await suite("bookworm")).download(["patchelf"], join(work, "patchelf.debs")), folder)
    return { folder }
  })
  return { _tag: "Debian", suite, patchelf: () => patchelf("") }
}

const build = async (target: Target, source: Source, progress: Progress): Promise<Stamp> => {
  const home = homeOf(target)
  const built = join(work, `${target.name}.built`)
  const install = async (facts: Pick<Stamp, "version" | "origin">) => {
    if (existsSync(home)) await rename(home, join(work, `${target.name}.old`))
    await rename(built, home)
    // Only now, since the program holds the paths of the place that it was just moved to.
    const text = await run(join(home, "bin", target.command), target.probe.args, `${target.name} does not run`)
    if (!target.probe.prints.test(text)) throw new Error(`it runs, but prints "${text.split("\n")[0]}"`)
    progress.show(target.name, "done")
    return writeStamp(target, home, facts)
  }
  const fromPath = async (reason: string) => {
    const found = await Path.find(target).catch((cause: Error) => {
      progress.show(target.name, "failed")
      throw new Error(`${reason}; ${cause.message}: ${whatToDo(target)}`)
    })
    await Path.lay(target, found, built)
    return install({ version: found.version, origin: found.file })
  }
  if (source._tag === "Path") return fromPath(source.reason)
  try {
    progress.show(target.name, "looking")
    const { suite, version } = await suiteFor(target, source)
    progress.show(target.name, "fetching")
    const files = await suite.download(target.packages, join(work, `${target.name}.debs`))
    progress.show(target.name, "unpacking")
    await unpack(files, built)
    await finish({ target, built, home, patchelf: await source.patchelf() })
    return await install({ version, origin: `Debian ${suite.name}` })
  } catch (cause) {
    await rm(built, { recursive: true, force: true })
    return fromPath((cause as Error).message)
  }
}

const suiteFor = async (target: Target, source: Extract<Source, { _tag: "Debian" }>) => {
  const tried: Array<string> = []
  for (const name of target.suites) {
    try {
      const suite = await source.suite(name)
      const version = (await suite.versionOf(target.packages[0]!)) ?? "none"
      if (target.version.test(version)) return { suite, version }
      tried.push(`${name} has ${version}`)
    } catch (cause) {
      tried.push((cause as Error).message)
    }
  }
  throw new Error(tried.length === 0 ? "no Debian suite has it" : `no Debian suite offers it (${tried.join("; ")})`)
}

const whatToDo = (target: Target) =>
  target.command === "haproxy"
    ? `install ${target.name.replace("haproxy-", "HAProxy ")}, or test with the one you have: EP2_HAPROXY_VERSIONS=X.Y npm test`
    : `install it, so that \`${target.command}\` is on the PATH`

const targetOf = (name: string): Target => {
  const target = targets.find((one) => one.name === name)
  if (target !== undefined) return target
  const version = /^haproxy-(\d+\.\d+)$/.exec(name)?.[1]
  if (version !== undefined) return haproxyOfVersion(version)
  throw new Error(`there is no target ${name}; there are ${targets.map((one) => one.name).join(", ")}, haproxy-X.Y`)
}

const report = (target: Target, { origin, version }: Stamp, how: "built" | "present") =>
  console.log(`${target.name.padEnd(12)} ${how.padEnd(8)} ${version} from ${origin}`)

// What a run that was killed left behind, and what earlier versions of this program kept.
const clean = async () => {
  for (const name of [".work", ".cache", ".patchelf"]) await rm(join(servers, name), { recursive: true, force: true })
}

const once = <A>(make: (key: string) => Promise<A>) => {
  const made = new Map<string, Promise<A>>()
  return (key: string): Promise<A> => made.get(key) ?? made.set(key, make(key)).get(key)!
}

type Progress = ReturnType<typeof makeProgress>

/** On a terminal one line that is written over; elsewhere a line per step. */
const makeProgress = () => {
  const steps = new Map<string, string>()
  const isTerminal = process.stdout.isTTY === true
  return {
    show: (name: string, step: string) => {
      steps.set(name, step)
      if (!isTerminal) return console.log(`${name.padEnd(12)} ${step} …`)
      const text = [...steps].map(([one, at]) => `${one} ${at}`).join(" · ")
      process.stdout.write(`\r\x1b[2K${text.slice(0, (process.stdout.columns || 80) - 1)}`)
    },
    end: () => {
      if (isTerminal) process.stdout.write("\r\x1b[2K")
    }
  }
}

try {
  process.exitCode = (await main()) ? 0 : 1
} catch (cause) {
  console.error(`servers: ${(cause as Error).message}`)
  process.exitCode = 1
}
