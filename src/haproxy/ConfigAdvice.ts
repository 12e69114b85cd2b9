/**
 * What in a config that HAProxy takes is likely to hurt once ep2 changes its
 * servers. Pure. `defaults` sections count as they do for HAProxy.
 *
 * | config | when | why |
 * | --- | --- | --- |
 * | a backend without `option redispatch` | always | a request that meets a server that just went fails |
 * | `balance` that is static, `default-server` that the server line does not repeat | update_by_runtime | servers cannot be added, so a pool that is used up grows by a reload |
 * | `stats timeout` below 5 s | always | HAProxy closes the socket while ep2 still speaks |
 * | a frontend in HTTP mode that keeps connections alive, without `option idle-close-on-response` | update_by_config, HAProxy 2.6 and later | each reload closes idle connections just as clients use them again |
 * | `stats socket` without `expose-fd listeners` | start_by = binary, and HAProxy before 2.6 | a reload cannot take over the listeners |
 *
 * Source: HAProxy configuration manual, "option idle-close-on-response", "stats
 * timeout" and "stats socket"; reloads under traffic as tried on 2.2 to 3.2: from
 * 2.6 on a master hands its listeners over by itself (`-x sockpair@`).
 */
import * as AddObstacle from "./AddObstacle.ts"
import * as ConfigText from "./ConfigText.ts"

/** A HAProxy's version, as far as it decides what it can do. */
export interface Version {
  readonly major: number
  readonly minor: number
}

/** What has to be known besides the text. */
export interface Circumstances {
  readonly backends: ReadonlyArray<{
    readonly name: string
    /** What a server line has behind its address. */
    readonly lineOptions: string
    readonly nodeSlots: number
  }>
  /** `haproxy_socket_file`. */
  readonly sockets: ReadonlyArray<string>
  readonly updateBy: "runtime" | "config"
  readonly startBy: "systemd" | "binary" | "master"
  /** `undefined` where it is not known: then nothing is said that hangs on it. */
  readonly version: Version | undefined
}

/** One thing that is likely to hurt. */
export interface Advice {
  /** Line of the text, from 1; absent where it is a line that lacks. */
  readonly line?: number
  /** What was found, why it matters, and what to write, in one line without a full stop. */
  readonly text: string
}

/** Whether a HAProxy is at least that old. */
export const isAtLeast = ({ major, minor }: Version, [leastMajor, leastMinor]: readonly [number, number]): boolean =>
  major > leastMajor || (major === leastMajor && minor >= leastMinor)

/** All of it, in the order of the table above. */
export const find = (text: string, about: Circumstances): ReadonlyArray<Advice> => {
  const lines = text.split("\n")
  const config: Config = { text, lines, sections: ConfigText.sections(lines) }
  return [
    ...about.backends.flatMap(({ name }) => redispatch(config, name)),
    ...(about.updateBy === "runtime" ? about.backends.flatMap((backend) => obstacle(config, backend)) : []),
    ...statsTimeout(config),
    ...idleClose(config, about),
    ...exposeFd(config, about)
  ]
}

interface Config {
  readonly text: string
  readonly lines: ReadonlyArray<string>
  readonly sections: ReadonlyArray<ConfigText.Section>
}

type Layers = ReadonlyArray<ReadonlyArray<ConfigText.Line>>

const layersOfBackend = ({ lines }: Config, name: string): Layers =>
  ConfigText.layersOf(lines, (section) => section.name === name && ConfigText.isBackend(section))

/** Whether an option is on: the last line about it decides, of the nearest section that has one. */
const hasOption = (layers: Layers, option: string): boolean => {
  const line = ConfigText.lastLine(layers, (words) => {
    const [first, second] = words[0] === "no" ? words.slice(1) : words
    return first === "option" && second === option
  })
  return line !== undefined && line.words[0] !== "no"
}

const redispatch = (config: Config, backend: string): ReadonlyArray<Advice> => {
  const layers = layersOfBackend(config, backend)
  return layers.length === 0 || hasOption(layers, "redispatch")
    ? []
    : [
        {
          text: `${backend} has no "option redispatch": a request that finds its server gone is tried at that same server again, and fails; with it, it goes to another one. Write "option redispatch" into the backend or its defaults`
        }
      ]
}

