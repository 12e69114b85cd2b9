/**
 * Reads what `haproxy -c` says about a rendered config, as problems of the
 * template it came from, and adds what to write where templates for EP2 1.0
 * have what HAProxy no longer takes. Pure.
 *
 * Source: output of HAProxy 2.2, 2.6, 3.0 and 3.2, recorded in
 * `test/fixtures/haproxy-check`.
 */
import { slotNumber } from "../domain/State.ts"
import * as ConfigText from "./ConfigText.ts"
import type { Rendered } from "./TemplateRenderer.ts"

/** One complaint of HAProxy about a config. */
export interface ConfigProblem {
  /** HAProxy refuses a config with an `alert`, and runs one with a `warning`. */
  readonly level: "alert" | "warning"
  /** Line of the template, from 1; absent where HAProxy names none or the line is not the template's. */
  readonly line?: number
  /** HAProxy's words, without its own heading, and what to write where that is known. One line. */
  readonly message: string
}

/** What HAProxy said, and about what. */
export interface Said {
  /** Standard output and error of `haproxy -c -f`, without `-q`. */
  readonly output: string
  readonly rendered: Pick<Rendered, "text" | "templateLine">
  /** The file that HAProxy was given, as it was spelled on the command line. */
  readonly candidatePath: string
  /** The template, as the operator knows it. */
  readonly templatePath: string
}

/**
 * All problems in HAProxy's order, each once: a line in a loop and the server
 * lines that ep2 writes are wrong many times in the same way. None where the
 * output has none: a check can still have failed, as the exit code says, because
 * HAProxy could not run.
 */
export const explain = (said: Said): ReadonlyArray<ConfigProblem> => {
  const found = entries(said.output).map((entry) => problem(entry, said))
  const alerts = found.filter(({ isSummary, level }) => level === "alert" && !isSummary)
  const seen = new Set<string>()
  return found.flatMap(({ isSummary, sameAs, ...one }) => {
    if ((isSummary && alerts.length > 0) || seen.has(sameAs)) return []
    seen.add(sameAs)
    return [one]
  })
}

const levels: Readonly<Record<string, ConfigProblem["level"]>> = {
  EMERG: "alert",
  ALERT: "alert",
  CRIT: "alert",
  WARNING: "warning"
}

interface Entry {
  readonly level: ConfigProblem["level"]
  readonly text: string
}

