/**
 * The Debian package in dpkg's own hands. In `npm test` the program in it is the
 * bundle, which needs a Node and is built in a second; with EP2_TEST_ALL it is the
 * executable that is released, and a real systemd runs it.
 */
import { execFileSync, spawnSync } from "node:child_process"
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync
} from "node:fs"
import { tmpdir } from "node:os"
import { basename, dirname, join, relative, resolve } from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { Effect, Result } from "effect"
import * as RuntimeApi from "../../src/haproxy/RuntimeApi.ts"
import * as DebianPackage from "../../src/packaging/DebianPackage.ts"
import * as Executable from "../../src/packaging/Executable.ts"
import * as Settings from "../../src/settings/Settings.ts"
import * as FileWorld from "../integration/FileWorld.ts"
import * as World from "../integration/World.ts"
import * as Binaries from "../servers/Binaries.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"
import * as SystemdNamespace from "../servers/SystemdNamespace.ts"
import * as Traffic from "../servers/Traffic.ts"

const isAll = process.env.EP2_TEST_ALL === "1"
const debian = resolve(import.meta.dirname, "../../docs/debian")

const has = (program: string) => spawnSync(program, ["--version"]).error === undefined
const isRoot = process.getuid?.() === 0
const can = has("dpkg-deb") && (isRoot || has("fakeroot"))
/** An ordinary user's run names these as not run (test/run.ts). */
const unless = can ? "" : " (needs dpkg, and root or fakeroot)"
const unlessRoot = isRoot ? "" : " (needs root, to boot a systemd in namespaces)"

let folder = ""
let executable: Executable.Executable
const debs: Array<string> = []

const build = async () => {
  folder = mkdtempSync(join(tmpdir(), "ep2-deb-"))
  const licences = "Node.js is licensed …"
  executable = isAll ? await Executable.build(folder) : { file: World.program, licences }
  // To install the same one again goes through the same steps as an upgrade.
  for (const version of isAll ? ["2.0.0-dev", "2.0.0"] : ["2.0.0"]) {
    debs.push(await DebianPackage.build({ executable, version, out: folder, compression: "none" }))
  }
}

/** dpkg on a root of its own: nothing of this machine is touched. */
const dpkg = (root: string, ...args: ReadonlyArray<string>) => {
  const options = [`--root=${root}`, "--force-script-chrootless", "--force-depends", `--log=${join(folder, "log")}`]
  const line = ["dpkg", ...options, ...(isRoot ? [] : ["--force-not-root"]), ...args]
  const [program, ...rest] = isRoot ? line : ["fakeroot", ...line]
  return execFileSync(program!, rest, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] })
}

const makeRoot = () => {
  const root = mkdtempSync(join(folder, "root-"))
  for (const one of ["info", "updates", "triggers"]) mkdirSync(join(root, "var/lib/dpkg", one), { recursive: true })
  execFileSync("touch", [join(root, "var/lib/dpkg/status"), join(root, "var/lib/dpkg/available")])
  return root
}

/** Everything but dpkg's own records. */
const filesIn = (root: string) =>
  readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((one) => !one.isDirectory())
    .map((one) => `/${relative(root, join(one.parentPath, one.name))}`)
    .filter((path) => !path.startsWith("/var/lib/dpkg/"))
    .sort()

/** What logrotate runs once it has moved the logs away. */
const postrotate = /postrotate\n(.*?)endscript/s.exec(readFileSync(join(debian, "logrotate"), "utf8"))![1]!

const conffiles = ["/etc/ep2/ep2.conf", "/etc/ep2/haproxy.cfg.template", "/etc/logrotate.d/ep2"]

