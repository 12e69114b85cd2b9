/**
 * The last line of a config file that ep2 has written: a sum over all before it,
 * by which a later ep2 tells its own text from one that somebody has changed.
 *
 * It stands in the file itself, so that it is right whenever the file is there
 * whole: no crash can part the two. It keeps no secret and proves nothing about
 * who wrote a text that wants to pass for ep2's.
 */
import { createHash } from "node:crypto"

/** The text, which ends in a line feed, with its seal behind it. */
export const seal = (text: string): string =>
  `${text}# ep2: sum ${sumOf(text)} - by it ep2 sees that somebody edits this file\n`

/** Whether the text is as ep2 has rendered it, to the last character. A text without a seal is not. */
export const isIntact = (text: string): boolean => {
  const begin = text.lastIndexOf("\n", text.length - 2) + 1
  return text.slice(begin).startsWith("# ep2: sum ") && text === seal(text.slice(0, begin))
}

const sumOf = (text: string): string => createHash("sha256").update(text).digest("hex").slice(0, 16)
