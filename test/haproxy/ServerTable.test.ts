/** What `ServerTable` makes of a table against the one before it. What it makes of a single one is in RuntimeApi.test.ts. */
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { assert, describe, it } from "@effect/vitest"
import * as ServerTable from "../../src/haproxy/ServerTable.ts"

const header =
  "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight " +
  "srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state " +
  "bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord"

const row = (name: string, { address = "10.0.0.1", seconds = 5, weight = 1 } = {}) =>
  `3 web 1 ${name} ${address} 2 0 ${weight} 1 ${seconds} 6 3 4 6 0 0 0 - 80 -`

const table = (...rows: ReadonlyArray<string>) => ["1", header, ...rows].join("\n")

const read = (reply: string, last?: ServerTable.ServerTable) => {
  const result = ServerTable.read("web", reply, last)
  assert.isDefined(result)
  return result!
}

describe("ServerTable", () => {
  it("gives the very same servers where only time has gone by", () => {
    const first = read(table(row("node1"), row("node2")))

    const second = read(table(row("node1", { seconds: 6 }), row("node2", { seconds: 17 })), first)

    assert.strictEqual(second.servers, first.servers)
  })

  it("reads a row that has changed anew, and keeps the others", () => {
    const first = read(table(row("node1"), row("node2"), row("node3")))

    const second = read(table(row("node1"), row("node2", { weight: 0 }), row("node3", { seconds: 6 })), first)

    assert.strictEqual(second.servers[0], first.servers[0])
    assert.deepStrictEqual(
      second.servers.map(({ isMarked }) => isMarked),
      [false, true, false]
    )
    assert.strictEqual(second.servers[2], first.servers[2])
  })

  it("comes to what a reading from nothing comes to, whatever the table before was", () => {
    const tables = [
      table(row("node1"), row("node2")),
      table(row("node2"), row("node1")),
      table(row("node1")),
      table(),
      table(row("node1", { address: "10.0.0.9" }), row("node2"), row("node3")),
      table(row("node1"), row("node2")).replace(" srvrecord", " srvrecord srv_use_ssl").replaceAll(/ -$/gm, " - 0")
    ]

    for (const before of tables) {
      for (const now of tables) {
        assert.deepStrictEqual(read(now, read(before)).servers, read(now).servers)
      }
    }
  })

  it("keeps nothing of the replies before, whichever rows are still those of then", () => {
    setFlagsFromString("--expose-gc")
    const collect: () => void = runInNewContext("gc")
    const used = () => {
      collect()
      return process.memoryUsage().heapUsed
    }
    const count = 300
    const replyOf = (changed: number) =>
      table(
        ...Array.from({ length: count }, (_, index) =>
          row(`node${index}`, { address: "192.168.100.100", weight: index < changed ? 2 : 1, seconds: changed })
        )
      )
    let last = read(replyOf(0))
    const before = used()

    for (let changed = 1; changed <= count; changed++) last = read(replyOf(changed), last)

    // Each of the replies has 20 KB.
    assert.isBelow(used() - before, 2_000_000)
    assert.lengthOf(last.servers, count)
  })

  it("finds a name that comes twice, also where one of the rows is known", () => {
    const first = read(table(row("node1"), row("node2")))

    assert.isUndefined(ServerTable.read("web", table(row("node1"), row("node1")), first))
  })
})
