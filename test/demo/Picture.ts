/** Who is served now: each server with its slot and its share of the requests of the last second. */
import { Effect } from "effect"
import { endpointKey } from "../../src/domain/State.ts"
import type { Audience, Totals } from "./Audience.ts"
import type { Fleet } from "./Fleet.ts"
import { paint } from "./Screen.ts"
import type * as Slots from "./Slots.ts"

interface Row {
  readonly name: string
  readonly slot: string
  /** `left`: answered in the last second, and has no slot any more. */
  readonly state: Slots.Slot["state"] | "left"
  /** Of the good answers of the last second, 0 to 1. */
  readonly share: number
}

export interface Picture {
  readonly rows: ReadonlyArray<Row>
  readonly perSecond: number
  readonly totals: Totals
}

export const take = Effect.fnUntraced(function* (from: {
  readonly fleet: Fleet
  readonly audience: Audience
  readonly slots: Slots.Slots | undefined
}) {
  const { audience, fleet, slots } = from
  const answers = yield* audience.since(performance.now() - 1000)
  const rows = fleet.all().flatMap((server): ReadonlyArray<Row> => {
    const slot = slots?.byEndpoint.get(endpointKey(server.endpoint))
    const count = answers.filter((one) => one.server === server.name).length
    if (slot === undefined && count === 0) return []
    const share = count / Math.max(1, answers.length)
    return [{ name: server.name, slot: slot?.name ?? "", state: slot?.state ?? "left", share }]
  })
  return { rows, perSecond: answers.length, totals: yield* audience.totals } satisfies Picture
})

/** In rows, to be drawn over and over. */
export const asRows = ({ perSecond, rows, totals }: Picture, seconds: number): ReadonlyArray<string> => [
  "",
  ...rows.map(({ name, share, slot, state }) => {
    const bar = "█".repeat(Math.round(share * 48))
    const percent = share === 0 ? "" : ` ${Math.round(share * 100)} %`
    const note = state === "serving" ? "" : paint("yellow", ` ${state}`)
    return `        ${painted(name, name.padEnd(10))}${paint("dim", slot.padEnd(8))}${painted(name, bar)}${percent}${note}`
  }),
  `${clock(seconds)}  ${perSecond} answers a second · ${counted(totals)}`
]

/** In one line, for where nothing can be drawn over. */
export const asLine = ({ rows, totals }: Picture): string => {
  const served = rows.map(({ name, share, state }) => {
    const note = state === "serving" ? "" : ` (${state})`
    return `${name} ${Math.round(share * 100)}%${note}`
  })
  return `${served.join(" · ")} — ${counted(totals)}`
}

/** `1,234 requests, 0 failed` */
export const counted = (totals: Totals): string => `${totals.requests.toLocaleString("en")} requests, ${failed(totals)}`

/** `0 failed`, in green or red. */
export const failed = ({ failed }: Totals): string =>
  paint(failed === 0 ? "green" : ["red", "bold"], `${failed.toLocaleString("en")} failed`)

/** Seconds since the beginning, as each line of the demo starts with. */
export const clock = (seconds: number): string => paint("dim", `${seconds.toFixed(1).padStart(5)} s`)

const colours = { blue: "blueBright", green: "greenBright", amber: "yellowBright", violet: "magentaBright" } as const

/** A text in the colour that the server is named after. */
export const painted = (name: string, text: string): string => {
  const colour = Object.entries(colours).find(([one]) => name.startsWith(one))?.[1]
  return colour === undefined ? text : paint(colour, text)
}
