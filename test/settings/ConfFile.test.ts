import { spawnSync } from "node:child_process"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import * as ConfFile from "../../src/settings/ConfFile.ts"
import { describeProblem } from "../../src/settings/SettingsError.ts"

describe("what Python's configparser reads", () => {
  it("ConfFile and Python read the same values or both refuse, on 1,000 nasty files", () => {
    const texts = Array.from({ length: 1000 }, (_, seed) => nastyFile(seed))

    const theirs = readWithPython(texts)
    const ours = texts.map(read)

    for (const [seed, text] of texts.entries()) {
      assert.deepStrictEqual(ours[seed], theirs[seed], `file ${seed}: ${JSON.stringify(text)}`)
    }
    // The generator is worth something only if neither side always refuses or always agrees.
    const refused = theirs.filter((one) => one === null).length
    assert.isAbove(refused, 100)
    assert.isBelow(refused, 900)
    const values = theirs.flatMap((one) => Object.values(one ?? {})).flatMap((section) => Object.values(section))
    assert.isAbove(values.filter((one) => one === null).length, 20)
    assert.isAbove(values.filter((one) => one?.includes("\n")).length, 50)
  })
})

describe("rules", () => {
  it("keys are read without regard to case, and sections as they are written", () => {
    assert.deepStrictEqual(read("[Haproxy]\nNode_Slots = 5\n"), { Haproxy: { node_slots: "5" } })
  })

  it("the first = or : cuts key from value", () => {
    assert.deepStrictEqual(read("[a]\nx = 1:2\ny : 3=4\nz=5"), { a: { x: "1:2", y: "3=4", z: "5" } })
  })

  it("# and ; begin a comment only where they begin a line", () => {
    const text = "# one\n[a] # two\nx = 1 ; three\n  ; four\ny = 2 # five\n"

    assert.deepStrictEqual(read(text), { a: { x: "1 ; three", y: "2 # five" } })
  })

  it("an indented line goes on with the value above, over empty lines and comments", () => {
    const text = "[a]\nx = 1\n  2\n\n# no part of it\n  3\n\ny = 4\n"

    assert.deepStrictEqual(read(text), { a: { x: "1\n2\n\n3", y: "4" } })
  })

  it("an indented section header below a key is part of the key's value", () => {
    assert.deepStrictEqual(read("[a]\nx = 1\n  [b]\ny = 2\n"), { a: { x: "1\n[b]", y: "2" } })
  })

  it("%(name)s is the value of a key of the section or of [DEFAULT], and %% is a percent sign", () => {
    const text = "[DEFAULT]\nroot = /etc\n[a]\nsub = %(ROOT)s/ep2\nx = %(sub)s/100%%\n"

    assert.deepStrictEqual(read(text), { a: { root: "/etc", sub: "/etc/ep2", x: "/etc/ep2/100%" } })
  })

  it("a byte order mark and any line ending are taken", () => {
    assert.deepStrictEqual(read("\uFEFF[a]\r\nx = 1\ry = 2\n"), { a: { x: "1", y: "2" } })
  })

  it("every key has its line", () => {
    const { conf } = ConfFile.parse("# head\r\n[a]\r\nx = 1\r\n  2\r\n\r\ny = 3")

    assert.deepStrictEqual(
      [...conf.sections[0]!.entries.values()].map(({ key, line }) => [key, line]),
      [
        ["x", 3],
        ["y", 6]
      ]
    )
  })

  it("references are those of the section and of [DEFAULT]", () => {
    const { conf } = ConfFile.parse("[DEFAULT]\nx = %(One)s\n[a]\ny = %(two)s %%(no)s\n[b]\nz = %(three)s")

    const names = ConfFile.references(conf, conf.sections[0]!)

    assert.isTrue(names.has("one") && names.has("two"))
    assert.isFalse(names.has("three"))
  })
})