/** `[ALERT]    (123) : config : …`, with a date before the pid on 2.2. Lines without a head go on with the one before. */
const entries = (output: string): ReadonlyArray<Entry> => {
  const found: Array<{ readonly level: string; text: string }> = []
  for (const line of output.split("\n")) {
    const head = /^\[(\w+)\]\s+(?:\d+\/\d+\s+)?\(\d+\) : (.*)$/.exec(line)
    // 2.2 lists all keywords that it knows, one a line: `    [ SSL] alpn <arg> [dflt_ok]`.
    const more = /^\s+(?![\s[])\|?\s*(.*)$/.exec(line)?.[1] ?? ""
    const last = found.at(-1)
    if (head !== null) found.push({ level: head[1]!, text: head[2]! })
    else if (last !== undefined && more !== "") last.text += ` ${more}`
  }
  return found.flatMap(({ level, text }) => {
    const known = levels[level]
    return known === undefined ? [] : [{ level: known, text }]
  })
}

const problem = ({ level, text }: Entry, said: Said) => {
  const { candidatePath, rendered } = said
  const place = new RegExp(`${escaped(candidatePath)}:(\\d+)`).exec(text)?.[1]
  const number = place === undefined ? undefined : Number(place)
  const line = number === undefined ? undefined : rendered.templateLine(number)
  const config = number === undefined ? "" : (rendered.text.split("\n")[number - 1] ?? "")
  // The place moves from the heading into `line`, or into words where it is not the template's.
  const heading = new RegExp(`^(?:config : )?(?:(?:[Pp]arsing )?\\[${escaped(candidatePath)}:\\d+\\] ?: ?)*`)
  const words = placesIn(
    text
      .replace(heading, "")
      .replace(/ Registered keywords :\s*$/, "")
      .trim(),
    said
  )
  const where = number !== undefined && line === undefined ? `line ${number} of the rendered config: ` : ""
  const advice = adviceFor(words, config)
  const message = `${where}${advice === undefined ? words : `${words.replace(/[.\s]+$/, "")}; ${advice}`}`
  return {
    level,
    ...(line === undefined ? {} : { line }),
    message,
    isSummary: /^(?:Error\(s\) found in configuration file|Fatal errors found in configuration)/.test(words),
    sameAs: `${level} ${line} ${isOwnServer(config) ? message.replaceAll(/\bnode\d+\b/g, "node") : message}`
  }
}

/** Other lines that the words name, as `declared at FILE:12`, in the template's numbers. */
const placesIn = (words: string, { candidatePath, rendered, templatePath }: Said): string =>
  words
    .replaceAll(new RegExp(`${escaped(candidatePath)}:(\\d+)`, "g"), (_, number: string) => {
      const line = rendered.templateLine(Number(number))
      return line === undefined ? `line ${number} of the rendered config` : `${templatePath}:${line}`
    })
    .replaceAll(candidatePath, templatePath)

const escaped = (text: string): string => text.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&")

const isOwnServer = (config: string): boolean => {
  const [keyword, name = ""] = ConfigText.split(config).words
  return keyword === "server" && slotNumber(name) !== undefined
}

/** What to write instead, for what templates of the time of EP2 1.0 have. `config` is the line in question. */
const adviceFor = (words: string, config: string): string | undefined => {
  if (/'no-sslsv3'/.test(words)) return 'write "no-sslv3" for "no-sslsv3"'
  if (/'option httpchk' : hiding headers or body/.test(words)) return httpCheck(config)
  if (/'process(?: [^']*' on 'bind' lines|' : .* is not a valid)/.test(words)) {
    return `remove "${/\bprocess\s+\S+/.exec(config)?.[0] ?? "process"}": since HAProxy 2.5 there is one process, and one stats socket is enough`
  }
  if (/^nbproc is not supported/.test(words)) {
    return `remove "${config.trim()}", keep one stats socket, and name that one alone in haproxy_socket_file`
  }
  if (/^\s*\{#/.test(config)) return "a comment of the template is written {% comment %} … {% endcomment %}"
  if (isOwnServer(config)) {
    return "ep2 writes this line: see server_options, check_interval and backend_maxconn in ep2.conf"
  }
  return undefined
}

/** `option httpchk HEAD / HTTP/1.1\r\nHost:a` in the words that HAProxy has for it since 2.2. */
const httpCheck = (config: string): string => {
  const [, , method = "", uri = "", ...rest] = ConfigText.split(config).words
  const [version = "", ...headers] = rest.join(" ").split("\r\n")
  const bodyAt = headers.indexOf("")
  const given = bodyAt === -1 ? headers : headers.slice(0, bodyAt)
  const body = bodyAt === -1 ? "" : headers.slice(bodyAt + 1).join("\r\n")
  const send = [
    ...["http-check send meth", quoted(method), "uri", quoted(uri), "ver", quoted(version.trim())],
    ...given.flatMap((header) => {
      const [name = "", ...value] = header.split(":")
      return ["hdr", quoted(name.trim()), quoted(value.join(":").trim())]
    }),
    ...(body === "" ? [] : ["body", quoted(body)])
  ]
  return `write two lines: "option httpchk" and "${send.join(" ")}"`
}

/** A word as HAProxy's config needs it, without double quotes, which stand around the advice. */
const quoted = (word: string): string =>
  word === ""
    ? "''"
    : word
        .replaceAll(/[\\\s"'#]/g, "\\$&")
        .replaceAll("\\\r", "\\r")
        .replaceAll("\\\n", "\\n")
