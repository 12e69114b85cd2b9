/**
 * ep2's marked region: the server lines of one backend in the config file.
 * Written between two comment lines, and read back from them when HAProxy is
 * down. Pure.
 */
import { Result } from "effect"
import { type Endpoint, endpoint, endpointKey, isPlaceholder, slotNumber } from "../domain/State.ts"
import * as ConfigText from "./ConfigText.ts"

/** One of ep2's servers, as it stands in the config file. */
export interface ServerLine {
  /** `node<N>`. */
  readonly name: string
  readonly endpoint: Endpoint
  /** A free slot (on the placeholder address) or one that the operator holds. */
  readonly isDisabled: boolean
  /**
   * What no config file can say, and has to be told to a HAProxy that has just
   * loaded it. Such a line is disabled, and says it in a comment, so that an ep2
   * that ends in between finds it.
   *
   * - `drain`: the operator's, in place of maintenance.
   * - `prove`: it is to take traffic once its checks pass.
   */
  readonly afterLoad?: "drain" | "prove"
}

/** ep2's servers of one backend, in the order of the file. */
export interface BackendServers {
  readonly backend: string
  readonly servers: ReadonlyArray<ServerLine>
}

/** What every server line of a backend has besides its name and endpoint. */
export interface LineOptions {
  /** Sessions per server; no limit when absent. */
  readonly maxconn?: number | undefined
  /** Time between health checks, as HAProxy writes it: `2s`; HAProxy's default when absent. */
  readonly checkInterval?: string | undefined
  /** More keywords for the line, in HAProxy's words. Must be whole: no comment, no open quote. */
  readonly serverOptions?: string | undefined
}

/** The lines of a region, its two marking comments included, without indentation and line ends. */
export const write = ({ backend, servers }: BackendServers, options: LineOptions): ReadonlyArray<string> => [
  `${beginMark(backend)} - edits here are lost`,
  ...servers.map((server) => serverLine(server, options)),
  endMark(backend)
]

/**
 * The servers that a region of this text has for a backend, in its order; none
 * where there is no region. Lines that are not ep2's are passed over, and a
 * region that was cut short gives what is left of it.
 */
export const read = (text: string, backend: string): ReadonlyArray<ServerLine> => {
  const lines = text.split("\n").map((line) => line.trim())
  const begin = lines.findIndex((line) => isBegin(line, backend))
  if (begin === -1) return []
  const inside = lines.slice(begin + 1)
  const end = inside.findIndex((line) => line.startsWith("# ep2: ") || ConfigText.sections([line]).length > 0)
  const servers = new Map<string, ServerLine>()
  for (const line of end === -1 ? inside : inside.slice(0, end)) {
    const server = parse(line)
    if (server !== undefined && !servers.has(server.name)) servers.set(server.name, server)
  }
  return [...servers.values()]
}

/** Whether the region of a backend begins at this line. The first one counts. */
export const isBegin = (line: string, backend: string): boolean => line.trim().startsWith(beginMark(backend))

const beginMark = (backend: string): string => `# ep2: servers of ${backend}, written by ep2`
const endMark = (backend: string): string => `# ep2: end of the servers of ${backend}`

// `disabled` stands last, so that nothing in the options can take it for its value or undo it.
const serverLine = ({ afterLoad, endpoint, isDisabled, name }: ServerLine, options: LineOptions): string => {
  const comment = afterLoad === undefined ? "" : ` # ep2: ${afterLoad}`
  return `server ${name} ${endpointKey(endpoint)} ${optionsText(options)}${isDisabled ? " disabled" : ""}${comment}`
}

/** What every server line has behind its address: `check inter 2s …`. */
export const optionsText = ({ checkInterval, maxconn, serverOptions }: LineOptions): string =>
  [
    "check",
    ...(checkInterval === undefined ? [] : [`inter ${checkInterval}`]),
    ...(maxconn === undefined ? [] : [`maxconn ${maxconn}`]),
    // A value that ep2.conf continues on a second line is still one line for HAProxy.
    ...(serverOptions === undefined ? [] : [serverOptions.trim().replaceAll(/\s*[\r\n]+\s*/g, " ")])
  ]
    .filter((part) => part !== "")
    .join(" ")

const parse = (line: string): ServerLine | undefined => {
  const { words } = ConfigText.split(line)
  const [keyword, name = "", address = ""] = words
  if (keyword !== "server" || slotNumber(name) === undefined) return undefined
  const found = parseEndpoint(address)
  const afterLoad = /# ep2: (drain|prove)$/.exec(line)?.[1] as ServerLine["afterLoad"]
  return found === undefined
    ? undefined
    : {
        name,
        endpoint: found,
        isDisabled: words.at(-1) === "disabled",
        ...(afterLoad === undefined ? {} : { afterLoad })
      }
}

const parseEndpoint = (text: string): Endpoint | undefined => {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):(\d{1,5})$/.exec(text)
  if (match === null) return undefined
  const [address, port] = [match[1] ?? match[2] ?? "", Number(match[3])]
  // No source may name the placeholder, but free slots stand on it.
  if (isPlaceholder({ address, port })) return { address, port }
  return Result.getOrUndefined(endpoint(address, port))
}
