/** What the acts of the demo play on: the servers, the clients, HAProxy as it answers now, and the terminal. */
import { Effect, type Scope } from "effect"
import type { Audience } from "./Audience.ts"
import type { Line } from "./Ep2Log.ts"
import type { Fleet } from "./Fleet.ts"
import * as Picture from "./Picture.ts"
import type { Sandbox } from "./Sandbox.ts"
import { paint, type Screen } from "./Screen.ts"
import * as Slots from "./Slots.ts"

export interface Stage {
  readonly sandbox: Sandbox
  readonly fleet: Fleet
  readonly audience: Audience
  /** The slots as HAProxy said a moment ago; undefined while it does not answer. */
  readonly slots: () => Slots.Slots | undefined
  /** How many processes took HAProxy's place since the beginning: one per reload. */
  readonly reloads: () => number
  readonly tell: Teller
  /** Shows who is served, where there is no picture that shows it all the time. */
  readonly showPicture: Effect.Effect<void>
}

/** Says what happens, a line each, with its time. */
export interface Teller {
  /** What is done now, by whoever writes the list. */
  readonly act: (title: string, text: string) => void
  readonly note: (text: string) => void
  readonly good: (text: string) => void
  readonly bad: (text: string) => void
  /** What ep2 says. */
  readonly ep2: (line: Line) => void
}

export const makeTeller = (screen: Screen, began: number): Teller => {
  const say = (text: string) => screen.say(`${Picture.clock((performance.now() - began) / 1000)}  ${text}`)
  return {
    act: (title, text) =>
      screen.say("", `${Picture.clock((performance.now() - began) / 1000)}  ${paint("bold", title)}: ${text}`),
    note: (text) => say(paint("dim", text)),
    good: (text) => say(`${paint("green", "✓")} ${text}`),
    bad: (text) => say(`${paint(["red", "bold"], "✗")} ${text}`),
    ep2: ({ level, message, subject }) => {
      const words = level === "info" ? message : paint(level === "warning" ? "yellow" : "red", `${level}: ${message}`)
      const about = subject.map((one) => `${Picture.painted(one, one)} `).join("")
      say(`${paint("cyan", "ep2")} ${about}${words}`)
    }
  }
}

/** Looks at HAProxy four times a second, and draws what it sees, until the scope ends. */
export const make = (
  parts: Pick<Stage, "sandbox" | "fleet" | "audience" | "tell"> & { readonly screen: Screen; readonly began: number }
): Effect.Effect<Stage, never, Scope.Scope> =>
  Effect.gen(function* () {
    const { audience, began, fleet, sandbox, screen, tell } = parts
    let slots: Slots.Slots | undefined
    const pids = new Set<number>()
    const look = Effect.gen(function* () {
      slots = yield* Slots.read(sandbox.socket)
      if (slots !== undefined) pids.add(slots.pid)
    })
    const draw = Effect.gen(function* () {
      const picture = yield* Picture.take({ fleet, audience, slots })
      screen.draw(Picture.asRows(picture, (performance.now() - began) / 1000))
    })
    const showPicture = Effect.gen(function* () {
      if (screen.hasPicture) return
      tell.note(`now ${Picture.asLine(yield* Picture.take({ fleet, audience, slots }))}`)
    })
    yield* look
    yield* look.pipe(
      Effect.andThen(screen.hasPicture ? draw : Effect.void),
      Effect.delay(250),
      Effect.forever,
      Effect.forkScoped
    )
    return {
      sandbox,
      fleet,
      audience,
      tell,
      showPicture,
      slots: () => slots,
      reloads: () => Math.max(0, pids.size - 1)
    }
  })
