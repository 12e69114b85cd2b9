import { assert, describe, it } from "@effect/vitest"
import { Duration, Inspectable, Redacted, Result } from "effect"
import * as Settings from "../../src/settings/Settings.ts"
import * as Conf from "./Conf.ts"

describe("the contract with EP2 1.0", () => {
  it("the printed sample decodes, apart from what is empty there and required", () => {
    assert.deepStrictEqual(Conf.refusal(printedHaproxy + printedAws), [
      "ep2.conf:20: [AWS] asg_name: empty; expected names of Auto Scaling groups, separated by commas",
      "ep2.conf:21: [AWS] region_name: empty; expected the code of an AWS region, such as eu-central-1"
    ])
  })

  it("the printed sample with a group and a region means what it meant", () => {
    const text = (printedHaproxy + printedAws)
      .replace("asg_name =", "asg_name = web-asg")
      .replace("region_name =", "region_name = us-east-1")

    const { settings, warnings } = Conf.loaded(text)

    const [backend] = settings.backends
    assert.deepStrictEqual(settings.haproxy, {
      configFile: "/etc/haproxy/haproxy.cfg",
      templateFile: "/home/deep/elasticpyproxy/etc/haproxy.config.template",
      binary: "/usr/sbin/haproxy",
      startBy: "systemd",
      sockets: ["/var/run/haproxy/haproxy.sock"],
      masterSocket: undefined,
      pidFile: "/run/haproxy.pid",
      serviceName: "haproxy",
      reloadInterval: Duration.seconds(5),
      updateType: "update_by_runtime"
    })
    assert.deepStrictEqual([backend.name, backend.port, backend.nodeSlots], ["haproxynode", 6003, 5])
    assert.deepStrictEqual(settings.lock.dir, "/home/deep/elasticpyproxy/etc")
    assert.deepStrictEqual(backend.source, {
      _tag: "Aws",
      groups: ["web-asg"],
      region: "us-east-1",
      ipType: "public",
      accessKey: undefined,
      profile: undefined,
      roleArn: undefined,
      externalId: undefined,
      endpointUrl: undefined
    })
    assert.deepStrictEqual(warnings, [
      "ep2.conf:17: [AWS] ip_type: not set, so public addresses are served, as by EP2 1.0; write public, private or ipv6 to say which you mean"
    ])
  })

  it("the printed [CONSUL] block, all empty but for service_name, decodes to the defaults", () => {
    const text =
      printedHaproxy.replace("= aws", "= consul") + printedConsul.replace("service_name =", "service_name = web")

    const { settings, warnings } = Conf.loaded(text)

    assert.deepStrictEqual(settings.backends[0].source, defaultConsul)
    assert.deepStrictEqual(warnings, [])
  })

  it("keys that EP2 1.0 ignored are warnings, with their place", () => {
    const { warnings } = Conf.loaded(`${Conf.withLines(Conf.consul, "haproxy", "my_own_note = x")}[somewhere]\na = 1\n`)

    assert.deepStrictEqual(warnings, [
      "ep2.conf:2: [haproxy] my_own_note: ep2 knows no such key and ignores it",
      "ep2.conf:6: [somewhere]: ep2 knows no such section and ignores it"
    ])
  })
})

