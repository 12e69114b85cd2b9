/**
 * A source of one's own from one function that says what there is: `orchestrator =
 * custom`. docs/writing-a-source.md has an example.
 */
import { Duration, Effect, Layer } from "effect"
import { type Candidate, vet } from "./Candidate.ts"
import { FetchError, Fetcher, oneLine } from "./Fetcher.ts"
import * as HostNames from "./HostNames.ts"

export type { Candidate } from "./Candidate.ts"

/** What a source of one's own has to say. */
export interface Options {
  /**
   * Says what should take traffic in a backend now: all of it, or it fails. An empty
   * list says "nothing". `address` may be an IPv4 or IPv6 address or a host name.
   *
   * Asked each `sleep_before_next_run`, and less often while it fails.
   */
  readonly ask: (backend: string) => Effect.Effect<ReadonlyArray<Candidate>, FetchError>
  /** As `Fetcher` has it, for a source that can tell when to ask again. Without it, only the clock tells. */
  readonly awaitChange?: Fetcher["Service"]["awaitChange"]
  /** How long an answer may take before it counts as none (`Unavailable`). Default 10 seconds. */
  readonly timeout?: Duration.Duration
}

/**
 * A `Fetcher` for any backend that `ask` knows. What cannot be served (no address, a
 * bad port, a host name without an address) is refused by itself and logged; a host
 * name that cannot be looked up fails the answer as a whole.
 */
export const layer = ({ ask, awaitChange = () => Effect.never, timeout = Duration.seconds(10) }: Options) =>
  Layer.effect(
    Fetcher,
    Effect.gen(function* () {
      const hostNames = yield* HostNames.make({})
      const fetch = Effect.fn("CustomFetcher.fetch")(function* (backend: string) {
        const target = `the source of ${oneLine(backend)}`
        const detail = `no answer within ${Duration.toSeconds(timeout)} s`
        const candidates = yield* ask(backend).pipe(
          Effect.timeoutOrElse({
            duration: timeout,
            orElse: () => Effect.fail(new FetchError({ target, reason: "Unavailable", detail }))
          })
        )
        return yield* vet({ candidates, refused: [] }, { backend, target, hostNames })
      })
      return Fetcher.of({ fetch, awaitChange })
    })
  )
