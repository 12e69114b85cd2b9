/**
 * docs/api.md: what is exported for programs that build on ep2, from the docstrings
 * and types of the modules that `exports` of package.json names.
 */
import about from "../../package.json" with { type: "json" }
import type * as Exports from "./Exports.ts"

/** `Fetcher` → `src/orchestrator/Fetcher.ts`, in the order of package.json. */
export const entryPoints: ReadonlyMap<string, string> = new Map(
  Object.entries(about.exports).flatMap(([name, target]) =>
    typeof target === "string"
      ? []
      : [[name.slice(2), target.types.replace("./dist/types/", "").replace(/\.d\.ts$/, ".ts")] as const]
  )
)

/** The whole page, from what the modules of src/ export. */
export const render = (all: ReadonlyArray<Exports.Module>): string => {
  const modules = [...entryPoints.values()].map((file) => {
    const found = all.find((one) => one.file === file)
    if (found === undefined) throw new Error(`package.json exports ${file}, which is not there`)
    return found
  })
  const names = [...entryPoints.keys()]
  const list = modules.map(
    ({ doc }, index) => `| [\`ep2/${names[index]}\`](#ep2${names[index]!.toLowerCase()}) | ${firstSentence(doc)} |`
  )
  return [
    "# API",
    "",
    "<!-- Written by `npm run docs` from the sources. -->",
    "",
    "What `ep2` exports for programs that build on it, [a source of one's own](writing-a-source.md) above all: a module",
    "each, with the types and the docstrings of the sources. Everything else is ep2's own business and may change.",
    "",
    "| module | what for |",
    "| --- | --- |",
    ...list,
    "",
    ...modules.flatMap((module, index) => section(names[index]!, module))
  ]
    .join("\n")
    .trimEnd()
    .concat("\n")
}

const section = (name: string, { doc, exported }: Exports.Module): ReadonlyArray<string> => [
  `## ep2/${name}`,
  "",
  ...(doc === "" ? [] : [doc, ""]),
  ...exported.flatMap((one) => [`### ${one.name}`, "", ...entry(one), ...one.members.flatMap(member)])
]

const member = (one: Exports.Exported): ReadonlyArray<string> => [`#### ${one.name}`, "", ...entry(one)]

const entry = ({ doc, signature }: Exports.Exported): ReadonlyArray<string> => [
  ...(doc === "" ? [] : [doc, ""]),
  "```ts signature",
  signature,
  "```",
  ""
]

const firstSentence = (doc: string): string =>
  /^.*?[.:](?=\s|$)/.exec(doc.replace(/\s+/g, " "))?.[0].replace(/[.:]$/, "") ?? ""
