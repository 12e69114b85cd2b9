/**
 * Debian packages without root: apt itself, with every folder of its own, as a
 * plain user. apt checks the signature of a suite's index against Debian's
 * keyring and the sum of every package against that index; the machine's own
 * package database is neither read nor written.
 */
import { execFile, execFileSync } from "node:child_process"
import { accessSync, constants, existsSync } from "node:fs"
import { mkdir, readdir, writeFile } from "node:fs/promises"
import { delimiter, join } from "node:path"
import { promisify } from "node:util"

const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
const minutes = 60_000

// What the programs do not need in order to run from a folder. apt is told that all of it is there.
const notNeeded = (
  "adduser bash-static bzip2 ca-certificates curl debconf dpkg init-system-helpers libdbd-sqlite3-perl libjs-jquery " +
  "libwww-curl-perl lsb-base mailcap media-types mime-support netbase openssl openssl-provider-legacy passwd perl " +
  "perl-base pipexec procps python3-setuptools sysvinit-utils tar tzdata xz-utils"
).split(" ")

/** The file of a command on the PATH, or undefined. */
export const onPath = (command: string): string | undefined =>
  (process.env.PATH ?? "")
    .split(delimiter)
    .map((folder) => join(folder, command))
    .find((file) => {
      try {
        accessSync(file, constants.X_OK)
        return true
      } catch {
        return false
      }
    })

/** What this machine lacks to unpack Debian's packages: one phrase each, with the way to get it. None: it can. */
export const lacking = (): ReadonlyArray<string> => {
  if (process.platform !== "linux" || process.arch !== "x64") return ["this is not Linux on amd64"]
  return [
    ...["apt-get", "dpkg-deb"]
      .filter((tool) => onPath(tool) === undefined)
      .map((tool) => `there is no ${tool} (Debian and Ubuntu have it)`),
    ...(existsSync(keyring) ? [] : [`${keyring} is missing (the package debian-archive-keyring brings it)`])
  ]
}

/**
 * The Debian mirror of this machine: the first one that apt is configured with.
 * Undefined where apt has none; on Ubuntu, say, it has others.
 */
export const configuredMirror = (): string | undefined => {
  const ask = (format: string, ...options: ReadonlyArray<string>) =>
    execFileSync("apt-get", ["indextargets", ...options, "--format", format, "Created-By: Packages"], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"]
    }).split("\n")
  try {
    // The label is known once the lists were fetched; before that, an archive is known by its path.
    const labelled = ask("$(REPO_URI) $(LABEL)").find((line) => line.endsWith(" Debian"))
    const uri =
      labelled?.split(" ")[0] ?? ask("$(REPO_URI)", "--no-release-info").find((one) => /\/debian\/?$/.test(one))
    return uri?.replace(/\/$/, "")
  } catch {
    return undefined
  }
}

/** One suite of a mirror, with its index fetched and checked. */
export interface Suite {
  readonly name: string
  /** The version of a package, or undefined where the suite has none. */
  readonly versionOf: (name: string) => Promise<string | undefined>
  /** Fetches packages and all they need into a folder; returns the files. */
  readonly download: (packages: ReadonlyArray<string>, into: string) => Promise<ReadonlyArray<string>>
}

/** Fetches the index of a suite into `folder`. Rejects with one line that says what apt said. */
export const openSuite = async (options: {
  readonly name: string
  readonly mirror: string
  readonly folder: string
}): Promise<Suite> => {
  const { folder, mirror, name } = options
  const config = join(folder, "apt.conf")
  const apt = (tool: string, args: ReadonlyArray<string>) =>
    run(tool, ["-c", config, ...args], `${name}: ${tool} ${args.find((one) => !one.startsWith("-")) ?? ""}`)
  await mkdir(join(folder, "lists", "partial"), { recursive: true })
  await writeFile(join(folder, "sources.list"), `deb [arch=amd64 signed-by=${keyring}] ${mirror} ${name} main\n`)
  await writeFile(join(folder, "status"), notNeeded.map(installed).join("\n"))
  await writeFile(config, aptConfig(folder))
  await apt("apt-get", ["-qq", "update"])
  return {
    name,
    versionOf: async (wanted) =>
      /^Version: (.*)$/m.exec(await apt("apt-cache", ["show", "--no-all-versions", wanted]))?.[1],
    download: async (packages, into) => {
      await mkdir(join(into, "partial"), { recursive: true })
      await apt("apt-get", [
        "-qq",
        "-y",
        "--download-only",
        "-o",
        `Dir::Cache::Archives=${into}`,
        "install",
        ...packages
      ])
      return (await readdir(into)).filter((file) => file.endsWith(".deb")).map((file) => join(into, file))
    }
  }
}

/** Unpacks packages into a folder, without running anything that they bring. */
export const unpack = async (files: ReadonlyArray<string>, into: string): Promise<void> => {
  await mkdir(into, { recursive: true })
  for (const file of files) await run("dpkg-deb", ["-x", file, into], "dpkg-deb")
}

/** Runs a program to its end, for at most ten minutes; rejects with `what` and the line that says why it failed. */
export const run = async (file: string, args: ReadonlyArray<string>, what: string): Promise<string> => {
  try {
    const env = { ...process.env, LC_ALL: "C.UTF-8", DEBIAN_FRONTEND: "noninteractive" }
    const { stderr, stdout } = await promisify(execFile)(file, args, { env, timeout: 10 * minutes, maxBuffer: 1 << 26 })
    return stdout + stderr
  } catch (cause) {
    const { message, stderr = "" } = cause as { readonly message: string; readonly stderr?: string }
    const lines = stderr.split("\n").filter((line) => line.trim() !== "")
    throw new Error(`${what}: ${lines.find((line) => line.startsWith("E: ")) ?? lines.at(-1) ?? message}`, { cause })
  }
}

const installed = (name: string) =>
  `Package: ${name}\nStatus: install ok installed\nVersion: 999\nArchitecture: amd64\nMaintainer: none\nDescription: none\n`

// Read after the machine's own configuration, whose proxy and credentials stay in force. The hooks are cleared because
// those of a container image delete the archives of the machine.
const aptConfig = (folder: string) => `Dir::Etc::SourceList "${folder}/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State "${folder}";
Dir::State::Lists "${folder}/lists";
Dir::State::status "${folder}/status";
Dir::Cache "${folder}";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Log "${folder}";
#clear APT::Architectures;
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Default-Release "";
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Sandbox::User "root";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Update::Error-Mode "any";
Debug::NoLocking "true";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
`
