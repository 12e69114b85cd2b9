/** What tests read out of HAProxy's replies. */
import type { Server } from "../../src/domain/State.ts"
import * as RuntimeApi from "../../src/haproxy/RuntimeApi.ts"
import * as ServerTable from "../../src/haproxy/ServerTable.ts"

/** The servers of a backend; none where the reply is not a whole table of it. */
export const parseServers = (
  reply: string,
  stats: ReadonlyMap<string, RuntimeApi.Stat> = new Map(),
  backend = "web"
): ReadonlyArray<Server> => RuntimeApi.withStats(ServerTable.read(backend, reply)?.servers ?? [], stats)