describe("defaults", () => {
  it("a file with the least in it means the documented defaults", () => {
    assert.deepStrictEqual(Conf.settings(Conf.consul), {
      file: "ep2.conf",
      haproxy: {
        configFile: "/etc/haproxy/haproxy.cfg",
        templateFile: "/etc/ep2/haproxy.cfg.template",
        binary: "/usr/sbin/haproxy",
        startBy: "binary",
        sockets: ["/var/run/haproxy/haproxy.sock"],
        masterSocket: undefined,
        pidFile: "/run/haproxy.pid",
        serviceName: "haproxy",
        reloadInterval: Duration.seconds(5),
        updateType: "update_by_runtime"
      },
      backends: [
        {
          name: "haproxynode",
          port: 6003,
          maxconn: undefined,
          checkInterval: undefined,
          serverOptions: undefined,
          nodeSlots: 50,
          newServers: "trusted",
          drainTimeout: Duration.seconds(30),
          drainTimeoutAction: "wait",
          interval: Duration.seconds(5),
          guard: {
            allowEmpty: false,
            minServers: 1,
            maxRemovalPercent: 50,
            confirmations: 3,
            window: Duration.seconds(60)
          },
          source: defaultConsul
        }
      ],
      lock: { dir: "/run", retryInterval: Duration.seconds(5) },
      log: { file: "/var/log/ep2/ep2.log", format: "text", level: "info" }
    })
  })

  it("an empty value is an absent one, whatever the key", () => {
    const empty = ["node_slots =", "start_by =", "log_file =", "sleep_before_next_run ="]

    assert.deepStrictEqual(Conf.settings(Conf.withLines(Conf.consul, "haproxy", ...empty)), Conf.settings(Conf.consul))
  })

  it("new servers are trusted only where Consul vouches for them, unless the file says otherwise", () => {
    const notPassing = Conf.withLines(Conf.consul, "CONSUL", "only_passing = no")

    assert.strictEqual(Conf.backend(Conf.consul).newServers, "trusted")
    assert.strictEqual(Conf.backend(notPassing).newServers, "checked")
    assert.strictEqual(Conf.backend(Conf.file).newServers, "checked")
    assert.strictEqual(Conf.backend(Conf.aws).newServers, "checked")
    assert.strictEqual(
      Conf.backend(Conf.withLines(Conf.file, "haproxy", "new_servers = trusted")).newServers,
      "trusted"
    )
  })
})

describe("sources", () => {
  it("only the section of the chosen orchestrator is needed, and the values of the others are not looked at", () => {
    const text = `${Conf.file}[CONSUL]\nconsul_port = none\n[AWS]\nregion_name = %broken\n`

    assert.deepStrictEqual(Conf.backend(text).source, { _tag: "File", path: "/etc/ep2/targets.json" })
  })

  it("typos in the sections of other orchestrators are errors all the same", () => {
    assert.deepStrictEqual(Conf.refusal(`${Conf.file}[CONSUL]\nservicename = web\n`), [
      "ep2.conf:6: [CONSUL] servicename: ep2 knows no such key; expected service_name"
    ])
  })

  it("Consul's keys all arrive, and the token is wrapped", () => {
    const text = Conf.withLines(
      Conf.consul,
      "CONSUL",
      "consul_ip = [2001:db8::5]",
      "consul_port = 8501",
      "scheme = https",
      "only_passing = False",
      "tags = blue,, green ,",
      "token = s3cret",
      "ca_file = /ca.pem",
      "cert_file = /cert.pem",
      "key_file = /key.pem",
      "datacenter = dc2",
      "namespace = team",
      "stale = on"
    )

    const { source } = Conf.backend(text)

    assert.deepStrictEqual(source, {
      _tag: "Consul",
      service: "web",
      address: "2001:db8::5",
      port: 8501,
      scheme: "https",
      onlyPassing: false,
      tags: ["blue", "green"],
      token: Redacted.make("s3cret"),
      tokenFile: undefined,
      caFile: "/ca.pem",
      certFile: "/cert.pem",
      keyFile: "/key.pem",
      datacenter: "dc2",
      namespace: "team",
      stale: true
    })
    // Any two wrapped values are alike to a deep comparison.
    assert.strictEqual(source._tag === "Consul" && source.token && Redacted.value(source.token), "s3cret")
    assert.notInclude(Inspectable.toStringUnknown(source), "s3cret")
  })

  it("AWS decodes in full", () => {
    const text = Conf.withLines(
      Conf.aws.replace("asg_name = web", "asg_name = blue, green"),
      "AWS",
      "aws_access_key_id = AKID",
      "aws_secret_access_key = s3cret/+",
      "role_arn = arn:aws:iam::123456789012:role/path/ep2",
      "external_id = x-1",
      "endpoint_url = http://127.0.0.1:5000"
    )

    const { source } = Conf.backend(text)

    assert.deepStrictEqual(source, {
      _tag: "Aws",
      groups: ["blue", "green"],
      region: "eu-central-1",
      ipType: "private",
      accessKey: { id: Redacted.make("AKID"), secret: Redacted.make("s3cret/+") },
      profile: undefined,
      roleArn: "arn:aws:iam::123456789012:role/path/ep2",
      externalId: "x-1",
      endpointUrl: "http://127.0.0.1:5000"
    })
    const key = source._tag === "Aws" ? source.accessKey : undefined
    assert.deepStrictEqual(
      [key?.id, key?.secret].map((one) => one && Redacted.value(one)),
      ["AKID", "s3cret/+"]
    )
  })

  it("without orchestrator and without [AWS], the error says which sections there are", () => {
    assert.deepStrictEqual(Conf.refusal("[haproxy]\n[CONSUL]\nservice_name = web\n"), [
      "ep2.conf:1: [haproxy] orchestrator: missing; expected aws, consul or file; the file has [CONSUL] for consul"
    ])
  })

  it("a required section that is not there is named with its keys", () => {
    assert.deepStrictEqual(Conf.refusal("[haproxy]\norchestrator = file\n"), [
      "ep2.conf: [FILE] path: missing; expected the absolute path of a file"
    ])
  })
})

