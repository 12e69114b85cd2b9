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
 * Waiting is counted from the last good answer, or from the start of ep2 where
 * there is none yet. A line comes with the try that finds it due, and tries are at
 * most a minute or `sleep_before_next_run` apart, and what one of them takes.
 */
import { Clock, Context, Effect, Layer } from "effect"
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

export interface Failing {
  /** Failed asks since the last answer. */
  readonly tries: number
  /** What the last one of them found. */
  readonly error: FetchError
}

export class SourceReport extends Context.Service<
  SourceReport,
  {
    /** Takes note of one ask, `undefined` being a good answer, and logs what there is to say. */
    readonly heard: (backend: string, trouble: Trouble | undefined) => Effect.Effect<void>
    /** What is known of a backend's source now. */
    readonly state: (backend: string) => Effect.Effect<SourceState>
  }
>()("ep2/controller/SourceReport") {
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
  /** The `stage` that was said last. */
  stage: number
}

const make = Effect.gen(function* () {
  const startedAtMillis = yield* Clock.currentTimeMillis
  const memories = new Map<string, Memory>()

  const memoryOf = (backend: string): Memory => {
    const memory = memories.get(backend) ?? {
      state: { answeredAtMillis: undefined, failing: undefined },
      said: new Set(),
      stage: 0
    }
    memories.set(backend, memory)
    return memory
  }

  const answered = Effect.fnUntraced(function* (memory: Memory, nowMillis: number) {
    const { answeredAtMillis, failing } = memory.state
    memory.state = { answeredAtMillis: nowMillis, failing: undefined }
    memory.said.clear()
    if (failing === undefined) return
    const { error, tries } = failing
    const away = inWords(nowMillis - (answeredAtMillis ?? startedAtMillis))
    const again = answeredAtMillis === undefined ? "answers" : "answers again"
    yield* Effect.logInfo(`the source ${again} after ${away} (${inNumber(tries)}): ${error.target}`)
  })

  const failed = Effect.fnUntraced(function* (memory: Memory, nowMillis: number, { error, isTransient }: Trouble) {
    const { answeredAtMillis, failing } = memory.state
    const tries = (failing?.tries ?? 0) + 1
    memory.state = { answeredAtMillis, failing: { tries, error } }
    const now = stage(nowMillis - (answeredAtMillis ?? startedAtMillis))
    // An outage begins with the source's own words, however old its last answer was by then.
    const isOlder = failing !== undefined && now > memory.stage
    if (failing === undefined || isOlder) memory.stage = now
    const kind = isTransient ? error.reason : error.message
    const isNew = !memory.said.has(kind) && memory.said.size < maxKinds
    if (isNew) memory.said.add(kind)
    if (isOlder) yield* Effect.logWarning(ageLine(memory.state, startedAtMillis, nowMillis))
    else if (isNew) yield* Effect.logWarning(firstLine(memory.state, error))
    else yield* Effect.logDebug(error.message)
  })

  return SourceReport.of({
    heard: Effect.fnUntraced(function* (backend: string, trouble: Trouble | undefined) {
      const nowMillis = yield* Clock.currentTimeMillis
      const memory = memoryOf(backend)
      yield* trouble === undefined ? answered(memory, nowMillis) : failed(memory, nowMillis, trouble)
    }),
    state: (backend) => Effect.sync(() => memoryOf(backend).state)
  })
})

const firstLine = ({ answeredAtMillis }: SourceState, { message }: FetchError): string =>
  answeredAtMillis === undefined ? `waiting for the source: ${message}` : message

const ageLine = ({ answeredAtMillis, failing }: SourceState, startedAtMillis: number, nowMillis: number): string => {
  const sinceMillis = answeredAtMillis ?? startedAtMillis
  const since = new Date(sinceMillis).toISOString().replace(/\.\d+Z$/, "Z")
  const silent = `the source has not answered for ${inWords(nowMillis - sinceMillis)}`
  const tries = inNumber(failing?.tries ?? 0)
  const message = failing?.error.message ?? ""
  return answeredAtMillis === undefined
    ? `${silent}, and not once since ep2 started (${since}, ${tries}): HAProxy is left as it is; ${message}`
    : `${silent} (since ${since}, ${tries}): HAProxy serves its answer of then; ${message}`
}

const minute = 60_000

/**
 * How many times a silence of this length is to have been said: at 1, 2, 4, … and
 * 64 minutes, and each hour after that.
 */
export const stage = (silentMillis: number): number => {
  const minutes = Math.floor(silentMillis / minute)
  if (minutes < 64) return 32 - Math.clz32(Math.max(0, minutes))
  return 7 + Math.floor((minutes - 64) / 60)
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
