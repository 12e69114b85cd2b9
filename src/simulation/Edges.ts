/**
 * The contracts of the simulated edges: what `Simulation` and the rules need of
 * them besides the services that the production stack gets.
 */
import type { Layer } from "effect"
import type { Endpoint } from "../domain/State.ts"
import type { Commands } from "../haproxy/Commands.ts"
import type { ConfigFile } from "../haproxy/ConfigFile.ts"
import type { HaproxySocket } from "../haproxy/HaproxySocket.ts"
import type { Reloader } from "../haproxy/Reloader.ts"
import type { Fetcher } from "../orchestrator/Fetcher.ts"
import type { Failure } from "./Event.ts"

/** The servers behind HAProxy: whether each one answers now. Unknown ones do not. */
export interface Fleet {
  readonly isAlive: (endpoint: Endpoint) => boolean
  /** The same, of an `endpointKey`. */
  readonly isAliveKey: (key: string) => boolean
  readonly set: (endpoint: Endpoint, isAlive: boolean) => void
  /** How often an answer of `isAlive` has changed so far, so that nobody has to ask for every server again and again. */
  readonly changes: () => number
}

/** One server of a backend in one process, as HAProxy itself sees it. */
export interface ServerView {
  readonly backend: string
  readonly name: string
  /** It is one that ep2 may have named: `node7`. */
  readonly isOwn: boolean
  readonly endpoint: Endpoint
  /** `endpointKey` of it. */
  readonly key: string
  /** New requests are balanced onto it. */
  readonly takesTraffic: boolean
  /** Ready and at full weight, whatever its health: it would take traffic if it was up. */
  readonly isStanding: boolean
}

/** A process that runs. Old ones, after a reload, finish their sessions and take no new ones: they are not here. */
export interface ProcessView {
  readonly socket: string
  readonly pid: number
  readonly mark: string | undefined
  readonly servers: ReadonlyArray<ServerView>
  /** The servers of one backend, which cost less. */
  readonly serversOf: (backend: string) => ReadonlyArray<ServerView>
}

/** Hears of whatever may change what HAProxy serves. */
export interface Listener {
  /** Called before it happens, at the time at which it does. */
  readonly before: (nowMillis: number) => void
  /** Called after it. */
  readonly after: (nowMillis: number) => void
}

/** A HAProxy in virtual time, and the hands that a scenario has on it. */
export interface SimulatedHaproxy {
  readonly sockets: Layer.Layer<HaproxySocket>
  readonly reloader: Layer.Layer<Reloader, never, ConfigFile>
  /** `haproxy -c`: takes every config, unless `refuseConfigs` says otherwise. */
  readonly commands: Layer.Layer<Commands>
  /** Lets time go by until then: checks are made, sessions end. Called before anything is asked or changed. */
  readonly advance: (nowMillis: number) => void
  /** When something changes next by itself; infinite if nothing does. */
  readonly nextMillis: () => number
  /** Each command that changes something, each check that does, each start, reload and end, from now on. */
  readonly hear: (listener: Listener) => void
  readonly processes: () => ReadonlyArray<ProcessView>
  /** A session begins on a server and ends by itself at that time, unless it is shut down. */
  readonly open: (socket: string, backend: string, server: string, untilMillis: number) => void
  /** Sessions in progress on a server; 0 where there is no such server. */
  readonly sessions: (socket: string, backend: string, server: string) => number
  /** How many commands were asked and how many reloads succeeded, so far. */
  readonly counts: () => { readonly commands: number; readonly reloads: number }

  /** Starts all processes from a config's text, as its owner does. Those that run are ended first, with their sessions. */
  readonly start: (configText: string) => void
  /** New processes take over from those that run, which finish their sessions; also where none runs. */
  readonly reload: (configText: string) => void
  /** Ends a process with its sessions, or all of them. It is down until `start`, or a reload. */
  readonly killProcess: (index?: number) => void
  /** A socket accepts and answers nothing until then. What was sent to it meanwhile is carried out then, also when nobody waits any more. */
  readonly silence: (index: number, untilMillis: number) => void
  /** The reply of the n-th next command on a socket (from 1) is cut short, and the connection closed: it is carried out, and none behind it. */
  readonly cutReplyAt: (index: number, command: number) => void
  /** The next connections to a socket are refused. */
  readonly failNextConnections: (index: number, count: number) => void
  /** The signals of the next reloads get lost: each ends in a `ReloadError` (`TimedOut`), and the old processes serve on. */
  readonly failNextReloads: (count: number) => void
  /** `haproxy -c` says no, and a reload fails. */
  readonly refuseConfigs: (isRefused: boolean) => void
  /** What an operator types on every socket: `set server web/node1 state maint`. */
  readonly type: (command: string) => void
}

/** What the source said, and when. */
export interface Answer {
  readonly atMillis: number
  readonly endpoints: ReadonlyArray<Endpoint>
}

/** A source in virtual time, and the hands that a scenario has on it. */
export interface SimulatedSource {
  readonly layer: Layer.Layer<Fetcher>
  /** Is called with each answer that is given whole, from now on. */
  readonly hear: (listener: (backend: string, answer: Answer) => void) => void
  /** What it names from now on; whoever waits for a change is woken. */
  readonly want: (backend: string, endpoints: ReadonlyArray<Endpoint>) => void
  readonly wanted: (backend: string) => ReadonlyArray<Endpoint>
  readonly fail: (backend: string, failure: Failure) => void
  /** Only the next so many asks fail. */
  readonly failNext: (backend: string, count: number, failure: Failure) => void
  readonly empty: (backend: string) => void
  readonly slow: (backend: string, millis: number) => void
  /** As it should be again. */
  readonly answer: (backend: string) => void
  /** The last answer that was given whole, and when: what the source has vouched for. */
  readonly lastAnswer: (backend: string) => Answer | undefined
  /** Calls so far, of all backends. */
  readonly calls: () => number
}
