/** A real HAProxy with a pool for the bench, and ep2's own edge to it. */
import { Effect, Layer } from "effect"
import type { Endpoint } from "../../src/domain/State.ts"
import * as EndState from "../../src/haproxy/EndState.ts"
import { Haproxy } from "../../src/haproxy/Haproxy.ts"
import { HaproxySocket } from "../../src/haproxy/HaproxySocket.ts"
import type * as Binaries from "../servers/Binaries.ts"
import * as HaproxyServer from "../servers/HaproxyServer.ts"

/** What every server has that is added. Checks are so far apart that none of them falls into a measurement. */
const addedOptions = "check inter 1h"

export interface Options {
  readonly version: Binaries.HaproxyVersion
  /** By `nbproc`. */
  readonly processes: number
  /** Of each backend. */
  readonly slots: number
  /** `web` alone, unless others are named. */
  readonly backends?: ReadonlyArray<string>
}

/** Starts it. Its slots have no check: 20,000 of them would need more files than a process may open. */
export const make = Effect.fnUntraced(function* ({ backends = ["web"], processes, slots, version }: Options) {
  const server = yield* HaproxyServer.make({
    version,
    sockets: processes,
    config: ({ dir, sockets }) => `global
${processes > 1 ? `  nbproc ${processes}\n` : ""}${sockets
  .map((socket, index) => `  stats socket ${socket} level admin${processes > 1 ? ` process ${index + 1}` : ""}`)
  .join("\n")}
  stats timeout 2m
${HaproxyServer.defaults}
${backends
  .map(
    (name) => `listen ${name}
  bind ${dir}/${name}.sock
  balance roundrobin
${Array.from({ length: slots }, (_, index) => `  server node${index + 1} 127.0.0.1:1 disabled\n`).join("")}`
  )
  .join("")}`
  })
  yield* server.start
  return server
})

/** Commands as they go to a process. */
export interface Sent {
  readonly socket: string
  readonly command: string
}

/** ep2's own `Haproxy` on these sockets, and what it sends. */
export const connect = Effect.fnUntraced(function* (sockets: ReadonlyArray<string>) {
  const sent: Array<Sent> = []
  let isHeard = false
  const real = HaproxySocket.layer({ sockets })
  const heard = Layer.effect(
    HaproxySocket,
    Effect.map(HaproxySocket, ({ session, sockets }) =>
      HaproxySocket.of({
        sockets,
        session: (socket, options) =>
          Effect.map(session(socket, options), (open) => ({
            ...open,
            ask: (commands: ReadonlyArray<string>) => {
              if (isHeard) sent.push(...commands.map((command) => ({ socket, command })))
              return open.ask(commands)
            }
          }))
      })
    )
  )
  const haproxy = Haproxy.layer({ placeholder: EndState.placeholder, lineOptions: new Map([["web", addedOptions]]) })
  const services = yield* Layer.build(haproxy.pipe(Layer.provide(heard), Layer.provide(real)))
  /** What an effect sends. */
  const hear = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.suspend(() => {
      sent.length = 0
      isHeard = true
      return Effect.map(effect, (value) => {
        isHeard = false
        return { value, sent: [...sent] }
      })
    })
  return { haproxy: yield* Effect.provide(Haproxy, services), hear }
})

/** Endpoints with these numbers, from 0. Nobody listens there. */
export const endpoints = (first: number, count: number): ReadonlyArray<Endpoint> =>
  Array.from({ length: count }, (_, index) => {
    const number = first + index
    return { address: `10.${number >> 16}.${(number >> 8) & 255}.${number & 255}`, port: 8080 }
  })
