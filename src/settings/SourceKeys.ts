/**
 * The sections of the sources. Only the one that `orchestrator` names is read.
 */
import { Schema } from "effect"
import * as Key from "./Key.ts"
import * as Value from "./Value.ts"

/** `[AWS]`: Auto Scaling groups. */
export const Aws = Schema.Struct({
  asg_name: Key.required(
    {
      meaning: "The Auto Scaling groups whose instances are served, separated by commas",
      example: "web-blue, web-green"
    },
    Value.nonEmptyList("names of Auto Scaling groups")
  ),
  region_name: Key.required({ meaning: "The region of the groups", example: "eu-central-1" }, Value.region),
  ip_type: Key.withDefault(
    "public",
    {
      meaning:
        "Which address of an instance is served: public, private or ipv6; without the key, a warning says that it is public",
      example: "private"
    },
    Value.oneOf(["public", "private", "ipv6"])
  ),
  aws_access_key_id: Key.optional(
    {
      meaning: "Access key; without it, what the AWS SDK finds (environment, profile, role of the instance)",
      example: "your-access-key-id",
      isSecret: true
    },
    Value.secret
  ),
  aws_secret_access_key: Key.optional(
    { meaning: "Secret of the access key; both or neither", example: "your-secret-access-key", isSecret: true },
    Value.secret
  ),
  profile: Key.optional(
    { meaning: "Profile of the AWS config files to use, in place of an access key", example: "production" },
    Value.line("the name of a profile")
  ),
  role_arn: Key.optional(
    { meaning: "Role to assume with the credentials above", example: "arn:aws:iam::123456789012:role/ep2" },
    Value.roleArn
  ),
  external_id: Key.optional(
    { meaning: "External id that the role asks for", example: "ep2-production" },
    Value.line("the external id of role_arn")
  ),
  endpoint_url: Key.optional(
    { meaning: "Another address for the AWS API, such as a stand-in for tests", example: "http://127.0.0.1:5000" },
    Value.url
  )
})

/** `[CONSUL]`: one service of a Consul. */
export const Consul = Schema.Struct({
  service_name: Key.required(
    { meaning: "The service whose instances are served", example: "web" },
    Value.line("the name of a service in Consul")
  ),
  consul_ip: Key.withDefault(
    "127.0.0.1",
    { meaning: "Address or host name of the Consul agent", example: "consul.example.com" },
    Value.host
  ),
  consul_port: Key.withDefault(
    "8500",
    { meaning: "Port of the agent's HTTP API", example: "8501" },
    Value.whole(1, 65535)
  ),
  scheme: Key.withDefault(
    "http",
    { meaning: "How the agent is asked: http or https", example: "https" },
    Value.oneOf(["http", "https"])
  ),
  only_passing: Key.withDefault(
    "True",
    { meaning: "Serve only instances whose checks all pass", example: "False" },
    Value.boolean
  ),
  tags: Key.optional(
    { meaning: "Tags that an instance must have, all of them, separated by commas", example: "production, v2" },
    Value.list("tags")
  ),
  token: Key.optional(
    { meaning: "ACL token; better in token_file", example: "your-acl-token", isSecret: true },
    Value.secret
  ),
  token_file: Key.optional(
    { meaning: "File with the ACL token, read anew at each request", example: "/etc/ep2/consul.token" },
    Value.path("a file")
  ),
  ca_file: Key.optional(
    {
      meaning: "Certificates (PEM) that the agent's own must be signed by; needs scheme = https",
      example: "/etc/ep2/consul-ca.pem"
    },
    Value.path("a file")
  ),
  cert_file: Key.optional(
    { meaning: "Client certificate (PEM) to show; needs key_file", example: "/etc/ep2/ep2.pem" },
    Value.path("a file")
  ),
  key_file: Key.optional(
    { meaning: "Key of cert_file (PEM), without a passphrase", example: "/etc/ep2/ep2.key" },
    Value.path("a file")
  ),
  datacenter: Key.optional(
    { meaning: "Datacenter to ask about; without it, the agent's own", example: "dc2" },
    Value.line("the name of a datacenter")
  ),
  namespace: Key.optional(
    { meaning: "Namespace of the service (Consul Enterprise)", example: "team-a" },
    Value.line("the name of a namespace")
  ),
  stale: Key.withDefault(
    "False",
    {
      meaning: "Take the answer of any Consul server, which may be a little old, and not only of the leader",
      example: "True"
    },
    Value.boolean
  )
})

/** `[FILE]`: a file that something else writes. */
export const File = Schema.Struct({
  path: Key.required(
    {
      meaning: "Prometheus file_sd document, JSON or YAML, read again whenever it changes",
      example: "/etc/ep2/targets.json"
    },
    Value.path("a file")
  )
})
