/**
 * How the text of a key becomes a value. Each of these is a Schema from text
 * that says in one phrase what it takes; where that is not enough, a refusal
 * adds what to write instead.
 */
import * as nodePath from "node:path"
import { Duration, Effect, Redacted, Result, Schema, SchemaGetter, SchemaIssue } from "effect"

/** A Schema from the text of a key. Decodes only. `expected` is the phrase that follows "expected" in a message. */
export type Value<A> = Schema.Codec<A, string>

/** The phrase that follows "expected" when a value is refused or missing. */
export const expectedOf = (value: Schema.Constraint): string => {
  const expected = Schema.resolveAnnotations(value)?.expected
  return typeof expected === "string" ? expected : "a value"
}

/** What an issue of one of these Schemas says beyond `expectedOf`, if anything. */
export const hintOf = (issue: SchemaIssue.Issue): string | undefined => {
  const hint = issue._tag === "InvalidValue" ? issue.annotations?.hint : undefined
  return typeof hint === "string" ? hint : undefined
}

/** A refusal, with what to write instead where that is clear. */
const refuse = (hint?: string) => Result.fail(hint)

const fromText = <A>(
  to: Schema.Codec<A>,
  expected: string,
  read: (text: string) => Result.Result<A, string | undefined>
): Value<A> =>
  Schema.String.pipe(
    Schema.decodeTo(to, {
      decode: SchemaGetter.transformEffect((text: string) =>
        Effect.fromResult(
          Result.mapError(read(text), (hint) => new SchemaIssue.InvalidValue({ expected, hint: hint ?? undefined }))
        )
      ),
      encode: SchemaGetter.forbidden(() => "ep2 does not write its settings")
    })
  ).annotate({ expected })

const matching = (expected: string, pattern: RegExp, hint?: (text: string) => string | undefined): Value<string> =>
  fromText(Schema.String, expected, (text) => (pattern.test(text) ? Result.succeed(text) : refuse(hint?.(text))))

/** A whole number in decimal digits. */
export const whole = (minimum: number, maximum: number): Value<number> =>
  fromText(
    Schema.Int,
    `a whole number from ${minimum} to ${maximum}`,
    (text) => readWhole(text, minimum, maximum) ?? refuse()
  )

const readWhole = (text: string, minimum: number, maximum: number) =>
  /^\d{1,15}$/.test(text) && Number(text) >= minimum && Number(text) <= maximum
    ? Result.succeed(Number(text))
    : undefined

/** A port of an endpoint, or that the source's own is to be used. */
export const portOrService: Value<number | "service"> = fromText(
  Schema.Union([Schema.Int, Schema.Literal("service")]),
  'a port from 1 to 65535, or "service" for the port that the source reports',
  (text) =>
    text.toLowerCase() === "service" ? Result.succeed("service" as const) : (readWhole(text, 1, 65535) ?? refuse())
)

/** Seconds, fractions allowed; from a millisecond to a day. */
export const seconds: Value<Duration.Duration> = fromText(
  Schema.Duration,
  "seconds from 0.001 to 86400, such as 5 or 0.5",
  (text) => {
    const [, number, unit] = /^(\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})\s*([a-z]*)$/i.exec(text) ?? []
    if (number === undefined) return refuse()
    if (unit !== "") return refuse("write the number of seconds without a unit")
    const read = Number(number)
    return read >= 0.001 && read <= 86_400 ? Result.succeed(Duration.millis(Math.round(read * 1000))) : refuse()
  }
)

/** Yes or no, in the words of Python's `getboolean`. */
export const boolean: Value<boolean> = fromText(
  Schema.Boolean,
  "True or False (or yes and no, on and off, 1 and 0)",
  (text) => {
    const word = text.toLowerCase()
    if (["1", "yes", "true", "on"].includes(word)) return Result.succeed(true)
    return ["0", "no", "false", "off"].includes(word) ? Result.succeed(false) : refuse()
  }
)

/** One of a few words, without regard to case. */
export const oneOf = <const Words extends ReadonlyArray<string>>(words: Words): Value<Words[number]> =>
  fromText(Schema.Literals(words), `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`, (text) => {
    const word: Words[number] | undefined = words.find((one) => one === text.toLowerCase())
    return word === undefined ? refuse() : Result.succeed(word)
  })

