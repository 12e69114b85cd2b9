/**
 * The reply to `show servers state`: each server, and whether the table is whole,
 * so that half a row never becomes a server that is elsewhere, or none. Pure.
 *
 * A table is read against the one before it. Rows that differ in nothing but the
 * time since their last change give the very same server, and a table of such rows
 * the very same list: who looks each second pays for what has changed.
 *
 * Source: HAProxy management guide, 9.3 "show servers state", and what 2.2 to 3.2
 * answered when tried. Columns are found by name: 2.2 has 20 of them, later ones 25.
 */
import { type AdminState, canonicalAddress, type Endpoint, type Server, slotNumber } from "../domain/State.ts"

/** What was read, for the next reading. */
export interface ServerTable {
  /** In HAProxy's order, without what only `show stat` knows: nobody is unproven, and sessions are not known. */
  readonly servers: ReadonlyArray<Server>
  /** The reply whose rows these are, but for their times. */
  readonly reply: string
  readonly header: string
  readonly rows: ReadonlyArray<Row>
}

/** A row's text around its time, and the server that it stands for. */
interface Row {
  readonly before: string
  readonly after: string
  readonly server: Server
}

/** The table, or `undefined` where it is not a whole one of this backend. */
export const read = (backend: string, reply: string, last?: ServerTable): ServerTable | undefined => {
  if (last?.reply === reply) return last
  if (!reply.startsWith("1\n# be_id ")) return undefined
  const [, header = "", ...texts] = reply.split("\n")
  const columns = columnsOf(header)
  if (columns === undefined) return undefined
  const known = last?.header === header ? last.rows : []
  const rows: Array<Row> = []
  let isSame = known.length > 0
  for (const line of texts) {
    if (line === "") continue
    const old = known[rows.length]
    if (old !== undefined && isStill(old, line)) {
      rows.push(old)
      continue
    }
    const text = copied(line)
    const begins = startOf(text, columns.srv_time_since_last_change)
    const ends = begins < 0 ? -1 : text.indexOf(" ", begins)
    if (ends < 0) return undefined
    const server = serverOf(backend, text.split(" "), columns)
    if (server === undefined) return undefined
    rows.push({ before: text.slice(0, begins), after: text.slice(ends), server })
    isSame = false
  }
  if (isSame && last !== undefined && rows.length === known.length) return last
  if (new Set(rows.map(({ server }) => server.name)).size < rows.length) return undefined
  return { reply, header, rows, servers: rows.map(({ server }) => server) }
}

/** V8 makes a part of a text a view of the whole, and a row that stays would keep the reply that it once came in. */
const copied = (text: string): string => Buffer.from(text).toString()

/** Whether a row has become another one in its time alone. */
const isStill = ({ after, before }: Row, text: string): boolean => {
  const ends = text.length - after.length
  if (ends <= before.length || !text.startsWith(before) || !text.endsWith(after)) return false
  for (let at = before.length; at < ends; at++) if (text[at] === " ") return false
  return true
}

const names = [
  "be_name",
  "srv_name",
  "srv_addr",
  "srv_op_state",
  "srv_admin_state",
  "srv_uweight",
  "srv_time_since_last_change",
  "srv_check_state",
  "srv_port"
] as const

/** Where each column is, and how many there are. */
type Columns = Readonly<Record<(typeof names)[number] | "count", number>>

const columnsOf = (header: string): Columns | undefined => {
  const all = header.replace("# ", "").split(" ")
  const places = names.map((name) => [name, all.indexOf(name)] as const)
  if (places.some(([, place]) => place < 0)) return undefined
  return { ...(Object.fromEntries(places) as Columns), count: all.length }
}

/** Where a field begins; -1 where the row has fewer. */
const startOf = (text: string, field: number): number => {
  let at = 0
  for (let passed = 0; passed < field; passed++) {
    const blank = text.indexOf(" ", at)
    if (blank < 0) return -1
    at = blank + 1
  }
  return at
}

/** `undefined` where a field is not what belongs there. */
const serverOf = (backend: string, row: ReadonlyArray<string>, columns: Columns): Server | undefined => {
  const field = (name: (typeof names)[number]) => row[columns[name]] ?? ""
  const name = field("srv_name")
  const counts = ["srv_op_state", "srv_admin_state", "srv_uweight", "srv_check_state", "srv_port"] as const
  if (row.length < columns.count || field("be_name") !== backend || !/^[A-Za-z0-9_.:-]+$/.test(name)) return undefined
  if (!counts.every((one) => /^\d{1,15}$/.test(field(one)))) return undefined
  const address = field("srv_addr")
  const canonical = address === "-" ? undefined : canonicalAddress(address)
  if (canonical === undefined && address !== "-" && slotNumber(name) !== undefined) return undefined
  const check = Number(field("srv_check_state")) & checkMask
  return {
    name,
    endpoint: serverEndpoint(address, canonical, Number(field("srv_port"))),
    admin: adminState(Number(field("srv_admin_state"))),
    isMarked: Number(field("srv_uweight")) === 0,
    hasCheck: check === checkMask,
    ...(check === checkConfigured ? ({ isCheckOff: true } as const) : {}),
    health: field("srv_op_state") === "0" ? "down" : "up",
    sessions: undefined
  }
}

/**
 * Where a server points, as HAProxy says it: also what no source may name, such
 * as the placeholder. `-` is a host name that was never resolved.
 */
const serverEndpoint = (address: string, canonical: string | undefined, port: number): Endpoint | undefined =>
  address === "-" || address === "" ? undefined : { address: canonical ?? address, port }

/** HAProxy's own masks over `srv_admin_state` (`SRV_ADMF_MAINT`, `SRV_ADMF_DRAIN`). */
const maintMask = 0x23
const drainMask = 0x18

// Bit 0x04 is in neither: it only remembers that the config file said `disabled`,
// and stays set after `set server … state ready`.
const adminState = (bits: number): AdminState =>
  (bits & maintMask) !== 0 ? "maint" : (bits & drainMask) !== 0 ? "drain" : "ready"

/** Configured and enabled (`CHK_ST_CONFIGURED | CHK_ST_ENABLED`): only then can a server that is told down come up. */
const checkMask = 0x06
const checkConfigured = 0x02
