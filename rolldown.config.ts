/** A part of `npm run build`: ep2 without dependencies, dist/bin/ep2.js and what it loads. docs/decisions/bundle.md has the reasons. */
import { chmodSync, readdirSync, readFileSync } from "node:fs"
import { builtinModules, createRequire } from "node:module"
import { join } from "node:path"
import { defineConfig, type Plugin } from "rolldown"

const prefix = "\0builtin:"
const isName = /^[A-Za-z_$][\w$]*$/

/** What Node loads a client of its own for when it is only read, as whoever imports all of node:http does. Nobody uses it. */
const onFirstUse = new Set(["node:http.WebSocket", "node:http.CloseEvent", "node:http.MessageEvent"])

/**
 * Reads Node's own modules with `process.getBuiltinModule`, in the order of the code.
 *
 * A static import of a module or a name that an older Node lacks fails before the first line runs, and with it
 * src/requireNode.ts that is to say so in one line.
 */
const builtinsInOrder = (): Plugin => ({
  name: "ep2:builtins-in-order",
  resolveId: {
    order: "pre",
    handler: (id, importer, { kind }) => {
      const name = id.replace(/^node:/, "")
      const isBuiltin = id.startsWith("node:") || builtinModules.includes(name)
      // Rolldown's own first lines import `createRequire`, which every Node has that knows modules.
      const isOurs = kind === "import-statement" && importer?.includes("rolldown/runtime") !== true
      return isBuiltin && isOurs ? `${prefix}node:${name}` : null
    }
  },
  load: (id) => {
    if (!id.startsWith(prefix)) return null
    const name = id.slice(prefix.length)
    const names = Object.keys(createRequire(import.meta.url)(name)).filter(
      (one) => isName.test(one) && one !== "default" && !onFirstUse.has(`${name}.${one}`)
    )
    const module = `process.getBuiltinModule(${JSON.stringify(name)})`
    // Each name is read by itself, so that those that nobody imports leave the bundle.
    const read = names.map((one, i) => `const $${i} = /* @__PURE__ */ (() => ${module}.${one})()`)
    const exported = names.map((one, i) => `$${i} as ${one}`)
    return `${read.join("\n")}\nexport default /* @__PURE__ */ (() => ${module})()\nexport { ${exported.join(", ")} }\n`
  }
})

/**
 * Makes Effect's splitter of text when help is first printed. ICU's tables for it are 2.6 MiB of memory, which a
 * daemon has no use for.
 */
const segmenterOnFirstUse = (): Plugin => ({
  name: "ep2:segmenter-on-first-use",
  transform: (code, id) => {
    if (!id.includes("/effect/dist/cli/CliOutput.js")) return null
    const made = /^const graphemeSegmenter = .*(new Intl\.Segmenter\([^;]*\));$/m
    const lazy =
      "let madeSegmenter; const graphemeSegmenter = { segment: (text) => (madeSegmenter ??= $1).segment(text) };"
    return { code: code.replace(made, lazy), map: null }
  },
  generateBundle: (_options, output) => {
    for (const one of Object.values(output)) {
      if (one.type === "chunk" && /^(?:const|let|var) \w+ = (?:\/\*.*?\*\/ ?)?new Intl\.Segmenter\(/m.test(one.code))
        throw new Error(`${one.fileName} makes an Intl.Segmenter as it is loaded: what does that is somewhere else now`)
    }
  }
})

/** Escapes the few characters that are not ASCII: for one beyond Latin-1, V8 keeps the whole of a file in two bytes a character. */
const oneByteText = (): Plugin => ({
  name: "ep2:one-byte-text",
  generateBundle: (_options, output) => {
    const escaped = (one: string) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`
    for (const one of Object.values(output)) {
      if (one.type !== "chunk") continue
      if (/\\[\u0080-\uffff]/.test(one.code)) throw new Error(`${one.fileName} escapes a character that is not ASCII`)
      one.code = one.code.replace(/[\u0080-\uffff]/g, escaped)
    }
  }
})

/** Lays the licences of what is bundled beside the bundle, as they ask for. */
const licences = (): Plugin => ({
  name: "ep2:licences",
  generateBundle(_options, output) {
    const modules = Object.values(output).flatMap((one) => (one.type === "chunk" ? one.moduleIds : []))
    const packages = new Set(modules.map((id) => /^.*\/node_modules\/(?:@[^/]+\/)?[^/]+/.exec(id)?.[0]))
    const texts = [...packages].filter((folder) => folder !== undefined).map(licenceOf)
    this.emitFile({ type: "asset", fileName: "LICENSES.txt", source: texts.sort().join("\n\n") })
  }
})

/** Says of the folder that it holds modules, wherever it is copied to. */
const aboutFolder = (): Plugin => ({
  name: "ep2:about-folder",
  generateBundle() {
    this.emitFile({ type: "asset", fileName: "package.json", source: `${JSON.stringify({ type: "module" })}\n` })
  }
})

const licenceOf = (folder: string): string => {
  const { license, name, version } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"))
  const file = readdirSync(folder).find((one) => /^licen[cs]e/i.test(one))
  const text = file === undefined ? "" : readFileSync(join(folder, file), "utf8").trim()
  return `${name} ${version} (${license})\n\n${text}`
}

const executable = (): Plugin => ({
  name: "ep2:executable",
  writeBundle: ({ dir }) => {
    if (dir !== undefined) chmodSync(join(dir, "ep2.js"), 0o755)
  }
})

export default defineConfig({
  input: { ep2: "src/main.ts" },
  platform: "node",
  // The AWS SDK names its ES modules here, of which only what is used comes along: 0.6 in place of 2.2 MB.
  resolve: { mainFields: ["module", "main"] },
  plugins: [builtinsInOrder(), segmenterOnFirstUse(), oneByteText(), licences(), aboutFolder(), executable()],
  output: {
    dir: "dist/bin",
    cleanDir: true,
    format: "esm",
    // By its content, so that an ep2 that runs while another version is installed finds its own part or none.
    chunkFileNames: "[name]-[hash].js",
    banner: ({ isEntry }) => (isEntry ? "#!/usr/bin/env node" : ""),
    sourcemap: true,
    // Text that is only there to be read is a third of it, and Node reads it at each start.
    comments: { legal: true, jsdoc: false }
  }
})
