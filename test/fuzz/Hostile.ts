/** Generated input that hurts: texts that are not what they claim, mutations of good ones, and a property with its number of cases. */
import { assert, it } from "@effect/vitest"
import { type Arbitrary, Effect, Schema } from "effect"
import { checkOptions } from "../domain/AnyStates.ts"

/** How many cases each property generates in `npm test`; the whole matrix makes five times as many. */
export const cases = {
  "ep2.conf, mutated": 1_500,
  "ep2.conf, any text": 1_000,
  "template, mutated": 1_500,
  "template, any text": 500,
  "replies, mutated": 2_000,
  "replies, observed": 1_000,
  "replies, cut": 1_000,
  "replies, cut on the wire": 150,
  "Consul's answers": 1_500,
  "file_sd documents": 1_500,
  "AWS's answers": 600,
  "from the source to HAProxy": 800
} as const

export type Subject = keyof typeof cases

/** How many cases this run generates. */
export const casesOf = (subject: Subject) => cases[subject] * (process.env.EP2_TEST_ALL === undefined ? 1 : 5)

/** How often each outcome came, so that it can be said that both good and bad input was met. */
const tallies = new Map<Subject, Map<string, number>>()

/**
 * A property of generated input, which says in its name how many cases it generates. `check` returns what came of the
 * case, in a word. A failure prints how to replay it.
 */
export const property = <const Inputs extends Array<Schema.Schema<unknown> | Arbitrary.Arbitrary<unknown>>, E>(
  subject: Subject,
  name: string,
  inputs: Inputs,
  check: (values: Values<Inputs>) => Effect.Effect<string, E>
) =>
  it.effect.prop(
    `${name} (${casesOf(subject)} cases)`,
    inputs as Array<Schema.Schema<unknown>>,
    (values) =>
      Effect.map(check(values as Values<Inputs>), (outcome) => {
        const tally = tallies.get(subject) ?? new Map<string, number>()
        tallies.set(subject, tally.set(outcome, (tally.get(outcome) ?? 0) + 1))
        return true
      }),
    checkOptions(cases[subject])
  )

/** Stands behind the properties of its subjects: each came to these outcomes, so that none of them is empty talk. */
export const itMeets = (outcomes: ReadonlyArray<string>, subjects: ReadonlyArray<Subject>) =>
  it.each(subjects)(`met both good and bad: %s`, (subject) => {
    const tally = tallies.get(subject) ?? new Map<string, number>()
    const least = casesOf(subject) / 50

    const shown = JSON.stringify(Object.fromEntries(tally))
    for (const outcome of outcomes) assert.isAtLeast(tally.get(outcome) ?? 0, least, `${outcome}: ${shown}`)
    assert.isAtLeast(
      [...tally.values()].reduce((sum, count) => sum + count, 0),
      casesOf(subject),
      shown
    )
  })

type Values<Inputs> = {
  [K in keyof Inputs]: Inputs[K] extends { readonly Type: infer A }
    ? A
    : Inputs[K] extends Arbitrary.Arbitrary<infer A>
      ? A
      : never
}

/** What separates, quotes, ends or expands something in a conf, a template, a command, a config or a log. */
export const separators = [
  ...[" ", "  ", "\t", "\n", "\r", "\r\n", "\n\n", "\v", "\f", "\0", "\u0085", "\u00a0", "\u2028", "\u2029"],
  ...["\ufeff", "\u202e", "\u200b", "\u00ad", "\u001b[31m", "\u009b31m", "\ud800", "\udc00", "\ufffd"],
  ...[";", "#", "'", '"', "\\", "\\n", "`", ",", "|", "&", "=", ":", "[", "]", "(", ")", "<", "> ", "\n> "],
  ...["$", "$HOME", `\${HOME}`, `"\${HOME}"`, "$(id)", "%", "%%", "%(token)s", "%(nothing)s"],
  ...["{{", "}}", "{%", "%}", "{{ nodes }}", "{% raw %}"]
] as const

