/**
 * Reads a Prometheus file_sd document:
 *
 * ```yaml
 * - targets: ["10.0.0.1:8080", "[2001:db8::5]:8080"]
 *   labels: { zone: eu-1a }
 * ```
 *
 * | document | outcome |
 * | --- | --- |
 * | `[]` | nobody is to be served |
 * | nothing, blanks, only comments | an error: a file that is being written looks like this |
 * | not JSON (`.json`) or not YAML (any other name) | an error with line and column |
 * | another shape | an error with the way to the wrong item |
 * | a target that is no `host:port` | refused, the others stand |
 *
 * Labels are for logs only. Source: Prometheus documentation, "<file_sd_config>".
 */
import { Result, Schema } from "effect"
import { LineCounter, parseDocument } from "yaml"
import type { Refused } from "../domain/State.ts"
import type { Candidate, Named } from "./Candidate.ts"
import { oneLine } from "./Fetcher.ts"

const Label = Schema.Union([Schema.String, Schema.Finite, Schema.Boolean, Schema.Null])

const Groups = Schema.Array(
  Schema.Struct({
    targets: Schema.Array(Schema.String),
    labels: Schema.optionalKey(Schema.Record(Schema.String, Label))
  })
)

const decodeGroups = Schema.decodeUnknownResult(Groups)

/**
 * What the document names, or what is wrong with it, in one line that follows the
 * path of the file.
 */
export const decode = (
  text: string,
  options: {
    /** Its end decides between JSON and YAML. */
    readonly path: string
    /** For targets without a port; `service` refuses those. */
    readonly portOf: number | "service"
  }
): Result.Result<Named, string> => {
  const content = text.replace(/^\uFEFF/, "")
  if (content.trim() === "") return Result.fail("is empty: write [] to say that nobody is to be served")
  const value = options.path.toLowerCase().endsWith(".json") ? parseJson(content) : parseYaml(content)
  return Result.flatMap(value, (document) => {
    if (document === null) return Result.fail("holds nothing: write [] to say that nobody is to be served")
    return Result.mapBoth(decodeGroups(document), {
      onFailure: (error) => `is not a list of {targets: ["host:port", …], labels: {…}}: ${oneLine(error.message)}`,
      onSuccess: (groups) => namedBy(groups, options.portOf)
    })
  })
}

const parseJson = (text: string): Result.Result<unknown, string> =>
  Result.mapError(
    Result.try(() => JSON.parse(text) as unknown),
    (cause) => {
      const said = cause instanceof Error ? cause.message : String(cause)
      const at = Math.min(Number(/at position (\d+)/.exec(said)?.[1] ?? text.length), text.length)
      const lines = text.slice(0, at).split("\n")
      const what = oneLine(said.replace(/ (?:in JSON )?at position .*$/s, ""))
      return `is not JSON: ${what}, at line ${lines.length}, column ${lines.at(-1)!.length + 1}`
    }
  )

const parseYaml = (text: string): Result.Result<unknown, string> => {
  const lineCounter = new LineCounter()
  const document = parseDocument(text, {
    lineCounter,
    merge: true,
    prettyErrors: false,
    logLevel: "error",
    // A key that is a map or a list has no place here, and those in one another take minutes to write out.
    stringKeys: true
  })
  const [error] = document.errors
  if (error !== undefined) {
    const { col, line } = lineCounter.linePos(error.pos[0])
    const said = error.code === "NON_STRING_KEY" ? bracketsAsKey : oneLine(error.message)
    return Result.fail(`is not YAML: ${said}, at line ${line}, column ${col}`)
  }
  return Result.mapError(
    // Many groups may well share their labels by alias, but aliases of aliases must not fill the memory.
    Result.try(() => document.toJS({ maxAliasCount: 100_000 }) as unknown),
    (cause) => `is not YAML: ${oneLine(cause instanceof Error ? cause.message : String(cause))}`
  )
}

const bracketsAsKey = "a list or a map stands where a key should: put an address in brackets into quotes"

const namedBy = (groups: typeof Groups.Type, portOf: number | "service"): Named => {
  const candidates: Array<Candidate> = []
  const refused: Array<Refused> = []
  for (const { labels, targets } of groups) {
    const pairs = Object.entries(labels ?? {}).map(([name, value]) => `${name}=${String(value)}`)
    for (const target of targets) {
      const origin = pairs.length === 0 ? target : `${target} {${pairs.join(", ")}}`
      const parts = split(target)
      if (parts === undefined) {
        const found = JSON.stringify(oneLine(target))
        refused.push({ origin, reason: `${found} is not host:port, nor [address]:port for IPv6` })
      } else if (parts.port !== undefined) candidates.push({ origin, address: parts.host, port: parts.port })
      else if (portOf !== "service") candidates.push({ origin, address: parts.host, port: portOf })
      else refused.push({ origin, reason: 'has no port, and backend_port is "service": write host:port' })
    }
  }
  return { candidates, refused }
}

// An IPv6 address without brackets is refused, since its last group may as well be a port.
const split = (target: string): { readonly host: string; readonly port: number | undefined } | undefined => {
  const [, bracketed, plain, port] = /^(?:\[([^\]]*)\]|([^:[\]]+))(?::(\d{1,9}))?$/.exec(target) ?? []
  const host = bracketed ?? plain
  return host === undefined ? undefined : { host, port: port === undefined ? undefined : Number(port) }
}
