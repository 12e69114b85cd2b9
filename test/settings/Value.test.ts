import { assert, describe, it } from "@effect/vitest"
import { Duration, type Schema } from "effect"
import * as Key from "../../src/settings/Key.ts"
import { type SectionName, sections } from "../../src/settings/Names.ts"
import type { BackendSettings, Settings } from "../../src/settings/Settings.ts"
import * as Conf from "./Conf.ts"

/** A good file in which a key of some section has this value. */
const withValue = (section: SectionName, key: string, value: string): string => {
  const base = section === "AWS" ? Conf.aws : section === "CONSUL" ? Conf.consul : Conf.file
  const others = base.split("\n").filter((line) => !line.startsWith(`${key} =`))
  return Conf.withLines(others.join("\n"), section, `${key} = ${value}`)
}

/** Values that are taken, with what they become, and values that are refused, for one key. */
const cases = (
  section: SectionName,
  key: string,
  look: (settings: Settings, backend: BackendSettings) => unknown,
  taken: ReadonlyArray<readonly [text: string, value: unknown]>,
  refused: ReadonlyArray<string>
) => {
  it(`${key} takes ${taken.map(([text]) => shown(text)).join(" ")}`, () => {
    for (const [text, value] of taken) {
      const settings = Conf.settings(withValue(section, key, text))
      assert.deepStrictEqual(look(settings, settings.backends[0]), value, text)
    }
  })

  it(`${key} refuses ${refused.map(shown).join(" ")}`, () => {
    for (const text of refused) {
      const lines = Conf.refusal(withValue(section, key, text))
      assert.strictEqual(lines.length, 1, text)
      assert.match(lines[0]!, new RegExp(`^ep2\\.conf:\\d+: \\[${section}\\] ${key} = ".*": expected `), text)
    }
  })
}

const shown = (text: string) => (text.length > 80 ? `${text.length} characters` : JSON.stringify(text))

/** The message of a value that is refused. */
const message = (section: SectionName, key: string, value: string) => Conf.refusal(withValue(section, key, value))[0]

