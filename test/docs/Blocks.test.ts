/**
 * Every block of README.md and docs/ is looked at: configurations are decoded, templates are
 * rendered and shown to HAProxy, scenarios are played, TypeScript is type-checked, and ep2 is
 * asked whether it knows each command line. `Sessions.test.ts` runs the commands.
 *
 * docs/decisions/docs.md has the rules for who writes a block.
 */
import { execFileSync, spawnSync } from "node:child_process"
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { afterAll, assert, describe, it } from "@effect/vitest"
import { Effect, Result } from "effect"
import * as Simulated from "../../src/cli/Simulated.ts"
import * as EndState from "../../src/haproxy/EndState.ts"
import * as TemplateRenderer from "../../src/haproxy/TemplateRenderer.ts"
import * as FileSd from "../../src/orchestrator/FileSd.ts"
import * as Settings from "../../src/settings/Settings.ts"
import * as ScenarioFile from "../../src/simulation/ScenarioFile.ts"
import * as World from "../integration/World.ts"
import * as Binaries from "../servers/Binaries.ts"
import * as ApiReference from "./ApiReference.ts"
import * as CommandLines from "./CommandLines.ts"
import * as ConfFragment from "./ConfFragment.ts"
import * as Pages from "./Pages.ts"
import * as Places from "./Places.ts"

const root = resolve(import.meta.dirname, "../..")
const pages = Pages.all().map((page) => ({ page, blocks: Pages.blocksOf(page, Pages.read(page)) }))
const blocks = pages.flatMap((one) => one.blocks)

/** The blocks of a language that are tested, each with its place as the name of its test. */
const of = (language: string) =>
  blocks
    .filter((block) => block.language === language && !block.marks.has("no-test") && !block.marks.has("signature"))
    .map((block) => ({ place: Pages.placeOf(block), block }))

/** Settings of an `ini` block; a refused one, or one with a warning, fails the test. */
const decode = (block: Pages.Block): Settings.Settings => {
  const decoded = Settings.decode(Pages.placeOf(block), ConfFragment.complete(block.text))
  const { settings, warnings } = Result.getOrThrowWith(decoded, (error) => error)
  assert.deepStrictEqual(warnings, [])
  return settings
}

const usual = (text: string): Pages.Block => Pages.blocksOf("usual", `\`\`\`ini\n${text}\`\`\`\n`)[0]!

const folders: Array<string> = []
const folder = (): string => {
  folders.push(mkdtempSync(join(tmpdir(), "ep2-docs-")))
  return folders.at(-1)!
}
afterAll(() => {
  for (const one of folders) rmSync(one, { recursive: true, force: true })
})

