/** The simulated HAProxy, asked what the real ones were asked when `test/fixtures/runtime-api` was recorded. */
import { assert, describe, it } from "@effect/vitest"
import * as RuntimeApi from "../../src/haproxy/RuntimeApi.ts"
import * as Fleet from "../../src/simulation/Fleet.ts"
import { HaproxyProcess } from "../../src/simulation/HaproxyProcess.ts"
import * as LoadedConfig from "../../src/simulation/LoadedConfig.ts"
import { backends, recorded, versions } from "../fixtures/runtimeApi.ts"

/** As `record-runtime-api.ts` has it; `port` is where something answers. */
const config = (port: number) => `
global
  setenv EP2_CONFIG 0123456789abcdef
${backends(port)}`

/** In the order in which they were recorded, without those of a user who may not, and the tables. */
const cases = (
  "show-mark show-mark-none show-servers-empty show-servers-no-backend show-stat-no-backend addr-new addr-same " +
  "addr-only-port addr-only-address addr-to-ipv6 addr-ipv6-same addr-hostname addr-with-port addr-zone addr-path " +
  "addr-bad-port addr-bad-port-same-address addr-without addr-unresolved addr-no-server addr-no-backend " +
  "addr-no-name weight-0 weight-100 weight-0-static weight-100-static weight-50-static weight-257 weight-no-server " +
  "state-maint state-ready state-drain state-unknown state-no-server state-no-backend state-ready-unproven health-down " +
  "health-down-no-check health-unknown shutdown shutdown-no-server add-new add-exists add-static add-no-backend " +
  "add-not-dynamic enable-health enable-health-no-server del-ready del del-no-server unknown-command"
).split(" ")

describe.each(versions)("the simulated HAProxy %s", (version) => {
  const start = () => {
    const port = Number(/ legacy .* - (\d+) -/m.exec(recorded(version, "show-servers").reply)?.[1])
    const fleet = Fleet.make()
    fleet.set({ address: "127.0.0.1", port }, true)
    const loaded = LoadedConfig.read(config(port))
    const process = new HaproxyProcess({ version, pid: 7, number: 1, config: loaded, fleet, startedMillis: 0 })
    process.advance(3000)
    return process
  }
  const play = (process: HaproxyProcess) =>
    cases.map((name) => {
      const { command, reply } = recorded(version, name)
      return { name, said: process.run(command), recorded: reply }
    })

  it("says what the real one was recorded to say, in the same words", () => {
    const process = start()

    for (const { name, recorded, said } of play(process)) {
      // Of its help, the first line.
      const expected = recorded.startsWith("Unknown command") ? recorded.split("\n")[0] : recorded
      assert.strictEqual(said, expected, name)
    }
  })

  it("shows the same servers, before and after", () => {
    const process = start()
    const [before, after] = [
      process.run("show servers state web"),
      play(process) && process.run("show servers state web")
    ]

    for (const [said, name] of [
      [before, "show-servers"],
      [after, "show-servers-changed"]
    ] as const) {
      assert.deepStrictEqual(rows(said), rows(recorded(version, name).reply), name)
    }
  })

  it("counts health and sessions in the same way, before and after", () => {
    const process = start()
    const [before, after] = [process.run("show stat web 4 -1"), play(process) && process.run("show stat web 4 -1")]

    for (const [said, name] of [
      [before, "show-stat"],
      [after, "show-stat-changed"]
    ] as const) {
      assert.deepStrictEqual(RuntimeApi.parseStats(said), RuntimeApi.parseStats(recorded(version, name).reply), name)
    }
  })

  it("says who it is", () => {
    const { reply } = recorded(version, "show-info")
    const said = start().run("show info")

    assert.strictEqual(RuntimeApi.parsePid(said), 7)
    assert.strictEqual(/^Version: .*$/m.exec(said)?.[0], /^Version: .*$/m.exec(reply)?.[0])
    assert.strictEqual(/^Uptime_sec: .*$/m.exec(said)?.[0], "Uptime_sec: 3")
  })
})

/**
 * The table without what nothing resolves here (`node5`), what no test pins down
 * (when something changed, and how an IPv4-compatible address is spelled), and
 * bit 1 of a check's state, which is set while one is under way.
 */
const rows = (reply: string) => {
  const [format, header = "", ...lines] = reply.split("\n")
  const names = header.slice(2).split(" ")
  const servers = lines.map((line) =>
    Object.fromEntries(line.split(" ").map((field, index) => [names[index]!, field] as const))
  )
  return {
    format,
    names,
    servers: servers
      .filter(({ srv_name }) => srv_name !== "node5")
      .map((one) => ({
        ...one,
        srv_time_since_last_change: "",
        srv_check_state: String(Number(one.srv_check_state) & ~1),
        ...(one.srv_name === "node6" ? { srv_addr: "", srv_port: "" } : {})
      }))
  }
}
