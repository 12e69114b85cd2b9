/**
 * Where desired state comes from. Each source provides this service: one file,
 * and one line in `cli/` where the layers meet.
 */
import { Context, type Effect, Schema } from "effect"
import type { DesiredState } from "../domain/State.ts"

/** The orchestrator gave no usable answer. What HAProxy serves now still stands. */
export class FetchError extends Schema.TaggedError<FetchError>()("FetchError", {
  /** What was asked, as the operator knows it: `Consul service "web" at http://127.0.0.1:8500`, a file's path. */
  target: Schema.String,
  /**
   * - `Unavailable`: refused, reset, too slow, 5xx. Waiting can help.
   * - `Throttled`: asked too often. Waiting can help.
   * - `Unauthorized`: credentials missing, wrong, or not enough.
   * - `TargetMissing`: the group, file or datacenter does not exist.
   * - `BadResponse`: an answer that is not what the API promises.
   */
  reason: Schema.Literals(["Unavailable", "Throttled", "Unauthorized", "TargetMissing", "BadResponse"]),
  /** What was found, what was expected and what to do, in one line without a full stop. */
  detail: Schema.String,
  cause: Schema.optional(Schema.Defect())
}) {
  override get message() {
    return `${this.target}: ${this.detail}`
  }
}

/** What a source answers: what is wanted now, and when it is time to ask again. */
export class Fetcher extends Context.Service<
  Fetcher,
  {
    /**
     * Reads the endpoints of one backend that should take traffic now.
     *
     * No endpoints means the orchestrator said "none". Failing to find out is a
     * `FetchError`, never an empty list.
     */
    readonly fetch: (backend: string) => Effect.Effect<DesiredState, FetchError>
    /**
     * Returns when the answer of `fetch` may have changed since it last
     * succeeded, and never before; the caller then fetches. It may return
     * without a change. Where the source cannot tell (nothing to watch, the
     * watch broke) it fails, and the caller waits its poll interval.
     *
     * At most one call per backend runs at a time; it is interruptible, and
     * may wait for ever.
     */
    readonly awaitChange: (backend: string) => Effect.Effect<void, FetchError>
  }
>()("ep2/orchestrator/Fetcher") {}

/**
 * Words of others, fit to stand in one line of ours: no control characters, no
 * line ends, no invisible or reordering ones, and at most `limit` characters.
 */
export const oneLine = (text: string, limit = 200): string => {
  const clean = text
    .slice(0, limit * 4)
    .replace(/[\p{C}\p{Z}]+/gu, " ")
    .trim()
  // Not in the middle of a character, whose half would be one that no log can write.
  return clean.length > limit ? `${clean.slice(0, limit).replace(/\p{Cs}$/u, "")}…` : clean
}
