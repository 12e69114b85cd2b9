/**
 * A part of `npm run build`: what package.json exports, as ES modules that share their
 * code, in dist/lib. `effect` stays outside, since a program and ep2 have to mean the
 * same one. docs/decisions/packages.md has the reasons.
 */
import { defineConfig } from "rolldown"
import about from "./package.json" with { type: "json" }

/** `./Fetcher` → src/orchestrator/Fetcher.ts: each export's types say where its source is. */
const input = Object.fromEntries(
  Object.entries(about.exports).flatMap(([name, target]) =>
    typeof target === "string"
      ? []
      : [[name.slice(2), target.types.replace("./dist/types/", "").replace(/\.d\.ts$/, ".ts")]]
  )
)

export default defineConfig({
  input,
  platform: "node",
  external: /^effect(\/|$)/,
  resolve: { mainFields: ["module", "main"] },
  output: {
    dir: "dist/lib",
    cleanDir: true,
    format: "esm",
    chunkFileNames: "shared/[name].js",
    comments: { legal: true }
  }
})
