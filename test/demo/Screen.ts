/**
 * The terminal: lines that stay, and below them, on a terminal, a picture that is
 * drawn over. Into a pipe or a file go plain lines without escape codes.
 */
import { stripVTControlCharacters, styleText } from "node:util"
import { Effect, type Scope } from "effect"

export interface Screen {
  /** Whether there is a picture at all. */
  readonly hasPicture: boolean
  /** Adds lines above the picture. */
  readonly say: (...lines: ReadonlyArray<string>) => void
  /** Draws the picture anew. Does nothing where there is none. */
  readonly draw: (rows: ReadonlyArray<string>) => void
}

const isTerminal = process.stdout.isTTY === true && process.env.TERM !== "dumb"
const hasColour = isTerminal && (process.env.NO_COLOR ?? "") === ""

/** Colours a text where colours are wanted. Source: https://no-color.org */
export const paint = (format: Parameters<typeof styleText>[0], text: string): string =>
  hasColour ? styleText(format, text, { validateStream: false }) : text

/** Takes the terminal. The cursor is given back, and the picture left as it was drawn last, when the scope ends. */
export const make: Effect.Effect<Screen, never, Scope.Scope> = Effect.acquireRelease(
  Effect.sync(() => {
    let picture: ReadonlyArray<string> = []
    const write = (text: string) => {
      if (text !== "") process.stdout.write(text)
    }
    const erase = () => (picture.length === 0 ? "" : `\x1b[${picture.length}A\r\x1b[J`)
    const drawn = () => picture.map((row) => `${row}\n`).join("")
    if (isTerminal) write("\x1b[?25l")
    return {
      hasPicture: isTerminal,
      say: (...lines: ReadonlyArray<string>) => write(`${erase()}${lines.join("\n")}\n${drawn()}`),
      draw: (rows: ReadonlyArray<string>) => {
        if (!isTerminal) return
        const before = erase()
        // A row that wraps, or a picture higher than the screen, could not be drawn over.
        picture = rows.slice(-Math.max(1, (process.stdout.rows || 24) - 2)).map(fit)
        write(`${before}${drawn()}`)
      }
    }
  }),
  () => Effect.sync(() => isTerminal && process.stdout.write("\x1b[?25h"))
)

const fit = (row: string): string => {
  const plain = stripVTControlCharacters(row)
  const width = (process.stdout.columns || 80) - 1
  return plain.length <= width ? row : `${plain.slice(0, width - 1)}…`
}