/** Text on one line. `what` names it: `the name of a service`. */
export const line = (what: string): Value<string> =>
  fromText(Schema.String, `${what}, on one line`, (text) => (hasControls(text) ? refuse() : Result.succeed(text)))

/** Items between commas; blanks around them do not count, and empty items are none. May be empty. */
export const list = (what: string): Value<ReadonlyArray<string>> =>
  fromText(Schema.Array(Schema.String), `${what}, separated by commas`, (text) => {
    const items = itemsOf(text)
    return items.some(hasControls) ? refuse("put a comma between two items") : Result.succeed(items)
  })

/** As `list`, with at least one item. */
export const nonEmptyList = (what: string): Value<readonly [string, ...ReadonlyArray<string>]> =>
  fromText(Schema.NonEmptyArray(Schema.String), `${what}, separated by commas`, (text) => {
    const [first, ...rest] = itemsOf(text)
    if (first === undefined) return refuse()
    return [first, ...rest].some(hasControls)
      ? refuse("put a comma between two items")
      : Result.succeed([first, ...rest])
  })

const itemsOf = (text: string): ReadonlyArray<string> =>
  text
    .split(",")
    .map((item) => item.trim())
    .filter((item) => item !== "")

// A line separator counts too: a log or a terminal may break the line there.
const hasControls = (text: string): boolean => /[\p{Cc}\u2028\u2029]/u.test(text)

/** An absolute path. `what` names what is there: `a file`. */
export const path = (what: string): Value<string> =>
  fromText(Schema.String, `the absolute path of ${what}`, (text) => {
    const why = notAbsolute(text)
    return why === undefined ? Result.succeed(text) : refuse(why)
  })

/** An absolute path, or `-` for standard output. */
export const pathOrDash: Value<string> = fromText(
  Schema.String,
  "the absolute path of a file, or - for standard output",
  (text) => {
    const why = text === "-" ? undefined : notAbsolute(text)
    return why === undefined ? Result.succeed(text) : refuse(why)
  }
)

const notAbsolute = (text: string): string | undefined => {
  if (hasControls(text)) return "a path is one line, without control characters"
  if (text.startsWith("~")) return "ep2 does not resolve ~, write the folder in full"
  return text.startsWith("/")
    ? undefined
    : "a path has to begin with /, since the working folder differs from start to start"
}

/** The path of a UNIX socket, short enough for the system to connect to. */
export const socket: Value<string> = fromText(Schema.String, `the absolute path of a UNIX socket`, (text) => {
  const why = notSocket(text)
  return why === undefined ? Result.succeed(text) : refuse(why)
})

/** Paths of UNIX sockets between commas, all different. */
export const sockets: Value<readonly [string, ...ReadonlyArray<string>]> = fromText(
  Schema.NonEmptyArray(Schema.String),
  "absolute paths of UNIX sockets, separated by commas",
  (text) => {
    const [first, ...rest] = itemsOf(text)
    if (first === undefined) return refuse()
    for (const [index, item] of [first, ...rest].entries()) {
      const why = notSocket(item)
      if (why !== undefined) return refuse(why)
      const isTwice = [first, ...rest]
        .slice(0, index)
        .some((other) => nodePath.normalize(other) === nodePath.normalize(item))
      if (isTwice) return refuse(`${item} is named twice, and each process has a socket of its own`)
    }
    return Result.succeed([first, ...rest])
  }
)

/** Source: unix(7); `sun_path` holds 108 bytes, the closing zero included. */
const longestSocketPath = 107

const notSocket = (text: string): string | undefined => {
  const why = notAbsolute(text)
  if (why !== undefined) return text.includes("\n") ? "put a comma between two paths" : why
  const bytes = Buffer.byteLength(text)
  return bytes <= longestSocketPath
    ? undefined
    : `it has ${bytes} bytes, and the system takes at most ${longestSocketPath}`
}

/** What HAProxy takes as the name of a proxy or a server. Source: HAProxy's "invalid character in name" check, 2.2 to 3.2. */
export const proxyName: Value<string> = matching(
  "the name of a backend or listen of the template: letters, digits and . _ : -",
  /^[A-Za-z0-9_.:-]{1,255}$/
)

/**
 * A span of time as HAProxy writes it; milliseconds without a unit. HAProxy
 * refuses 0 and more than 2147483647 ms, and 2.2 does not know `us` (tried on 2.2 to 3.2).
 */
