/** What an `ini` block of the documentation lacks of an ep2.conf, which is not there to be shown. */
import type { Schema } from "effect"
import { Haproxy } from "../../src/settings/HaproxyKeys.ts"
import * as Key from "../../src/settings/Key.ts"
import { Aws, Consul, File } from "../../src/settings/SourceKeys.ts"

const sources = { aws: ["AWS", Aws], consul: ["CONSUL", Consul], file: ["FILE", File] } as const

/**
 * A whole ep2.conf. Lines before the first header are of `[haproxy]`; without that section,
 * the source is the one whose section is there; what a section cannot do without has the value
 * of its example, and an `ip_type` where nothing of the group was said.
 */
export const complete = (block: string): string => {
  const [, first = ""] = /^(?!#|;)(\S.*)$/m.exec(block) ?? []
  const [named = "aws"] = Object.entries(sources).flatMap(([name, [header]]) =>
    block.includes(`[${header}]`) ? [name] : []
  )
  const text = has(block, "[haproxy]")
    ? block
    : first.startsWith("[")
      ? `[haproxy]\norchestrator = ${named}\n${block}`
      : `[haproxy]\n${block}`
  const [, orchestrator = "aws"] = /^orchestrator\s*[=:]\s*(\w+)/m.exec(text) ?? []
  if (!(orchestrator in sources)) return text
  const [header, { fields }] = sources[orchestrator as keyof typeof sources]
  const required = Object.entries<Schema.Constraint>(fields).filter(
    ([, field]) => Key.docOf(field).default === "required"
  )
  const lacking = required.filter(([key]) => !new RegExp(`^${key}\\s*[=:]`, "m").test(text))
  const lines = lacking.map(([key, field]) => `${key} = ${Key.docOf(field).example}`)
  if (lacking.length > 0 && header === "AWS" && !/^ip_type\s*[=:]/m.test(text)) lines.push("ip_type = private")
  return has(text, `[${header}]`) ? withLines(text, header, lines) : `${text}\n[${header}]\n${lines.join("\n")}\n`
}

/** With a path of its own for every key that names a file or a folder and is not there: a default would be the machine's. */
export const withPaths = (text: string): string => {
  const lines = pathKeys.filter((key) => !new RegExp(`^${key}\\s*[=:]`, "m").test(text))
  return withLines(
    text,
    "haproxy",
    lines.map((key) => `${key} = ${Key.docOf(Haproxy.fields[key]).default}`)
  )
}

/** The keys whose defaults are places of the machine that ep2 or HAProxy changes, or looks for. */
export const pathKeys = [
  "haproxy_config_file",
  "template_file",
  "haproxy_binary",
  "haproxy_socket_file",
  "pid_file",
  "lock_dir",
  "log_file"
] as const

const has = (text: string, header: string) => text.split("\n").some((line) => line.trim() === header)

const withLines = (text: string, section: string, lines: ReadonlyArray<string>) =>
  lines.length === 0 ? text : text.replace(`[${section}]\n`, () => `[${section}]\n${lines.join("\n")}\n`)
