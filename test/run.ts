/**
 * `npm test [-- ARG ...]` and `npm run test:all`: brings the servers that the
 * tests need, then checks types, Effect's rules, lint and format, the tracked
 * files and the build, and runs the tests. Arguments go to vitest.
 *
 * `--all` runs the whole matrix in place of the fixed sample: every HAProxy,
 * and the tests that look at EP2_TEST_ALL. EP2_HAPROXY_VERSIONS, where it is
 * set, decides about the versions, and EP2_TEST_SEED (a number, or `any`) about
 * what is generated.
 *
 * Each step prints its name and time when it is done, and what it said if it
 * failed. Where a test or two failed, they are run again with nothing beside
 * them, which tells a busy machine from a defect: one that passes then is named
 * as UNSTEADY with what it said, and does not fail the run. The end names the
 * tests that this user or machine cannot run and those that failed. The last
 * line counts the tests and the steps; the exit code is 0 only if none failed.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs"
import { constants, homedir, tmpdir } from "node:os"
import { join, relative, resolve } from "node:path"

const root = resolve(import.meta.dirname, "..")
const args = process.argv.slice(2).filter((one) => one !== "--all")
const isAll = process.argv.includes("--all")
const limitMinutes = isAll ? 30 : 8
const versions = process.env.EP2_HAPROXY_VERSIONS ?? (isAll ? "2.2,2.6,3.0,3.2" : "2.6,3.2")
// All are always there: 2.2 has several processes (nbproc), and the benchmarks name each that they are made for.
const servers = [...new Set(["2.2", "2.6", "3.0", "3.2", ...versions.split(",").map((version) => version.trim())])]
  .map((version) => `haproxy-${version}`)
  .concat("consul-1.8", "moto-5", "nix-2.8")
const env: NodeJS.ProcessEnv = {
  ...process.env,
  EP2_HAPROXY_VERSIONS: versions,
  ...(isAll ? { EP2_TEST_ALL: "1" } : {})
}
const width = "effect diagnostics".length

interface Outcome {
  readonly isOk: boolean
  readonly output: string
}

const folder = mkdtempSync(join(tmpdir(), "ep2-test-"))
process.on("exit", () => rmSync(folder, { recursive: true, force: true }))
const running = new Set<ChildProcess>()
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => {
    for (const child of running) child.kill(signal)
    process.exit(128 + constants.signals[signal])
  })
}

/** Runs a command; keeps what it prints, or shows it as it comes. */
const command = (line: ReadonlyArray<string>, options: { readonly isShown?: boolean } = {}) =>
  new Promise<Outcome>((resume) => {
    const [file, ...rest] = line
    const shown = options.isShown === true ? "inherit" : "pipe"
    const child = spawn(file!, rest, { cwd: root, env, stdio: ["ignore", shown, shown] })
    running.add(child)
    const output: Array<Buffer> = []
    child.stdout?.on("data", (data: Buffer) => output.push(data))
    child.stderr?.on("data", (data: Buffer) => output.push(data))
    child.on("error", (cause) => resume({ isOk: false, output: `${file}: ${cause.message}` }))
    child.on("close", (code) => {
      running.delete(child)
      resume({ isOk: code === 0, output: Buffer.concat(output).toString("utf8").trimEnd() })
    })
  })

/** Runs one step and reports it; resolves to whether it passed. */
const step = async (name: string, run: () => Promise<Outcome>): Promise<boolean> => {
  const start = performance.now()
  const { isOk, output } = await run()
  const seconds = ((performance.now() - start) / 1000).toFixed(1)
  const shown = isOk || output === "" ? "" : `\n${output}\n`
  console.log(`${isOk ? "ok    " : "FAILED"} ${name.padEnd(width)} ${seconds.padStart(6)} s${shown}`)
  return isOk
}

/** Runs tasks in order, two at a time: as many as the machines that this is meant for have cores. */
const twoAtATime = async (tasks: ReadonlyArray<() => Promise<boolean>>): Promise<ReadonlyArray<boolean>> => {
  const results: Array<boolean> = []
  const waiting = [...tasks]
  const work = async () => {
    for (let task = waiting.shift(); task !== undefined; task = waiting.shift()) results.push(await task())
  }
  await Promise.all([work(), work()])
  return results
}

/** The text as a regular expression that finds it alone. */
const literal = (text: string) => text.replace(/[.[\]{}()*+?^$|\\]/g, "\\$&")

/**
 * Looks in the tracked files for the paths of this machine and for the hosts of
 * registries and mirrors, which would tie the project to one place.
 */
const trackedFiles = async (): Promise<Outcome> => {
  const inGit = await command(["git", "rev-parse", "--is-inside-work-tree"])
  if (!inGit.isOk) return { isOk: true, output: "" }
  const paths = [root, homedir()].filter((path) => path.length > 1).map((path) => `${path}/`)
  // The brackets keep the patterns from finding themselves.
  const hosts = ["registr[y]\\.[a-z]+", "npm[j]s\\.(org|com)", "de[b]\\.debian\\.org", '"resolved": "http[s]?:']
  const patterns = [...paths.map(literal), ...hosts].flatMap((pattern) => ["-e", pattern])
  const found = await command(["git", "grep", "-nIE", ...patterns])
  // git grep ends with 1 and no output where nothing matches.
  return { isOk: found.output === "", output: found.output }
}

