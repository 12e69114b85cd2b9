/**
 * What a simulated HAProxy reads of a config: its mark, its backends and their
 * servers. Pure, and never throws on any text; what is of no use to the
 * simulation is passed over.
 *
 * Source: HAProxy configuration manual, 5.2 "Server and default-server options".
 * Not read: `fastinter`, `downinter`, `server-template`, `backup` and `track`.
 */
import { canonicalAddress } from "../domain/State.ts"
import * as ConfigText from "../haproxy/ConfigText.ts"

/** How a server is checked. */
export interface LoadedCheck {
  readonly interMillis: number
  /** Checks that have to pass, one after the other, until a server that is down is up. */
  readonly rise: number
  /** Checks that have to fail, one after the other, until a server that has proven itself is down. */
  readonly fall: number
}

/** One `server` line, with what its `default-server` adds. */
export interface LoadedServer {
  readonly name: string
  /** `undefined` for a host name: nothing in a simulation resolves one. */
  readonly address: string | undefined
  readonly port: number
  readonly weight: number
  readonly isDisabled: boolean
  readonly check: LoadedCheck | undefined
}

/** One `backend` or `listen`. */
export interface LoadedBackend {
  readonly name: string
  /** Its algorithm takes other weights than 0 and 100%, and servers while HAProxy runs. */
  readonly isDynamic: boolean
  readonly servers: ReadonlyArray<LoadedServer>
}

/** All that a simulated process needs of a config. */
export interface LoadedConfig {
  /** `EP2_CONFIG`. */
  readonly mark: string | undefined
  /** Backends and listens, in the order of the text. */
  readonly backends: ReadonlyArray<LoadedBackend>
}

/** Reads a whole config. */
export const read = (text: string): LoadedConfig => {
  const lines = text.split("\n")
  let mark: string | undefined
  const backends: Array<LoadedBackend> = []
  const parents = new Map<string, Section>()
  let lastDefaults: Section = { words: [] }
  for (const section of ConfigText.sections(lines)) {
    const [header = [], ...words] = lines
      .slice(section.begin, section.end)
      .map((line) => ConfigText.split(line).words)
      .filter(([keyword]) => keyword !== undefined)
    if (section.kind === "global") {
      mark = words.findLast(([keyword, name]) => keyword === "setenv" && name === "EP2_CONFIG")?.[2] ?? mark
      continue
    }
    const from = header.indexOf("from")
    const named = from === -1 ? undefined : parents.get(header[from + 1] ?? "")
    if (section.kind === "defaults") {
      // A `defaults` section takes from another one only where it says so.
      lastDefaults = named === undefined ? { words } : { words, parent: named }
      parents.set(section.name, lastDefaults)
    } else if (ConfigText.isBackend(section)) {
      backends.push(backendOf(section.name, { words, parent: named ?? lastDefaults }))
    }
  }
  return { mark, backends }
}

/** A section's lines in words, and the one that it takes from where it has none of its own. */
interface Section {
  readonly words: ReadonlyArray<ReadonlyArray<string>>
  readonly parent?: Section
}

const backendOf = (name: string, section: Section): LoadedBackend => {
  const algorithm = settingOf(section, "balance") ?? "roundrobin"
  const isMap = /^(?:source|uri|url_param|hdr\(|rdp-cookie|hash$)/.test(algorithm)
  const isConsistent = settingOf(section, "hash-type") === "consistent"
  let defaults = section.parent === undefined ? [] : defaultsOf(section.parent)
  const servers: Array<LoadedServer> = []
  for (const [keyword, ...rest] of section.words) {
    // Only servers behind such a line get what it says.
    if (keyword === "default-server") defaults = [...defaults, ...rest]
    if (keyword === "server") servers.push(readServer(rest, defaults))
  }
  return { name, isDynamic: algorithm !== "static-rr" && (!isMap || isConsistent), servers }
}

const settingOf = (section: Section, keyword: string): string | undefined =>
  section.words.findLast(([first]) => first === keyword)?.[1] ??
  (section.parent === undefined ? undefined : settingOf(section.parent, keyword))

const defaultsOf = (section: Section): ReadonlyArray<string> => [
  ...(section.parent === undefined ? [] : defaultsOf(section.parent)),
  ...section.words.flatMap(([keyword, ...rest]) => (keyword === "default-server" ? rest : []))
]

/** Reads one server: its name, its address and its options, those of `default-server` first. */
export const readServer = (
  [name = "", address = "", ...options]: ReadonlyArray<string>,
  defaults: ReadonlyArray<string> = []
): LoadedServer => {
  const values = new Map<string, string>()
  let hasCheck = false
  let isDisabled = false
  const words = [...defaults, ...options]
  for (let at = 0; at < words.length; at++) {
    const word = words[at]!
    if (withValue.has(word)) values.set(word, words[++at] ?? "")
    else if (word === "check" || word === "no-check") hasCheck = word === "check"
    else if (word === "disabled" || word === "enabled" || word === "no-disabled") isDisabled = word === "disabled"
  }
  const [, bracketed, plain, port = "0"] = /^(?:ipv[46]@)?(?:\[([^\]]*)\]|(.*?))(?::(\d+))?$/.exec(address) ?? []
  const check = {
    interMillis: Math.max(1, millisOf(values.get("inter") ?? "2s")),
    rise: Math.max(1, Number(values.get("rise") ?? 2)),
    fall: Math.max(1, Number(values.get("fall") ?? 3))
  }
  return {
    name,
    address: canonicalAddress(bracketed ?? plain ?? ""),
    port: Number(port),
    weight: Number(values.get("weight") ?? 1),
    isDisabled,
    check: hasCheck ? check : undefined
  }
}

/** Options of a server that have a word behind them, which is then none itself: `cookie check`. */
const withValue = new Set(
  (
    "addr agent-addr agent-inter agent-port agent-send alpn ca-file check-alpn check-proto check-sni ciphers " +
    "ciphersuites cookie crl-file crt downinter error-limit fall fastinter hash-key id init-addr init-state inter " +
    "log-proto max-reuse maxconn maxqueue minconn namespace observe on-error on-marked-down on-marked-up " +
    "pool-low-conn pool-max-conn pool-purge-delay port proto redir resolve-net resolve-opts resolve-prefer resolvers " +
    "rise shard sni slowstart socks4 source ssl-max-ver ssl-min-ver track verify verifyhost weight ws"
  ).split(" ")
)

const units: Readonly<Record<string, number>> = { us: 0.001, ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** A time as HAProxy writes it; milliseconds where it has no unit. */
const millisOf = (text: string): number => {
  const [, count = "2000", unit = "ms"] = /^(\d+)(us|ms|s|m|h|d)?$/.exec(text) ?? []
  return Number(count) * (units[unit] ?? 1)
}
