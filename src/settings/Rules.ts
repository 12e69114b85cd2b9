/**
 * What must hold between keys. Each value was accepted for itself; a key whose
 * value was not is `undefined` here and raises no second problem.
 *
 * | keys | rule |
 * | --- | --- |
 * | start_by = master | needs haproxy_master_socket |
 * | haproxy_master_socket, haproxy_socket_file | differ |
 * | haproxy_config_file, template_file | differ |
 * | backend_maxconn, server_options | maxconn is set in one of them |
 * | check_interval, server_options | inter is set in one of them |
 * | orchestrator = aws | backend_port is a number |
 * | token, token_file | one of them at most |
 * | cert_file, key_file | both or neither |
 * | ca_file, cert_file | scheme = https, or they are ignored (a warning) |
 * | aws_access_key_id, aws_secret_access_key | both or neither |
 * | profile | not with an access key |
 * | external_id | needs role_arn |
 * | ip_type | public if it is absent (a warning) |
 */
import { normalize } from "node:path"
import type { Backend } from "./BackendSection.ts"
import type { Haproxy } from "./HaproxyKeys.ts"
import type { Warning } from "./Names.ts"
import type { Place, Problem } from "./SettingsError.ts"
import type { Aws, Consul } from "./SourceKeys.ts"

/** A section as far as it could be decoded, and where its keys stand. */
export interface Given<A> {
  /** Without the keys whose values were refused. */
  readonly values: Partial<A>
  /** Whether the file gives the key a value, good or bad. */
  readonly has: (key: keyof A & string) => boolean
  /** Where to point when the key is to blame; without its value. */
  readonly place: (key: keyof A & string) => Place
}

/** What does not hold between keys. */
export interface Verdicts {
  readonly problems: ReadonlyArray<Problem>
  readonly warnings: ReadonlyArray<Warning>
}

/** The rules of `[haproxy]` that hold for the whole of ep2. */
export const haproxy = ({ has, place, values }: Given<(typeof Haproxy)["Type"]>): ReadonlyArray<Problem> => {
  const problems: Array<Problem> = []
  if (values.start_by === "master" && !has("haproxy_master_socket")) {
    problems.push({
      ...place("start_by"),
      value: "master",
      found: "no haproxy_master_socket",
      expected: "haproxy_master_socket to be set too"
    })
  }
  const master = values.haproxy_master_socket
  if (master !== undefined && values.haproxy_socket_file?.some((socket) => normalize(socket) === normalize(master))) {
    problems.push({
      ...place("haproxy_master_socket"),
      value: master,
      expected: "another socket than haproxy_socket_file"
    })
  }
  const { haproxy_config_file: config, template_file: template } = values
  if (config !== undefined && template !== undefined && normalize(config) === normalize(template)) {
    problems.push({
      ...place("template_file"),
      value: template,
      expected: "another file than haproxy_config_file",
      hint: "ep2 writes that one"
    })
  }
  return problems
}

/** The rules of one backend: of `[haproxy]` for the first one, and of each `[backend NAME]`. */
export const backend = ({ has, place, values }: Given<(typeof Backend)["Type"]>): ReadonlyArray<Problem> => {
  const problems: Array<Problem> = []
  const words = values.server_options?.split(/\s+/) ?? []
  for (const [word, key] of [
    ["maxconn", "backend_maxconn"],
    ["inter", "check_interval"]
  ] as const) {
    if (!words.includes(word) || !has(key)) continue
    problems.push({
      ...place("server_options"),
      found: `${word}, which ${key} sets too`,
      expected: `one of ${key} and ${word}`
    })
  }
  if (values.orchestrator === "aws" && values.backend_port === "service") {
    problems.push({
      ...place("backend_port"),
      value: "service",
      expected: "a port from 1 to 65535 with orchestrator = aws",
      hint: "an Auto Scaling group reports no port"
    })
  }
  return problems
}

/** The rules of `[CONSUL]`. */
export const consul = ({ has, place, values }: Given<(typeof Consul)["Type"]>): Verdicts => {
  const problems: Array<Problem> = []
  if (has("token") && has("token_file")) {
    problems.push({ ...place("token_file"), found: "token is set too", expected: "one of token and token_file" })
  }
  if (has("cert_file") && !has("key_file")) problems.push({ ...place("cert_file"), ...needs("key_file") })
  if (has("key_file") && !has("cert_file")) problems.push({ ...place("key_file"), ...needs("cert_file") })
  const unused = values.scheme === "http" ? (["ca_file", "cert_file"] as const).filter((key) => has(key)) : []
  return {
    problems,
    warnings: unused.map((key) => ({ ...place(key), text: "ignored with scheme = http; set scheme = https to use it" }))
  }
}

/** The rules of `[AWS]`. */
export const aws = ({ has, place }: Given<(typeof Aws)["Type"]>): Verdicts => {
  const problems: Array<Problem> = []
  const [id, secret] = ["aws_access_key_id", "aws_secret_access_key"] as const
  if (has(id) && !has(secret)) problems.push({ ...place(id), ...needs(secret) })
  if (has(secret) && !has(id)) problems.push({ ...place(secret), ...needs(id) })
  if (has("profile") && (has(id) || has(secret))) {
    problems.push({ ...place("profile"), found: "an access key is set too", expected: `one of profile and ${id}` })
  }
  if (has("external_id") && !has("role_arn")) problems.push({ ...place("external_id"), ...needs("role_arn") })
  const isAssumed = !has("ip_type")
  const text =
    "not set, so public addresses are served, as by EP2 1.0; write public, private or ipv6 to say which you mean"
  return { problems, warnings: isAssumed ? [{ ...place("ip_type"), text }] : [] }
}

const needs = (other: string) => ({ found: `set without ${other}`, expected: `${other} to be set too` })
