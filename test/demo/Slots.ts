/** Which slot of HAProxy each server has now, as HAProxy itself says it. */
import { connect } from "node:net"
import { Effect } from "effect"
import { endpointKey } from "../../src/domain/State.ts"
import { backend } from "./Sandbox.ts"

export interface Slot {
  /** `node3` */
  readonly name: string
  readonly state: "serving" | "draining" | "down"
}

export interface Slots {
  /** The process that answers; every reload makes another one. */
  readonly pid: number
  /** The taken slots by the endpoint in them, as `endpointKey` spells it. */
  readonly byEndpoint: ReadonlyMap<string, Slot>
}

/** Asks the process behind a runtime socket; undefined while there is none that answers. */
export const read = (socket: string): Effect.Effect<Slots | undefined> =>
  Effect.map(ask(socket, `show info;show servers state ${backend}\n`), (text) => {
    const pid = Number(/^Pid: (\d+)$/m.exec(text)?.[1] ?? 0)
    const lines = text.split("\n")
    const header = lines.find((line) => line.startsWith("# be_id"))
    if (pid === 0 || header === undefined) return undefined
    const columns = header.slice(2).split(" ")
    const byEndpoint = new Map<string, Slot>()
    for (const line of lines) {
      const cells = line.split(" ")
      const cell = (column: string) => cells[columns.indexOf(column)] ?? ""
      if (cell("be_name") !== backend || line.startsWith("#")) continue
      // Maintenance from any side, which is how a free slot stands.
      if ((Number(cell("srv_admin_state")) & 0x23) !== 0) continue
      const isDown = cell("srv_op_state") === "0"
      const state = cell("srv_uweight") === "0" ? "draining" : isDown ? "down" : "serving"
      const key = endpointKey({ address: cell("srv_addr"), port: Number(cell("srv_port")) })
      byEndpoint.set(key, { name: cell("srv_name"), state })
    }
    return { pid, byEndpoint }
  })

/** The reply, which ends with the connection; empty where nobody answers. */
const ask = (path: string, command: string) =>
  Effect.callback<string>((resume) => {
    let reply = ""
    const socket = connect({ path }, () => socket.write(command))
    socket.setTimeout(1000, () => socket.destroy())
    socket.on("data", (data) => {
      reply += data.toString("utf8")
    })
    socket.on("error", () => undefined)
    socket.on("close", () => resume(Effect.succeed(reply)))
    return Effect.sync(() => socket.destroy())
  })