/** Texts that are given for an address, and are none that may be served. */
export const badAddresses = [
  ...["0.0.0.0", "0.1.2.3", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "::", "0::0"],
  ...["::0.0.0.0", "::ffff:0.0.0.0", "::ffff:224.0.0.1", "ff02::1", "FF02::1", "ff0e::101", "fe80::1"],
  ...["fe80::1%eth0", "FEBF::1", "010.0.0.1", "10.0.0", "10.1", "167772161", "0x0a000001", "10.0.0.256"],
  ...["10.0.0.1.", ".10.0.0.1", "10.0.0.-1", "１０.0.0.1", "10。0。0。1", "٣.0.0.1", ":::1", "1::2::3", "[::1"],
  ...["::1]", "2001:db8::g", "10.0.0.1/8", "10.0.0.1:80", "10.0.0.1 disabled", "10.0.0.1:80 check"],
  ...["10.0.0.1\nserver node9 10.6.6.6:80", "10.0.0.1\n", "\n10.0.0.1", "10.0.0.1#", "10.0.0.1\0", "10.0.0.1 "],
  ...["10.0.0.1;shutdown sessions server web/node1", "10.0.0.1 port 1; disable server web/node2", " 10.0.0.1"],
  ...["\t10.0.0.1", "10.0.0.1\r", "'10.0.0.1'", '"10.0.0.1"', "10.0.0.1\\", "10.0.0.1\u200b", "\u202e10.0.0.1"],
  ...["\ufeff10.0.0.1", `\${ADDRESS}`, "$HOME", "%[env(HOME)]", "%(token)s", "{{ nodes }}", "{% raw %}"],
  ...["unix@/run/x.sock", "/run/x.sock", "abns@x", "fd@3", "ipv4@10.0.0.1", "sockpair@4", "ring@x", "*", "-"],
  ...["*:80", "server", "node1", "disabled", "backup", "unknown.example", "zero.example", "a b.example"],
  ...["-a.example", "a..b", "undefined", "null", "NaN", "__proto__", "constructor", "\u0000", "x".repeat(300)],
  ...[`${"a".repeat(64)}.example`, "10.0.0.1,".repeat(500), "😀".repeat(300), `x${"😀".repeat(300)}`]
] as const

/** Addresses that may be served. */
export const goodAddresses = [
  ...["10.0.0.1", "10.0.0.2", "127.0.0.1", "192.0.2.7", "223.255.255.255", "1.0.0.0", "::1", "2001:db8::5"],
  ...["2001:DB8:0:0::5", "2001:db8:0000::0005", "::ffff:10.0.0.3", "::ffff:a00:3", "fd00::1", "64:ff9b::10.0.0.4"]
] as const

/** A host name that the tests' resolver knows, and what it says. */
export const knownNames = new Map<string, ReadonlyArray<string>>([
  ["app.example", ["10.9.9.9"]],
  ["localhost", ["127.0.0.1"]],
  ["six.example", ["2001:db8::99"]],
  ["mixed.example", ["0.0.0.0", "10.9.9.8"]],
  ["zero.example", ["0.0.0.0", "::"]]
])

const AnyCharacter = Schema.Literals([...separators, ...separators, "\u{10ffff}", "\u{e000}", "\u{e001}", "\u{e002}"])

/** Any text: printable characters, separators, and the words of the subject. */
export const soup = (words: ReadonlyArray<string>) =>
  Schema.Array(Schema.Union([Schema.String, AnyCharacter, Schema.Literals(words), Schema.Literals(words)]))

/** A name as a source may have it: good, or with something in it that ends a word, a line or a command elsewhere. */
export const AnyName = Schema.Union([
  Schema.Literals(["web-1", "i-0123456789abcdef0", "node 7", "a;b", "web\n2026-01-01 info forged", "x".repeat(5000)]),
  Schema.Literals([...separators, ...badAddresses]),
  Schema.String
])

/** An address as a source may have it. */
export const AnyAddress = Schema.Union([
  Schema.Literals(goodAddresses),
  Schema.Literals(goodAddresses),
  Schema.Literals(goodAddresses),
  Schema.Literals(badAddresses),
  Schema.Union([Schema.Literals([...knownNames.keys()]), Schema.String])
])

const ports: ReadonlyArray<number> = [
  ...[
    80,
    80,
    80,
    443,
    8080,
    8080,
    8081,
    1,
    9,
    17,
    19,
    65_535,
    0,
    -0,
    -1,
    65_536,
    70_000,
    80.5,
    1e21,
    2 ** 53,
    -(2 ** 31)
  ]
]

/** A port as a source may have it, as a number. */
export const AnyPort = Schema.Literals(ports)

const AnyPlace = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 99_999 }))

const edit = <const How extends ReadonlyArray<keyof typeof edits>>(how: How) =>
  Schema.Struct({
    how: Schema.Literals(how),
    at: AnyPlace,
    to: AnyPlace,
    text: Schema.Union([Schema.String, AnyCharacter])
  })

