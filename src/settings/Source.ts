/**
 * Where the servers of a backend come from: the section that `orchestrator`
 * names. The other sections may be there, and their values are not looked at.
 */
import type { Redacted } from "effect"
import type { Backend } from "./BackendSection.ts"
import * as Decoding from "./Decoding.ts"
import type { SectionName, Warning } from "./Names.ts"
import * as Rules from "./Rules.ts"
import type { Problem } from "./SettingsError.ts"
import { Aws, Consul, File } from "./SourceKeys.ts"

/** Where the servers of one backend come from, by `_tag`. */
export type SourceSettings = ConsulSource | FileSource | AwsSource | CustomSource

/** `orchestrator = consul`: the keys of `[CONSUL]`. */
export interface ConsulSource {
  readonly _tag: "Consul"
  readonly service: string
  /** IPv6 without brackets, or a host name. */
  readonly address: string
  readonly port: number
  readonly scheme: "http" | "https"
  readonly onlyPassing: boolean
  readonly tags: ReadonlyArray<string>
  /** Never together with `tokenFile`. */
  readonly token: Redacted.Redacted<string> | undefined
  readonly tokenFile: string | undefined
  readonly caFile: string | undefined
  /** Both `certFile` and `keyFile`, or neither. */
  readonly certFile: string | undefined
  readonly keyFile: string | undefined
  readonly datacenter: string | undefined
  readonly namespace: string | undefined
  readonly stale: boolean
}

/** `orchestrator = file`: the absolute path of a file_sd document. */
export interface FileSource {
  readonly _tag: "File"
  readonly path: string
}

/** A `Fetcher` that the program brings which runs ep2. It has no section: what it needs it has from elsewhere. */
export interface CustomSource {
  readonly _tag: "Custom"
}

/** `orchestrator = aws`: the keys of `[AWS]`. */
export interface AwsSource {
  readonly _tag: "Aws"
  readonly groups: readonly [string, ...ReadonlyArray<string>]
  readonly region: string
  readonly ipType: "public" | "private" | "ipv6"
  /** Without it, what the AWS SDK finds by itself. */
  readonly accessKey: { readonly id: Redacted.Redacted<string>; readonly secret: Redacted.Redacted<string> } | undefined
  readonly profile: string | undefined
  readonly roleArn: string | undefined
  readonly externalId: string | undefined
  readonly endpointUrl: string | undefined
}

/** `settings` where nothing of the section was refused. */
export interface DecodedSource {
  readonly settings: SourceSettings | undefined
  /** Values that were refused or are missing. */
  readonly problems: ReadonlyArray<Problem>
  /** Rules between keys that do not hold. */
  readonly rules: ReadonlyArray<Problem>
  readonly warnings: ReadonlyArray<Warning>
}

/** Decodes the section that `orchestrator` chooses; nothing, where that choice was refused. */
export const decode = (
  { has, place, values }: Rules.Given<(typeof Backend)["Type"]>,
  texts: Readonly<Record<SectionName, Decoding.Texts>>
): DecodedSource => {
  const { orchestrator } = values
  if (orchestrator === undefined) return nothing
  switch (orchestrator) {
    case "aws": {
      const others = (["CONSUL", "FILE"] as const).filter((name) => texts[name].line !== undefined)
      if (!has("orchestrator") && texts.AWS.line === undefined && others.length > 0) {
        const hint = `the file has ${others.map((name) => `[${name}] for ${name.toLowerCase()}`).join(" and ")}`
        const problem = { ...place("orchestrator"), found: Decoding.missing, expected: "aws, consul or file", hint }
        return { ...nothing, problems: [problem] }
      }
      return decodeAws(texts.AWS)
    }
    case "consul":
      return decodeConsul(texts.CONSUL)
    case "file":
      return decodeFile(texts.FILE)
    case "custom":
      return { ...nothing, settings: { _tag: "Custom" } }
  }
}

const nothing: DecodedSource = { settings: undefined, problems: [], rules: [], warnings: [] }

const decodeAws = (texts: Decoding.Texts): DecodedSource => {
  const decoded = Decoding.decode(Aws, texts)
  const keys = decoded.whole
  const { aws_access_key_id: id, aws_secret_access_key: secret } = keys ?? {}
  const settings = keys && {
    _tag: "Aws" as const,
    groups: keys.asg_name,
    region: keys.region_name,
    ipType: keys.ip_type,
    accessKey: id !== undefined && secret !== undefined ? { id, secret } : undefined,
    profile: keys.profile,
    roleArn: keys.role_arn,
    externalId: keys.external_id,
    endpointUrl: keys.endpoint_url
  }
  return judged(settings, decoded.problems, Rules.aws(decoded))
}

const decodeConsul = (texts: Decoding.Texts): DecodedSource => {
  const decoded = Decoding.decode(Consul, texts)
  const keys = decoded.whole
  const settings = keys && {
    _tag: "Consul" as const,
    service: keys.service_name,
    address: keys.consul_ip,
    port: keys.consul_port,
    scheme: keys.scheme,
    onlyPassing: keys.only_passing,
    tags: keys.tags ?? [],
    token: keys.token,
    tokenFile: keys.token_file,
    caFile: keys.ca_file,
    certFile: keys.cert_file,
    keyFile: keys.key_file,
    datacenter: keys.datacenter,
    namespace: keys.namespace,
    stale: keys.stale
  }
  return judged(settings, decoded.problems, Rules.consul(decoded))
}

const decodeFile = (texts: Decoding.Texts): DecodedSource => {
  const decoded = Decoding.decode(File, texts)
  const settings = decoded.whole && { _tag: "File" as const, path: decoded.whole.path }
  return judged(settings, decoded.problems, { problems: [], warnings: [] })
}

const judged = (
  settings: SourceSettings | undefined,
  problems: ReadonlyArray<Problem>,
  { problems: rules, warnings }: Rules.Verdicts
): DecodedSource => ({ settings, problems, rules, warnings })