interface Report {
  readonly numPassedTests: number
  readonly testResults: ReadonlyArray<{
    readonly name: string
    readonly status: string
    readonly assertionResults: ReadonlyArray<{
      readonly ancestorTitles: ReadonlyArray<string>
      readonly title: string
      readonly fullName: string
      readonly status: string
      readonly failureMessages: ReadonlyArray<string>
    }>
  }>
}

interface FailedTest {
  readonly file: string
  /** As `vitest -t` knows it. */
  readonly name: string
  readonly said: string
}

const readReport = (file: string): Report => {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as Report
  } catch {
    return { numPassedTests: 0, testResults: [] }
  }
}

/** Names of the tests that did not run, though nothing asked for a part only. */
const leftOut = ({ testResults }: Report): ReadonlyArray<string> =>
  args.length > 0
    ? []
    : testResults
        .flatMap(({ assertionResults }) => assertionResults)
        .filter(({ status }) => status !== "passed" && status !== "failed")
        .map(({ fullName }) => fullName)

type Result = Report["testResults"][number]["assertionResults"][number]

const nameOf = ({ ancestorTitles, title }: Result): string => [...ancestorTitles, title].join(" > ")

/** The tests that failed, each with the first line of what it said. */
const failures = ({ testResults }: Report): ReadonlyArray<FailedTest> =>
  testResults.flatMap(({ name: path, assertionResults }) =>
    assertionResults
      .filter(({ status }) => status === "failed")
      .map((result) => ({
        file: relative(root, path),
        name: nameOf(result),
        said: result.failureMessages[0]?.split("\n")[0] ?? "no message"
      }))
  )

/** More tests than these fail of a defect, not of a busy machine. */
const mostUnsteady = 2

/** What chance has found once it does not find again. */
const isByChance = ({ said }: FailedTest): boolean => /property|seed|counterexample/i.test(said)

/** Runs tests with nothing beside them; answers which of them passed. */
const again = async (tests: ReadonlyArray<FailedTest>): Promise<ReadonlySet<FailedTest>> => {
  if (tests.length === 0 || tests.length > mostUnsteady || tests.some(isByChance)) return new Set()
  const file = join(folder, "again.json")
  const names = `^(${tests.map(({ name }) => literal(name)).join("|")})$`
  const files = [...new Set(tests.map((test) => test.file))]
  const options = ["--maxWorkers=1", "--reporter=default", "--reporter=json", `--outputFile.json=${file}`, "-t", names]
  const line = ["vitest", "run", ...files, ...options]
  if (!(await step("once more", () => command(line, { isShown: true })))) return new Set()
  const passed = readReport(file).testResults.flatMap(({ name: path, assertionResults }) =>
    assertionResults.filter(({ status }) => status === "passed").map((one) => `${relative(root, path)}\n${nameOf(one)}`)
  )
  return new Set(tests.filter((test) => passed.includes(`${test.file}\n${test.name}`)))
}

const start = performance.now()
const report = join(folder, "report.json")
const node = process.execPath
const steps = await twoAtATime([
  () => step("servers", () => command([node, "test/servers/provision.ts", ...servers])),
  () => step("types", () => command(["tsc", "--noEmit"])),
  () => step("effect diagnostics", () => command(["effect-tsgo", "diagnostics", "--project", "tsconfig.json"])),
  () => step("lint and format", () => command(["biome", "check", "--error-on-warnings"])),
  () => step("tracked files", trackedFiles),
  () => step("build", () => command(["rolldown", "--config", "rolldown.config.ts"]))
])
const unhandled = join(folder, "unhandled")
env.EP2_TEST_UNHANDLED = unhandled
const reporters = [
  "--reporter=default",
  "--reporter=./test/Unhandled.ts",
  "--reporter=json",
  `--outputFile.json=${report}`
]
const isTested = await step("tests", () => command(["vitest", "run", ...reporters, ...args], { isShown: true }))
const tests = readReport(report)
const failedTests = failures(tests)
const unloaded = tests.testResults.filter(
  ({ status, assertionResults }) => status === "failed" && assertionResults.every((test) => test.status !== "failed")
)
const errors = existsSync(unhandled) ? readFileSync(unhandled, "utf8").split("\n") : []
// A run may fail without any of these: no test at all.
const isUnexplained = !isTested && failedTests.length + unloaded.length + errors.length === 0
const failedSteps = steps.filter((isOk) => !isOk).length + unloaded.length + errors.length + (isUnexplained ? 1 : 0)
const unsteady = await again(failedTests)
const failed = failedTests.length - unsteady.size + failedSteps
const passed = tests.numPassedTests + unsteady.size + steps.filter((isOk) => isOk).length
const minutes = (performance.now() - start) / 60_000
const isLate = minutes > limitMinutes ? ", which is over it" : ""
for (const name of leftOut(tests)) console.log(`NOT RUN ${name}`)
for (const error of errors) console.log(`FAILED an error that no test awaited: ${error}`)
for (const { name } of unloaded) console.log(`FAILED ${relative(root, name)}: the file as a whole`)
for (const test of failedTests) {
  console.log(`${unsteady.has(test) ? "UNSTEADY, passed alone" : "FAILED"} ${test.file}: ${test.name}: ${test.said}`)
}
console.log(`\nHAProxy ${versions}: ${minutes.toFixed(1)} of at most ${limitMinutes} minutes${isLate}`)
console.log(`${passed} passed, ${failed} failed`)
process.exitCode = failed === 0 ? 0 : 1