/** Edits of a text that lose or repeat lines, their ends or an end of it. */
export const Losses = Schema.Array(edit(["cut", "cutLine", "cutStart", "drop", "double", "swap"])).check(
  Schema.isBetweenLength(1, 3)
)

/** Edits of a text of every kind. */
export const Edits = Schema.Array(
  edit([
    ...(["cut", "cutLine", "cutStart", "drop", "double", "lose", "swap", "join", "indent", "swapHeads"] as const),
    ...(["insert", "insert", "replaceWord", "replaceWord", "replaceWord", "replaceTail", "replaceTail"] as const)
  ])
).check(Schema.isBetweenLength(1, 4))

/** Carries the edits out, one after the other. Words of the subject take the place of some of the texts. */
export const mutate = (text: string, list: (typeof Edits)["Type"], words: ReadonlyArray<string> = []): string =>
  list.reduce((before, { at, how, text: plain, to }) => {
    const word = words.length > 0 && to % 3 > 0 ? words[to % words.length]! : plain
    return edits[how](before, { at, to, text: word })
  }, text)

interface Edit {
  readonly at: number
  readonly to: number
  readonly text: string
}

const edits = {
  /** Everything behind a character. */
  cut: (text, { at }) => text.slice(0, spot(text.length, at)),
  /** Everything before a character. */
  cutStart: (text, { at }) => text.slice(spot(text.length, at)),
  /** Everything behind a character of one line. */
  cutLine: (text, { at, to }) => onLine(text, at, (line) => [line.slice(0, spot(line.length, to))]),
  drop: (text, { at }) => onLine(text, at, () => []),
  double: (text, { at }) => onLine(text, at, (line) => [line, line]),
  /** What stands between two characters. */
  lose: (text, { at, to }) => {
    const [from, until] = [spot(text.length, at), spot(text.length, to)].sort((one, other) => one - other)
    return text.slice(0, from) + text.slice(Math.min(until!, from! + 200))
  },
  /** Two lines change places. */
  swap: (text, { at, to }) => {
    const lines = text.split("\n")
    const [one, other] = [spot(lines.length, at), spot(lines.length, to)]
    return lines.map((line, index) => (index === one ? lines[other]! : index === other ? lines[one]! : line)).join("\n")
  },
  /** Two lines change what stands before their first `=`, `:` or blank. */
  swapHeads: (text, { at, to }) => {
    const lines = text.split("\n")
    const [one, other] = [spot(lines.length, at), spot(lines.length, to)]
    const [, head = "", tail = ""] = /^(.*?)([=: ].*)?$/s.exec(lines[one] ?? "") ?? []
    const [, otherHead = "", otherTail = ""] = /^(.*?)([=: ].*)?$/s.exec(lines[other] ?? "") ?? []
    const swapped = new Map([
      [one, otherHead + tail],
      [other, head + otherTail]
    ])
    return lines.map((line, index) => swapped.get(index) ?? line).join("\n")
  },
  join: (text, { at, text: between }) => {
    const lines = text.split("\n")
    const index = spot(lines.length, at)
    return [...lines.slice(0, index), lines.slice(index, index + 2).join(between), ...lines.slice(index + 2)].join("\n")
  },
  indent: (text, { at }) => onLine(text, at, (line) => [`  ${line}`]),
  insert: (text, { at, text: more }) => {
    const index = spot(text.length + 1, at)
    return text.slice(0, index) + more + text.slice(index)
  },
  replaceWord: (text, { at, text: more }) => {
    const words = text.split(/([\s,;"'=:{}[\]]+)/)
    const index = spot(Math.ceil(words.length / 2), at) * 2
    return words.map((word, place) => (place === index ? more : word)).join("")
  },
  /** What stands behind the first `=`, `:` or blank of a line. */
  replaceTail: (text, { at, text: more }) =>
    onLine(text, at, (line) => [line.replace(/^([^=: ]*[=: ]+).*$/s, `$1`) + more])
} satisfies Record<string, (text: string, edit: Edit) => string>

const onLine = (text: string, at: number, change: (line: string) => ReadonlyArray<string>): string => {
  const lines = text.split("\n")
  const index = spot(lines.length, at)
  return lines.flatMap((line, place) => (place === index ? change(line) : [line])).join("\n")
}

/** A place as a part of a length, so that one number means something in texts of every length. */
const spot = (length: number, at: number): number => Math.floor((at / 100_000) * length)