const obstacle = (
  config: Config,
  { lineOptions, name, nodeSlots }: Circumstances["backends"][number]
): ReadonlyArray<Advice> => {
  const why = AddObstacle.find(config.text, name, lineOptions)
  if (why === undefined) return []
  const pool =
    nodeSlots === 0 ? "node_slots is 0, so each further server" : `a pool whose ${nodeSlots} slots are used up`
  const what = nodeSlots === 0 ? "costs a reload" : "grows by a reload"
  return [{ text: `${name}: ${why}: ${pool} ${what}` }]
}

/** How long ep2 waits for a reply of HAProxy's. */
const leastStatsTimeoutMillis = 5000

const statsTimeout = (config: Config): ReadonlyArray<Advice> => {
  const globals = globalLines(config).filter(({ words }) => words[0] === "stats" && words[1] === "timeout")
  const last = globals.at(-1)
  const millis = last === undefined ? undefined : parseMillis(last.words[2] ?? "")
  if (last === undefined || millis === undefined || millis >= leastStatsTimeoutMillis) return []
  const unit = /^\d+$/.test(last.words[2] ?? "") ? " (HAProxy reads a number without a unit as milliseconds)" : ""
  return [
    {
      line: last.index + 1,
      text: `"stats timeout ${last.words[2]}" is ${millis} ms${unit}, and HAProxy closes the socket after it while ep2 may still speak: write "stats timeout 30s"`
    }
  ]
}

const globalLines = ({ lines, sections }: Config): ReadonlyArray<ConfigText.Line> =>
  sections
    .filter(({ kind }) => kind === "global")
    .flatMap(({ begin, end }) =>
      lines.slice(begin, end).map((line, offset) => ({ words: ConfigText.split(line).words, index: begin + offset }))
    )

const units: Readonly<Record<string, number>> = {
  us: 0.001,
  "": 1,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000
}

/** A time as HAProxy writes it; `undefined` for anything else, such as a variable. */
const parseMillis = (text: string): number | undefined => {
  const [, number, unit = ""] = /^(\d+)(us|ms|s|m|h|d)?$/.exec(text) ?? []
  const factor = units[unit]
  return number === undefined || factor === undefined ? undefined : Number(number) * factor
}

const idleClose = (config: Config, { backends, updateBy, version }: Circumstances): ReadonlyArray<Advice> => {
  if (updateBy !== "config" || version === undefined || !isAtLeast(version, [2, 6])) return []
  const names = new Set(backends.map(({ name }) => name))
  const lacking = config.sections.filter((section) => {
    if (section.kind !== "frontend" && section.kind !== "listen") return false
    const layers = ConfigText.layersOf(config.lines, ({ begin }) => begin === section.begin)
    const mode = ConfigText.lastLine(layers, ([first]) => first === "mode")?.words[1] ?? "tcp"
    return (
      mode === "http" &&
      leadsTo(section, layers, names) &&
      !hasOption(layers, "httpclose") &&
      !hasOption(layers, "idle-close-on-response")
    )
  })
  return lacking.map((section) => ({
    text: `${section.kind} ${section.name} keeps connections alive without "option idle-close-on-response": each reload closes idle ones at the moment at which some clients use them again, and update_by_config reloads for each change. Write the option into it or its defaults`
  }))
}

/** Whether requests of a frontend may reach one of these backends; a name that is made up at runtime may be any. */
const leadsTo = (section: ConfigText.Section, layers: Layers, names: ReadonlySet<string>): boolean => {
  if (section.kind === "listen" && names.has(section.name)) return true
  return layers
    .flat()
    .some(
      ({ words: [first, name = ""] }) =>
        (first === "default_backend" || first === "use_backend") && (names.has(name) || name.includes("%["))
    )
}

const exposeFd = (config: Config, { sockets, startBy, version }: Circumstances): ReadonlyArray<Advice> => {
  if (startBy !== "binary" && (version === undefined || isAtLeast(version, [2, 6]))) return []
  const stats = globalLines(config).filter(({ words }) => words[0] === "stats" && words[1] === "socket")
  const isExposed = ({ words }: ConfigText.Line) => words[words.indexOf("expose-fd") + 1] === "listeners"
  // ep2 hands over by the first socket that answers, a master by whichever has it.
  if (startBy !== "binary" && stats.some(isExposed)) return []
  return stats.flatMap((line) => {
    const address = (line.words[2] ?? "").replace(/^unix@/, "")
    if (isExposed(line) || !sockets.includes(address)) return []
    return [
      {
        line: line.index + 1,
        text: `the stats socket ${address} has no "expose-fd listeners": a reload cannot take the listeners over by it, and some connections of that moment are reset. Write it at the end of the line`
      }
    ]
  })
}
