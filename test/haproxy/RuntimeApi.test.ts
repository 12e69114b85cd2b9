import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import { Action } from "../../src/domain/Plan.ts"
import type { Server } from "../../src/domain/State.ts"
import * as RuntimeApi from "../../src/haproxy/RuntimeApi.ts"
import { names, recorded, versions } from "../fixtures/runtimeApi.ts"
import { parseServers } from "../servers/parseServers.ts"

const placeholder = { address: "127.0.0.1", port: 1 }
const step = { socket: "/run/haproxy.sock", server: "node1" }
const endpoint = { address: "10.0.0.1", port: 80 }
const arrive = Action.Arrive({ ...step, endpoint, prove: true })

const texts = (action: Action) => {
  const { first, second } = RuntimeApi.encode("web", action, placeholder)
  return { first: first.map(({ text }) => text), second: second.map(({ text }) => text) }
}

/** Every command that ep2 sends, by its kind. */
const [maint, mark, address] = RuntimeApi.encode("web", arrive, placeholder).first as [
  RuntimeApi.Command,
  RuntimeApi.Command,
  RuntimeApi.Command
]
const [ready, down, unmark] = RuntimeApi.encode("web", arrive, placeholder).second as [
  RuntimeApi.Command,
  RuntimeApi.Command,
  RuntimeApi.Command
]
const stop = RuntimeApi.encode("web", Action.Stop({ ...step, shutdown: true }), placeholder)
const shutdown = stop.first[1]!
const add = RuntimeApi.encode("web", Action.Add(step), placeholder, "check inter 100ms maxconn 5").first[0]!
const enable = RuntimeApi.encode("web", Action.Add(step), placeholder).second[0]!
const remove = RuntimeApi.encode("web", Action.Remove(step), placeholder).first[0]!

/** What each recorded reply is to ep2. */
const verdicts: Record<string, readonly [command: RuntimeApi.Command, isGood: boolean | "from 2.6 on"]> = {
  "show-info": [RuntimeApi.showInfo, true],
  "show-mark": [RuntimeApi.showMark, true],
  "show-mark-none": [RuntimeApi.showMark, true],
  "show-servers": [RuntimeApi.showServers("web"), true],
  "show-servers-changed": [RuntimeApi.showServers("web"), true],
  "show-servers-empty": [RuntimeApi.showServers("empty"), true],
  "show-servers-no-backend": [RuntimeApi.showServers("absent"), false],
  "show-servers-user": [RuntimeApi.showServers("web"), true],
  "show-stat": [RuntimeApi.showSessions("web"), true],
  "show-stat-changed": [RuntimeApi.showSessions("web"), true],
  "show-stat-no-backend": [RuntimeApi.showSessions("absent"), false],
  "addr-new": [address, true],
  "addr-same": [address, true],
  "addr-only-port": [address, true],
  "addr-only-address": [address, true],
  "addr-to-ipv6": [address, true],
  "addr-ipv6-same": [address, true],
  "addr-ipv4-compatible": [address, true],
  "addr-hostname": [address, false],
  "addr-with-port": [address, false],
  "addr-zone": [address, false],
  "addr-path": [address, false],
  "addr-bad-port": [address, false],
  "addr-bad-port-same-address": [address, false],
  "addr-without": [address, false],
  "addr-unresolved": [address, false],
  "addr-no-server": [address, false],
  "addr-no-backend": [address, false],
  "addr-no-name": [address, false],
  "addr-denied": [address, false],
  "weight-0": [mark, true],
  "weight-100": [unmark, true],
  "weight-0-static": [mark, true],
  "weight-100-static": [unmark, true],
  "weight-50-static": [mark, false],
  "weight-257": [mark, false],
  "weight-no-server": [mark, false],
  "weight-denied": [mark, false],
  "state-maint": [maint, true],
  "state-ready": [ready, true],
  "state-ready-unproven": [ready, true],
  "state-drain": [maint, true],
  "state-unknown": [maint, false],
  "state-no-server": [maint, false],
  "state-no-backend": [maint, false],
  "state-denied": [maint, false],
  "health-down": [down, true],
  "health-down-no-check": [down, true],
  "health-unknown": [down, false],
  shutdown: [shutdown, true],
  "shutdown-no-server": [shutdown, false],
  "shutdown-denied": [shutdown, false],
  "add-new": [add, "from 2.6 on"],
  "add-exists": [add, false],
  "add-static": [add, false],
  "add-no-backend": [add, false],
  "add-bad-keyword": [add, false],
  "add-not-dynamic": [add, false],
  "add-denied": [add, false],
  "enable-health": [enable, "from 2.6 on"],
  "enable-health-no-server": [enable, false],
  "del-ready": [remove, false],
  del: [remove, "from 2.6 on"],
  "del-no-server": [remove, false],
  "del-denied": [remove, false],
  "show-servers-added": [RuntimeApi.showServers("web"), true],
  "unknown-command": [ready, false]
}