describe("[haproxy]", () => {
  cases(
    "haproxy",
    "sleep_before_next_run",
    (_, { interval }) => Duration.toMillis(interval),
    [
      ["5", 5000],
      ["0.5", 500],
      [".25", 250],
      ["1.", 1000],
      ["0.001", 1],
      ["0.3", 300],
      ["86400", 86_400_000]
    ],
    ["0", "0.0001", "-1", "86400.5", "1e3", "five", "1,5", "inf", "nan", "5s", "1 minute", "99999999999999999999"]
  )
  cases(
    "haproxy",
    "node_slots",
    (_, { nodeSlots }) => nodeSlots,
    [
      ["0", 0],
      ["007", 7],
      ["4096", 4096]
    ],
    ["4097", "-1", "5.0", "0x10", "1_000", "٥", "five", "99999999999999999999"]
  )
  cases(
    "haproxy",
    "backend_port",
    (_, { port }) => port,
    [
      ["1", 1],
      ["65535", 65_535],
      ["service", "service"],
      ["Service", "service"]
    ],
    ["0", "65536", "http", "80,81", "+80"]
  )
  cases(
    "haproxy",
    "allow_empty",
    (_, { guard }) => guard.allowEmpty,
    [
      ["1", true],
      ["YES", true],
      ["True", true],
      ["on", true],
      ["0", false],
      ["No", false],
      ["false", false],
      ["OFF", false]
    ],
    ["2", "y", "t", "enabled", "True # sure"]
  )
  cases(
    "haproxy",
    "start_by",
    ({ haproxy }) => haproxy.startBy,
    [
      ["systemd", "systemd"],
      ["BINARY", "binary"]
    ],
    ["init", "systemd, binary"]
  )
  cases(
    "haproxy",
    "haproxy_socket_file",
    ({ haproxy }) => haproxy.sockets,
    [
      ["/run/a.sock", ["/run/a.sock"]],
      ["/run/a.sock,/run/b.sock", ["/run/a.sock", "/run/b.sock"]],
      [" /run/a.sock , , /run/b.sock ,", ["/run/a.sock", "/run/b.sock"]],
      ["/run/a.sock,\n  /run/b.sock", ["/run/a.sock", "/run/b.sock"]],
      [`/${"x".repeat(106)}`, [`/${"x".repeat(106)}`]]
    ],
    [
      ",",
      "a.sock",
      "/run/a.sock\n  /run/b.sock",
      "/a, /b, //a",
      "ipv4@127.0.0.1:99",
      `/${"x".repeat(107)}`,
      `/${"é".repeat(54)}`
    ]
  )
  cases(
    "haproxy",
    "haproxy_config_file",
    ({ haproxy }) => haproxy.configFile,
    [
      ["/etc/a b/é.cfg", "/etc/a b/é.cfg"],
      ["/etc/100%%.cfg", "/etc/100%.cfg"]
    ],
    ["haproxy.cfg", "./haproxy.cfg", "~/haproxy.cfg", "/etc/a\n  b", "/etc/\u0000", "/etc/\u0085x"]
  )
  cases(
    "haproxy",
    "log_file",
    ({ log }) => log.file,
    [
      ["-", "-"],
      ["/dev/stdout", "/dev/stdout"]
    ],
    ["--", "ep2.log"]
  )
  cases(
    "haproxy",
    "backend_name",
    (_, { name }) => name,
    [
      ["web", "web"],
      ["Web_1.a:b-c", "Web_1.a:b-c"]
    ],
    ["web app", "web/app", "wéb", "web#1", "a,b", "x".repeat(256)]
  )
  cases(
    "haproxy",
    "backend_maxconn",
    (_, { maxconn }) => maxconn,
    [
      ["0", 0],
      ["200", 200]
    ],
    ["-1", "many", "5000000000"]
  )
  // Tried on HAProxy 2.2 to 3.2, which refuse all of the second list; `us` and fractions at least 2.2.
  cases(
    "haproxy",
    "check_interval",
    (_, { checkInterval }) => checkInterval,
    [
      ["2000", "2000"],
      ["500ms", "500ms"],
      ["2s", "2s"],
      ["24d", "24d"],
      ["2147483647", "2147483647"]
    ],
    ["0", "0s", "25d", "2147483648", "500us", "1.5s", "2S", "2 s", "-1", "s"]
  )
  cases(
    "haproxy",
    "server_options",
    (_, { serverOptions }) => serverOptions,
    [
      ["check rise 2 fall 3 backup", "check rise 2 fall 3 backup"],
      [
        "ssl verify required ca-file /etc/ca.pem sni str(example.com)",
        "ssl verify required ca-file /etc/ca.pem sni str(example.com)"
      ]
    ],
    [
      "check disabled",
      "Enabled",
      "weight 10",
      "check # really",
      "a;b",
      'sni "x"',
      "it's",
      "a\\ b",
      "rise 2\n  fall 3",
      "a\u0000"
    ]
  )
  cases(
    "haproxy",
    "service_name",
    ({ haproxy }) => haproxy.serviceName,
    [
      ["haproxy.service", "haproxy.service"],
      ["haproxy@blue", "haproxy@blue"],
      ["ha\\x2dproxy", "ha\\x2dproxy"]
    ],
    ["--force", "haproxy web", "a/b", "haproxy;reboot", "$(reboot)"]
  )
  cases(
    "haproxy",
    "max_removal_percent",
    (_, { guard }) => guard.maxRemovalPercent,
    [
      ["0", 0],
      ["100", 100]
    ],
    ["101", "50%%", "0.5"]
  )

  it("messages say what to write instead", () => {
    assert.include(message("haproxy", "drain_timeout", "30s"), "write the number of seconds without a unit")
    assert.include(message("haproxy", "lock_dir", "run"), "a path has to begin with /")
    assert.include(message("haproxy", "lock_dir", "~/run"), "ep2 does not resolve ~")
    assert.include(message("haproxy", "haproxy_socket_file", "/a\n  /b"), "put a comma between two paths")
    assert.include(message("haproxy", "haproxy_socket_file", "/a, /a"), "/a is named twice")
    assert.include(message("haproxy", "haproxy_master_socket", `/${"x".repeat(200)}`), "it has 201 bytes")
    assert.include(message("haproxy", "server_options", "check disabled"), "leave out disabled: ep2 itself decides")
    assert.include(message("haproxy", "server_options", "weight 5"), "ep2 marks the servers that it moves by weight 0")
    assert.include(message("CONSUL", "consul_ip", "10.0.0.1:8500"), "the port goes into consul_port")
    assert.include(message("CONSUL", "consul_ip", "http://consul"), "http or https goes into scheme")
    assert.include(message("AWS", "region_name", "eu-central-1a"), "that is a zone")
    assert.include(message("AWS", "asg_name", "a\n  b"), "put a comma between two items")
  })
})

