/**
 * A Debian package around the executable, built by dpkg-deb: what the installer of
 * EP2 1.0 laid down, the systemd unit, the documentation, and the licences of all
 * that is in it. Its scripts and configuration are in docs/debian.
 *
 * | file | source |
 * | --- | --- |
 * | /usr/bin/ep2 | `Executable` |
 * | /etc/ep2/ep2.conf, /etc/ep2/haproxy.cfg.template, /etc/logrotate.d/ep2 (conffiles) | docs/debian |
 * | /var/log/ep2 | empty |
 * | /usr/lib/systemd/system/ep2.service | docs/systemd |
 * | the manual page and the completions of the shells | what the executable says |
 * | /usr/share/doc/ep2 | docs, CHANGELOG.md; copyright from the licences |
 */
import { createHash } from "node:crypto"
import { chmod, cp, mkdir, readdir, readFile, rm, stat, writeFile } from "node:fs/promises"
import { dirname, join, relative, resolve } from "node:path"
import { gzipSync } from "node:zlib"
import type { Executable } from "./Executable.ts"
import * as ManPage from "./ManPage.ts"
import { run } from "./run.ts"

const root = resolve(import.meta.dirname, "../..")

/** What is packed, and where the package goes. */
export interface Options {
  readonly executable: Executable
  /** As npm writes it: `2.1.0-dev`. */
  readonly version: string
  /** Where the package goes. */
  readonly out: string
  /** Of the package's data. `xz` is what every Debian unpacks; `none` is fast. */
  readonly compression: "xz" | "zstd" | "gzip" | "none"
}

/** Debian's word for the machines that Node runs on. */
const architectures: Readonly<Record<string, string>> = { x64: "amd64", arm64: "arm64" }

/** In Debian a version before another one says so with a tilde: `2.1.0~dev` comes before `2.1.0`. */
export const versionOf = (npm: string): string => npm.replace("-", "~")

/** Builds the package and returns its path: `OUT/ep2_2.1.0~dev_amd64.deb`. */
export const build = async ({ compression, executable, out, version }: Options): Promise<string> => {
  const architecture = architectures[process.arch]
  if (architecture === undefined) throw new Error(`there is no Debian architecture for ${process.arch}`)
  await mkdir(out, { recursive: true })
  const tree = join(out, "tree")
  await rm(tree, { recursive: true, force: true })
  await layFiles(tree, executable)
  await layWords(tree, executable, version)
  await layControl(tree, version, architecture)
  // Whatever the umask was. Only ep2.conf is not for everybody: it may hold an access key.
  await run("chmod", ["-R", "u=rwX,go=rX", tree])
  await chmod(join(tree, "etc/ep2/ep2.conf"), 0o640)
  const deb = join(out, `ep2_${versionOf(version)}_${architecture}.deb`)
  await run("dpkg-deb", ["--root-owner-group", `-Z${compression}`, "--build", tree, deb])
  await rm(tree, { recursive: true })
  return deb
}

const layFiles = async (tree: string, { file, licences }: Executable) => {
  const lay = async (from: string, to: string) => {
    await mkdir(dirname(join(tree, to)), { recursive: true })
    await cp(from, join(tree, to))
  }
  await lay(file, "usr/bin/ep2")
  await chmod(join(tree, "usr/bin/ep2"), 0o755)
  await lay(join(root, "docs/debian/ep2.conf"), "etc/ep2/ep2.conf")
  await lay(join(root, "docs/debian/haproxy.cfg.template"), "etc/ep2/haproxy.cfg.template")
  await lay(join(root, "docs/debian/logrotate"), "etc/logrotate.d/ep2")
  await lay(join(root, "docs/systemd/ep2.service"), "usr/lib/systemd/system/ep2.service")
  await mkdir(join(tree, "var/log/ep2"), { recursive: true })

  const doc = join(tree, "usr/share/doc/ep2")
  await mkdir(doc, { recursive: true })
  await cp(join(root, "docs"), doc, { recursive: true })
  await rm(join(doc, "debian"), { recursive: true })
  await write(join(doc, "copyright"), copyright(licences))
}