describe.each(versions)("what HAProxy %s answered", (version) => {
  it("is all listed here", () => {
    assert.sameMembers([...names(version)], Object.keys(verdicts))
  })

  for (const [name, [command, verdict]] of Object.entries(verdicts)) {
    const isGood = verdict === "from 2.6 on" ? version !== "2.2" : verdict
    it(`is ${isGood ? "taken for done" : "refused"}: ${name}`, () => {
      const { reply } = recorded(version, name)

      const result = RuntimeApi.judge(step.socket, command, reply)

      if (isGood) assert.deepStrictEqual(result, Result.succeed(reply))
      else {
        assert.isTrue(Result.isFailure(result))
        const error = Result.isFailure(result) ? result.failure : undefined
        assert.deepStrictEqual([error?.socket, error?.command, error?.reply], [step.socket, command.text, reply])
        assert.notInclude(error?.message ?? "", "\n")
      }
    })
  }

  it("never passes for the answer to a command of another kind, where only one of the two is silent", () => {
    for (const name of Object.keys(verdicts)) {
      const { reply } = recorded(version, name)
      if (reply === "") continue
      for (const other of [maint, mark, ready, down, unmark, shutdown, enable]) {
        assert.isFalse(other.isGood(reply), `${other.text}: ${reply}`)
      }
    }
    for (const talkative of [
      address,
      add,
      remove,
      RuntimeApi.showInfo,
      RuntimeApi.showMark,
      RuntimeApi.showServers("web")
    ]) {
      assert.isFalse(talkative.isGood(""), talkative.text)
    }
  })

  it("was asked in the words that ep2 uses", () => {
    const { command } = recorded(version, "addr-new")

    assert.strictEqual(command, address.text)
    assert.strictEqual(recorded(version, "add-new").command, add.text.replace("node1", "node20"))
    assert.strictEqual(recorded(version, "enable-health").command, enable.text.replace("node1", "node20"))
    assert.strictEqual(recorded(version, "del").command, remove.text.replace("node1", "node20"))
    assert.strictEqual(recorded(version, "weight-0").command, mark.text)
    assert.strictEqual(recorded(version, "state-maint").command, maint.text)
    assert.strictEqual(recorded(version, "show-info").command, RuntimeApi.showInfo.text)
    assert.strictEqual(recorded(version, "show-mark").command, RuntimeApi.showMark.text)
    assert.strictEqual(recorded(version, "show-servers").command, RuntimeApi.showServers("web").text)
    assert.strictEqual(recorded(version, "show-stat").command, RuntimeApi.showSessions("web").text)
  })

  it("tells whether servers can be added", () => {
    assert.strictEqual(RuntimeApi.parseCanAdd(recorded(version, "show-info").reply), version !== "2.2")
  })

  it("gives process id and mark", () => {
    const info = recorded(version, "show-info").reply

    assert.isAbove(RuntimeApi.parsePid(info) ?? 0, 1)
    assert.match(info, new RegExp(`^Version: ${version.replace(".", "\\.")}\\.`, "m"))
    assert.strictEqual(RuntimeApi.parseMark(recorded(version, "show-mark").reply), "0123456789abcdef")
    assert.isUndefined(RuntimeApi.parseMark(recorded(version, "show-mark-none").reply))
    assert.match(RuntimeApi.parseIdentity(info), /^\d+ fixture \d*$/)
  })

  const servers = (name: "" | "-changed", stats: boolean) => {
    const { reply } = recorded(version, `show-servers${name}`)
    const stat = stats ? RuntimeApi.parseStats(recorded(version, `show-stat${name}`).reply) : new Map()
    return new Map(parseServers(reply, stat).map((one) => [one.name, one]))
  }
  const facts = (one: Server | undefined) =>
    one && [one.admin, one.isMarked ? "marked" : "full", one.hasCheck ? "check" : "no check", one.health, one.sessions]

  it("gives every server with its endpoint, in HAProxy's order", () => {
    const all = servers("", false)
    const { port } = all.get("legacy")?.endpoint ?? { port: 0 }

    assert.deepStrictEqual(
      [...all.values()].map(({ endpoint, name }) => [name, endpoint]),
      [
        ["legacy", { address: "127.0.0.1", port }],
        ["node1", { address: "127.0.0.1", port: 1 }],
        ["node2", { address: "127.0.0.1", port: 1 }],
        ["node3", { address: "127.0.0.1", port }],
        ["node4", { address: "2001:db8::5", port: 8080 }],
        ["node5", undefined],
        ["node6", { address: "127.0.0.1", port: 9 }],
        ["node7", { address: "127.0.0.1", port }],
        ["node8", { address: "127.0.0.1", port }],
        ["node9", { address: "127.0.0.1", port: 1 }]
      ]
    )
  })

  it("tells free slots, proven and failed servers and those without a check apart", () => {
    const all = servers("", true)

    assert.deepStrictEqual(facts(all.get("node1")), ["maint", "full", "check", "down", 0])
    assert.deepStrictEqual(facts(all.get("node2")), ["maint", "full", "no check", "down", 0])
    assert.deepStrictEqual(facts(all.get("node3")), ["ready", "full", "check", "up", 0])
    assert.deepStrictEqual(facts(all.get("node8")), ["ready", "full", "no check", "up", 0])
    assert.deepStrictEqual(facts(all.get("node9")), ["ready", "full", "check", "down", 0])
    assert.isUndefined(servers("", false).get("node3")?.sessions)
  })

  it("tells the mark, the operator's drain, and servers that are unproven or told down, also in slots that began disabled", () => {
    const all = servers("-changed", true)

    assert.deepStrictEqual(facts(all.get("node1")), ["maint", "marked", "check", "down", 0])
    assert.deepStrictEqual(all.get("node1")?.endpoint, { address: "2001:db8::6", port: 81 })
    assert.deepStrictEqual(facts(all.get("node3")), ["ready", "full", "check", "down", 0])
    assert.deepStrictEqual(facts(all.get("node7")), ["ready", "full", "check", "unproven", 0])
    assert.strictEqual(all.get("node8")?.admin, "drain")
    assert.strictEqual(servers("-changed", false).get("node7")?.health, "up")
  })

  it("gives an address in ep2's own spelling, whatever HAProxy's is", () => {
    assert.deepStrictEqual(servers("-changed", false).get("node6")?.endpoint, { address: "::102:304", port: 80 })
  })

  it("takes only a whole table for the servers: no row that was cut, doubled, or is of another backend", () => {
    const { reply } = recorded(version, "show-servers")
    const [head = "", columns = "", ...rows] = reply.split("\n")
    const isGood = (...some: ReadonlyArray<string>) =>
      RuntimeApi.showServers("web").isGood([head, columns, ...some].join("\n"))

    assert.isTrue(isGood(...rows))
    assert.isFalse(isGood(...rows.with(-1, rows.at(-1)!.replace(/ \S+$/, ""))))
    assert.isFalse(isGood(...rows, rows[0]!))
    assert.isFalse(isGood(...rows, "garbage"))
    assert.isFalse(RuntimeApi.showServers("other").isGood(reply))
    assert.isFalse(isGood(...rows.with(1, rows[1]!.replace("127.0.0.1", "127.0.0"))))
    assert.isFalse(RuntimeApi.showServers("web").isGood(reply.replace("srv_port", "srv_part")))
  })

  it("finds the columns of `show stat` also behind what a server answered to its check, commas and quotes included", () => {
    const { reply } = recorded(version, "show-stat")
    const row = reply.split("\n").find((line) => line.startsWith("web,node3,"))!
    const fields = row.split(",")
    const column = reply.split(",").indexOf("last_chk")
    // As recorded from 2.2 and 3.2 with a server that answers `HTTP/1.1 503 not, "today", no`.
    const answered = reply.replace(row, fields.with(column, '"not, ""today"", no"').join(","))

    assert.isTrue(RuntimeApi.showSessions("web").isGood(answered))
    assert.deepStrictEqual(RuntimeApi.parseStats(answered), RuntimeApi.parseStats(reply))
    assert.isFalse(RuntimeApi.showSessions("web").isGood(reply.replace(row, fields.slice(0, -40).join(","))))
  })

  it("gives no servers for a backend without any", () => {
    assert.deepStrictEqual(parseServers(recorded(version, "show-servers-empty").reply, new Map()), [])
  })
})