describe("the blocks of the documentation", () => {
  it("have a language, marks that mean something, and a reason where they are not tested", () => {
    const flaws = blocks.flatMap((block) => {
      const flaw = Pages.flawOf(block)
      return flaw === undefined ? [] : [`${Pages.placeOf(block)}: ${flaw}`]
    })

    assert.isAbove(blocks.length, 40)
    assert.deepStrictEqual(flaws, [])
    const wrong = ["", "sh no-test", "sh no-test: ", "cobol", "ini exit: 5"].map((info) => `\`\`\`${info}\nx\n\`\`\`\n`)
    assert.deepStrictEqual(Pages.blocksOf("wrong", wrong.join("\n")).map(Pages.flawOf), [
      "a block without a language; `text` is one that nothing is done with",
      "no-test without a reason",
      "no-test without a reason",
      "cobol is no language that the tests know; say why not: no-test: REASON",
      'ini has no mark "exit"'
    ])
    const untested = blocks.filter(({ marks }) => marks.has("no-test"))
    console.log(
      [`${untested.length} blocks are not tested:`]
        .concat(untested.map((block) => `  ${Pages.placeOf(block)} ${block.language}: ${block.marks.get("no-test")}`))
        .join("\n")
    )
  })

  it("have no command or flag that ep2 does not know, in text or tests or neither, and no script that is not there", () => {
    const commands = CommandLines.known()
    const lines = [
      ...blocks.flatMap((block) => CommandLines.inBlock(block, /^(?:.*\/)?ep2(?:\.js)?$/)),
      ...pages.flatMap(({ page }) => CommandLines.inText(page, Pages.read(page)))
    ]
    const scripts = blocks.flatMap((block) => CommandLines.inBlock(block, /^npm$/))
    const flawsOf = (all: ReadonlyArray<CommandLines.Line>, flawOf: (line: CommandLines.Line) => string | undefined) =>
      all.flatMap((line) => {
        const flaw = flawOf(line)
        return flaw === undefined ? [] : [`${line.place}: ${line.words.join(" ")}: ${flaw}`]
      })

    const flaws = [
      ...flawsOf(lines, (line) => CommandLines.flawOf(line, commands)),
      ...flawsOf(scripts, CommandLines.npmFlawOf)
    ]

    assert.isAbove(lines.length, 30)
    assert.isAbove(scripts.length, 5)
    assert.deepStrictEqual(flaws, [])
    const wrong = ["ep2 chek", "ep2 plan --jsno", "sudo ep2 start --seed 1", "ep2 simulate --seed one", "ep2 --conf"]
    const shell = Pages.blocksOf("wrong", `\`\`\`sh no-test: wrong\n${wrong.join("\n")}\nnpm run nosuch\n\`\`\`\n`)[0]!
    const refused = CommandLines.inBlock(shell, /^ep2$/).map((line) => CommandLines.flawOf(line, commands))
    assert.deepStrictEqual(refused, [
      "ep2 has no command chek",
      "ep2 plan has no --jsno",
      "ep2 start has no --seed",
      "--seed wants a whole number, not one",
      "--conf wants a value"
    ])
    assert.deepStrictEqual(CommandLines.inBlock(shell, /^npm$/).map(CommandLines.npmFlawOf), [
      "package.json has no script nosuch"
    ])
  })
})

describe("ini", () => {
  it.each(of("ini"))("$place is an ep2.conf, or a part of one", ({ block }) => {
    assert.isAbove(decode(block).backends.length, 0)
  })
})

describe("haproxy", () => {
  it.live.each(of("haproxy"))("$place is a template that HAProxy takes", ({ block }) =>
    Effect.gen(function* () {
      const before = blocks.filter(
        (one) => one.page === block.page && one.language === "ini" && one.line < block.line && !one.marks.has("no-test")
      )
      const { backends } = decode(
        before.at(-1) ??
          usual(
            "[CONSUL]\nservice_name = web\n[haproxy]\norchestrator = consul\nbackend_name = web\nbackend_port = service\n"
          )
      )
      const source = templateOf(Places.withoutUsers(block.text))
      const options = { templateFile: Pages.placeOf(block), source, backends }
      const free = backends.map(({ name, nodeSlots }) =>
        EndState.fresh({ backend: name, wanted: [], known: { backend: name, servers: [] }, nodeSlots })
      )

      const { text } = yield* TemplateRenderer.TemplateRenderer.use(({ render }) => render(free)).pipe(
        Effect.provide(TemplateRenderer.TemplateRenderer.layer(options))
      )

      const config = join(folder(), "haproxy.cfg")
      writeFileSync(config, text)
      for (const version of World.sampleVersions) {
        const said = spawnSync(Binaries.haproxy(version), ["-c", "-f", config], { encoding: "utf8" })
        assert.strictEqual(said.status, 0, `${said.stderr}${said.stdout}`)
      }
    }).pipe(Effect.provide(NodeServices.layer))
  )
})

/** A block without a section is a part of the backend. */
const templateOf = (text: string): string => {
  if (/^(?:global|defaults|listen|frontend|backend)\b/m.test(text)) return text
  return `defaults\n    mode http\n    timeout connect 5s\n    timeout client 50s\n    timeout server 50s\nlisten web\n    bind 127.0.0.1:8080\n${text}    {{ nodes }}\n`
}