describe.skipIf(!can)(`the Debian package${unless}`, () => {
  // The executable is 130 MB, and written several times.
  beforeAll(build, 240_000)
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  it("lays down what EP2 1.0 did, with the unit, the manual and all licences, and runs without a Node", () => {
    const root = makeRoot()

    dpkg(root, "--install", debs[0]!)

    const paths = filesIn(root)
    const doc = "/usr/share/doc/ep2"
    const share = [
      "bash-completion/completions/ep2",
      "zsh/vendor-completions/_ep2",
      "fish/vendor_completions.d/ep2.fish"
    ]
    assert.includeMembers(paths, ["/usr/bin/ep2", "/usr/lib/systemd/system/ep2.service", ...conffiles])
    assert.includeMembers(paths, [`${doc}/copyright`, `${doc}/changelog.gz`, "/usr/share/man/man1/ep2.1.gz"])
    assert.includeMembers(
      paths,
      share.map((path) => `/usr/share/${path}`)
    )
    assert.isTrue(statSync(join(root, "var/log/ep2")).isDirectory())
    assert.strictEqual(statSync(join(root, "etc/ep2/ep2.conf")).mode & 0o777, 0o640)
    assert.include(readFileSync(join(root, doc, "copyright"), "utf8"), "Node.js is licensed")
    assert.isFalse(
      paths.some((path) => path.includes("/etc/systemd/")),
      "it is not enabled"
    )

    const env = isAll ? { PATH: "" } : { PATH: dirname(process.execPath) }
    const said = execFileSync(join(root, "usr/bin/ep2"), ["--version"], { env, encoding: "utf8" })
    assert.match(said, /^ep2 \d.* \(Node v24\..*, Effect \d/)
  })

  it("keeps an edited ep2.conf over an upgrade and a removal, and leaves nothing after a purge", () => {
    const root = makeRoot()
    const conf = join(root, conffiles[0]!)
    dpkg(root, "--install", debs[0]!)
    appendFileSync(conf, "# mine\n")
    writeFileSync(join(root, "var/log/ep2/ep2.log"), "a line\n")
    const wants = join(root, "etc/systemd/system/multi-user.target.wants")
    mkdirSync(wants, { recursive: true })
    symlinkSync("/usr/lib/systemd/system/ep2.service", join(wants, "ep2.service"))

    dpkg(root, "--install", debs.at(-1)!)
    const upgraded = [dpkgStatus(root), readFileSync(conf, "utf8").endsWith("# mine\n")]
    dpkg(root, "--remove", "ep2")
    const removed = filesIn(root)
    const isKept = readFileSync(conf, "utf8").endsWith("# mine\n")
    dpkg(root, "--purge", "ep2")

    assert.deepStrictEqual(upgraded, ["install ok installed 2.0.0", true])
    assert.sameMembers(removed, [
      ...conffiles,
      "/etc/systemd/system/multi-user.target.wants/ep2.service",
      "/var/log/ep2/ep2.log"
    ])
    assert.isTrue(isKept)
    assert.deepStrictEqual(filesIn(root), [])
    assert.isFalse(existsSync(join(root, "var/log/ep2")) || existsSync(join(root, "etc/ep2")))
  })

  it("brings an ep2.conf that ep2 takes and a template that HAProxy takes", () => {
    const conf = Result.getOrThrow(Settings.decode("ep2.conf", readFileSync(join(debian, "ep2.conf"), "utf8")))
    const template = readFileSync(join(debian, "haproxy.cfg.template"), "utf8")
    // Whom it belongs to and where it looks are Debian's, and not of the machine that this runs on.
    const here = template.replace(/^ +(user|group|chroot|log \/dev) .*\n/gm, "").replace("{{ nodes }}", "")
    const file = join(folder, "haproxy.cfg")
    writeFileSync(file, here)

    execFileSync(Binaries.haproxy(World.newest), ["-c", "-f", file], { stdio: "pipe" })

    assert.deepStrictEqual(conf.warnings, [])
    assert.strictEqual(conf.settings.haproxy.templateFile, conffiles[1])
  })

  describe.skipIf(!isRoot).each(isAll ? ["under systemd"] : [])(`%s${unlessRoot}`, () => {
    it.live("is installed, started by hand, upgraded and purged under load, and HAProxy serves on", () =>
      Effect.gen(function* () {
        const world = yield* World.make({
          version: World.newest,
          source: FileWorld.sourceOf,
          settings: {
            ...{ orchestrator: "file", new_servers: "trusted", start_by: "systemd", service_name: "haproxy" },
            ...{ pid_file: "/run/haproxy.pid", log_file: "/var/log/ep2/ep2.log" }
          }
        })
        copyFileSync(world.conf, join(world.dir, "mine.conf"))
        writeFileSync(world.configFile, readFileSync(world.template, "utf8").replace("{{nodes}}", ""))
        // The temporary folder inside is another one, but for that of the world.
        const [older, newer] = debs.map((deb) => join(world.dir, basename(deb)))
        for (const deb of debs) linkSync(deb, join(world.dir, basename(deb)))
        const { run } = yield* SystemdNamespace.make({
          dir: world.dir,
          binary: Binaries.haproxy(World.newest),
          configFile: world.configFile
        })
        // A container says by this that its packages may start nothing.
        yield* run("rm", "-f", "/usr/sbin/policy-rc.d")
        const show = (property: string) =>
          Effect.map(run("systemctl", "show", "-p", property, "--value", "ep2"), (text) => text.trim())
        const [a, b] = yield* HttpBackends.makeAll(["a", "b"])
        yield* FileWorld.want(world, [a!])

        yield* run("dpkg", "--install", older!)
        const installed = [yield* show("ActiveState"), yield* show("UnitFileState")]
        const version = yield* run("env", "-i", "/usr/bin/ep2", "--version")
        yield* run("cp", join(world.dir, "mine.conf"), "/etc/ep2/ep2.conf")
        yield* run("systemctl", "enable", "--now", "ep2")
        yield* World.serves(world, [a!])
        const pid = RuntimeApi.parsePid(yield* world.ask("show info"))
        const traffic = yield* Traffic.start({ port: world.port, path: "/x?millis=20" })

        yield* run("mv", "/var/log/ep2/ep2.log", "/var/log/ep2/ep2.log.1")
        yield* run("sh", "-c", postrotate)
        yield* World.eventually(
          "the log is opened anew",
          Effect.map(run("sh", "-c", "grep -c HUP /var/log/ep2/ep2.log || true"), (count) => Number(count) > 0)
        )
        const logOwner = (yield* run("stat", "-c", "%G %a", "/var/log/ep2/ep2.log")).trim()

        const before = yield* show("MainPID")
        yield* run("dpkg", "--install", newer!)
        const upgraded = [yield* show("ActiveState"), yield* show("UnitFileState")]
        assert.notStrictEqual(yield* show("MainPID"), before)
        const conf = yield* run("cat", "/etc/ep2/ep2.conf")
        yield* FileWorld.want(world, [a!, b!])
        yield* World.serves(world, [a!, b!])

        yield* run("dpkg", "--purge", "ep2")
        const left = yield* run("find", "/etc", "/usr", "/var/log", "-name", "*ep2*", "-not", "-path", "*/dpkg/*")
        const report = yield* traffic.stop

        assert.deepStrictEqual(
          [installed, upgraded],
          [
            ["inactive", "disabled"],
            ["active", "enabled"]
          ]
        )
        assert.match(version, /^ep2 \d/)
        assert.strictEqual(logOwner, "adm 640")
        assert.strictEqual(conf, readFileSync(join(world.dir, "mine.conf"), "utf8"))
        assert.strictEqual(left, "")
        assert.deepStrictEqual(report.failures, [])
        yield* World.serves(world, [a!, b!])
        assert.strictEqual(RuntimeApi.parsePid(yield* world.ask("show info")), pid)
      })
    )
  })

  it("names a version before a release so that dpkg knows it for older", () => {
    const isOlder = spawnSync("dpkg", ["--compare-versions", DebianPackage.versionOf("2.0.0-dev"), "lt", "2.0.0"])

    assert.strictEqual(isOlder.status, 0)
  })
})

const dpkgStatus = (root: string) => {
  const status = readFileSync(join(root, "var/lib/dpkg/status"), "utf8")
  return ["Status", "Version"].map((field) => new RegExp(`^${field}: (.*)$`, "m").exec(status)?.[1]).join(" ")
}
