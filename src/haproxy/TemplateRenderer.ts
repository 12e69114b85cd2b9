/**
 * Turns the template and the servers of each backend into the text of HAProxy's
 * config file.
 *
 * The template is one Liquid file. It has two names: `nodes`, the server lines
 * of the first backend, and `backends.NAME.nodes`, those of each. They stand for
 * whole lines: a template cannot look into them or filter them. `include`,
 * `render` and `layout` are refused, because the mark and the line numbers of
 * errors speak of one file.
 */
import { createHash } from "node:crypto"
import { Context, Effect, FileSystem, Layer, Ref, Result, Schema } from "effect"
import type { PlatformError } from "effect/PlatformError"
import * as AddObstacle from "./AddObstacle.ts"
import * as ConfigText from "./ConfigText.ts"
import type { Flaw } from "./LiquidFlaw.ts"
import * as LiquidTemplate from "./LiquidTemplate.ts"
import * as Seal from "./Seal.ts"
import * as ServerRegion from "./ServerRegion.ts"
import * as TemplateCheck from "./TemplateCheck.ts"

/** The template cannot be rendered. The config file that is there stays. */
export class RenderError extends Schema.TaggedError<RenderError>()("RenderError", {
  /** Path of the template. */
  template: Schema.String,
  /** Line in the template, from 1, where one is known. */
  line: Schema.optionalKey(Schema.Int),
  /** What was found, what was expected and what to write instead. */
  detail: Schema.String
}) {
  override get message() {
    return `${this.template}${this.line === undefined ? "" : `:${this.line}`}: ${this.detail}`
  }
}

/** A config file that can be written, and how to find the way back from its lines to the template. */
export interface Rendered {
  /** Path of the template. */
  readonly template: string
  /** The whole config file, ending in a line feed, with LF line ends throughout. */
  readonly text: string
  /** Hash over template and settings, but not over the servers: what `setenv EP2_CONFIG` in the text says. */
  readonly mark: string
  /**
   * The template's line that a line of the text came from; both from 1. Each
   * server line came from its `{{ nodes }}`. `undefined` for what ep2 appends, and
   * for every line of a template that renders differently each time.
   */
  readonly templateLine: (line: number) => number | undefined
}

/** A backend as the settings have it. */
export interface BackendOptions extends ServerRegion.LineOptions {
  readonly name: string
}

/** Renders one template for the backends that it was made for. */
export class TemplateRenderer extends Context.Service<
  TemplateRenderer,
  {
    /** Reads the template and renders it. Every backend of the settings must be given. */
    readonly render: (backends: ReadonlyArray<ServerRegion.BackendServers>) => Effect.Effect<Rendered, RenderError>
    /**
     * Why servers cannot be added to a backend while HAProxy runs, as far as the
     * last `render` tells (`AddObstacle`); `undefined` where it tells nothing.
     */
    readonly addObstacle: (backend: string) => Effect.Effect<string | undefined>
  }
>()("ep2/haproxy/TemplateRenderer") {
  /** Nothing is read before the first `render`. */
  static readonly layer = (options: {
    /** `template_file`. Read at each render, unless `source` is given. */
    readonly templateFile: string
    /** Its text, as `read` gives it: an edit of the file then counts from the next layer on. */
    readonly source?: string
    /** In the order of `ep2.conf`: `{{ nodes }}` is the first one's. */
    readonly backends: ReadonlyArray<BackendOptions>
    /** `haproxy_socket_file`: what the template must let HAProxy open. None: not looked at. */
    readonly sockets?: ReadonlyArray<string>
  }) => Layer.effect(TemplateRenderer, make(options))
}

/** Counts up when ep2 writes the same template and settings in another way. */
const formatVersion = 1

const maxBytes = 16 * 1024 * 1024

/**
 * Reads a template: UTF-8, at most 16 MiB, not empty; its line ends become LF.
 */
export const read = Effect.fn("TemplateRenderer.read")(function* (template: string) {
  const fs = yield* FileSystem.FileSystem
  const fail = (flaw: Flaw) => new RenderError({ template, ...flaw })
  const unreadable = (error: PlatformError) => fail({ detail: systemWords(error) })
  const { size, type } = yield* fs.stat(template).pipe(Effect.mapError(unreadable))
  if (type === "Directory") return yield* fail({ detail: "is a folder, expected a file: correct template_file" })
  if (type !== "File") return yield* fail({ detail: "is not a regular file: correct template_file" })
  if (size > maxBytes) return yield* fail({ detail: "is larger than 16 MiB, expected a template for HAProxy" })
  const bytes = yield* fs.readFile(template).pipe(Effect.mapError(unreadable))
  return yield* Effect.fromResult(Result.mapError(decode(bytes), fail))
})

/**
 * All that is wrong with a template, given its text as `read` gives it: `render`
 * fails with the first of them. HAProxy itself may refuse it all the same.
 */
export const errorsIn = ({ backends, source, sockets = [], templateFile: template }: Options & { source: string }) => {
  const draft = Result.flatMap(LiquidTemplate.compile(source), (compiled) =>
    compiled.render(backends.map(({ name }) => name))
  )
  const flaws = Result.match(draft, {
    onFailure: (flaw): ReadonlyArray<Flaw> => [flaw],
    onSuccess: (one) => flawsIn(one, backends, sockets)
  })
  return flaws.map((flaw) => new RenderError({ template, ...flaw }))
}

const flawsIn = (
  draft: LiquidTemplate.Draft,
  backends: ReadonlyArray<BackendOptions>,
  sockets: ReadonlyArray<string>
): ReadonlyArray<Flaw> => [
  ...TemplateCheck.flaws(
    draft,
    backends.map(({ name }) => name),
    sockets
  ),
  ...backends.map(unusableOptions).filter((flaw) => flaw !== undefined)
]