describe("problems", () => {
  it("all syntax errors of a file are found, each with its line and what was expected", () => {
    const text = [
      "stray = 1",
      "[a]",
      "no delimiter",
      "= nameless",
      "x = 1",
      "X = 2",
      "[b]",
      "[a]",
      "x = 3",
      "[unclosed"
    ].join("\n")

    assert.deepStrictEqual(problemsOf(text), [
      "f:1: a line before the first section; expected a section such as [haproxy] first",
      'f:3: [a]: a line without "=" or ":"; expected key = value, [section], or an indented further line of a value',
      'f:4: [a]: no key before the "=" or ":"; expected key = value',
      "f:6: [a] x: the same key as in line 5; expected each key once",
      "f:8: [a]: the same section as in line 2; expected each section once",
      'f:10: [a]: a line without "=" or ":"; expected key = value, [section], or an indented further line of a value'
    ])
  })

  it("of two entries of one name, the first is kept", () => {
    const { conf } = ConfFile.parse("[a]\nx = 1\nx = 2\n")

    assert.strictEqual(conf.sections[0]?.entries.get("x")?.raw, "1")
  })

  it("a bad reference is a problem of the key that has it, and of no other", () => {
    const text = "[a]\nfine = 1\nstray = 5%\nmissing = %(nobody)s\ncircle = %(circle)s\n"
    const { conf, problems } = ConfFile.parse(text)
    const about = (key: string) => {
      const found = ConfFile.lookup(conf, conf.sections[0]!, key)
      return found === undefined ? undefined : Result.mapError(found.value, (problem) => describeProblem("f", problem))
    }

    assert.deepStrictEqual(problems, [])
    assert.deepStrictEqual(about("fine"), Result.succeed("1"))
    assert.deepStrictEqual(
      about("stray"),
      Result.fail(
        'f:3: [a] stray: a "%" that is neither "%%" nor the start of %(name)s; expected %% for a plain percent sign'
      )
    )
    assert.deepStrictEqual(
      about("missing"),
      Result.fail(
        "f:4: [a] missing: %(nobody)s, which is a key neither here nor in [DEFAULT]; expected %(name)s with a key of " +
          "this section or of [DEFAULT]; %% is a plain percent sign"
      )
    )
    assert.deepStrictEqual(
      about("circle"),
      Result.fail(
        "f:5: [a] circle: references that go in a circle or too deep; expected values that refer to one another at most 10 deep"
      )
    )
  })

  it("references that multiply are refused instead of filling the memory", () => {
    const levels = Array.from({ length: 9 }, (_, level) => `k${level} = ${`%(k${level + 1})s`.repeat(10)}`)
    const { conf } = ConfFile.parse(["[a]", ...levels, "k9 = boom%%"].join("\n"))

    const found = ConfFile.lookup(conf, conf.sections[0]!, "k0")

    assert.isTrue(found !== undefined && Result.isFailure(found.value))
  })
})

type Sections = Record<string, Record<string, string | null>>

/** What `readWithPython.py` prints, of our own reader. */
const read = (text: string): Sections | null => {
  const { conf, problems } = ConfFile.parse(text)
  if (problems.length > 0) return null
  return Object.fromEntries(
    conf.sections.map((section) => [
      section.name,
      Object.fromEntries(
        [...section.entries.keys(), ...conf.defaults.keys()].map((key) => {
          const value = ConfFile.lookup(conf, section, key)?.value
          return [key, value === undefined || Result.isFailure(value) ? null : value.success]
        })
      )
    ])
  )
}

const problemsOf = (text: string) => ConfFile.parse(text).problems.map((problem) => describeProblem("f", problem))

