/**
 * What a template must be so that its servers can be ep2's: each backend has one
 * place for them, in its own section, and nothing there takes ep2's names. Pure.
 */
import { distance } from "fastest-levenshtein"
import { slotNumber } from "../domain/State.ts"
import * as ConfigText from "./ConfigText.ts"
import type { Flaw } from "./LiquidFlaw.ts"
import { type Draft, nodesOf } from "./LiquidTemplate.ts"
import * as ServerRegion from "./ServerRegion.ts"

/** All that is wrong with a rendered template; of a backend that is not there, only that. */
export const flaws = (
  draft: Draft,
  backends: ReadonlyArray<string>,
  sockets: ReadonlyArray<string>
): ReadonlyArray<Flaw> => {
  const lines = draft.lines.map(({ after, before }) => `${before}${after}`)
  const config: Config = { draft, lines, sections: ConfigText.sections(lines), backends }
  const found = [
    ...backends.flatMap((backend) => {
      const missing = missingBackend(config, backend)
      if (missing !== undefined) return [missing]
      return [misplaced(config, backend), reservedName(config, backend), foreignRegion(config, backend)]
    }),
    foreignMark(config),
    ...missingSockets(config, sockets)
  ]
  return found.filter((flaw) => flaw !== undefined)
}

interface Config {
  readonly draft: Draft
  readonly lines: ReadonlyArray<string>
  readonly sections: ReadonlyArray<ConfigText.Section>
  readonly backends: ReadonlyArray<string>
}

const at = ({ draft }: Config, index: number, detail: string): Flaw => {
  const line = draft.templateLine(index)
  return line === undefined ? { detail } : { line, detail }
}

const named = ({ kind, name }: ConfigText.Section): string => (name === "" ? kind : `${kind} ${written(name)}`)

/** A word as it stands in a config: one that has a line feed in it, as `app\n`, is still told in one line. */
const written = (word: string): string => word.replace(/\p{Cc}/gu, (one) => JSON.stringify(one).slice(1, -1))

const missingBackend = ({ sections }: Config, backend: string): Flaw | undefined => {
  if (sections.some((section) => ConfigText.isBackend(section) && section.name === backend)) return undefined
  const nearest = sections
    .filter(ConfigText.isBackend)
    .toSorted((one, other) => distance(backend, one.name) - distance(backend, other.name))
  const has = nearest.length === 0 ? "no backend at all" : nearest.map((one) => `"${named(one)}"`).join(", ")
  return {
    detail: `has no section "backend ${backend}" or "listen ${backend}", it has ${has}: correct the backend's name in ep2.conf or here`
  }
}

const misplaced = (config: Config, backend: string): Flaw | undefined => {
  const { backends, draft, lines, sections } = config
  const write = `{{ ${nodesOf(backend, backends)} }}`
  const home = sections.find((section) => ConfigText.isBackend(section) && section.name === backend)!
  const places = draft.lines.flatMap((line, index) => (line.backend === backend ? [index] : []))
  const [place, second] = places
  if (place === undefined) {
    return at(
      config,
      home.begin,
      `nothing puts the servers into "${named(home)}": write ${write} there, on its own line`
    )
  }
  if (second !== undefined) {
    const first = draft.templateLine(place)
    const where = first === undefined ? "" : `, first on line ${first}`
    return at(config, second, `the servers of "${backend}" stand here a second time${where}: leave one ${write}`)
  }
  const { after, before } = draft.lines[place]!
  if (before.trimStart().startsWith("#")) {
    return at(config, place, `${write} stands in a comment: remove the braces, or the #`)
  }
  if (before.trim() !== "" || !/^\s*(?:#|$)/.test(after)) {
    const found = lines[place]!.trim()
    return at(config, place, `${write} shares its line with "${found}": give it a line of its own, without {{- and -}}`)
  }
  const section = sections.findLast(({ begin }) => begin <= place)
  if (section === home) return undefined
  const found = section === undefined ? "before every section" : `in "${named(section)}"`
  return at(config, place, `the servers of "${backend}" stand ${found}: put ${write} into "${named(home)}"`)
}

const reservedName = (config: Config, backend: string): Flaw | undefined => {
  const { lines, sections } = config
  for (const section of sections) {
    if (!ConfigText.isBackend(section) || section.name !== backend) continue
    for (let index = section.begin; index < section.end; index++) {
      const [keyword, name = ""] = ConfigText.split(lines[index]!).words
      const isServer = keyword === "server" && slotNumber(name) !== undefined
      const isTemplate = keyword === "server-template" && slotNumber(`${name}1`) !== undefined
      if (!isServer && !isTemplate) continue
      const detail = `"${keyword} ${name}" of "${backend}" takes names that are ep2's own (node1, node2, …): give it another name`
      return at(config, index, detail)
    }
  }
  return undefined
}

/** What a config file that was made into a template still has of the servers that ep2 wrote then. */
const foreignRegion = (config: Config, backend: string): Flaw | undefined => {
  const index = config.lines.findIndex((line) => ServerRegion.isBegin(line, backend))
  return index === -1
    ? undefined
    : at(
        config,
        index,
        `by this comment ep2 finds its servers of "${backend}" again, and ep2 writes it itself: remove it`
      )
}

const foreignMark = (config: Config): Flaw | undefined => {
  const index = config.lines.findIndex((line) => {
    const [keyword, name] = ConfigText.split(line).words
    return (keyword === "setenv" || keyword === "presetenv") && name === "EP2_CONFIG"
  })
  return index === -1
    ? undefined
    : at(config, index, "EP2_CONFIG is what ep2 knows its config by, and ep2 sets it itself: remove this line")
}

/**
 * Sockets of `haproxy_socket_file` that HAProxy would not open, or not for
 * changes. Nothing is said where the template leaves it open: variables in an
 * address, or a prefix for all of them.
 */
const missingSockets = (config: Config, sockets: ReadonlyArray<string>): ReadonlyArray<Flaw> => {
  const words = config.lines.map((line) => ConfigText.split(line).words)
  const found = words.flatMap(([first, second, address = "", ...more], index) =>
    first === "stats" && second === "socket" ? [{ address: address.replace(/^unix@/, ""), more, index }] : []
  )
  const isOpen = found.some(({ address }) => address.includes("$")) || words.some(([first]) => first === "unix-bind")
  return (isOpen ? [] : sockets).flatMap((socket) => {
    const write = `"stats socket ${socket} mode 600 level admin expose-fd listeners" in the global section`
    const stats = found.find(({ address }) => address === socket)
    if (stats === undefined) {
      const has =
        found.length === 0 ? "no stats socket at all" : found.map(({ address }) => written(address)).join(", ")
      return [
        { detail: `has no stats socket ${socket}, which haproxy_socket_file names, it has ${has}: write ${write}` }
      ]
    }
    if (stats.more[stats.more.indexOf("level") + 1] !== "admin") {
      return [at(config, stats.index, `the stats socket ${socket} does not let ep2 change servers: write ${write}`)]
    }
    return []
  })
}
