/**
 * The command lines of ep2 and npm that the documentation shows, in blocks and in the text, held against what the
 * programs know: ep2's own help, and the scripts of package.json.
 */
import { spawnSync } from "node:child_process"
import about from "../../package.json" with { type: "json" }
import { commandsIn } from "../../src/packaging/ManPage.ts"
import * as World from "../integration/World.ts"
import type { Block } from "./Pages.ts"

/** A flag as the help has it: what it wants behind it, and which words of that. */
interface Flag {
  readonly wants: string | undefined
  readonly choices: ReadonlyArray<string> | undefined
}

/** The flags of each command; `""` is ep2 without one. */
export type Commands = ReadonlyMap<string, ReadonlyMap<string, Flag>>

/** What the help of ep2 and of each of its commands says. Starts ep2 once for each. */
export const known = (): Commands => {
  const help = (...args: ReadonlyArray<string>) => {
    const { status, stdout } = spawnSync(process.execPath, [World.program, ...args, "--help"], { encoding: "utf8" })
    if (status !== 0) throw new Error(`ep2 ${args.join(" ")} --help ends with ${status}`)
    return stdout
  }
  const first = help()
  return new Map([
    ["", flagsIn(first)],
    ...commandsIn(first).map((command) => [command, flagsIn(help(command))] as const)
  ])
}

const flagsIn = (help: string): ReadonlyMap<string, Flag> => {
  const lines = help.matchAll(/^ {2}(--[\w-]+)(?:, (-\w))?(?: (<[^>]+>|[a-z]+))?(?: {2,}(.*))?$/gm)
  return new Map(
    [...lines].flatMap(([, long, short, wants, text = ""]) => {
      const [, words] = /\(choices: (.*)\)/.exec(text) ?? []
      const flag = { wants, choices: words?.split(", ") }
      return [long!, ...(short === undefined ? [] : [short])].map((name) => [name, flag] as const)
    })
  )
}

/** A command line, as words. */
export interface Line {
  readonly place: string
  readonly words: ReadonlyArray<string>
  /** In the text a flag may be named without its value. */
  readonly isText: boolean
}

/** Those that begin with one of these programs, in a block of a shell. */
export const inBlock = (block: Block, programs: RegExp): ReadonlyArray<Line> => {
  if (block.language !== "sh" && block.language !== "console") return []
  const lines = block.text.replaceAll("\\\n", " ").split("\n")
  const commands = block.language === "console" ? lines.filter((line) => line.startsWith("$ ")) : lines
  return commands
    .flatMap((line) => commandsOf(line.replace(/^\$ /, "")))
    .filter(([name = ""]) => programs.test(name))
    .map((words) => ({ place: `${block.page}:${block.line}`, words, isText: false }))
}

/** Those of ep2 in the text of a page, between backticks. */
export const inText = (page: string, markdown: string): ReadonlyArray<Line> =>
  markdown
    .replace(/^( *)(```+)[^\n]*\n.*?^\1\2$/gms, (block) => block.replace(/[^\n]/g, ""))
    .split("\n")
    .flatMap((line, index) =>
      [...line.matchAll(/`(ep2 [^`]+)`/g)].flatMap(([, code]) =>
        commandsOf(code!)
          // `ep2 2.0.0 (Node …)` is what it says of itself.
          .filter(([name, next = ""]) => name === "ep2" && !/^v?\d/.test(next))
          .map((words) => ({ place: `${page}:${index + 1}`, words, isText: true }))
      )
    )

/** The simple commands of a line, without what runs them (`sudo`, `npx`, `KEY=value`) and without redirections. */
const commandsOf = (line: string): ReadonlyArray<ReadonlyArray<string>> =>
  (line.match(/"[^"]*"|'[^']*'|#.*|\$\(|[|;&()]+|[^\s|;&()"']+/g) ?? [])
    .filter((word) => !word.startsWith("#"))
    .reduce<Array<Array<string>>>(
      (commands, word) => {
        if (/^(?:\$\(|[|;&()]+)$/.test(word)) commands.push([])
        else commands.at(-1)!.push(word.replace(/^(["'])(.*)\1$/, "$2"))
        return commands
      },
      [[]]
    )
    .map((words) => {
      const redirected = words.findIndex((word) => /^\d*[<>]/.test(word))
      const own = redirected === -1 ? words : words.slice(0, redirected)
      const first = own.findIndex((word) => !/^(?:sudo|npx|exec|then|do|else|if|while|until|!|[A-Z_]+=.*)$/.test(word))
      return first === -1 ? [] : own.slice(first)
    })
    .filter(({ length }) => length > 0)

/** What ep2 would not know of a line; `undefined` where it knows it all. Capitals, as in `--seed N`, stand for a value. */
export const flawOf = ({ isText, words: [, ...args] }: Line, commands: Commands): string | undefined => {
  const isCommand = args[0] !== undefined && !args[0].startsWith("-")
  if (isCommand && isValue(args[0]!)) return undefined
  const flags = commands.get(isCommand ? args[0]! : "")
  if (flags === undefined) return `ep2 has no command ${args[0]}`
  for (let index = isCommand ? 1 : 0; index < args.length; index++) {
    const [name = "", inline] = args[index]!.split(/=(.*)/s)
    if (name === "…" || name === "or" || name === "and") return undefined
    const flag = flags.get(name)
    if (flag === undefined) return `ep2${isCommand ? ` ${args[0]}` : ""} has no ${name}`
    if (flag.wants === undefined) continue
    const value = inline ?? args[++index]
    if (value === undefined && isText) return undefined
    if (value === undefined || value === "") return `${name} wants a value`
    if (isValue(value)) continue
    if (flag.wants === "integer" && !/^-?\d+$/.test(value)) return `${name} wants a whole number, not ${value}`
    if (flag.choices !== undefined && !flag.choices.includes(value)) return `${name} has no ${value}`
  }
  return undefined
}

/** Stands for a value or a command: `…`, `N`, `FILE`, `FILE.yml`. */
const isValue = (word: string) => /^(?:…|[A-Z][A-Z0-9_]*(?:\.\w+)?)$/.test(word)

/** What npm would not know of a line: a script that package.json does not have. */
export const npmFlawOf = ({ words: [, verb, script] }: Line): string | undefined => {
  const name = verb === "run" ? script : verb === "test" ? "test" : undefined
  return name === undefined || name in about.scripts ? undefined : `package.json has no script ${name}`
}