const readWithPython = (texts: ReadonlyArray<string>): ReadonlyArray<Sections | null> => {
  const script = fileURLToPath(new URL("readWithPython.py", import.meta.url))
  const options = { input: JSON.stringify(texts), encoding: "utf8", maxBuffer: 64 * 1024 * 1024 } as const
  const { error, status, stdout, stderr } = spawnSync("python3", [script], options)
  if (error !== undefined) {
    throw new Error(
      `this test compares with Python's configparser and cannot run python3 (${error.message}): install it`
    )
  }
  assert.strictEqual(status, 0, stderr)
  return JSON.parse(stdout)
}

/**
 * A file made of what is hard to read, the same for the same seed. Names of
 * sections have no `]`, which Python before 3.10 reads in another way.
 */
const nastyFile = (seed: number): string => {
  const random = mulberry32(seed)
  const below = (count: number) => Math.floor(random() * count)
  const pick = <A>(...choices: ReadonlyArray<A>): A => choices[below(choices.length)]!
  const blanks = () => pick("", "", "", " ", "  ", "\t", "\t ", "\u00A0", "\x1c", "\u2028", "\x0c", "\x85")
  const delimiter = () => pick("=", "=", ":", " = ", " : ", "==", "=:", "\t=\t")
  const key = () => pick("one", "two", "Two", "three", "four five", "sIX", "é", "É", "#k", "İ", "k[0]", "%k")
  const word = () =>
    pick(
      "1",
      "a b",
      "",
      "%%",
      "#5",
      "; six",
      "[x]",
      "x = y",
      "é😀",
      "\uFEFF",
      "/run/a.sock",
      "100%%",
      "\u3000mid\u2003dle"
    )
  const reference = () => pick("%(one)s", "%(TWO)s", "%(three)s", "%(four five)s", "%(É)s", "%%(no)s")
  // Few of these per file, since each may spoil all of it.
  const poison = () => pick("%", "%(", "%(nobody)s", "%(one)", "%()s", "%d", "%(two)s%(two)s")
  const value = () =>
    Array.from({ length: below(3) }, () => (random() < 0.03 ? poison() : random() < 0.2 ? reference() : word())).join(
      pick("", " ")
    )
  const bad = () => pick("no delimiter", "= nameless", "[unclosed", "[]", ": x", "]", "[", "\u0000")
  const names = ["a", "A", "b", " spaced ", "é", "x=y", "default", "#", "backend x"]
  let unused = ["one", "two", "three", "four five"]
  const line = (): string => {
    const dice = random()
    if (dice < 0.45) {
      const name = unused.length > 0 && random() < 0.94 ? unused.splice(below(unused.length), 1)[0]! : key()
      return `${random() < 0.1 ? blanks() : ""}${random() < 0.2 ? name.toUpperCase() : name}${delimiter()}${value()}${blanks()}`
    }
    if (dice < 0.6) return `${pick(" ", "  ", "    ", "\t", "\u2003")}${value()}${pick("", "", ": x", "#", blanks())}`
    if (dice < 0.72) return blanks()
    if (dice < 0.83) return `${blanks()}${pick("#", ";")}${word()}`
    if (dice < 0.99) {
      const name =
        random() < 0.2
          ? "DEFAULT"
          : random() < 0.97 && names.length > 0
            ? names.splice(below(names.length), 1)[0]!
            : "a"
      if (name !== "DEFAULT" || unused.length < 4) unused = ["one", "two", "three", "four five"].slice(below(2))
      return `${random() < 0.05 ? blanks() : ""}[${name}]${pick("", "", "", " ", " # tail", "x")}`
    }
    return bad()
  }
  const ending = pick("\n", "\n", "\n", "\r\n", "\r")
  const head = random() < 0.95 ? [random() < 0.2 ? "[DEFAULT]" : `[${names.splice(0, 1)[0]}]`] : []
  const lines = [...head, ...Array.from({ length: 1 + below(14) }, line)]
  return `${random() < 0.1 ? "\uFEFF" : ""}${lines.join(ending)}${pick("", ending, ending + ending)}`
}

const mulberry32 = (seed: number) => {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
}
