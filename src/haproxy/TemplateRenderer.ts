/**
 * Turns the template and the servers of each backend into the text of HAProxy's
 * config file, and reads ep2's servers back from such a text.
 */
import { Context, type Effect, Schema } from "effect"
import type { Endpoint } from "../domain/State.ts"

/** The template cannot be rendered. The config file that is there stays. */
export class RenderError extends Schema.TaggedError<RenderError>()("RenderError", {
  /** Path of the template. */
  template: Schema.String,
  /** Line in the template, from 1, where one is known. */
  line: Schema.optionalKey(Schema.Int),
  /** What was found, what was expected and what to write instead. */
  detail: Schema.String
}) {
  override get message() {
    return `${this.template}${this.line === undefined ? "" : `:${this.line}`}: ${this.detail}`
  }
}

/** One of ep2's servers, as it stands in the config file. */
export interface ServerLine {
  /** `node<N>`. */
  readonly name: string
  readonly endpoint: Endpoint
  /** A free slot (on the placeholder address) or one that the operator holds. */
  readonly isDisabled: boolean
}

/** ep2's servers of one backend, in the order of the file. */
export interface BackendServers {
  readonly backend: string
  readonly servers: ReadonlyArray<ServerLine>
}

export interface Rendered {
  /** The whole config file, ending in a line feed. */
  readonly text: string
  /** Hash over template and settings, but not over the servers: what `setenv EP2_CONFIG` in the text says. */
  readonly mark: string
  /** The template's line that a line of the text came from; both from 1. */
  readonly templateLine: (line: number) => number | undefined
}

export class TemplateRenderer extends Context.Service<
  TemplateRenderer,
  {
    /** Reads the template and renders it. Every backend of the settings must be given. */
    readonly render: (backends: ReadonlyArray<BackendServers>) => Effect.Effect<Rendered, RenderError>
  }
>()("ep2/haproxy/TemplateRenderer") {}
