/**
 * The npm package as its users get it: packed, installed into an empty folder, and
 * run. With EP2_TEST_ALL it is packed as it is released, types and all, also
 * installed globally, and the examples of the documentation are type-checked against it.
 */
import { execFileSync } from "node:child_process"
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { createServer } from "node:http"
import { tmpdir } from "node:os"
import { dirname, join, resolve } from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import about from "../../package.json" with { type: "json" }
import * as FileWorld from "../integration/FileWorld.ts"
import * as World from "../integration/World.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"

const root = resolve(import.meta.dirname, "../..")
const isAll = process.env.EP2_TEST_ALL === "1"
const page = readFileSync(join(root, "docs/writing-a-source.md"), "utf8")

let folder = ""
let packed: { readonly filename: string; readonly files: ReadonlyArray<{ readonly path: string }> }
const consumer = () => join(folder, "consumer")

const run = (cwd: string, command: string, ...args: ReadonlyArray<string>) => {
  try {
    return execFileSync(command, args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] })
  } catch (cause) {
    const { stderr, stdout } = cause as { readonly stdout: string; readonly stderr: string }
    throw new Error(`${command} ${args.join(" ")}: ${stdout}${stderr}`, { cause })
  }
}
const npm = (cwd: string, ...args: ReadonlyArray<string>) => {
  const quiet = ["--no-audit", "--no-fund", "--no-update-notifier", "--offline", `--cache=${join(folder, "cache")}`]
  return run(cwd, "npm", ...args, ...quiet)
}

/** The examples of the page, by the name that stands in their first line. */
const examples = new Map(
  [...page.matchAll(/```ts\n(\/\/ ([\w-]+\.ts)\n.*?)```/gs)].map(([, text, name]) => [name!, text!])
)

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ep2-npm-"))
  // `prepack` builds all that is packed; without it the program is the one that the tests have built.
  if (!isAll) {
    rmSync(join(root, "dist/bin"), { recursive: true, force: true })
    cpSync(dirname(World.program), join(root, "dist/bin"), { recursive: true })
    run(root, "rolldown", "--config", "rolldown.library.config.ts")
  }
  const scripts = isAll ? [] : ["--ignore-scripts"]
  const said = npm(root, "pack", "--json", "--pack-destination", folder, ...scripts)
  // What `prepack` says stands before it.
  packed = JSON.parse(said.slice(said.indexOf("[\n")))[0]

  mkdirSync(consumer())
  writeFileSync(join(consumer(), "package.json"), JSON.stringify({ name: "consumer", type: "module" }))
  npm(consumer(), "install", join(folder, packed.filename))
}, 240_000)

afterAll(() => rmSync(folder, { recursive: true, force: true }))

