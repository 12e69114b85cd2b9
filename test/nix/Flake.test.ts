/** flake.nix without network: every output evaluates, and what it reads is level with what that is made from. */
import { spawnSync } from "node:child_process"
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { join, resolve } from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { version } from "../../src/cli/version.ts"
import * as Keys from "./Keys.ts"
import * as Nix from "./Nix.ts"
import * as Packages from "./Packages.ts"

const root = resolve(import.meta.dirname, "../..")
const systems = ["aarch64-darwin", "aarch64-linux", "x86_64-darwin", "x86_64-linux"]

interface Derivation {
  readonly name: string
  readonly system: string
  readonly drvPath: string
}

interface Pack {
  readonly path: string
  readonly meta: { readonly mainProgram: string; readonly platforms: ReadonlyArray<string> }
}

let nix: Nix.Nix
beforeAll(() => {
  nix = Nix.make()
})
afterAll(() => nix.remove())

describe("flake.nix", () => {
  it("has a package, an app, a shell, checks and a formatter for each system, and a module", async () => {
    const names = await nix.value(
      `builtins.mapAttrs (_: builtins.mapAttrs (_: one: if one ? type then one.type else builtins.attrNames one))
        { inherit (flake) packages apps devShells checks formatter; } // { modules = builtins.attrNames flake.nixosModules; }`
    )

    const each = <A>(of: (system: string) => A) => Object.fromEntries(systems.map((system) => [system, of(system)]))
    const checksOf = (system: string) => (system.endsWith("linux") ? ["machine", "module", "version"] : ["version"])
    assert.deepStrictEqual(names, {
      packages: each(() => ["default"]),
      apps: each(() => ["default"]),
      devShells: each(() => ["default"]),
      checks: each(checksOf),
      formatter: each(() => "derivation"),
      modules: ["default"]
    })
  })

  it("makes everything that can be built of derivations for its system", async () => {
    const shown = "one: { inherit (one) name system drvPath; }"

    const [packs, shells, checks] = (await Promise.all([
      nix.output("packages", `builtins.mapAttrs (_: all: [ ((${shown}) all.default) ])`),
      nix.output("devShells", `builtins.mapAttrs (_: all: [ ((${shown}) all.default) ])`),
      nix.output("checks", `builtins.mapAttrs (_: all: map (${shown}) (builtins.attrValues all))`)
    ])) as ReadonlyArray<Readonly<Record<string, ReadonlyArray<Derivation>>>>

    for (const system of systems) {
      assert.deepStrictEqual(
        packs![system]!.map(({ name }) => name),
        [`ep2-${version}`]
      )
      for (const one of [packs!, shells!, checks!].flatMap((all) => all[system]!)) {
        assert.strictEqual(one.system, system)
        assert.isTrue(existsSync(one.drvPath), one.drvPath)
      }
    }
  })

  it("starts the package's own program, on each system", async () => {
    const [apps, packs] = (await Promise.all([
      nix.output("apps", "builtins.mapAttrs (_: all: { inherit (all.default) type program; })"),
      nix.output("packages", "builtins.mapAttrs (_: all: { inherit (all.default) meta; path = all.default.outPath; })")
    ])) as readonly [Readonly<Record<string, object>>, Readonly<Record<string, Pack>>]

    for (const system of systems) {
      const { meta, path } = packs[system]!
      assert.deepStrictEqual(apps[system], { type: "app", program: `${path}/bin/ep2` })
      assert.strictEqual(meta.mainProgram, "ep2")
      assert.include(meta.platforms, system)
    }
  })

  it("has Node, HAProxy and Consul in its shell, on each system", async () => {
    const names = "builtins.mapAttrs (_: all: map (one: one.name) all.default.nativeBuildInputs)"

    const inputs = await nix.output("devShells", names)

    const expected = systems.map((system) => [system, ["node", "haproxy", "consul"]])
    assert.deepStrictEqual(inputs, Object.fromEntries(expected))
  })

  it("installs one and the same folder of packages for all systems", async () => {
    const shown = "all: with all.default.packages; [ outputHash outPath ]"

    const hashes = Object.values(
      (await nix.output("packages", `builtins.mapAttrs (_: ${shown})`)) as Readonly<
        Record<string, readonly [string, string]>
      >
    )

    const [first] = hashes
    assert.strictEqual(first![0], Packages.read().hash)
    assert.deepStrictEqual(hashes, Array(systems.length).fill(first))
  })

  it("tries a machine with a script that is Python", () => {
    const [script] = /(?<=testScript = '')[\s\S]*?(?='')/.exec(
      readFileSync(join(root, "src/packaging/nix/machine-test.nix"), "utf8")
    )!

    const parsed = spawnSync(
      "python3",
      ["-c", "import ast, sys, textwrap; ast.parse(textwrap.dedent(sys.stdin.read()))"],
      {
        input: script,
        encoding: "utf8"
      }
    )

    assert.strictEqual(parsed.stderr, "")
    assert.strictEqual(parsed.status, 0)
  })

  it("names only files that there are", () => {
    const files = [
      "flake.nix",
      ...readdirSync(join(root, "src/packaging/nix")).map((name) => `src/packaging/nix/${name}`)
    ]
    const named = files
      .filter((file) => file.endsWith(".nix"))
      .flatMap((file) =>
        [...readFileSync(join(root, file), "utf8").matchAll(/(?<![\w./])\.{1,2}\/[\w./-]*\w/g)].map(([path]) =>
          resolve(root, file, "..", path)
        )
      )

    assert.isAbove(named.length, 5)
    assert.deepStrictEqual(
      named.filter((path) => !existsSync(path)),
      []
    )
  })
})

describe("what npm run nix:renew writes", () => {
  it("names the packages that the sources import", () => {
    assert.deepStrictEqual(Packages.read().packages, Packages.imported(), "run `npm run nix:renew`")
  })

  it("has the keys of ep2.conf as the code has them", () => {
    assert.strictEqual(
      readFileSync(join(root, "src/packaging/nix/keys.json"), "utf8"),
      Keys.text(),
      "run `npm run nix:renew`"
    )
  })
})
