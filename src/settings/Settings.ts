/**
 * `ep2.conf` as the rest of ep2 wants it: checked, typed and grouped by who uses it.
 * Sections and keys, their units and defaults stand in `HaproxyKeys` and `SourceKeys`.
 */
import {
  Array as Arr,
  type Duration,
  Effect,
  Equal,
  FileSystem,
  type PlatformError,
  Redacted,
  Result,
  Schema,
  Struct
} from "effect"
import * as BackendSection from "./BackendSection.ts"
import * as ConfFile from "./ConfFile.ts"
import * as Decoding from "./Decoding.ts"
import { Haproxy } from "./HaproxyKeys.ts"
import * as Names from "./Names.ts"
import * as Rules from "./Rules.ts"
import { describePlace, type Place, type Problem, SettingsError } from "./SettingsError.ts"
import * as Source from "./Source.ts"

/** All of a good file. Defaults are filled in, and every rule between keys holds. */
export interface Settings {
  /** Path of the file, as it was given. */
  readonly file: string
  readonly haproxy: HaproxySettings
  /** `backend_name` first, then those of the `[backend NAME]` sections in the order of the file. */
  readonly backends: readonly [BackendSettings, ...ReadonlyArray<BackendSettings>]
  readonly lock: {
    /** An absolute path, as all paths here. */
    readonly dir: string
    readonly retryInterval: Duration.Duration
  }
  readonly log: {
    /** `-`: standard output. */
    readonly file: string
    readonly format: "text" | "json"
    readonly level: "debug" | "info" | "warning" | "error"
  }
}

/** HAProxy itself: one per ep2. */
export interface HaproxySettings {
  readonly configFile: string
  readonly templateFile: string
  readonly binary: string
  readonly startBy: "systemd" | "binary" | "master"
  /** One per process, all different. */
  readonly sockets: readonly [string, ...ReadonlyArray<string>]
  /** Always there with `startBy` master. */
  readonly masterSocket: string | undefined
  readonly pidFile: string
  /** The systemd unit. */
  readonly serviceName: string
  /** Least time between two reloads. */
  readonly reloadInterval: Duration.Duration
  readonly updateType: "update_by_runtime" | "update_by_config"
}

/** One backend, and where its servers come from. */
export interface BackendSettings {
  /** A name that HAProxy takes. */
  readonly name: string
  /** The port of every endpoint, or `service`: the one that the source reports. A number with `Aws`. */
  readonly port: number | "service"
  readonly maxconn: number | undefined
  /** As HAProxy writes times: `2000`, `500ms`, `2s`. */
  readonly checkInterval: string | undefined
  /** Words for the end of a server line: nothing that ends a line, a word or a command. */
  readonly serverOptions: string | undefined
  readonly nodeSlots: number
  readonly newServers: "trusted" | "checked"
  readonly drainTimeout: Duration.Duration
  readonly drainTimeoutAction: "wait" | "shutdown"
  /** The longest time between two passes. */
  readonly interval: Duration.Duration
  readonly guard: GuardSettings
  readonly source: Source.SourceSettings
}

/** What a source may not take away at once. */
export interface GuardSettings {
  readonly allowEmpty: boolean
  readonly minServers: number
  /** 0–100. */
  readonly maxRemovalPercent: number
  /** 1 or more. */
  readonly confirmations: number
  readonly window: Duration.Duration
}

/** What a good file says, and what in it is suspicious: a line each, as in an error. */
export interface Loaded {
  readonly settings: Settings
  readonly warnings: ReadonlyArray<string>
}

/**
 * Reads a file and decodes it.
 *
 * Fails with one problem where there is no text to decode: no such file, no
 * permission, a folder or a device, more than 1 MiB, not UTF-8; else as `decode`.
 */
export const load = Effect.fn("Settings.load")(function* (path: string) {
  return yield* Effect.fromResult(decode(path, yield* readText(path)))
})

/** All that can be said of a file at once, whether it is good or not. */
export interface Survey {
  /** `undefined` where the file is good. */
  readonly error: SettingsError | undefined
  readonly warnings: Loaded["warnings"]
  /** Everything but the backends; `undefined` where one of its keys is bad, or cannot be told from others. */
  readonly shared: Omit<Settings, "backends"> | undefined
  /** The backends of which nothing is bad. */
  readonly backends: ReadonlyArray<BackendSettings>
}

/** Reads a file and says as much as it gives. Fails only where there is no text to decode, as `load` does. */
export const survey = Effect.fn("Settings.survey")(function* (path: string) {
  return examine(path, yield* readText(path))
})

/** What tells one ep2 from another: where its lock is, and the names of its backends. */
export interface Identity {
  readonly lock: { readonly dir: string; readonly configFile: string }
  readonly backends: ReadonlyArray<string>
}

