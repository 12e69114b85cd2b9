/** A preview as a person reads it: a table per process, and in words what no table says. Pure. */
import type { Backend, Preview } from "../controller/Preview.ts"
import type { ProcessRows, Row } from "../controller/PreviewRows.ts"

/** The lines. Processes that are alike share a table. */
export const lines = (preview: Preview, { isColoured }: { readonly isColoured: boolean }): ReadonlyArray<string> => {
  const paint = isColoured ? coloured : plain
  const { backends, isChange, notes, paused, step } = preview
  return [
    paint(headline(preview), "bold"),
    ...(paused === null ? [] : [paint(`paused (${paused}): none of this is done before \`ep2 resume\``, "yellow")]),
    ...backends.flatMap((backend) => ["", ...ofBackend(backend, paint)]),
    ...(notes.length === 0 ? [] : ["", ...notes.map((note) => `note: ${note}`)]),
    ...(isChange || step.action === "wait" ? [] : ["", "nothing to do"])
  ]
}

/** Whether what is written to a stream may be coloured: a terminal's, unless it is told not to (https://no-color.org). */
export const isColoured = (
  stream: { readonly isTTY?: boolean },
  environment: { readonly NO_COLOR?: string | undefined }
): boolean => stream.isTTY === true && (environment.NO_COLOR ?? "") === ""

const headline = ({ ep2, step }: Preview): string => {
  const who = ep2 === null ? "no ep2 runs" : `ep2 runs (pid ${ep2.pid})`
  const next = {
    start: "next is a start of HAProxy",
    reload: "next is a reload of HAProxy",
    pass: "next is a pass",
    wait: "nothing is done for now"
  }
  return `${who}; ${next[step.action]}: ${step.reason}`
}

const ofBackend = (backend: Backend, paint: Paint): ReadonlyArray<string> => {
  const { held, load, methods, name, noPlace, operator, refused, source, sourceError, wanted } = backend
  const how = methods.length === 0 ? "nothing to change" : `by ${methods.map((method) => words[method]).join(", ")}`
  const says = sourceError === null ? `names ${wanted}` : "does not answer"
  const tables = Map.groupBy(backend.processes, ({ freeSlots, others, servers }) =>
    JSON.stringify([freeSlots, others, servers])
  )
  return [
    paint(`${name}: ${source.kind} ${source.target} ${says}; ${how}`, "bold"),
    ...(sourceError === null ? [] : [`  ${paint("no answer", "red")}: ${sourceError}`]),
    ...[...tables.values()].flatMap((same) => ofProcesses(same, paint)),
    ...(load === null ? [] : [`  ${paint("reload", "yellow")}: ${load.reason}`]),
    ...(held === null ? [] : [`  ${paint("held by the guard", "yellow")}: ${held.words}`]),
    ...operator.map((one) => `  ${paint("held by the operator", "yellow")}: ${one.words}`),
    ...noPlace.map((one) => `  ${paint("no place", "red")}: ${one.endpoint} (${one.instance}): ${one.reason}`),
    ...refused.map((one) => `  ${paint("not served", "red")}: ${one.instance}: ${one.reason}`)
  ]
}

const words = { start: "a start", reload: "a reload", "dynamic server": "dynamic servers", socket: "the socket" }

const ofProcesses = (same: ReadonlyArray<ProcessRows>, paint: Paint): ReadonlyArray<string> => {
  const silent = same.filter(({ error }) => error !== null)
  if (silent.length > 0) return silent.map(({ error }) => `  ${paint("cannot be asked", "red")}: ${error}`)
  const [first] = same
  const names = same.flatMap(({ pid, socket }) => (socket === null ? [] : [`${socket} (pid ${pid})`]))
  const { freeSlots = 0, others = 0, servers = [] } = first ?? {}
  const rest = [
    ...(freeSlots === 0 ? [] : [`${freeSlots} free ${freeSlots === 1 ? "slot" : "slots"}`]),
    ...(others === 0 ? [] : [`${others} of the template's own, left alone`])
  ]
  return [
    ...(names.length === 0 ? [] : [`  ${names.join(", ")}`]),
    ...(servers.length === 0 ? [] : table(servers, paint)),
    ...(rest.length === 0 ? [] : [`  and ${rest.join(", ")}`])
  ]
}

const headers = ["SERVER", "ENDPOINT", "SOURCE", "INSTANCE", "STATE", "ACTION", "BY", "REASON"] as const
const actionColumn = headers.indexOf("ACTION")

const table = (rows: ReadonlyArray<Row>, paint: Paint): ReadonlyArray<string> => {
  const cells = rows.map((row) => [
    row.server,
    row.endpoint ?? "-",
    row.source ?? "-",
    row.instance ?? "-",
    stateOf(row),
    row.action,
    row.by ?? "-",
    row.reason
  ])
  const widths = headers.map((header, column) =>
    cells.reduce((widest, line) => Math.max(widest, line[column]?.length ?? 0), header.length)
  )
  const layOut = (line: ReadonlyArray<string>, of: Paint) =>
    line
      .map((cell, column) => {
        const padded = column === line.length - 1 ? cell : cell.padEnd(widths[column] ?? 0)
        return column === actionColumn ? of(padded, colourOf(cell)) : padded
      })
      .join("  ")
  return [`  ${paint(layOut(headers, plain), "dim")}`, ...cells.map((line) => `  ${layOut(line, paint)}`)]
}

const stateOf = ({ state }: Row): string => {
  if (state === null) return "-"
  const { admin, health, isMoving, sessions } = state
  const busy = sessions === null ? "" : `, ${sessions} ${sessions === 1 ? "session" : "sessions"}`
  return `${admin}, ${health}${isMoving ? ", weight 0" : ""}${busy}`
}

type Style = "bold" | "dim" | "red" | "green" | "yellow" | "none"
type Paint = (text: string, style: Style) => string

const plain: Paint = (text) => text

/** Source: ECMA-48, "select graphic rendition". */
const codes = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, none: 0 }

const coloured: Paint = (text, style) => (style === "none" ? text : `\u001b[${codes[style]}m${text}\u001b[0m`)

const colourOf = (action: string): Style => {
  if (action === "add" || action === "arrive" || action === "resume") return "green"
  if (action === "keep" || action === "ACTION") return "none"
  return action === "wait" || action === "guard" || action === "operator" ? "yellow" : "red"
}