describe("all problems at once", () => {
  it("syntax, names, values and rules come in one error, in the order of the lines", () => {
    const text = [
      "[haproxy]",
      "orchestrator = consul",
      "node_slots = abc",
      "node_slot = 5",
      "no delimiter",
      "backend_name = 50%",
      "[CONSUL]",
      "consul_port = 70000",
      "service_name = web"
    ].join("\n")

    assert.deepStrictEqual(Conf.refusal(text), [
      'ep2.conf:3: [haproxy] node_slots = "abc": expected a whole number from 0 to 4096',
      "ep2.conf:4: [haproxy] node_slot: ep2 knows no such key; expected node_slots",
      'ep2.conf:5: [haproxy]: a line without "=" or ":"; expected key = value, [section], or an indented further line of a value',
      'ep2.conf:6: [haproxy] backend_name: a "%" that is neither "%%" nor the start of %(name)s; expected %% for a plain percent sign',
      'ep2.conf:8: [CONSUL] consul_port = "70000": expected a whole number from 1 to 65535'
    ])
  })

  it("nothing is called missing while a line cannot be read", () => {
    const text = "[haproxy]\norchestrator = consul\n[CONSUL]\nservice_name web\n"

    assert.deepStrictEqual(Conf.refusal(text), [
      'ep2.conf:4: [CONSUL]: a line without "=" or ":"; expected key = value, [section], or an indented further line of a value'
    ])
  })

  it("an empty file says what it lacks", () => {
    assert.deepStrictEqual(Conf.refusal(""), [
      "ep2.conf: [AWS] asg_name: missing; expected names of Auto Scaling groups, separated by commas",
      "ep2.conf: [AWS] region_name: missing; expected the code of an AWS region, such as eu-central-1"
    ])
  })

  it("each problem carries its parts", () => {
    const result = Settings.decode("f", Conf.withLines(Conf.consul, "haproxy", "log_level = loud"))

    assert.isTrue(Result.isFailure(result))
    if (Result.isFailure(result)) {
      assert.strictEqual(result.failure.file, "f")
      assert.deepStrictEqual(result.failure.problems, [
        { line: 2, section: "haproxy", key: "log_level", value: "loud", expected: "debug, info, warning or error" }
      ])
    }
  })

  it("a message stays on one line and short, whatever the value", () => {
    const long = `node_slots = ${"x".repeat(500)}\n  \u001b[31mred\u2028`

    const lines = Conf.refusal(Conf.withLines(Conf.consul, "haproxy", long))

    assert.strictEqual(lines.length, 1)
    assert.isBelow(lines[0]!.length, 250)
    assert.notMatch(lines[0]!, /[\p{Cc}\u2028]/u)
  })
})