describe("yaml", () => {
  it.effect.each(of("yaml"))("$place is a scenario whose rules hold, or names servers", ({ block }) =>
    Effect.gen(function* () {
      if (!/^events:/m.test(block.text)) return assertTargets(block, "targets.yml")
      const names = [...block.text.matchAll(/^ {2}([\w.:-]+): \{/gm)].map(([, name]) => name!)
      const [first = "web", ...others] = names
      const sections = others.map((name) => `[backend ${name}]\nbackend_port = 8080\nservice_name = ${name}\n`)
      const settings = decode(
        usual(
          `[haproxy]\norchestrator = consul\nbackend_name = ${first}\nbackend_port = 8080\n[CONSUL]\nservice_name = web\n${sections.join("")}`
        )
      )
      const backends = settings.backends.map(({ name, nodeSlots }) => ({ name, slots: nodeSlots, port: 8080 }))
      const parsed = ScenarioFile.parse(Pages.placeOf(block), block.text, backends)
      const scenario = Result.getOrThrowWith(parsed, (error) => error)

      const { broken, summary } = yield* Simulated.play({
        settings,
        template: `global\n    stats socket /var/run/haproxy/haproxy.sock level admin\n${templateOf("")}${others.map((name, index) => `listen ${name}\n    bind 127.0.0.1:${8081 + index}\n    {{ backends.${name}.nodes }}\n`).join("")}`,
        scenario,
        version: "3.2",
        seed: 1,
        untilMillis: scenario.durationMillis,
        quietMillis: 20_000
      })

      assert.deepStrictEqual(broken, [])
      assert.isAbove(summary.requests.sent, 0)
    })
  )
})

describe("json", () => {
  it.each(of("json"))("$place can be read, and names servers where it is a list", ({ block }) => {
    const value: unknown = JSON.parse(block.text)

    if (Array.isArray(value)) assertTargets(block, "targets.json")
  })
})

const assertTargets = (block: Pages.Block, path: string) => {
  const named = Result.getOrThrow(FileSd.decode(block.text, { path, portOf: "service" }))
  assert.deepStrictEqual(named.refused, [])
  assert.isAbove(named.candidates.length, 0)
}

describe("ts", () => {
  it("is checked against the types of what package.json exports, and a mistake in it is found", () => {
    const made = folder()
    writeFileSync(join(made, "package.json"), '{ "type": "module" }')
    const files = of("ts").map(({ block }, index) => {
      const name = `block-${index}.ts`
      writeFileSync(join(made, name), `${programOf(block)}\nexport {}\n`)
      return { name, place: Pages.placeOf(block) }
    })
    const mistake = 'import { FetchError } from "ep2/Fetcher"\nexport const one = new FetchError({ target: 1 })\n'
    writeFileSync(join(made, "mistake.ts"), mistake)
    symlinkSync(join(root, "node_modules"), join(made, "node_modules"))
    const entries = [...ApiReference.entryPoints].map(([name, file]) => [`ep2/${name}`, [join(root, file)]])
    const compilerOptions = {
      paths: Object.fromEntries(entries),
      types: ["node"],
      typeRoots: [join(root, "node_modules/@types")]
    }
    const tsconfig = { extends: join(root, "tsconfig.json"), compilerOptions, include: ["*.ts"] }
    writeFileSync(join(made, "tsconfig.json"), JSON.stringify(tsconfig))

    const { status, stdout } = spawnSync("tsc", ["--project", made, "--pretty", "false"], {
      cwd: made,
      encoding: "utf8"
    })

    const places = files.reduce((text, { name, place }) => text.replaceAll(name, `${name} (${place})`), stdout)
    assert.notStrictEqual(status, 0)
    assert.deepStrictEqual(
      places.split("\n").filter((line) => line !== "" && !/^mistake\.ts| {2}/.test(line)),
      []
    )
    assert.include(stdout, "mistake.ts(2")
  })
})

/** A part of a program stands behind the block that its mark names, and after what its comment declares. */
const programOf = (block: Pages.Block): string => {
  const name = block.marks.get("with")
  const whole = blocks.find((one) => one.page === block.page && one.text.startsWith(`// ${name}\n`))
  if (name !== undefined && whole === undefined) throw new Error(`${Pages.placeOf(block)}: there is no ${name}`)
  return [whole?.text ?? "", ...block.before, block.text].join("\n")
}

describe("nix", () => {
  it.each(of("nix"))("$place is an expression", ({ block }) => {
    const said = execFileSync(join(Binaries.nix(), "../nix-instantiate"), ["--parse", "-"], {
      input: block.text,
      encoding: "utf8",
      stdio: ["pipe", "pipe", "pipe"]
    })

    assert.notStrictEqual(said.trim(), "")
  })
})
