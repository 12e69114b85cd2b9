/**
 * The log: one line per event, as text or JSON, into a file or onto standard output.
 *
 * A log that cannot be written never stops the loop: the line is lost, and the
 * next one is tried as if nothing had been.
 */
import { closeSync, openSync, writeSync } from "node:fs"
import { Cause, Effect, Layer, Logger, LogLevel, References, Schema } from "effect"

/** The log file cannot be opened. */
export class LogError extends Schema.TaggedError<LogError>()("LogError", {
  file: Schema.String,
  detail: Schema.String
}) {
  override get message() {
    return `log_file ${this.file}: ${this.detail}: make its folder, or let the user that runs ep2 write there, or set log_file = -`
  }
}

/** Where the log goes, and how much of it: `log_file`, `log_format` and `log_level`. */
export interface LogOptions {
  /** Absolute path, or `-` for standard output. */
  readonly file: string
  readonly format: "text" | "json"
  readonly level: "debug" | "info" | "warning" | "error"
}

const minimum = { debug: "Debug", info: "Info", warning: "Warn", error: "Error" } as const

/** The log of this process. */
export interface Log {
  /** What replaces Effect's loggers. */
  readonly layer: Layer.Layer<never>
  /** Opens the file anew, since it may have been moved away, and writes as these options say from now on; as before where it fails. */
  readonly reopen: (options: LogOptions) => Effect.Effect<void, LogError>
}

/** Opens the log. The file is opened for appending, and closed with the scope. */
export const make = Effect.fnUntraced(function* (options: LogOptions) {
  let sink = yield* open(options.file)
  let now = options
  yield* Effect.addFinalizer(() => Effect.sync(() => close(sink)))
  const logger = Logger.make<unknown, void>((entry) => {
    if (LogLevel.isLessThan(entry.logLevel, minimum[now.level])) return
    const layOut = now.format === "json" ? json : text
    write(sink, `${layOut(read(entry))}\n`)
  })
  const reopen = Effect.fnUntraced(function* (next: LogOptions) {
    const fresh = yield* open(next.file)
    close(sink)
    sink = fresh
    now = next
  })
  const layer = Layer.merge(Logger.layer([logger]), Layer.succeed(References.MinimumLogLevel, "Debug"))
  return { layer, reopen } satisfies Log
})

const open = (file: string): Effect.Effect<number, LogError> =>
  file === "-"
    ? Effect.succeed(standardOutput)
    : Effect.try({
        try: () => openSync(file, "a", 0o640),
        catch: (cause) => new LogError({ file, detail: cause instanceof Error ? cause.message : String(cause) })
      })

const close = (sink: number): void => {
  if (sink !== standardOutput) closeSync(sink)
}

// Not `process.stdout.fd`: reading that makes a pipe non-blocking, and a full one then loses lines.
const standardOutput = 1

const write = (sink: number, line: string): void => {
  const bytes = Buffer.from(line)
  try {
    for (let at = 0, tries = 0; at < bytes.length && tries < 100; tries++) {
      try {
        at += writeSync(sink, bytes, at)
      } catch (cause) {
        if (!(cause instanceof Error && "code" in cause && cause.code === "EAGAIN")) throw cause
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5)
      }
    }
  } catch {
    // A full disk, or a reader of our output that went away.
  }
}

interface Line {
  readonly time: string
  readonly level: string
  readonly message: string
  readonly annotations: ReadonlyArray<readonly [string, string]>
}

const levels: Readonly<Record<string, string>> = {
  Trace: "debug",
  Debug: "debug",
  Info: "info",
  Warn: "warning",
  Error: "error",
  Fatal: "fatal"
}

const read = ({ cause, date, fiber, logLevel, message }: Logger.Options<unknown>): Line => {
  const parts = (Array.isArray(message) ? message : [message]).map(plain)
  if (cause.reasons.length > 0) parts.push(Cause.pretty(cause))
  return {
    time: date.toISOString(),
    level: levels[logLevel] ?? "info",
    message: parts.join(" "),
    annotations: Object.entries(fiber.getRef(References.CurrentLogAnnotations)).map(([key, value]) => [
      key,
      plain(value)
    ])
  }
}

const plain = (value: unknown): string =>
  typeof value === "string" ? value : value instanceof Error ? value.message : (JSON.stringify(value) ?? String(value))

// Control characters are escaped, so that what a source sends cannot forge a line. JSON itself escapes only some of them.
const escaped = (value: string): string =>
  value.replace(
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
    /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g,
    (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`
  )

const text = ({ annotations, level, message, time }: Line): string => {
  const tags = annotations.map(([key, value]) => `${key}=${/[\s"=]/.test(value) ? JSON.stringify(value) : value}`)
  return escaped([time, level.padEnd(7), ...tags, message].join(" ").replaceAll("\n", " | "))
}

const json = ({ annotations, level, message, time }: Line): string =>
  escaped(JSON.stringify({ time, level, message, ...Object.fromEntries(annotations) }))