describe("[CONSUL]", () => {
  cases(
    "CONSUL",
    "consul_ip",
    (_, { source }) => source._tag === "Consul" && source.address,
    [
      ["10.0.0.1", "10.0.0.1"],
      ["consul.service.example", "consul.service.example"],
      ["localhost", "localhost"],
      ["::1", "::1"],
      ["[2001:db8::5]", "2001:db8::5"]
    ],
    [
      "10.0.0.1:8500",
      "[::1]:8500",
      "consul:8500",
      "10.0.0.256",
      "1.2.3",
      "http://consul",
      "a b",
      "-a",
      "a..b",
      "1::2::3",
      "fe80::1%%eth0"
    ]
  )
  cases(
    "CONSUL",
    "tags",
    (_, { source }) => source._tag === "Consul" && source.tags,
    [
      ["a", ["a"]],
      ["a b , c,,", ["a b", "c"]],
      [",", []]
    ],
    ["a\n  b"]
  )
  cases(
    "CONSUL",
    "service_name",
    (_, { source }) => source._tag === "Consul" && source.service,
    [["we b/é", "we b/é"]],
    ["web\n  api"]
  )
})

describe("[AWS]", () => {
  cases(
    "AWS",
    "region_name",
    (_, { source }) => source._tag === "Aws" && source.region,
    [
      ["us-gov-west-1", "us-gov-west-1"],
      ["ap-southeast-12", "ap-southeast-12"]
    ],
    ["eu-central", "eu-central-1a", "EU-central-1", "eu-central-1, us-east-1", "Frankfurt"]
  )
  cases(
    "AWS",
    "asg_name",
    (_, { source }) => source._tag === "Aws" && source.groups,
    [
      ["a", ["a"]],
      ["a b, c", ["a b", "c"]]
    ],
    [",", "a\n  b"]
  )
  cases(
    "AWS",
    "role_arn",
    (_, { source }) => source._tag === "Aws" && source.roleArn,
    [["arn:aws-cn:iam::123456789012:role/a/b+c", "arn:aws-cn:iam::123456789012:role/a/b+c"]],
    ["ep2", "arn:aws:iam::123:role/ep2", "arn:aws:iam::123456789012:user/ep2"]
  )
  cases(
    "AWS",
    "endpoint_url",
    (_, { source }) => source._tag === "Aws" && source.endpointUrl,
    [["http://127.0.0.1:5000/x", "http://127.0.0.1:5000/x"]],
    ["127.0.0.1:5000", "ftp://x", "http://a:b@c", "http://a?b", "http://a#b"]
  )
})

describe("every key", () => {
  const keys = Object.entries(sections).flatMap(([section, { fields }]) =>
    Object.entries<Schema.Constraint>(fields).map(([key, field]) => ({ section: section as SectionName, key, field }))
  )

  it("takes the example and the default of its documentation", () => {
    assert.isAbove(keys.length, 50)
    for (const { field, key, section } of keys) {
      const doc = Key.docOf(field)
      const others = {
        aws_access_key_id: "aws_secret_access_key = x",
        aws_secret_access_key: "aws_access_key_id = x",
        external_id: "role_arn = arn:aws:iam::123456789012:role/x",
        cert_file: "key_file = /x",
        key_file: "cert_file = /x"
      }[key]
      const texts = [doc.example, ...(["none", "required"].includes(doc.default) ? [] : [doc.default])]
      for (const text of texts) {
        const base =
          key === "orchestrator" ? `${Conf.consul}[AWS]\nasg_name = a\nregion_name = eu-central-1\n` : undefined
        const whole = base?.replace("= consul", `= ${text}`) ?? withValue(section, key, text)
        assert.deepStrictEqual(Conf.refusal(others === undefined ? whole : Conf.withLines(whole, section, others)), [])
      }
    }
  })

  it("that is a secret is marked as one", () => {
    const secret = keys.filter(({ field }) => Key.docOf(field).isSecret).map(({ key }) => key)

    assert.deepStrictEqual(secret, ["aws_access_key_id", "aws_secret_access_key", "token"])
  })
})
