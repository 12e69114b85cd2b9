/**
 * The table that HAProxy answers `show stat` with. Pure, and never throws on any text.
 *
 * A row has two hundred columns of which a handful are asked for: it is gone through
 * once, and only those become strings.
 *
 * Source: HAProxy management guide, 9.1 "CSV format"; the quotes as recorded from
 * 2.2 and 3.2, where a server answered its check with a comma.
 */

/** A reply in rows, each with the fields of some of its columns. */
export interface Table {
  /** Every row has all columns of the header, and the header those that are asked for. */
  readonly isWhole: boolean
  /** In the order of the columns that are asked for; empty where the row has no such field. */
  readonly rows: ReadonlyArray<ReadonlyArray<string>>
}

/** `show stat`: HAProxy's CSV, in which a field with a comma or a quote stands in quotes. */
export const ofStats = (reply: string, columns: ReadonlyArray<string>): Table => {
  const lines = reply
    .replace("# ", "")
    .split("\n")
    .filter((line) => line !== "")
  const header = fieldsOf(lines[0] ?? "")
  const places = columns.map((name) => header.indexOf(name))
  /** By the number of the field: which of the columns it is. */
  const wanted = header.map((name) => columns.indexOf(name))
  let isWhole = places.every((place) => place >= 0)
  const rows: Array<ReadonlyArray<string>> = []
  for (let row = 1; row < lines.length; row++) {
    const line = lines[row]!
    const found: Array<string> = columns.map(() => "")
    const count = line.includes('"') ? takeQuoted(line, wanted, found) : takePlain(line, wanted, found)
    if (count < header.length) isWhole = false
    rows.push(found)
  }
  return { isWhole, rows }
}

const comma = 44

/** Takes the wanted fields out of a line; returns how many fields it has. */
const takePlain = (line: string, wanted: ReadonlyArray<number>, found: Array<string>): number => {
  let [field, begin] = [0, 0]
  for (let at = 0; at <= line.length; at++) {
    if (at < line.length && line.charCodeAt(at) !== comma) continue
    const place = field < wanted.length ? wanted[field]! : -1
    if (place >= 0) found[place] = line.slice(begin, at)
    field++
    begin = at + 1
  }
  return field
}

// Slow, and rare: a server answered its check in words with a comma.
const takeQuoted = (line: string, wanted: ReadonlyArray<number>, found: Array<string>): number => {
  const fields = fieldsOf(line)
  fields.forEach((text, field) => {
    const place = wanted[field] ?? -1
    if (place >= 0) found[place] = text
  })
  return fields.length
}

const fieldsOf = (line: string): ReadonlyArray<string> =>
  line.includes('"')
    ? Array.from(line.matchAll(/(?<=^|,)(?:"((?:[^"]|"")*)"(?=,|$)|([^,]*))/g), ([, quoted, plain = ""]) =>
        quoted === undefined ? plain : quoted.replaceAll('""', '"')
      )
    : line.split(",")