interface Options {
  readonly templateFile: string
  readonly source?: string
  readonly backends: ReadonlyArray<BackendOptions>
  readonly sockets?: ReadonlyArray<string>
}

const make = Effect.fnUntraced(function* (options: Options) {
  const { backends, sockets = [], templateFile: template } = options
  const names = backends.map(({ name }) => name)
  const fs = yield* FileSystem.FileSystem
  const compiled = yield* Ref.make<
    { readonly source: string; readonly template: LiquidTemplate.LiquidTemplate } | undefined
  >(undefined)

  const obstacles = yield* Ref.make<ReadonlyMap<string, string | undefined>>(new Map())

  const fail = (flaw: Flaw) => new RenderError({ template, ...flaw })

  const compile = Effect.fnUntraced(function* (source: string) {
    const last = yield* Ref.get(compiled)
    if (last?.source === source) return last.template
    const next = yield* Effect.fromResult(Result.mapError(LiquidTemplate.compile(source), fail))
    yield* Ref.set(compiled, { source, template: next })
    return next
  })

  const render = Effect.fn("TemplateRenderer.render")(function* (servers: ReadonlyArray<ServerRegion.BackendServers>) {
    const source = options.source ?? (yield* read(template).pipe(Effect.provideService(FileSystem.FileSystem, fs)))
    const draft = yield* Effect.fromResult(Result.mapError((yield* compile(source)).render(names), fail))
    const [flaw] = flawsIn(draft, backends, sockets)
    if (flaw !== undefined) return yield* fail(flaw)
    const mark = markOf(source, backends)
    const regions = new Map<string, ReadonlyArray<string>>()
    for (const backend of backends) {
      const given = servers.find((one) => one.backend === backend.name)
      if (given === undefined) return yield* Effect.die(new Error(`the servers of "${backend.name}" were not given`))
      regions.set(backend.name, ServerRegion.write(given, backend))
    }
    const rendered = { ...assemble(draft, regions, mark), template }
    const obstacleOf = (backend: BackendOptions) =>
      AddObstacle.find(rendered.text, backend.name, ServerRegion.optionsText(backend))
    yield* Ref.set(obstacles, new Map(backends.map((backend) => [backend.name, obstacleOf(backend)])))
    return rendered
  })

  const addObstacle = (backend: string) => Effect.map(Ref.get(obstacles), (found) => found.get(backend))

  return TemplateRenderer.of({ render, addObstacle })
})

const decode = (bytes: Uint8Array): Result.Result<string, Flaw> => {
  const lenient = new TextDecoder().decode(bytes)
  return Result.try({
    try: () => new TextDecoder("utf-8", { fatal: true }).decode(bytes),
    catch: () => ({
      line: lenient.slice(0, lenient.indexOf("\uFFFD")).split("\n").length,
      detail: "is not UTF-8: save the template as UTF-8"
    })
  }).pipe(
    // HAProxy takes CRLF as well, but line feeds alone let everything that reads the file agree on its lines.
    Result.map((text) => text.replaceAll("\r\n", "\n")),
    Result.filterOrFail(
      (text) => text.trim() !== "",
      () => ({ detail: "is empty, expected a config for HAProxy with {{ nodes }} where the servers go" })
    )
  )
}

// `disabled` stands behind the options, and a free slot without it would take traffic.
const unusableOptions = ({ name, serverOptions }: BackendOptions): Flaw | undefined =>
  serverOptions === undefined || ConfigText.split(serverOptions.replaceAll(/[\r\n]+/g, " ")).isWhole
    ? undefined
    : {
        detail: `server_options of "${name}" has a comment or an open quote (${serverOptions.trim()}): correct ep2.conf`
      }

const markOf = (source: string, backends: ReadonlyArray<BackendOptions>): string => {
  const options = backends.map(({ checkInterval = null, maxconn = null, name, serverOptions = null }) => [
    ...[name, maxconn, checkInterval, serverOptions]
  ])
  return createHash("sha256")
    .update(JSON.stringify([formatVersion, source, options]))
    .digest("hex")
    .slice(0, 16)
}

/** Puts the servers into the draft, as deep as it has them, and the mark and the seal behind it. */
const assemble = (
  draft: LiquidTemplate.Draft,
  regions: ReadonlyMap<string, ReadonlyArray<string>>,
  mark: string
): Omit<Rendered, "template"> => {
  const lines: Array<string> = []
  const origins: Array<number> = []
  draft.lines.forEach(({ after, backend, before }, index) => {
    const region = backend === undefined ? undefined : regions.get(backend)
    const comment = after.trim() === "" ? [] : [after.trim()]
    const more = region === undefined ? [before] : [...region, ...comment].map((line) => `${before}${line}`)
    lines.push(...more)
    origins.push(...more.map(() => index))
  })
  const markLines = [
    "",
    "# ep2: by this mark ep2 knows which config HAProxy runs",
    "global",
    `    setenv EP2_CONFIG ${mark}`
  ]
  return {
    text: Seal.seal(`${[...lines, ...markLines].join("\n")}\n`),
    mark,
    templateLine: (line) => {
      const index = origins[line - 1]
      return index === undefined ? undefined : draft.templateLine(index)
    }
  }
}

/** Why a file cannot be read, and what to do. */
const systemWords = (error: PlatformError): string => {
  switch (error.reason._tag) {
    case "NotFound":
      return "there is no such file: write the template there, or correct template_file"
    case "PermissionDenied":
      return "cannot be read: give the user of ep2 read permission on it and its folders"
    default:
      return `cannot be read: ${error.message.replaceAll(/\s+/g, " ")}`
  }
}
