/**
 * Nix without network: Debian's, with a store of its own in a temporary folder, and ep2's flake beside a stand-in for
 * nixpkgs (test/nix/nixpkgs). It evaluates, and it builds with the tools of this machine.
 *
 * `EP2_NIXPKGS_LIB` may name the folder `lib` of a copy of nixpkgs, which is then used in place of the stand-in's own.
 */
import { execFile } from "node:child_process"
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync
} from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join, resolve } from "node:path"
import { promisify, stripVTControlCharacters } from "node:util"
import * as Binaries from "../servers/Binaries.ts"
import { onPath } from "../servers/provisionApt.ts"

const root = resolve(import.meta.dirname, "../..")

/** What the flake is made of. Everything else of the checkout is left out, as it is of what Nix builds. */
const parts = ["flake.nix", "src", "package.json", "package-lock.json", "LICENSE", "docs/systemd"]

export interface Nix {
  /** A copy of the flake, which a test may change. */
  readonly flake: string
  /** Runs `nix ARG ...` and returns what it prints. Rejects with its own error. */
  readonly run: (...args: ReadonlyArray<string>) => Promise<string>
  /** The value of an output of the flake, by its path: `packages.x86_64-linux`, with a function over it applied. */
  readonly output: (path: string, apply?: string) => Promise<unknown>
  /** The same of another flake, in that folder, whose inputs are ep2 and the stand-in. */
  readonly outputOf: (folder: string, path: string, apply: string) => Promise<unknown>
  /** The value of an expression in which `flake` are the flake's outputs and `nixpkgs` the stand-in. */
  readonly value: (expression: string) => Promise<unknown>
  /** Builds an output; the path of the result. */
  readonly build: (path: string) => Promise<string>
  readonly remove: () => Promise<void>
}

/** Lays it out. Throws one line where there is no Nix. */
export const make = (): Nix => {
  const program = Binaries.nix()
  const folder = realpathSync(mkdtempSync(join(tmpdir(), "ep2-nix-")))
  const at = (...names: ReadonlyArray<string>) => join(folder, ...names)
  const flake = at("ep2")
  for (const part of parts) cpSync(join(root, part), join(flake, part), { recursive: true })
  layNixpkgs(folder)
  for (const name of ["etc", "home"]) mkdirSync(at(name))
  // What Nix asks whether another machine would build; Debian's own is not where this Nix looks for it.
  writeFileSync(at("hook"), '#!/bin/sh\necho "# decline-permanently" >&2\ncat > /dev/null\n')
  chmodSync(at("hook"), 0o755)
  const conf = [
    "experimental-features = nix-command flakes",
    // A user without rights cannot make a sandbox, and what is built here uses this machine's tools.
    "sandbox = false",
    "build-users-group =",
    "substitute = false",
    "flake-registry =",
    "builders =",
    `build-hook = ${at("hook")}`
  ]
  writeFileSync(at("etc", "nix.conf"), `${conf.join("\n")}\n`)
  const env = {
    ...process.env,
    HOME: at("home"),
    NIX_CONF_DIR: at("etc"),
    NIX_LOG_DIR: at("log"),
    NIX_STATE_DIR: at("state"),
    NIX_STORE_DIR: at("store")
  }
  const run = async (...args: ReadonlyArray<string>) => {
    try {
      const { stdout } = await promisify(execFile)(program, args, { env, timeout: 300_000, maxBuffer: 1 << 26 })
      return stdout
    } catch (cause) {
      const { message, stderr = "" } = cause as { readonly message: string; readonly stderr?: string }
      throw new Error(stderr.trim() === "" ? message : stripVTControlCharacters(stderr), { cause })
    }
  }
  const offline = ["--offline", "--no-write-lock-file", "--override-input", "nixpkgs", `path:${at("nixpkgs")}`]
  return {
    flake,
    run,
    output: async (path, apply) =>
      JSON.parse(
        await run(
          "eval",
          "--json",
          ...offline,
          `path:${flake}#${path}`,
          ...(apply === undefined ? [] : ["--apply", apply])
        )
      ),
    outputOf: async (folder, path, apply) => {
      const ep2 = ["--override-input", "ep2", `path:${flake}`]
      return JSON.parse(await run("eval", "--json", ...offline, ...ep2, `path:${folder}#${path}`, "--apply", apply))
    },
    value: async (expression) => {
      const lines = [
        `nixpkgs = builtins.getFlake "path:${at("nixpkgs")}";`,
        `flake = let self = (import ${flake}/flake.nix).outputs { inherit self nixpkgs; }; in self;`
      ]
      return JSON.parse(
        await run("eval", "--json", "--offline", "--impure", "--expr", `let ${lines.join(" ")} in ${expression}`)
      )
    },
    build: async (path) =>
      JSON.parse(await run("build", "--no-link", "--json", ...offline, `path:${flake}#${path}`))[0].outputs.out,
    remove: async () => {
      // Nix makes what it builds read-only.
      await promisify(execFile)("chmod", ["-R", "u+w", folder])
      rmSync(folder, { recursive: true, force: true })
    }
  }
}

/** The stand-in, with what it has to know of this machine. */
const layNixpkgs = (folder: string) => {
  const at = (...names: ReadonlyArray<string>) => join(folder, "nixpkgs", ...names)
  cpSync(join(import.meta.dirname, "nixpkgs"), at(), { recursive: true })
  const lib = process.env.EP2_NIXPKGS_LIB
  if (lib !== undefined) cpSync(lib, at("nixpkgs-lib"), { recursive: true })
  const node = join(folder, "node", "bin")
  mkdirSync(node, { recursive: true })
  symlinkSync(process.execPath, join(node, "node"))
  const npm = onPath("npm")
  if (npm !== undefined) {
    // With its user's settings, which name the registry where that is not the usual one, though Nix has another HOME.
    const settings = process.env.NPM_CONFIG_USERCONFIG ?? join(process.env.HOME ?? "/", ".npmrc")
    writeFileSync(join(node, "npm"), `#!/bin/sh\nNPM_CONFIG_USERCONFIG='${settings}' exec '${npm}' "$@"\n`)
    chmodSync(join(node, "npm"), 0o755)
  }
  const certificates = join(folder, "cacert", "etc", "ssl", "certs")
  mkdirSync(certificates, { recursive: true })
  const bundle = process.env.NODE_EXTRA_CA_CERTS ?? "/etc/ssl/certs/ca-certificates.crt"
  if (existsSync(bundle)) symlinkSync(bundle, join(certificates, "ca-bundle.crt"))
  const machine = {
    shell: "/bin/sh",
    path: process.env.PATH,
    node: dirname(node),
    cacert: join(folder, "cacert"),
    haproxy: dirname(dirname(Binaries.haproxy("2.2"))),
    consul: dirname(dirname(Binaries.consul()))
  }
  writeFileSync(at("machine.json"), JSON.stringify(machine))
}