/** Reads that much of a file, whatever else is wrong with it. Fails as `load` does, and where one of these keys is bad. */
export const loadIdentity = Effect.fn("Settings.loadIdentity")(function* (path: string) {
  const { conf } = ConfFile.parse(yield* readText(path))
  const keys = Schema.Struct(Struct.pick(Haproxy.fields, ["haproxy_config_file", "lock_dir", "backend_name"]))
  const { sections } = Names.check(conf)
  const { problems, whole } = Decoding.decode(keys, Decoding.textsOf(conf, "haproxy", keys, sections.get("haproxy")))
  if (Arr.isReadonlyArrayNonEmpty(problems)) return yield* new SettingsError({ file: path, problems })
  if (whole === undefined) throw new Error(`${path} is refused and nothing is wrong with it`)
  const others = BackendSection.find(conf, whole.backend_name).sections.map(({ name }) => name)
  return {
    lock: { dir: whole.lock_dir, configFile: whole.haproxy_config_file },
    backends: [whole.backend_name, ...others]
  } satisfies Identity
})

const readText = Effect.fnUntraced(function* (path: string) {
  const refuse = (why: Omit<Problem, "key" | "value" | "section">) => new SettingsError({ file: path, problems: [why] })
  const unreadable = (error: PlatformError.PlatformError) => refuse({ found: wordsOf(error), expected })
  const files = yield* FileSystem.FileSystem
  const { size, type } = yield* files.stat(path).pipe(Effect.mapError(unreadable))
  if (type === "Directory") return yield* refuse({ found: "this is a folder", expected })
  if (type !== "File" && type !== "FIFO") return yield* refuse({ found: `this is a ${type}`, expected })
  if (Number(size) > longest) return yield* refuse({ found: `${size} bytes`, expected: "an ep2.conf of at most 1 MiB" })
  const bytes = yield* files.readFile(path).pipe(Effect.mapError(unreadable))
  const text = textOf(bytes)
  if (Result.isFailure(text))
    return yield* refuse({ line: text.failure, found: "a byte that is not UTF-8", expected: "UTF-8 text" })
  return text.success
})

/**
 * Decodes the text of a file; `file` is only named in messages. Fails with all
 * the problems at once, in the order of their lines.
 */
export const decode = (file: string, text: string): Result.Result<Loaded, SettingsError> => {
  const { backends, error, shared, warnings } = examine(file, text)
  if (error !== undefined) return Result.fail(error)
  const [first, ...more] = backends
  if (shared === undefined || first === undefined) throw new Error(`${file} is refused and nothing is wrong with it`)
  return Result.succeed({ settings: { ...shared, backends: [first, ...more] }, warnings })
}

const examine = (file: string, text: string): Survey => {
  const { conf, problems: syntax } = ConfFile.parse(text)
  const names = Names.check(conf)
  const textsOf = (name: Names.SectionName) =>
    Decoding.textsOf(conf, name, Names.sections[name], names.sections.get(name))
  const texts = { haproxy: textsOf("haproxy"), AWS: textsOf("AWS"), CONSUL: textsOf("CONSUL"), FILE: textsOf("FILE") }

  const haproxy = Decoding.decode(Haproxy, texts.haproxy)
  const others = BackendSection.find(conf, haproxy.values.backend_name)
  const decoded = [
    decodeBackend(haproxy.values.backend_name ?? "", texts),
    ...others.sections.map((one) => decodeBackend(one.name, BackendSection.textsOf(conf, one, texts)))
  ]

  const refused = [
    ...[...syntax, ...names.problems, ...others.problems, ...haproxy.problems],
    ...decoded.flatMap((one) => one.problems)
  ]
  // What a broken line should have said is unknown, so nothing is called missing because of it.
  const problems = unique(
    syntax.length === 0
      ? [...refused, ...Rules.haproxy(haproxy), ...decoded.flatMap(({ rules }) => rules)]
      : refused.filter(({ found }) => found !== Decoding.missing)
  )
  const backends = decoded.flatMap(({ settings }) => settings ?? [])
  const secrets = decoded.flatMap((one) => one.secrets.map(Redacted.value))
  const shown = byLine(problems).map((problem) => withoutSecrets(problem, secrets))
  const doubles = others.sections.flatMap(({ name, section: { line, name: header } }) =>
    sameAs(backends, name, { line, section: header })
  )
  const warnings = unique(byLine([...names.warnings, ...decoded.flatMap((one) => one.warnings), ...doubles]))
  // What stands on a line that cannot be read, or under a name that is none, is not what an absent key means.
  const isLegible = syntax.length === 0 && names.problems.length === 0
  return {
    error: Arr.isArrayNonEmpty(shown) ? new SettingsError({ file, problems: shown }) : undefined,
    warnings: warnings.map((warning) => `${describePlace(file, warning)}: ${warning.text}`),
    shared: isLegible ? sharedOf(file, haproxy.values) : undefined,
    backends: isLegible ? backends : []
  }
}

type Texts = Parameters<typeof Source.decode>[1]

const decodeBackend = (name: string, texts: Texts) => {
  const keys = Decoding.decode(BackendSection.Backend, texts.haproxy)
  const source = Source.decode(keys, texts)
  return {
    settings: keys.whole && source.settings && backendOf(name, keys.whole, source.settings),
    problems: [...keys.problems, ...source.problems],
    rules: [...Rules.backend(keys), ...source.rules],
    warnings: source.warnings,
    secrets: Object.values(texts).flatMap((section) => section.secrets)
  }
}