describe("RuntimeApi.judge", () => {
  const why = (command: RuntimeApi.Command, reply: string) => {
    const result = RuntimeApi.judge(step.socket, command, reply)
    return Result.isFailure(result) ? result.failure.message : "good"
  }

  it("says what to do where HAProxy's own words do not", () => {
    assert.strictEqual(
      why(mark, "Permission denied"),
      '/run/haproxy.sock: HAProxy answered "set server web/node1 weight 0%" with "Permission denied"; ' +
        'the socket needs "level admin" on its "stats socket" line'
    )
    assert.include(why(RuntimeApi.showServers("web"), "Can't find backend."), "does not have this backend")
    assert.include(why(maint, "No such backend."), "does not have this backend")
    assert.include(why(RuntimeApi.showInfo, ""), "with nothing")
  })

  it("keeps a long or broken reply on one line", () => {
    const message = why(mark, `${"x".repeat(100)}\n\u0000\r\n\u009b31m\u2028${"y".repeat(100_000)}`)

    assert.isBelow(message.length, 1_000)
    assert.notMatch(message, /[\p{C}\u2028]/u)
  })

  const lies = [
    "IP changed from '1.1.1.1' to '2.2.2.2', problem converting port 'abc' to an int by 'stats socket command'",
    "no need to change the addr, problem converting port 'abc' to an int",
    "IP changed from '1.1.1.1' to '2.2.2.2' by 'stats socket command'\nNo such server.",
    "Invalid addr 'nothing changed'",
    " nothing changed",
    "nothing changed here"
  ]
  for (const reply of lies) {
    it(`does not take an address for set that is followed by trouble: ${JSON.stringify(reply)}`, () => {
      assert.isFalse(address.isGood(reply))
    })
  }
})