/** What is made from the program's own words. */
const layWords = async (tree: string, { file }: Executable, version: string) => {
  const say = (...args: ReadonlyArray<string>) => run(file, args, { NO_COLOR: "1" })
  const help = await say("--help")
  const commands = ManPage.commandsIn(help)
  const texts = await Promise.all(commands.map((command) => say(command, "--help")))
  const helps = [{ command: "", text: help }, ...commands.map((command, index) => ({ command, text: texts[index]! }))]
  const share = join(tree, "usr/share")
  await write(join(share, "man/man1/ep2.1.gz"), zipped(ManPage.make(version, helps)))
  await write(join(share, "bash-completion/completions/ep2"), await say("--completions", "bash"))
  await write(join(share, "zsh/vendor-completions/_ep2"), await say("--completions", "zsh"))
  await write(join(share, "fish/vendor_completions.d/ep2.fish"), await say("--completions", "fish"))
  await write(join(share, "doc/ep2/changelog.gz"), zipped(await readFile(join(root, "CHANGELOG.md"), "utf8")))
}

const layControl = async (tree: string, version: string, architecture: string) => {
  const files = (await filesBelow(tree)).toSorted()
  const bytes = await Promise.all(files.map(async (file) => (await stat(join(tree, file))).size))
  const sums = await Promise.all(
    files.map(
      async (file) =>
        `${createHash("md5")
          .update(await readFile(join(tree, file)))
          .digest("hex")}  ${file}\n`
    )
  )
  const kibibytes = bytes.reduce((sum, one) => sum + Math.ceil(one / 1024), 0)
  const control = join(tree, "DEBIAN")
  await write(join(control, "control"), controlFile({ version, architecture, kibibytes }))
  await write(join(control, "md5sums"), sums.join(""))
  const conffiles = files.filter((file) => file.startsWith("etc/"))
  await write(join(control, "conffiles"), conffiles.map((file) => `/${file}\n`).join(""))
  for (const script of ["postinst", "prerm", "postrm"]) {
    await cp(join(root, "docs/debian", script), join(control, script))
    await chmod(join(control, script), 0o755)
  }
}

const controlFile = (options: {
  readonly version: string
  readonly architecture: string
  readonly kibibytes: number
}) => `Package: ep2
Version: ${versionOf(options.version)}
Architecture: ${options.architecture}
Maintainer: ep2 <root@localhost>
Installed-Size: ${options.kibibytes}
Depends: libc6 (>= 2.28), libgcc-s1, libstdc++6 (>= 5.2)
Recommends: haproxy (>= 1.8), logrotate
Section: net
Priority: optional
Description: keeps the servers of HAProxy backends in step with their source
 ep2 keeps the servers of HAProxy backends in step with Consul services, AWS Auto
 Scaling groups or a file, over the runtime socket and without losing a request.
 .
 The Node that it runs on is in the program. The service is neither enabled nor
 started: edit /etc/ep2/ep2.conf and /etc/ep2/haproxy.cfg.template first.
`

const copyright = (licences: string) => `ep2 is under the Apache License, version 2.0. On Debian systems its text
is in /usr/share/common-licenses/Apache-2.0.

/usr/bin/ep2 contains Node.js and the libraries below, under their own
licences.

${licences}`

const filesBelow = async (folder: string): Promise<ReadonlyArray<string>> =>
  (await readdir(folder, { recursive: true, withFileTypes: true }))
    .filter((one) => one.isFile())
    .map((one) => relative(folder, join(one.parentPath, one.name)))

const write = async (file: string, text: string | Uint8Array) => {
  await mkdir(dirname(file), { recursive: true })
  await writeFile(file, text)
}

const zipped = (text: string) => gzipSync(text, { level: 9 })
