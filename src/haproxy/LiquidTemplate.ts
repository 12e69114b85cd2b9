/**
 * The template language: Liquid, by liquidjs. A template is rendered with
 * stand-ins where the server lines go, so that what follows can see in which
 * section each stands, and can put lines there whatever their number.
 */
import { Result } from "effect"
import { Liquid, type Template, Tokenizer, TokenKind, type TopLevelToken } from "liquidjs"
import type { Flaw } from "./LiquidFlaw.ts"
import * as LiquidFlaw from "./LiquidFlaw.ts"

/** One line of a rendered template. */
export interface DraftLine {
  /** The whole line, or what stands before the servers. */
  readonly before: string
  /** Whose servers belong here. */
  readonly backend: string | undefined
  /** What stands behind the servers. */
  readonly after: string
}

/** A rendered template that has no servers yet. */
export interface Draft {
  readonly lines: ReadonlyArray<DraftLine>
  /** The template's line, from 1, that a line of the draft (an index) came from. */
  readonly templateLine: (index: number) => number | undefined
}

/** A template that could be read. */
export interface LiquidTemplate {
  /** Renders with `nodes` for the first backend and `backends.NAME.nodes` for each. */
  readonly render: (backends: ReadonlyArray<string>) => Result.Result<Draft, Flaw>
}

/** Reads a template, with LF line ends. Flaws that depend on values show only when it is rendered. */
export const compile = (source: string): Result.Result<LiquidTemplate, Flaw> => {
  const marks = freeCharacters(source)
  const engine = makeEngine(marks)
  return Result.try({
    try: () => engine.parse(source),
    catch: (error) => LiquidFlaw.explain(error, source, [])
  }).pipe(Result.map((template) => ({ render: (backends) => render({ engine, marks, source, template }, backends) })))
}

interface Compiled {
  readonly engine: Liquid
  readonly marks: Marks
  readonly source: string
  readonly template: Array<Template>
}

/** Characters that the template has not: `open 3 close` stands for the fourth backend's servers. */
interface Marks {
  readonly open: string
  readonly close: string
  /** Before the number of the template's line that the text behind it came from. */
  readonly line: string
}

const freeCharacters = (source: string): Marks => {
  const used = new Set(source)
  const free: Array<string> = []
  for (let code = 0xe000; free.length < 3; code++) {
    const char = String.fromCodePoint(code)
    if (!used.has(char)) free.push(char)
  }
  const [open = "", close = "", line = ""] = free
  return { open, close, line }
}

const makeEngine = (marks: Marks): Liquid => {
  const engine = new Liquid({
    strictVariables: true,
    strictFilters: true,
    ownPropertyOnly: true,
    // What a template renders does not depend on who starts ep2; and to ask Node for the locale takes 8 MiB.
    locale: "en-US",
    // Nothing is ever looked up on disk: the mark and the line numbers speak of one file.
    templates: {},
    parseLimit: 16 * 1024 * 1024,
    renderLimit: 5_000,
    memoryLimit: 50_000_000
  })
  for (const tag of LiquidFlaw.tagsOfOtherFiles) delete engine.tags[tag]
  for (const [name, filter] of Object.entries(engine.filters)) {
    if (name === "default" || name === "raw") continue
    const handler = typeof filter === "function" ? filter : filter.handler
    if (handler === undefined) continue
    engine.registerFilter(name, function (value, ...args) {
      // A filter would see the stand-in and not the servers: better none than one that does nothing.
      if (typeof value === "string" && value.includes(marks.open)) {
        throw new Error(`the filter "${name}" cannot be applied to the servers: write {{ nodes }} without it`)
      }
      return handler.call(this, value, ...args)
    })
  }
  return engine
}