describe("RuntimeApi.encode", () => {
  const server = "set server web/node1"

  it("brings a server in under maintenance and weight 0, and gives the weight last", () => {
    assert.deepStrictEqual(texts(arrive), {
      first: [`${server} state maint`, `${server} weight 0%`, `${server} addr 10.0.0.1 port 80`],
      second: [`${server} state ready`, `${server} health down`, `${server} weight 100%`]
    })
  })

  it("does not tell a server down that need not prove itself", () => {
    assert.deepStrictEqual(texts(Action.Arrive({ ...step, endpoint, prove: false })).second, [
      `${server} state ready`,
      `${server} weight 100%`
    ])
  })

  it("writes IPv6 without brackets, as HAProxy reports it", () => {
    const there = { address: "2001:db8::5", port: 8080 }

    assert.strictEqual(
      texts(Action.Arrive({ ...step, endpoint: there, prove: false })).first[2],
      `${server} addr 2001:db8::5 port 8080`
    )
  })

  it("resumes without touching what is ready already", () => {
    const resume = (isReady: boolean, prove: boolean) =>
      texts(Action.Resume({ ...step, endpoint, isReady, prove })).first

    assert.deepStrictEqual(resume(true, false), [`${server} weight 100%`])
    assert.deepStrictEqual(resume(true, true), [`${server} health down`, `${server} weight 100%`])
    assert.deepStrictEqual(resume(false, false), [`${server} state ready`, `${server} weight 100%`])
    assert.deepStrictEqual(resume(false, true), [
      `${server} state ready`,
      `${server} health down`,
      `${server} weight 100%`
    ])
  })

  it("lets go in three steps: weight 0, maintenance, placeholder, and the weight back only after that", () => {
    assert.deepStrictEqual(texts(Action.Drain({ ...step, endpoint })), { first: [`${server} weight 0%`], second: [] })
    assert.deepStrictEqual(texts(Action.Stop({ ...step, shutdown: false })), {
      first: [`${server} state maint`],
      second: []
    })
    assert.deepStrictEqual(texts(Action.Free(step)), {
      first: [`${server} addr 127.0.0.1 port 1`],
      second: [`${server} weight 100%`]
    })
  })

  it("ends sessions only where that is asked for, once nothing new can come", () => {
    assert.deepStrictEqual(texts(Action.Stop({ ...step, shutdown: true })).first, [
      `${server} state maint`,
      "shutdown sessions server web/node1"
    ])
  })
})
