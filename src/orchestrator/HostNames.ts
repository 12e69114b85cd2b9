/**
 * Host names where a source should have given an address. HAProxy takes a name
 * over its socket and never resolves it, so ep2 does.
 */
import { lookup as systemLookup } from "node:dns/promises"
import { Duration, Effect, Fiber, Result, Schema, Semaphore } from "effect"
import { oneLine } from "./Fetcher.ts"

/** Whether the name has addresses could not be found out. It says nothing about the name. */
export class Unresolved extends Schema.TaggedError<Unresolved>()("Unresolved", {
  name: Schema.String,
  /** What the resolver said, in a few words: `EAI_AGAIN`, `no answer within 5 s`. */
  detail: Schema.String
}) {}

/** The addresses of a name, best first and never none, or why it has none, worded to follow the name. */
export type Resolution = Result.Result<ReadonlyArray<string>, string>

/** Looks up names, and remembers what each was. */
export interface HostNames {
  /**
   * Looks a name up.
   *
   * Best is the one that was best before, as long as the name still has it, so that an endpoint
   * keeps its server; else IPv4 before IPv6, in the order of their text. While the resolver cannot
   * tell, the last answer stands, without limit of time; a name that was never resolved fails with
   * `Unresolved`.
   */
  readonly resolve: (name: string) => Effect.Effect<Resolution, Unresolved>
}

/** Asks for the addresses of a name, as `dns.lookup` does: rejects with a `code`, `ENOTFOUND` for "there is none". */
export type Lookup = (name: string) => Promise<ReadonlyArray<{ readonly address: string; readonly family: number }>>

/**
 * Whether this is written as a host name: labels of letters, digits, `-` and `_`, 253 characters at
 * most. What a resolver would read as an address in an old notation (`127.1`, `0x7f000001`) is none.
 */
export const isHostName = (text: string): boolean =>
  text.length <= 253 &&
  /^(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.?$/i.test(text) &&
  !/(?:^|\.)(?:\d+|0x[0-9a-f]*)\.?$/i.test(text)

/**
 * Lookups run two at a time, since each holds one of the four threads that Node
 * has for files as well, for as long as the system's resolver takes.
 */
export const make = Effect.fnUntraced(function* (options: {
  readonly lookup?: Lookup | undefined
  /** How long a caller waits for one name. */
  readonly patience?: Duration.Duration | undefined
}) {
  const lookup = options.lookup ?? ((name) => systemLookup(name, { all: true }))
  const patience = options.patience ?? Duration.seconds(5)
  const scope = yield* Effect.scope
  const turns = yield* Semaphore.make(2)
  const running = new Map<string, Fiber.Fiber<ReadonlyArray<string>, Unresolved>>()
  const known = new Map<string, ReadonlyArray<string>>()

  // A caller that lost its patience leaves the lookup running, and the next one joins it: a resolver that hangs is
  // asked once and not once more with every fetch.
  const ask = Effect.fnUntraced(function* (name: string) {
    const before = running.get(name)
    if (before !== undefined) return yield* Fiber.join(before)
    const fiber = yield* Effect.tryPromise({
      try: () => lookup(name).catch(noneIfUnknown),
      catch: (cause) =>
        new Unresolved({ name, detail: oneLine((cause as NodeJS.ErrnoException).code ?? String(cause)) })
    }).pipe(Effect.map(inOrder), turns.withPermits(1), Effect.forkIn(scope))
    running.set(name, fiber)
    fiber.addObserver(() => running.delete(name))
    return yield* Fiber.join(fiber)
  })

  const judge = (name: string, addresses: ReadonlyArray<string>): Resolution => {
    if (addresses.length === 0) return Result.fail("is not known to DNS")
    const first = known.get(name)?.[0]
    const best = first !== undefined && addresses.includes(first) ? first : addresses[0]!
    const all = [best, ...addresses.filter((one) => one !== best)]
    remember(known, name, all)
    return Result.succeed(all)
  }

  const resolve = (name: string) =>
    ask(name).pipe(
      Effect.timeoutOrElse({
        duration: patience,
        orElse: () => new Unresolved({ name, detail: `no answer within ${Duration.toSeconds(patience)} s` })
      }),
      Effect.map((addresses) => judge(name, addresses)),
      Effect.catch((unresolved) => {
        const last = known.get(name)
        return last === undefined ? Effect.fail(unresolved) : Effect.succeed<Resolution>(Result.succeed(last))
      })
    )

  return { resolve } satisfies HostNames
})

const noneIfUnknown = (cause: NodeJS.ErrnoException) => {
  if (cause.code === "ENOTFOUND") return []
  throw cause
}

const inOrder = (found: ReadonlyArray<{ readonly address: string; readonly family: number }>): ReadonlyArray<string> =>
  [...found]
    .sort((a, b) => a.family - b.family || (a.address < b.address ? -1 : a.address > b.address ? 1 : 0))
    .map(({ address }) => address)

/** Names that no source gives any more are forgotten in the order in which they were last resolved. */
const remembered = 10_000

const remember = (known: Map<string, ReadonlyArray<string>>, name: string, addresses: ReadonlyArray<string>) => {
  known.delete(name)
  known.set(name, addresses)
  const oldest = known.keys().next().value
  if (known.size > remembered && oldest !== undefined) known.delete(oldest)
}