export const haproxyTime: Value<string> = fromText(
  Schema.String,
  "a time as HAProxy writes it, such as 2000 (milliseconds), 500ms or 2s, up to 24d",
  (text) => {
    const [, number, unit] = /^(\d{1,15})(ms|s|m|h|d)?$/.exec(text) ?? []
    if (number === undefined) return refuse()
    const millis = Number(number) * ({ s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }[unit ?? ""] ?? 1)
    return millis >= 1 && millis <= 2_147_483_647 ? Result.succeed(text) : refuse()
  }
)

/** Words that go to the end of every server line, and into `add server` commands. */
export const serverOptions: Value<string> = fromText(
  Schema.String,
  "options of an HAProxy server line, on one line and without quotes, backslashes, # or semicolons",
  (text) => {
    if (hasControls(text)) return refuse()
    const special = /["'\\#;]/.exec(text)?.[0]
    if (special !== undefined) return refuse(`${special} ends or joins words in HAProxy's config or in its commands`)
    for (const word of text.split(/\s+/)) {
      const why = ownWords.get(word.toLowerCase())
      if (why !== undefined) return refuse(`leave out ${word}: ${why}`)
    }
    return Result.succeed(text)
  }
)

const ownWords: ReadonlyMap<string, string> = new Map([
  ["disabled", "ep2 itself decides which servers are in maintenance"],
  ["enabled", "ep2 itself decides which servers are in maintenance"],
  ["weight", "ep2 marks the servers that it moves by weight 0, and the others have equal weights"]
])

/** The name of a systemd unit, with or without `.service`. */
export const unit: Value<string> = matching(
  "the name of a systemd unit",
  /^[A-Za-z0-9:_.@\\][A-Za-z0-9:_.@\\-]{0,254}$/
)

/** An IPv4 or IPv6 address, with or without brackets (without, once read), or a host name. */
export const host: Value<string> = fromText(Schema.String, "an IP address or a host name", (text) => {
  if (text.includes("/")) return refuse("leave out the scheme and the path; http or https goes into scheme")
  const bare = /^\[(.*)\]$/.exec(text)?.[1] ?? text
  if (bare.includes(":")) {
    if (URL.canParse(`http://[${bare}]/`) && /^[0-9A-Fa-f:.]+$/.test(bare)) return Result.succeed(bare)
    return refuse(/:\d+$/.test(text) ? "the port goes into consul_port" : undefined)
  }
  if (/^[\d.]+$/.test(bare)) return ipv4.test(bare) ? Result.succeed(bare) : refuse()
  return hostName.test(bare) && bare.length <= 253 ? Result.succeed(bare) : refuse()
})

const ipv4 = /^(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?!$)|$)){4}$/
const hostName = /^(?!-)[A-Za-z0-9_-]{1,63}(?:\.(?!-)[A-Za-z0-9_-]{1,63})*\.?$/

/** An AWS region by its code name. */
export const region: Value<string> = matching(
  "the code of an AWS region, such as eu-central-1",
  /^[a-z]+(?:-[a-z]+)+-\d+$/,
  (text) => (/-\d+[a-z]$/.test(text) ? "that is a zone: leave out its last letter" : undefined)
)

/** The ARN of an IAM role. */
export const roleArn: Value<string> = matching(
  "the ARN of a role, such as arn:aws:iam::123456789012:role/ep2",
  /^arn:[a-z0-9-]+:iam::\d{12}:role\/[\w+=,.@/-]+$/
)

/** An http or https URL without user, query or fragment. */
export const url: Value<string> = fromText(
  Schema.String,
  "an http:// or https:// URL without user, password, query or fragment",
  (text) => {
    if (hasControls(text) || !URL.canParse(text)) return refuse()
    const { hash, password, protocol, search, username } = new URL(text)
    const isPlain = username === "" && password === "" && search === "" && hash === ""
    return isPlain && (protocol === "http:" || protocol === "https:") ? Result.succeed(text) : refuse()
  }
)

/** A secret. Wrapped as soon as it is read. */
export const secret: Value<Redacted.Redacted<string>> = fromText(
  Schema.Redacted(Schema.String),
  "printable characters without blanks",
  (text) => (/^[\x21-\x7e]+$/.test(text) ? Result.succeed(Redacted.make(text)) : refuse())
)
