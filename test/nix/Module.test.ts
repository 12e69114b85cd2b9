/** services.ep2: what its options become, read by what reads ep2.conf, and the unit. */
import { readFileSync, writeFileSync } from "node:fs"
import { join, resolve } from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { Result, type Schema } from "effect"
import * as ConfFile from "../../src/settings/ConfFile.ts"
import * as Key from "../../src/settings/Key.ts"
import { sections } from "../../src/settings/Names.ts"
import * as Settings from "../../src/settings/Settings.ts"
import * as Keys from "./Keys.ts"
import * as Nix from "./Nix.ts"

type Value = string | number | boolean | ReadonlyArray<string>
type Section = Readonly<Record<string, Value>>
type NixSettings = Readonly<Record<string, Section | Readonly<Record<string, Section>>>>

const isAll = process.env.EP2_TEST_ALL !== undefined
const keys = Keys.make()

let nix: Nix.Nix
beforeAll(() => {
  nix = Nix.make()
})
afterAll(() => nix.remove())

/** What a system with the module has, for each of these settings of `services.ep2`: `config` is NixOS's. */
const systems = async (
  what: string,
  all: ReadonlyArray<Readonly<Record<string, unknown>>>
): Promise<ReadonlyArray<unknown>> => {
  const file = join(nix.flake, `services-${process.hrtime.bigint()}.json`)
  writeFileSync(file, JSON.stringify(all.map((one) => ({ enable: true, template: "{{nodes}}", ...one }))))
  const modules = "[ flake.nixosModules.default { services.ep2 = one; } ]"
  const config = `let inherit (nixpkgs.lib.nixosSystem { modules = ${modules}; }) config; in ${what}`
  const found = await nix.value(`map (one: ${config}) (builtins.fromJSON (builtins.readFile ${file}))`)
  return found as ReadonlyArray<unknown>
}

const system = async (what: string, one: Readonly<Record<string, unknown>>): Promise<unknown> =>
  (await systems(what, [one]))[0]

const confText = `config.environment.etc."ep2/ep2.conf".text`
const unitText = `config.systemd.units."ep2.service".text`

const confs = async (all: ReadonlyArray<NixSettings>) =>
  (await systems(
    confText,
    all.map((settings) => ({ settings }))
  )) as ReadonlyArray<string>

/** What a refusal says, of what stands in `settings` or in other options. */
const refusal = (one: Readonly<Record<string, unknown>>) =>
  system(confText, one).then(
    (conf) => assert.fail(`taken: ${conf}`),
    (cause: Error) => cause.message
  )

/** The example of a key as Nix has it. */
const exampleOf = ({ example, kind }: Keys.NixKey): Value => {
  if (kind === "boolean") return example === "True"
  if (kind === "list") return example.split(", ")
  return /^[\d.]+$/.test(example) && ["whole", "seconds", "port"].includes(kind) ? Number(example) : example
}

const examplesOf = (section: Keys.NixSection, ...without: ReadonlyArray<string>): Section =>
  Object.fromEntries(
    Object.entries(section)
      .filter(([key]) => !without.includes(key))
      .map(([key, one]) => [key, exampleOf(one)])
  )

/** Values that a key takes, its limits among them. */
const valuesOf = (key: Keys.NixKey): ReadonlyArray<Value> => {
  switch (key.kind) {
    case "boolean":
      return [true, false]
    case "whole":
      return [key.minimum, key.maximum]
    case "seconds":
      return [0.001, 0.25, 30, 86_400]
    case "words":
      return key.words
    case "port":
      return [1, 65_535, "service"]
    case "list":
      return [exampleOf(key), ["one"]]
    default:
      return [exampleOf(key), '/%(path)s/100%/it\'s = a: b; # "c" \\n $d']
  }
}

/** As ep2 reads it from the file. */
const readBack = (conf: string, name: string, key: string): string | undefined => {
  const { conf: parsed, problems } = ConfFile.parse(conf)
  assert.deepStrictEqual(problems, [], conf)
  const section = parsed.sections.find((one) => one.name === name)
  const found = section && ConfFile.lookup(parsed, section, key)
  return found === undefined ? undefined : Result.getOrThrow(found.value)
}

