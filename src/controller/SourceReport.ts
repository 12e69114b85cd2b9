/**
 * How old the last good answer of each source is, and what the log says of one
 * that fails.
 *
 *   the source                            the log
 *   ------------------------------------  --------------------------------------------
 *   fails in another way than before      a warning with its words, once per outage
 *   has been silent for 1, 2, 4 … 64 min  a warning with the age of what is served
 *   … and for each hour after that        the same
 *   answers again                         for how long it was away
 *
 * The silence is counted from the last good answer, or from the start of ep2 where
 * there is none yet. Its lines come by the clock and not with the tries, which are
 * a minute apart by then and may take as long.
 */
import { Clock, Context, Effect, FiberMap, Layer } from "effect"
import type { FetchError } from "../orchestrator/Fetcher.ts"

/** Why an ask gave no answer. */
export interface Trouble {
  readonly error: FetchError
  /** Waiting can help: its words then change with each try, and mean the same. */
  readonly isTransient: boolean
}

/** What is known of a source. Times are the `Clock`'s. */
export interface SourceState {
  /** When it last answered: as old is what is served. `undefined` while it never has. */
  readonly answeredAtMillis: number | undefined
  /** `undefined` while it answers. */
  readonly failing: Failing | undefined
}

/** A source that does not answer, since its last good answer. */
export interface Failing {
  /** Failed asks since the last answer. */
  readonly tries: number
  /** What the last one of them found. */
  readonly error: FetchError
}

/** Knows of each source whether it answers, and logs each change of that once. */
export class SourceReport extends Context.Service<
  SourceReport,
  {
    /** Takes note of one ask, `undefined` being a good answer, and logs what there is to say. */
    readonly heard: (backend: string, trouble: Trouble | undefined) => Effect.Effect<void>
    /** What is known of a backend's source now. */
    readonly state: (backend: string) => Effect.Effect<SourceState>
  }
>()("ep2/controller/SourceReport") {
  /** Begins with sources that nothing is known of. */
  static readonly layer = Layer.effect(
    SourceReport,
    Effect.suspend(() => make)
  )
}

/** So many kinds of trouble are put into words in one outage; beyond them only its age is said. */
const maxKinds = 20

interface Memory {
  state: SourceState
  /** Kinds of trouble that were said in this outage. */
  readonly said: Set<string>
}

const make = Effect.gen(function* () {
  const startedAtMillis = yield* Clock.currentTimeMillis
  const memories = new Map<string, Memory>()
  /** One per source that fails. */
  const ages = yield* FiberMap.make<string>()

  const memoryOf = (backend: string): Memory => {
    const memory = memories.get(backend) ?? {
      state: { answeredAtMillis: undefined, failing: undefined },
      said: new Set()
    }
    memories.set(backend, memory)
    return memory
  }

  const answered = Effect.fnUntraced(function* (backend: string, memory: Memory, nowMillis: number) {
    const { answeredAtMillis, failing } = memory.state
    yield* FiberMap.remove(ages, backend)
    memory.state = { answeredAtMillis: nowMillis, failing: undefined }
    memory.said.clear()
    if (failing === undefined) return
    const { error, tries } = failing
    const away = inWords(nowMillis - (answeredAtMillis ?? startedAtMillis))
    const again = answeredAtMillis === undefined ? "answers" : "answers again"
    yield* Effect.logInfo(`the source ${again} after ${away} (${inNumber(tries)}): ${error.target}`)
  })

  const failed = Effect.fnUntraced(function* (backend: string, memory: Memory, { error, isTransient }: Trouble) {
    const { answeredAtMillis, failing } = memory.state
    memory.state = { answeredAtMillis, failing: { tries: (failing?.tries ?? 0) + 1, error } }
    yield* FiberMap.run(ages, backend, sayAge(memory), { onlyIfMissing: true })
    const kind = isTransient ? error.reason : error.message
    if (memory.said.has(kind) || memory.said.size >= maxKinds) return yield* Effect.logDebug(error.message)
    memory.said.add(kind)
    yield* Effect.logWarning(firstLine(memory.state, error))
  })

  const sayAge = Effect.fnUntraced(function* (memory: Memory) {
    const sinceMillis = memory.state.answeredAtMillis ?? startedAtMillis
    const silence = Effect.map(Clock.currentTimeMillis, (nowMillis) => nowMillis - sinceMillis)
    let silentMillis = yield* silence
    let dueMillis = nextDueMillis(silentMillis)
    while (true) {
      yield* Effect.sleep(dueMillis - silentMillis)
      silentMillis = yield* silence
      yield* Effect.logWarning(ageLine(memory.state, sinceMillis, silentMillis))
      // A timer may be a millisecond early, and much too late on a machine that slept.
      dueMillis = nextDueMillis(Math.max(dueMillis, silentMillis))
    }
  })

  return SourceReport.of({
    heard: Effect.fnUntraced(function* (backend: string, trouble: Trouble | undefined) {
      const nowMillis = yield* Clock.currentTimeMillis
      const memory = memoryOf(backend)
      yield* trouble === undefined ? answered(backend, memory, nowMillis) : failed(backend, memory, trouble)
    }),
    state: (backend) => Effect.sync(() => memoryOf(backend).state)
  })
})

const firstLine = ({ answeredAtMillis }: SourceState, { message }: FetchError): string =>
  answeredAtMillis === undefined ? `waiting for the source: ${message}` : message

const ageLine = ({ answeredAtMillis, failing }: SourceState, sinceMillis: number, silentMillis: number): string => {
  const since = new Date(sinceMillis).toISOString().replace(/\.\d+Z$/, "Z")
  const silent = `the source has not answered for ${inWords(silentMillis)}`
  const tries = inNumber(failing?.tries ?? 0)
  const message = failing?.error.message ?? ""
  return answeredAtMillis === undefined
    ? `${silent}, and not once since ep2 started (${since}, ${tries}): HAProxy has what it had; ${message}`
    : `${silent} (since ${since}, ${tries}): HAProxy serves its answer of then; ${message}`
}

const minute = 60_000

/**
 * How long a silence has lasted when it is to be said next: the first of 1, 2, 4, …
 * and 64 minutes, and each hour after that, that is still to come.
 */
export const nextDueMillis = (silentMillis: number): number => {
  let due = minute
  while (due <= silentMillis) due = Math.min(due * 2, due + 60 * minute)
  return due
}

const inNumber = (tries: number): string => (tries === 1 ? "1 try" : `${tries} tries`)

/** `40 s`, `4 min`, `1 h 4 min`, `2 d 3 h`: what is too small to matter is left out. */
export const inWords = (millis: number): string => {
  const seconds = Math.max(1, Math.round(millis / 1000))
  const minutes = Math.floor(seconds / 60)
  const hours = Math.floor(minutes / 60)
  const two = (great: string, small: number, unit: string) => (small === 0 ? great : `${great} ${small} ${unit}`)
  if (minutes === 0) return `${seconds} s`
  if (hours === 0) return `${minutes} min`
  if (hours < 24) return two(`${hours} h`, minutes % 60, "min")
  return two(`${Math.floor(hours / 24)} d`, hours % 24, "h")
}
