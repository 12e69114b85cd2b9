import { assert, describe, it } from "@effect/vitest"
import * as Conf from "./Conf.ts"

const haproxy = (...lines: ReadonlyArray<string>) => Conf.refusal(Conf.withLines(Conf.consul, "haproxy", ...lines))
const consul = (...lines: ReadonlyArray<string>) => Conf.refusal(Conf.withLines(Conf.consul, "CONSUL", ...lines))
const aws = (...lines: ReadonlyArray<string>) => Conf.refusal(Conf.withLines(Conf.aws, "AWS", ...lines))

describe("[haproxy]", () => {
  it("start_by = master needs haproxy_master_socket", () => {
    assert.deepStrictEqual(haproxy("start_by = master"), [
      'ep2.conf:2: [haproxy] start_by = "master": no haproxy_master_socket; expected haproxy_master_socket to be set too'
    ])
    assert.deepStrictEqual(haproxy("start_by = master", "haproxy_master_socket = /run/m.sock"), [])
  })

  it("a haproxy_master_socket that was refused is not called missing as well", () => {
    assert.strictEqual(haproxy("start_by = master", "haproxy_master_socket = m.sock").length, 1)
  })

  it("the master's socket is none of the others", () => {
    assert.deepStrictEqual(haproxy("haproxy_socket_file = /run/a.sock", "haproxy_master_socket = /run//a.sock"), [
      'ep2.conf:3: [haproxy] haproxy_master_socket = "/run//a.sock": expected another socket than haproxy_socket_file'
    ])
  })

  it("the template is not the file that ep2 writes", () => {
    assert.deepStrictEqual(haproxy("template_file = /etc/haproxy/./haproxy.cfg"), [
      'ep2.conf:2: [haproxy] template_file = "/etc/haproxy/./haproxy.cfg": expected another file than haproxy_config_file; ep2 writes that one'
    ])
  })

  it("maxconn and inter are set once, by their key or in server_options", () => {
    assert.deepStrictEqual(haproxy("server_options = maxconn 5 inter 1s"), [])
    assert.deepStrictEqual(
      haproxy("server_options = maxconn 5 inter 1s", "backend_maxconn = 6", "check_interval = 2s"),
      [
        "ep2.conf:2: [haproxy] server_options: maxconn, which backend_maxconn sets too; expected one of backend_maxconn and maxconn",
        "ep2.conf:2: [haproxy] server_options: inter, which check_interval sets too; expected one of check_interval and inter"
      ]
    )
  })

  it("an Auto Scaling group reports no port", () => {
    assert.deepStrictEqual(Conf.refusal(Conf.withLines(Conf.aws, "haproxy", "backend_port = service")), [
      'ep2.conf:2: [haproxy] backend_port = "service": expected a port from 1 to 65535 with orchestrator = aws; an Auto Scaling group reports no port'
    ])
    assert.strictEqual(Conf.backend(Conf.withLines(Conf.file, "haproxy", "backend_port = service")).port, "service")
  })
})

describe("[CONSUL]", () => {
  it("token and token_file exclude each other", () => {
    assert.deepStrictEqual(consul("token = x", "token_file = /t"), [
      "ep2.conf:5: [CONSUL] token_file: token is set too; expected one of token and token_file"
    ])
  })

  it("cert_file and key_file need each other", () => {
    assert.deepStrictEqual(consul("scheme = https", "cert_file = /c"), [
      "ep2.conf:5: [CONSUL] cert_file: set without key_file; expected key_file to be set too"
    ])
    assert.deepStrictEqual(consul("scheme = https", "key_file = /k"), [
      "ep2.conf:5: [CONSUL] key_file: set without cert_file; expected cert_file to be set too"
    ])
    assert.deepStrictEqual(consul("scheme = https", "cert_file = /c", "key_file = /k"), [])
  })

  it("TLS files without https are a warning each", () => {
    const text = Conf.withLines(Conf.consul, "CONSUL", "ca_file = /ca", "cert_file = /c", "key_file = /k")

    assert.deepStrictEqual(Conf.loaded(text).warnings, [
      "ep2.conf:4: [CONSUL] ca_file: ignored with scheme = http; set scheme = https to use it",
      "ep2.conf:5: [CONSUL] cert_file: ignored with scheme = http; set scheme = https to use it"
    ])
  })
})

describe("[AWS]", () => {
  it("the parts of an access key need each other", () => {
    assert.deepStrictEqual(aws("aws_access_key_id = a"), [
      "ep2.conf:4: [AWS] aws_access_key_id: set without aws_secret_access_key; expected aws_secret_access_key to be set too"
    ])
    assert.deepStrictEqual(aws("aws_secret_access_key = a"), [
      "ep2.conf:4: [AWS] aws_secret_access_key: set without aws_access_key_id; expected aws_access_key_id to be set too"
    ])
  })

  it("a profile and an access key exclude each other", () => {
    assert.deepStrictEqual(aws("profile = p", "aws_access_key_id = a", "aws_secret_access_key = b"), [
      "ep2.conf:4: [AWS] profile: an access key is set too; expected one of profile and aws_access_key_id"
    ])
  })

  it("external_id needs role_arn", () => {
    assert.deepStrictEqual(aws("external_id = x"), [
      "ep2.conf:4: [AWS] external_id: set without role_arn; expected role_arn to be set too"
    ])
  })

  it("an absent ip_type is public with a warning, and a written one is without", () => {
    const absent = Conf.loaded(Conf.aws.replace("ip_type = private\n", ""))
    const written = Conf.loaded(Conf.aws.replace("private", "public"))

    assert.strictEqual(absent.warnings.length, 1)
    assert.match(absent.warnings[0]!, /^ep2\.conf:3: \[AWS\] ip_type: not set, so public addresses are served/)
    assert.deepStrictEqual(written.warnings, [])
    assert.deepStrictEqual(absent.settings, written.settings)
  })
})