/** What a file with this value has to say. */
const meansSame = (value: Value, text: string | undefined): boolean => {
  if (typeof value === "boolean") return text === (value ? "True" : "False")
  if (typeof value === "number") return Number(text) === value
  return text === (typeof value === "string" ? value : value.join(", "))
}

const decode = (conf: string) => Result.getOrThrow(Settings.decode("/etc/ep2/ep2.conf", conf))

const sources = [
  ["consul", "CONSUL"],
  ["aws", "AWS"],
  ["file", "FILE"]
] as const

const refused: ReadonlyArray<readonly [NixSettings, RegExp]> = [
  [{ haproxy: { nod_slots: 1 } }, /nod_slots' does not exist/],
  [{ haproxy: { node_slots: 4097 } }, /haproxy\.node_slots' is not of type `null or integer between 0 and 4096/],
  [{ haproxy: { node_slots: "8" } }, /haproxy\.node_slots' is not of type/],
  [{ haproxy: { start_by: "hand" } }, /haproxy\.start_by' is not of type/],
  [{ haproxy: { drain_timeout: 0 } }, /haproxy\.drain_timeout' is not of type `null or seconds/],
  [{ haproxy: { pid_file: "haproxy.pid" } }, /haproxy\.pid_file' is not of type/],
  [{ haproxy: { server_options: "rise 2\nfall 3" } }, /haproxy\.server_options' is not of type/],
  [{ haproxy: { backend_port: 0.5 } }, /haproxy\.backend_port' is not of type/],
  [{ AWS: { asg_name: [] } }, /AWS\.asg_name' is not of type/],
  [{ AWS: { asg_name: ["a,b"] } }, /AWS\.asg_name.*' is not of type/],
  [{ CONSUL: { only_passing: "yes" } }, /CONSUL\.only_passing' is not of type/],
  [{ backend: { api: { lock_dir: "/run" } } }, /backend\.api\.lock_dir' does not exist/]
]

describe("services.ep2.settings", () => {
  it.each(sources)(
    "becomes an ep2.conf that ep2 takes without a warning, with every key, for %s",
    async (orchestrator, name) => {
      const haproxy = { ...examplesOf(keys.sections.haproxy!), orchestrator, backend_port: 8080 }

      const [conf] = await confs([{ haproxy, [name]: examplesOf(keys.sections[name]!) }])

      const { settings, warnings } = decode(conf!)
      assert.deepStrictEqual(warnings, [])
      assert.strictEqual(settings.backends[0].source._tag.toLowerCase(), orchestrator)
      for (const [key, value] of Object.entries(haproxy)) {
        assert.isTrue(meansSame(value, readBack(conf!, "haproxy", key)), `${key}\n${conf}`)
      }
    }
  )

  it("says to ep2 what was said to Nix: every key, at its limits, and texts with signs that mean something", async () => {
    const cases = [
      ...Object.entries(keys.sections).map(([name, section]) => ({
        name,
        section,
        at: (one: Section) => ({ [name]: one })
      })),
      { name: "backend api", section: Keys.backendOf(keys), at: (one: Section) => ({ backend: { api: one } }) }
    ]
      .slice(0, isAll ? undefined : -1)
      .flatMap(({ at, name, section }) =>
        Object.entries(section).flatMap(([key, one]) => valuesOf(one).map((value) => ({ at, key, name, value })))
      )

    const written = await confs(cases.map(({ at, key, value }) => at({ [key]: value })))

    const wrong = cases.filter(({ key, name, value }, i) => !meansSame(value, readBack(written[i]!, name, key)))
    assert.isAbove(cases.length, 100)
    assert.deepStrictEqual(
      wrong.map(({ key, name, value }) => ({ key, name, value })),
      []
    )
  })

  it("has a section for each further backend, one without keys included", async () => {
    const haproxy = { orchestrator: "file", backend_name: "web" }
    const backend = { api: { path: "/etc/ep2/api.json" }, "static.v2": {} }

    const [conf] = await confs([{ haproxy, FILE: { path: "/etc/ep2/web.json" }, backend }])

    const { backends } = decode(conf!).settings
    assert.deepStrictEqual(
      backends.map(({ name, source }) => [name, source._tag === "File" ? source.path : source._tag]),
      [
        ["web", "/etc/ep2/web.json"],
        ["api", "/etc/ep2/api.json"],
        ["static.v2", "/etc/ep2/web.json"]
      ]
    )
  })

  it("is where NixOS has things, unless somebody says otherwise", async () => {
    const file = { orchestrator: "file" }
    const other = { ...file, haproxy_config_file: "/etc/haproxy/haproxy.cfg", log_file: "/var/log/ep2.log" }

    const [plain, chosen] = (await confs([file, other].map((haproxy) => ({ haproxy, FILE: { path: "/x.json" } })))).map(
      (conf) => decode(conf).settings
    )

    assert.deepInclude(plain!.haproxy, {
      configFile: "/var/lib/ep2/haproxy.cfg",
      templateFile: "/etc/ep2/haproxy.cfg.template"
    })
    assert.match(plain!.haproxy.binary, /\/bin\/haproxy$/)
    assert.strictEqual(plain!.log.file, "-")
    assert.strictEqual(chosen!.haproxy.configFile, "/etc/haproxy/haproxy.cfg")
    assert.strictEqual(chosen!.log.file, "/var/log/ep2.log")
  })

  it.each(refused.slice(0, isAll ? undefined : 5))("refuses %j when the system is built", async (settings, message) => {
    const said = await refusal({ settings })

    // nixpkgs calls an integer a signed one.
    assert.match(said.replace("signed integer", "integer"), message)
  })
})

describe("secrets", () => {
  it("have no option that would bring them into the store", async () => {
    const inConf = Object.values(sections).flatMap(({ fields }) => Object.entries<Schema.Constraint>(fields))
    const secret = inConf.filter(([, field]) => Key.docOf(field).isSecret).map(([key]) => key)

    const said = await Promise.all([
      refusal({ settings: { CONSUL: { token: "hush" } } }),
      refusal({ settings: { AWS: { aws_secret_access_key: "hush" } } }),
      refusal({ settings: { backend: { api: { token: "hush" } } } })
    ])

    assert.sameMembers(secret, ["token", "aws_access_key_id", "aws_secret_access_key"])
    for (const message of said) assert.match(message, /does not exist/)
  })

  it.each(["token_file", "key_file"])("come by the path of a file, which is not in the store: %s", async (key) => {
    const store = JSON.stringify(await nix.value("builtins.storeDir")).slice(1, -1)

    const [conf] = await confs([{ CONSUL: { [key]: "/run/secrets/consul" } }])
    const said = await refusal({ settings: { CONSUL: { [key]: `${store}/0-token` } } })

    assert.strictEqual(readBack(conf!, "CONSUL", key), "/run/secrets/consul")
    assert.match(said, new RegExp(`CONSUL\\.${key}' is not of type .*outside of the store`))
  })

  it("come as credentials of systemd, and for the AWS SDK by the file that it reads", async () => {
    const unit = await system(unitText, {
      credentials: { token: "/var/lib/secrets/token", key: "/var/lib/secrets/key" },
      awsCredentialsFile: "/run/secrets/aws"
    })

    assert.sameMembers((unit as string).match(/^(?:LoadCredential|Environment)=.*$/gm) ?? [], [
      "LoadCredential=key:/var/lib/secrets/key",
      "LoadCredential=token:/var/lib/secrets/token",
      "Environment=MALLOC_ARENA_MAX=2 MALLOC_TRIM_THRESHOLD_=131072 MALLOC_MMAP_THRESHOLD_=131072",
      'Environment="AWS_SHARED_CREDENTIALS_FILE=/run/secrets/aws"'
    ])
  })
})

describe("the unit", () => {
  /** Section → directives, in any order. */
  const directives = (text: string) =>
    text
      .split(/^\[/m)
      .slice(1)
      .map((part) => {
        const [name, ...lines] = part.split("\n")
        return [`[${name}`, lines.filter((line) => /^\w+=/.test(line)).sort()] as const
      })

  it("is docs/systemd/ep2.service, with the programs of the store", async () => {
    const file = readFileSync(resolve(import.meta.dirname, "../../docs/systemd/ep2.service"), "utf8")
    const program = `(nixpkgs.lib.getExe config.services.ep2.package)`

    const [text, ep2, wantedBy] = (await system(
      `[ (${unitText}) ${program} config.systemd.services.ep2.wantedBy ]`,
      {}
    )) as readonly [string, string, ReadonlyArray<string>]

    const {
      Unit = [],
      Service = [],
      Install
    } = Object.fromEntries(
      directives(file.replace("/usr/bin/ep2", ep2).replace("/bin/kill", "/usr/bin/kill")).map(([name, lines]) => [
        name.slice(1, -1),
        lines
      ])
    )
    assert.deepStrictEqual(directives(text), [
      ["[Unit]", Unit],
      ["[Service]", Service]
    ])
    assert.isAbove(Service.length, 20)
    assert.deepStrictEqual(
      Install,
      wantedBy.map((target) => `WantedBy=${target}`)
    )
  })

  it("reads new files at a reload, and has a new ep2 in place at once", async () => {
    const what = "{ inherit (config.systemd.services.ep2) reloadTriggers stopIfChanged; }"

    const [one, same, conf, template] = (await systems(what, [
      {},
      {},
      { settings: { haproxy: { node_slots: 9 } } },
      { template: "# {{nodes}}" }
    ])) as ReadonlyArray<{ readonly reloadTriggers: ReadonlyArray<string>; readonly stopIfChanged: boolean }>

    assert.deepStrictEqual(one, same)
    assert.isFalse(one!.stopIfChanged)
    assert.notStrictEqual(one!.reloadTriggers[0], conf!.reloadTriggers[0])
    assert.strictEqual(one!.reloadTriggers[1], conf!.reloadTriggers[1])
    assert.notStrictEqual(one!.reloadTriggers[1], template!.reloadTriggers[1])
  })
})

describe("the system", () => {
  const around = `{
    etc = builtins.mapAttrs (_: one: one.text) config.environment.etc;
    commands = map (one: one.name) config.environment.systemPackages;
    folders = config.systemd.tmpfiles.rules;
    users = builtins.attrNames config.users.users;
    refused = map (one: one.message) (builtins.filter (one: !one.assertion) config.assertions);
    units = builtins.attrNames config.systemd.units;
  }`

  it("has what a HAProxy needs that ep2 starts, unless systemd starts it", async () => {
    const [own, other] = (await systems(around, [
      {},
      { settings: { haproxy: { start_by: "systemd" } } }
    ])) as ReadonlyArray<Readonly<Record<string, ReadonlyArray<string>>>>

    assert.deepStrictEqual(own!.folders, ["d /var/lib/ep2 0755 root root -", "d /run/haproxy 0755 root root -"])
    assert.deepStrictEqual(own!.users, ["haproxy"])
    assert.deepStrictEqual(other!.folders, ["d /var/lib/ep2 0755 root root -"])
    assert.deepStrictEqual(other!.users, [])
    assert.match(own!.commands![0]!, /^ep2-/)
    assert.deepInclude(own!.etc as object, { "ep2/haproxy.cfg.template": "{{nodes}}" })
  })

  it("is not built without a template", async () => {
    const [without, elsewhere] = (await systems(around, [
      { template: null },
      { template: null, settings: { haproxy: { template_file: "/srv/haproxy.cfg.template" } } }
    ])) as ReadonlyArray<{ readonly refused: ReadonlyArray<string>; readonly etc: object }>

    assert.match(without!.refused.join(), /^services\.ep2 needs a template/)
    assert.deepStrictEqual(elsewhere!.refused, [])
    assert.hasAllKeys(elsewhere!.etc, ["ep2/ep2.conf"])
  })

  it("has nothing of it while it is not enabled", async () => {
    const off = await system(around, { enable: false })

    assert.deepStrictEqual(off, { etc: {}, commands: [], folders: [], users: [], refused: [], units: [] })
  })
})