describe("secrets", () => {
  const secret = "hunter2-hunter2"

  it("no message shows a secret, wherever it is used", () => {
    const lines = [
      ...Conf.refusal(Conf.withLines(Conf.consul, "CONSUL", `token = ${secret} x`, "consul_port = %(token)s")),
      ...Conf.refusal(Conf.withLines(Conf.consul, "CONSUL", `token = ${secret}%`)),
      ...Conf.refusal(Conf.withLines(Conf.consul, "CONSUL", `token ${secret}`)),
      ...Conf.refusal(Conf.withLines(Conf.consul, "CONSUL", `toke = ${secret}`)),
      ...Conf.refusal(Conf.withLines(Conf.consul, "haproxy", `token = ${secret}`)),
      ...Conf.refusal(Conf.withLines(Conf.consul, "CONSUL", `token = ${secret}`, `token = ${secret}`)),
      ...Conf.refusal(Conf.withLines(Conf.consul, "CONSUL", `token = ${secret}`, "token_file = /t")),
      ...Conf.refusal(Conf.withLines(Conf.consul, "CONSUL", `token = ${secret}`, `consul_ip = ${secret}/`)),
      ...Conf.refusal(Conf.withLines(Conf.consul, "CONSUL", "tags = a", ` token = ${secret}`)),
      ...Conf.refusal(Conf.withLines(Conf.aws, "AWS", `aws_secret_access_key = ${secret}`)),
      ...Conf.refusal(Conf.withLines(Conf.aws, "AWS", `endpoint_url = https://me:${secret}@example.com`))
    ]

    assert.strictEqual(lines.length, 12)
    for (const line of lines) assert.notInclude(line, secret)
  })

  it("of a line that is indented by mistake, and so belongs to the key before it, only the key is shown", () => {
    assert.deepStrictEqual(Conf.refusal(Conf.withLines(Conf.consul, "CONSUL", "tags = a", ` token = ${secret}`)), [
      'ep2.conf:4: [CONSUL] tags = "a\\ntoken =…": expected tags, separated by commas; put a comma between two items'
    ])
  })

  it("a refused secret is shown as …", () => {
    assert.deepStrictEqual(Conf.refusal(Conf.withLines(Conf.consul, "CONSUL", `token = ${secret} x`)), [
      'ep2.conf:4: [CONSUL] token = "…": expected printable characters without blanks'
    ])
  })
})

const defaultConsul = {
  _tag: "Consul",
  service: "web",
  address: "127.0.0.1",
  port: 8500,
  scheme: "http",
  onlyPassing: true,
  tags: [],
  token: undefined,
  tokenFile: undefined,
  caFile: undefined,
  certFile: undefined,
  keyFile: undefined,
  datacenter: undefined,
  namespace: undefined,
  stale: false
} as const

// The sample of EP2 1.0's documentation, chapter 9.
const printedHaproxy = `[haproxy]
haproxy_config_file = /etc/haproxy/haproxy.cfg
template_file = /home/deep/elasticpyproxy/etc/haproxy.config.template
backend_port = 6003
haproxy_binary = /usr/sbin/haproxy
start_by = systemd
haproxy_socket_file = /var/run/haproxy/haproxy.sock
pid_file = /run/haproxy.pid
backend_name = haproxynode
update_type = update_by_runtime
node_slots = 5
service_name = haproxy
lock_dir = /home/deep/elasticpyproxy/etc
orchestrator = aws
sleep_before_next_run = 5
log_file = /var/log/ep2/ep2.log
`
const printedAws = `[AWS]
aws_access_key_id =
aws_secret_access_key =
asg_name =
region_name =
`
const printedConsul = `[CONSUL]
service_name =
consul_ip =
consul_port =
only_passing =
tags =
`
