/** The real servers that tests and the demo run: the programs that `npm run servers` puts into the checkout. */
import { accessSync, constants } from "node:fs"
import { resolve } from "node:path"

/** Versions of HAProxy that the project is tried on. */
export type HaproxyVersion = "2.2" | "2.6" | "3.0" | "3.2"

/**
 * The versions that tests repeat themselves on: `EP2_HAPROXY_VERSIONS`, separated
 * by commas, and 2.6 and 3.2 where it is not set.
 */
export const haproxyVersions = (): ReadonlyArray<HaproxyVersion> =>
  (process.env.EP2_HAPROXY_VERSIONS ?? "2.6,3.2")
    .split(",")
    .map((version) => version.trim())
    .filter((version) => version !== "")
    .map(knownVersion)

/** The first one of them in `npm test`, all in `npm run test:all`: for what is much the same on each. */
export const sampleVersions = (): ReadonlyArray<HaproxyVersion> =>
  process.env.EP2_TEST_ALL === undefined ? haproxyVersions().slice(0, 1) : haproxyVersions()

/** Path of a HAProxy. Throws one line when it is not there. */
export const haproxy = (version: HaproxyVersion): string => program(`haproxy-${version}`, "haproxy")

/** Path of Consul. Throws one line when it is not there. */
export const consul = (): string => program("consul-1.8", "consul")

/** Path of moto, which stands in for AWS. Throws one line when it is not there. */
export const moto = (): string => program("moto-5", "moto_server")

/** Path of Nix, which evaluates and builds the flake. Throws one line when it is not there. */
export const nix = (): string => program("nix-2.8", "nix")

const program = (target: string, name: string): string => {
  const path = resolve(import.meta.dirname, "../../.servers", target, "bin", name)
  try {
    accessSync(path, constants.X_OK)
  } catch {
    throw new Error(`${path} is not there or not executable: run \`npm run servers -- ${target}\``)
  }
  return path
}

const knownVersion = (version: string): HaproxyVersion => {
  if (version === "2.2" || version === "2.6" || version === "3.0" || version === "3.2") return version
  throw new Error(`EP2_HAPROXY_VERSIONS names ${JSON.stringify(version)}; known are 2.2, 2.6, 3.0 and 3.2`)
}
