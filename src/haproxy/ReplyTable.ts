/**
 * The table that HAProxy answers `show stat` with. Pure, and never throws on any text.
 *
 * Source: HAProxy management guide, 9.1 "CSV format"; the quotes as recorded from
 * 2.2 and 3.2, where a server answered its check with a comma.
 */

/** A reply in rows, each with its columns in the order of `header`. */
export interface Table {
  readonly header: ReadonlyArray<string>
  readonly rows: ReadonlyArray<ReadonlyArray<string>>
}

/** `show stat`: HAProxy's CSV, in which a field with a comma or a quote stands in quotes. */
export const ofStats = (reply: string): Table => {
  const [header = [], ...rows] = reply
    .replace("# ", "")
    .split("\n")
    .filter((row) => row !== "")
    .map((row) => (row.includes('"') ? quotedFields(row) : row.split(",")))
  return { header, rows }
}

// Slow, and rare: a server answered its check in words with a comma.
const quotedFields = (row: string): ReadonlyArray<string> =>
  Array.from(row.matchAll(/(?<=^|,)(?:"((?:[^"]|"")*)"(?=,|$)|([^,]*))/g), ([, quoted, plain = ""]) =>
    quoted === undefined ? plain : quoted.replaceAll('""', '"')
  )

/** The fields of a row by the names of their columns; empty where the row has none. */
export const fieldsOf = ({ header }: Table) => {
  const columns = new Map(header.map((name, index) => [name, index]))
  return (row: ReadonlyArray<string>) => (name: string) => row[columns.get(name) ?? -1] ?? ""
}

/** Whether every row has all columns, a name of its own, and in each of these columns what belongs there. */
export const isWhole = (
  table: Table,
  nameColumn: string,
  columns: Readonly<Record<string, (text: string, name: string) => boolean>>
): boolean => {
  const { header, rows } = table
  const fields = fieldsOf(table)
  const names = new Set<string>()
  return (
    [nameColumn, ...Object.keys(columns)].every((column) => header.includes(column)) &&
    rows.every((row) => {
      const field = fields(row)
      const name = field(nameColumn)
      if (row.length < header.length || !/^[A-Za-z0-9_.:-]+$/.test(name) || names.has(name)) return false
      names.add(name)
      return Object.entries(columns).every(([column, isGood]) => isGood(field(column), name))
    })
  )
}