const backendOf = (
  name: string,
  keys: (typeof BackendSection.Backend)["Type"],
  source: Source.SourceSettings
): BackendSettings => ({
  name,
  port: keys.backend_port,
  maxconn: keys.backend_maxconn,
  checkInterval: keys.check_interval,
  serverOptions: keys.server_options,
  nodeSlots: keys.node_slots,
  newServers: keys.new_servers ?? (source._tag === "Consul" && source.onlyPassing ? "trusted" : "checked"),
  drainTimeout: keys.drain_timeout,
  drainTimeoutAction: keys.drain_timeout_action,
  interval: keys.sleep_before_next_run,
  guard: {
    allowEmpty: keys.allow_empty,
    minServers: keys.min_servers,
    maxRemovalPercent: keys.max_removal_percent,
    confirmations: keys.guard_confirmations,
    window: keys.guard_window
  },
  source
})

/** What `group` makes something of. */
const sharedKeys = [
  ...["haproxy_config_file", "template_file", "haproxy_binary", "start_by", "haproxy_socket_file", "pid_file"],
  ...["service_name", "reload_interval", "update_type", "lock_dir", "sleep_before_next_lock_attempt"],
  ...["log_file", "log_format", "log_level"]
] as ReadonlyArray<keyof (typeof Haproxy)["Type"]>

/** What does not belong to a backend, where none of it was refused. */
const sharedOf = (file: string, values: Partial<(typeof Haproxy)["Type"]>): Survey["shared"] =>
  sharedKeys.every((key) => values[key] !== undefined) ? group(file, values as (typeof Haproxy)["Type"]) : undefined

const group = (file: string, keys: (typeof Haproxy)["Type"]): Omit<Settings, "backends"> => ({
  file,
  haproxy: {
    configFile: keys.haproxy_config_file,
    templateFile: keys.template_file,
    binary: keys.haproxy_binary,
    startBy: keys.start_by,
    sockets: keys.haproxy_socket_file,
    masterSocket: keys.haproxy_master_socket,
    pidFile: keys.pid_file,
    serviceName: keys.service_name,
    reloadInterval: keys.reload_interval,
    updateType: keys.update_type
  },
  lock: { dir: keys.lock_dir, retryInterval: keys.sleep_before_next_lock_attempt },
  log: { file: keys.log_file, format: keys.log_format, level: keys.log_level }
})

/** A forgotten key: a further backend that would serve just what another one does. */
const sameAs = (
  settings: ReadonlyArray<BackendSettings>,
  name: string,
  place: Place
): ReadonlyArray<Place & { readonly text: string }> => {
  const mine = settings.find((one) => one.name === name)
  const twin = settings.find(
    (one) => one.name !== name && one.port === mine?.port && Equal.equals(one.source, mine.source)
  )
  const text = `it has the source and the port of ${twin?.name}, and so serves the same servers: does it lack a key of its own?`
  return mine === undefined || twin === undefined ? [] : [{ ...place, text }]
}

/** What is inherited is found wrong by every backend that inherits it, and said once. */
const unique = <A>(places: ReadonlyArray<A>): ReadonlyArray<A> => [
  ...new Map(places.map((one) => [JSON.stringify(one), one])).values()
]

const byLine = <A extends { readonly line?: number }>(places: ReadonlyArray<A>): ReadonlyArray<A> =>
  places.toSorted((a, b) => (a.line ?? Number.MAX_SAFE_INTEGER) - (b.line ?? Number.MAX_SAFE_INTEGER))

/**
 * A secret can stand in another key too, by `%(token)s` or by mistake, and a password in a URL. A line that is indented
 * by mistake belongs to the value before it, whatever its own key would have been.
 */
const withoutSecrets = (problem: Problem, secrets: ReadonlyArray<string>): Problem => {
  const { hint, value, ...rest } = problem
  if (secrets.some((secret) => value?.includes(secret) || hint?.includes(secret))) return { ...rest, value: "…" }
  if (value === undefined) return problem
  return { ...problem, value: value.replace(/\/\/[^/\s]*@/g, "//…@").replace(/(\n[^=:\n]*[=:])[^\n]*/g, "$1…") }
}

const expected = "the path of an ep2.conf"
const longest = 1024 * 1024

const wordsOf = ({ reason }: PlatformError.PlatformError): string => {
  if (reason._tag === "NotFound") return "there is no such file"
  if (reason._tag === "PermissionDenied") return "no permission to read it"
  return reason.cause instanceof Error ? reason.cause.message : reason.message
}

/** Fails with the line of the first byte that is not UTF-8. */
const textOf = (bytes: Uint8Array): Result.Result<string, number> => {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true })
  const read = (part: Uint8Array) => Result.try(() => decoder.decode(part))
  return Result.mapError(read(bytes), () => {
    let line = 1
    for (let from = 0; from < bytes.length; line++) {
      const end = bytes.indexOf(0x0a, from)
      const to = end === -1 ? bytes.length : end
      if (Result.isFailure(read(bytes.subarray(from, to)))) break
      from = to + 1
    }
    return line
  })
}