describe("the npm package", () => {
  it("holds the program, what is exported, the licences and the documentation, and nothing of the checkout", () => {
    const kinds = [
      /^dist\/bin\/(.+\.js|.+\.js\.map|LICENSES\.txt|package\.json)$/,
      /^dist\/lib\/.*\.js$/,
      /^dist\/types\/.*\.d\.ts$/
    ]
    const others = [/^docs\//, /^(package\.json|README\.md|CHANGELOG\.md|LICENSE)$/]

    const paths = packed.files.map(({ path }) => path)

    assert.deepStrictEqual(
      paths.filter((path) => ![...kinds, ...others].some((kind) => kind.test(path))),
      []
    )
    for (const kind of kinds.slice(0, isAll ? 3 : 2))
      assert.isTrue(
        paths.some((path) => kind.test(path)),
        `${kind}`
      )
    assert.include(readFileSync(join(consumer(), "node_modules/ep2/dist/bin/LICENSES.txt"), "utf8"), "effect 4.1")
  })

  it("installs nothing else, and runs by npx", () => {
    const installed = readdirSync(join(consumer(), "node_modules")).filter((name) => !name.startsWith("."))
    const said = npm(consumer(), "exec", "--", "ep2", "--version")

    assert.deepStrictEqual(installed, ["ep2"])
    assert.isTrue(said.startsWith(`ep2 ${about.version} (Node v`), said)
  })

  it.each(isAll ? ["a global folder"] : [])("installs nothing else into %s, and runs from there", () => {
    npm(folder, "install", "--global", "--prefix", join(folder, "global"), join(folder, packed.filename))

    const said = run(folder, join(folder, "global/bin/ep2"), "--version")

    assert.deepStrictEqual(readdirSync(join(folder, "global/lib/node_modules")), ["ep2"])
    assert.isTrue(said.startsWith(`ep2 ${about.version} (Node v`), said)
  })

  it.live("keeps a real HAProxy in step where it is installed", () =>
    Effect.gen(function* () {
      const world = yield* World.make({
        version: World.newest,
        settings: { orchestrator: "file", new_servers: "trusted" },
        source: FileWorld.sourceOf,
        program: join(consumer(), "node_modules/.bin/ep2")
      })
      const backends = yield* HttpBackends.makeAll(["a", "b"])

      yield* FileWorld.startServing(world, backends)

      assert.strictEqual(Object.keys(yield* world.served()).length, 2)
    })
  )
})

describe("a program of one's own", () => {
  beforeAll(() => {
    // As `npm install effect` would, without a registry.
    for (const name of ["effect", "@types"]) {
      symlinkSync(join(root, "node_modules", name), join(consumer(), "node_modules", name))
    }
    for (const [name, text] of examples) writeFileSync(join(consumer(), name), text)
  })

  it.each(isAll ? ["every"] : [])("finds %s export that package.json names", () => {
    const names = Object.entries(about.exports).flatMap(([name, target]) =>
      typeof target === "string" ? [] : [name.slice(2)]
    )
    const program = names.map((name, index) => `import * as m${index} from "ep2/${name}"`)
    const list = names.map((_, index) => `Object.keys(m${index}).length`).join(", ")
    writeFileSync(join(consumer(), "all.ts"), `${program.join("\n")}\nconsole.log(JSON.stringify([${list}]))\n`)

    const counts: ReadonlyArray<number> = JSON.parse(run(consumer(), process.execPath, "all.ts"))

    assert.isAbove(names.length, 0)
    assert.isAbove(Math.min(...counts), 0)
  })

  it.each(isAll ? ["TypeScript"] : [])("is checked by %s against the types of the package", () => {
    const compilerOptions = { module: "nodenext", target: "es2024", strict: true, noEmit: true, types: ["node"] }
    const files = [...examples.keys(), "all.ts"]
    writeFileSync(join(consumer(), "tsconfig.json"), JSON.stringify({ compilerOptions, files }))
    const wrong = examples.get("inventory.ts")!.replace('"BadResponse"', '"NoSuchReason"')
    writeFileSync(join(consumer(), "wrong.ts"), wrong)
    const wrongConfig = { extends: "./tsconfig.json", files: ["wrong.ts"] }
    writeFileSync(join(consumer(), "tsconfig.wrong.json"), JSON.stringify(wrongConfig))

    run(consumer(), join(root, "node_modules/.bin/tsc"), "--project", "tsconfig.json")

    assert.throws(
      () => run(consumer(), join(root, "node_modules/.bin/tsc"), "--project", "tsconfig.wrong.json"),
      /wrong\.ts.*NoSuchReason/
    )
  })

  it.live("asks a source of its own, as the documentation shows, and serves what that names", () =>
    Effect.gen(function* () {
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
      const inventory = yield* makeInventory
      inventory.say([a!])
      const world = yield* World.make({
        version: World.newest,
        settings: { orchestrator: "custom", sleep_before_next_run: "0.2" },
        source: () => "",
        program: join(consumer(), "inventory.ts"),
        env: { INVENTORY: inventory.url }
      })

      const ep2 = yield* world.start([world.conf])
      yield* World.serves(world, [a!])
      inventory.say([a!, b!])
      yield* World.serves(world, [a!, b!])
      inventory.fail()
      yield* World.logs(ep2, /no list of instances: HTTP 503/)

      yield* World.serves(world, [a!, b!])
      assert.match(ep2.output(), /web-b/)
      ep2.signal("SIGTERM")
      assert.strictEqual(yield* ep2.ended, 0)
    })
  )

  it("plays the stack with another layer, as the documentation shows, and no rule is broken", () => {
    const docs = join(root, "docs/debian")

    const said = run(
      consumer(),
      process.execPath,
      "every-third.ts",
      join(docs, "ep2.conf"),
      join(docs, "haproxy.cfg.template")
    )

    const asked = Number(/^(\d+) asked, 0 rules broken, 0 requests lost\n$/.exec(said)?.[1])
    assert.isAbove(asked, 3, said)
  })
})

/** What the example asks: a server that names instances as JSON. */
const makeInventory = Effect.gen(function* () {
  let body: string | undefined
  const server = createServer((request, response) => {
    response.statusCode = request.url === "/web" && body !== undefined ? 200 : 503
    response.end(body ?? "out of order")
  })
  yield* Effect.acquireRelease(
    Effect.promise(() => new Promise<void>((done) => server.listen(0, "127.0.0.1", done))),
    () => Effect.sync(() => server.close().closeAllConnections())
  )
  const address = server.address()
  const port = typeof address === "object" && address !== null ? address.port : 0
  const say = (backends: ReadonlyArray<HttpBackends.HttpBackend>) => {
    body = JSON.stringify(
      backends.map(({ endpoint, name }) => ({ id: `web-${name}`, ip: endpoint.address, port: endpoint.port }))
    )
  }
  const fail = () => {
    body = undefined
  }
  return { url: `http://127.0.0.1:${port}`, say, fail }
})
