/** A template in a folder of its own, rendered as ep2 renders it. */
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as NodeFileSystem from "@effect/platform-node/NodeFileSystem"
import { Effect, Layer } from "effect"
import type { ServerLine } from "../../src/haproxy/ServerRegion.ts"
import { type BackendOptions, TemplateRenderer } from "../../src/haproxy/TemplateRenderer.ts"

/** A server line; an address and port of the slot's number where none is given. */
export const line = (number: number, some: Partial<ServerLine> = {}): ServerLine => ({
  name: `node${number}`,
  endpoint: { address: `10.0.0.${number}`, port: 80 },
  isDisabled: false,
  ...some
})

/** Path of a file with that content, which is gone when the scope ends. */
export const fileWith = Effect.fnUntraced(function* (content: string | Uint8Array) {
  const folder = yield* Effect.acquireRelease(
    Effect.promise(() => mkdtemp(join(tmpdir(), "ep2-t-"))),
    (path) => Effect.promise(() => rm(path, { recursive: true, force: true }))
  )
  const file = join(folder, "haproxy.cfg.template")
  yield* Effect.promise(() => writeFile(file, content))
  return file
})

/** Renders a file with one server for each backend, or with those that are given for all of them. */
export const renderFile = (
  templateFile: string,
  backends: ReadonlyArray<BackendOptions> = [{ name: "app" }],
  servers: ReadonlyArray<ServerLine> = [line(1)]
) =>
  TemplateRenderer.use(({ render }) => render(backends.map(({ name }) => ({ backend: name, servers })))).pipe(
    Effect.provide(TemplateRenderer.layer({ templateFile, backends }).pipe(Layer.provide(NodeFileSystem.layer)))
  )

/** Renders a template's text. */
export const render = (
  template: string | Uint8Array,
  backends?: ReadonlyArray<BackendOptions>,
  servers?: ReadonlyArray<ServerLine>
) => Effect.flatMap(fileWith(template), (file) => renderFile(file, backends, servers))
