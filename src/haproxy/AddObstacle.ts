/**
 * Why servers cannot be added to a backend while HAProxy runs, as far as its
 * config tells. Pure. Source: HAProxy management guide, 9.3 "add server"; tried on
 * 2.6 to 3.2.
 *
 * | config | obstacle |
 * | --- | --- |
 * | `balance static-rr`, or by a hash that is not consistent | HAProxy refuses |
 * | `default-server` with words that the server line does not repeat | they would lack these |
 */
import * as ConfigText from "./ConfigText.ts"

/** In words that follow "as"; `undefined` where there is none. `line` is what a server line has behind its address. */
export const find = (text: string, backend: string, line: string): string | undefined => {
  const lines = text.split("\n")
  const layers = ConfigText.layersOf(lines, (section) => section.name === backend && ConfigText.isBackend(section))
  const settingOf = (keyword: string) => ConfigText.lastLine(layers, ([first]) => first === keyword)?.words[1]
  const algorithm = settingOf("balance") ?? "roundrobin"
  if (algorithm === "static-rr" || (isHash.test(algorithm) && settingOf("hash-type") !== "consistent")) {
    const remedy = algorithm === "static-rr" ? "balance roundrobin does" : "hash-type consistent does"
    return `balance ${algorithm} takes no servers while HAProxy runs (${remedy})`
  }
  const own = new Set(line.split(" "))
  const words = layers.flat().flatMap(({ words: [keyword, ...rest] }) => (keyword === "default-server" ? rest : []))
  const lacking = [...new Set(words)].filter((word) => !own.has(word))
  if (lacking.length === 0) return undefined
  return `servers that are added do not get what default-server gives (${lacking.join(" ")}); server_options could repeat it`
}

const isHash = /^(?:source|uri|url_param|hdr\(|rdp-cookie|hash$)/