const render = (compiled: Compiled, backends: ReadonlyArray<string>): Result.Result<Draft, Flaw> => {
  const { engine, marks, source, template } = compiled
  const standIn = (index: number) => `${marks.open}${index}${marks.close}`
  const scope = {
    nodes: standIn(0),
    backends: Object.fromEntries(backends.map((name, index) => [name, { nodes: standIn(index) }]))
  }
  const text = (parsed: Array<Template>) => String(engine.renderSync(parsed, scope))
  return Result.try({
    try: () => text(template),
    catch: (error) => LiquidFlaw.explain(error, source, backends)
  }).pipe(
    Result.map((plain) => {
      let origins: ReadonlyArray<number | undefined> | undefined
      return {
        lines: linesOf(plain).map((line) => draftLine(line, marks, backends)),
        templateLine: (index) => {
          origins ??= trace(compiled, plain, text)
          return origins[index]
        }
      }
    })
  )
}

/** The lines of a text, without an empty one behind the last line feed. */
const linesOf = (text: string): ReadonlyArray<string> => (text.endsWith("\n") ? text.slice(0, -1) : text).split("\n")

const draftLine = (line: string, marks: Marks, backends: ReadonlyArray<string>): DraftLine => {
  const [before = "", index, ...rest] = line.split(new RegExp(`${marks.open}(\\d+)${marks.close}`))
  // An odd entry is the number of one more stand-in on the same line.
  const after = rest.map((part, at) => (at % 2 === 0 ? part : `{{ ${nodesOf(backends[Number(part)]!, backends)} }}`))
  return { before, backend: index === undefined ? undefined : backends[Number(index)], after: after.join("") }
}

/** How a template names the servers of a backend. */
export const nodesOf = (backend: string, backends: ReadonlyArray<string>): string => {
  if (backend === backends[0]) return "nodes"
  return /^[A-Za-z_][\w-]*$/.test(backend) ? `backends.${backend}.nodes` : `backends["${backend}"].nodes`
}

/**
 * Renders once more with line numbers in the text. They are put in behind the
 * tokenizer, which has done the trimming of `{{-` and `-}}` by then. A template
 * that takes its own text apart, or that renders differently each time, cannot
 * be traced.
 */
const trace = (
  { engine, marks, source }: Compiled,
  plain: string,
  render: (template: Array<Template>) => string
): ReadonlyArray<number | undefined> => {
  const marked = Result.getOrUndefined(
    Result.try(() => render(engine.parser.parseTokens(numbered(engine, source, marks))))
  )
  const number = new RegExp(`${marks.line}(\\d+);`)
  if (marked?.replaceAll(new RegExp(number, "g"), "") !== plain) return []
  let last: number | undefined
  return linesOf(marked).map((line) => {
    const [, ...parts] = line.split(number)
    let origin: number | undefined
    for (let at = 0; at < parts.length; at += 2) {
      last = Number(parts[at])
      if (origin === undefined && parts[at + 1]!.trim() !== "") origin = last
    }
    return origin ?? last
  })
}

const numbered = (engine: Liquid, source: string, marks: Marks): Array<TopLevelToken> => {
  const lineStarts = [0, ...[...source.matchAll(/\n/g)].map(({ index }) => index + 1)]
  const lineAt = (offset: number) => {
    const behind = lineStarts.findIndex((start) => start > offset)
    return behind === -1 ? lineStarts.length : behind
  }
  const mark = (line: number) => `${marks.line}${line};`
  const text = (content: string): TopLevelToken => new Tokenizer(content).readHTMLToken([])
  const tokens = new Tokenizer(source).readTopLevelTokens(engine.options)
  return tokens.flatMap((token) => {
    const first = lineAt(token.begin)
    if (token.kind !== TokenKind.HTML) return [text(mark(first)), token]
    const content = "getContent" in token ? token.getContent() : token.getText()
    const trimmed = "trimLeft" in token ? Number(token.trimLeft) : 0
    const start = lineAt(token.begin + trimmed)
    const lines = content.split("\n").map((line, index) => `${mark(start + index)}${line}`)
    return [text(lines.join("\n"))]
  })
}
