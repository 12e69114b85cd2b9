/**
 * What ep2 counts on in a HAProxy process, whatever its version: one suite for
 * all, the simulated one included. A new version is one entry of
 * `EP2_HAPROXY_VERSIONS`.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import { Action } from "../../src/domain/Plan.ts"
import type { Endpoint } from "../../src/domain/State.ts"
import * as RuntimeApi from "../../src/haproxy/RuntimeApi.ts"
import { parseServers } from "../servers/parseServers.ts"
import { lookAt, placeholder, type Subject, subjects } from "./ContractSubjects.ts"

const step = (server: string) => ({ socket: "", server })

describe.each(subjects)("%s", (_, make, isVirtual) => {
  const check = <E>(name: string, body: (subject: Subject) => Effect.Effect<void, E, Scope.Scope>) =>
    (isVirtual ? it.effect : it.live)(name, () => Effect.flatMap(make, body))

  check("says who it is and what it runs", (subject) =>
    Effect.gen(function* () {
      const [info = "", mark = "", none = ""] = yield* lookAt(subject).ask(
        "show info",
        "show env EP2_CONFIG",
        "show servers state absent"
      )

      assert.isAbove(RuntimeApi.parsePid(info) ?? 0, 1)
      assert.strictEqual(RuntimeApi.parseCanAdd(info), subject.canAdd)
      assert.strictEqual(RuntimeApi.parseMark(mark), "contract")
      assert.isFalse(RuntimeApi.showServers("absent").isGood(none))
    })
  )

  check("lists free slots as such, with and without a check", (subject) =>
    Effect.gen(function* () {
      const all = yield* lookAt(subject).servers

      assert.deepStrictEqual([...all.keys()], ["node1", "node2", "node3"])
      for (const one of all.values()) {
        assert.deepStrictEqual(
          [one.endpoint, one.admin, one.isMarked, one.isCheckOff],
          [placeholder, "maint", false, undefined]
        )
      }
      assert.deepStrictEqual(
        [...all.values()].map(({ hasCheck }) => hasCheck),
        [true, true, false]
      )
    })
  )

  check("serves an arriving server that is trusted at once", (subject) =>
    Effect.gen(function* () {
      const { carryOut, server } = lookAt(subject)

      assert.deepStrictEqual(
        yield* carryOut(Action.Arrive({ ...step("node1"), endpoint: subject.alive, prove: false })),
        []
      )

      const { admin, endpoint, health, isMarked } = yield* server("node1")
      assert.deepStrictEqual([endpoint, admin, isMarked], [subject.alive, "ready", false])
      assert.notStrictEqual(health, "down")
    })
  )

  check("serves one that has to prove itself only when its checks pass, and a dead one never", (subject) =>
    Effect.gen(function* () {
      const { ask, server, until } = lookAt(subject)
      // Looked at in the same breath: on a busy machine two checks may have passed a moment later.
      const arrive = Effect.fnUntraced(function* (name: string, endpoint: Endpoint) {
        const { first, second } = RuntimeApi.encode(
          "web",
          Action.Arrive({ ...step(name), endpoint, prove: true }),
          placeholder
        )
        const commands = [...first, ...second].map(({ text }) => text)
        const replies = yield* ask(...commands, "show servers state web")
        return parseServers(replies.at(-1) ?? "", new Map()).find((one) => one.name === name)?.health
      })

      assert.deepStrictEqual(
        [yield* arrive("node1", subject.alive), yield* arrive("node2", subject.dead)],
        ["down", "down"]
      )
      yield* until("node1", ({ health }) => health === "up")

      for (let tries = 0; tries < 10; tries++) {
        yield* subject.wait
        assert.strictEqual((yield* server("node2")).health, "down")
      }
    })
  )

  check("forgets `health down` that comes before `ready`", (subject) =>
    Effect.gen(function* () {
      const { ask } = lookAt(subject)

      // In the same breath, before its first check.
      const [, , table = ""] = yield* ask(
        "set server web/node1 health down",
        "set server web/node1 state ready",
        "show servers state web"
      )

      assert.strictEqual(parseServers(table, new Map())[0]?.health, "up")
    })
  )

  check("stays down in maintenance, whatever it is told about its health", (subject) =>
    Effect.gen(function* () {
      const { ask, server } = lookAt(subject)
      const replies = yield* ask("set server web/node1 health up", "set server web/node3 health up")

      const [checked, unchecked] = [yield* server("node1"), yield* server("node3")]
      assert.deepStrictEqual(replies, ["", ""])
      assert.deepStrictEqual([checked.admin, checked.health], ["maint", "down"])
      assert.deepStrictEqual([unchecked.admin, unchecked.health], ["maint", "down"])
    })
  )

  check("takes a server out step by step: marked, stopped, free", (subject) =>
    Effect.gen(function* () {
      const { carryOut, server } = lookAt(subject)
      const { alive } = subject
      yield* carryOut(Action.Arrive({ ...step("node1"), endpoint: alive, prove: false }))

      assert.deepStrictEqual(yield* carryOut(Action.Drain({ ...step("node1"), endpoint: alive })), [])
      const marked = yield* server("node1")
      assert.deepStrictEqual(yield* carryOut(Action.Stop({ ...step("node1"), shutdown: true })), [])
      const stopped = yield* server("node1")
      assert.deepStrictEqual(yield* carryOut(Action.Free(step("node1"))), [])
      const free = yield* server("node1")

      assert.deepStrictEqual([marked.admin, marked.isMarked, marked.sessions], ["ready", true, 0])
      assert.deepStrictEqual([stopped.admin, stopped.isMarked, stopped.endpoint], ["maint", true, alive])
      assert.deepStrictEqual([free.admin, free.isMarked, free.endpoint], ["maint", false, placeholder])
    })
  )

  check("gives a marked server its traffic back", (subject) =>
    Effect.gen(function* () {
      const { carryOut, server } = lookAt(subject)
      const endpoint = subject.alive
      yield* carryOut(Action.Arrive({ ...step("node1"), endpoint, prove: false }))
      yield* carryOut(Action.Drain({ ...step("node1"), endpoint }))

      const refused = yield* carryOut(Action.Resume({ ...step("node1"), endpoint, prove: false, isReady: true }))

      assert.deepStrictEqual(refused, [])
      assert.isFalse((yield* server("node1")).isMarked)
    })
  )

  check("shows the operator's hand", (subject) =>
    Effect.gen(function* () {
      const { ask, server } = lookAt(subject)
      const seen: Array<string> = []
      for (const state of ["ready", "drain", "maint", "ready"]) {
        yield* ask(`set server web/node3 state ${state}`)
        const { admin, isMarked } = yield* server("node3")
        seen.push(`${admin} ${isMarked}`)
      }

      assert.deepStrictEqual(seen, ["ready false", "drain false", "maint false", "ready false"])
    })
  )

  check("refuses what is no address, no server, no state and no backend, and says so in words", (subject) =>
    Effect.gen(function* () {
      const { ask, server } = lookAt(subject)
      const before = (yield* server("node1")).endpoint

      const replies = yield* ask(
        "set server web/node1 addr app.example.invalid port 80",
        "set server web/node99 weight 0%",
        "set server web/node1 state asleep",
        "set server absent/node1 state maint",
        "shutdown sessions server web/node99"
      )

      for (const reply of replies) assert.notStrictEqual(reply, "")
      assert.deepStrictEqual((yield* server("node1")).endpoint, before)
    })
  )

  check("adds a free slot whose check is off, serves it once it is on, and forgets it when it is free", (subject) =>
    Effect.gen(function* () {
      const { ask, carryOut, server, servers, until } = lookAt(subject)
      if (!subject.canAdd) {
        const refused = yield* carryOut(Action.Add(step("node4")))
        assert.lengthOf(refused, 2)
        assert.lengthOf(yield* Effect.map(servers, (all) => [...all.keys()]), 3)
        return
      }
      yield* ask("add server web/node4 127.0.0.1:1 check inter 50ms")
      const added = yield* server("node4")
      const again = yield* carryOut(Action.Add(step("node4")))
      const arrived = yield* carryOut(
        Action.Arrive({ ...step("node4"), endpoint: subject.alive, prove: true, isCheckOff: true })
      )
      const proving = yield* server("node4")
      yield* until("node4", ({ health }) => health === "up")
      const early = yield* carryOut(Action.Remove(step("node4")))
      yield* carryOut(Action.Drain({ ...step("node4"), endpoint: subject.alive }))
      yield* carryOut(Action.Stop({ ...step("node4"), shutdown: false }))
      yield* carryOut(Action.Free(step("node4")))

      assert.deepStrictEqual(
        [added.endpoint, added.admin, added.isMarked, added.hasCheck, added.isCheckOff],
        [placeholder, "maint", false, false, true]
      )
      assert.lengthOf(again, 1)
      assert.deepStrictEqual(arrived, [])
      assert.deepStrictEqual([proving.health, proving.hasCheck, proving.isCheckOff], ["down", true, undefined])
      assert.lengthOf(early, 1)
      // An idle connection may keep it for a moment.
      yield* Effect.gen(function* () {
        assert.deepStrictEqual(yield* carryOut(Action.Remove(step("node4"))), [])
        yield* subject.wait
        return yield* servers
      }).pipe(Effect.repeat({ until: (all) => !all.has("node4"), times: 100 }))
      assert.isFalse((yield* servers).has("node4"))
    })
  )

  check("takes a server down when it stops answering, and up again when it answers", (subject) =>
    Effect.gen(function* () {
      const { carryOut, until } = lookAt(subject)
      yield* carryOut(Action.Arrive({ ...step("node1"), endpoint: subject.alive, prove: true }))
      yield* until("node1", ({ health }) => health === "up")

      yield* subject.setAlive(false)
      yield* until("node1", ({ health }) => health === "down")
      yield* subject.setAlive(true)
      yield* until("node1", ({ health }) => health === "up")
    })
  )

  check("serves a dead server that is trusted until its first check", (subject) =>
    Effect.gen(function* () {
      const { ask, until } = lookAt(subject)
      const { address, port } = subject.dead

      const replies = yield* ask(
        `set server web/node1 addr ${address} port ${port}`,
        "set server web/node1 state ready",
        "show servers state web"
      )
      const first = parseServers(replies[2] ?? "", new Map())[0]
      yield* until("node1", ({ health }) => health === "down")

      assert.deepStrictEqual([first?.admin, first?.health], ["ready", "up"])
    })
  )

  check("keeps its health when its address changes, until its checks say otherwise", (subject) =>
    Effect.gen(function* () {
      const { ask, carryOut, server, until } = lookAt(subject)
      const move = Effect.fnUntraced(function* ({ address, port }: Endpoint) {
        const [, table = ""] = yield* ask(`set server web/node1 addr ${address} port ${port}`, "show servers state web")
        // The health at once, before the next checks; the address a moment later, since 3.0 and 3.2 still show the old one.
        const health = parseServers(table, new Map())[0]?.health
        return [(yield* server("node1")).endpoint, health]
      })
      yield* carryOut(Action.Arrive({ ...step("node1"), endpoint: subject.alive, prove: true }))
      yield* until("node1", ({ health }) => health === "up")

      const toDead = yield* move(subject.dead)
      yield* until("node1", ({ health }) => health === "down")
      const toAlive = yield* move(subject.alive)
      yield* until("node1", ({ health }) => health === "up")

      assert.deepStrictEqual(toDead, [subject.dead, "up"])
      assert.deepStrictEqual(toAlive, [subject.alive, "down"])
    })
  )

  check(
    "keeps its sessions when it loses its weight, is drained, stopped and given an address, until they are ended",
    (subject) =>
      Effect.gen(function* () {
        const { ask, carryOut, server, until } = lookAt(subject)
        yield* carryOut(Action.Arrive({ ...step("node1"), endpoint: subject.alive, prove: false }))
        yield* subject.open("node1", 3000)
        yield* until("node1", ({ sessions }) => sessions === 1)
        const seen: Array<number | undefined> = []

        for (const change of ["weight 0%", "state drain", "state maint", "addr 127.0.0.1 port 1"]) {
          yield* ask(`set server web/node1 ${change}`)
          seen.push((yield* server("node1")).sessions)
        }
        const [deleted = ""] = yield* ask("del server web/node1")
        yield* ask("shutdown sessions server web/node1")
        yield* until("node1", ({ sessions }) => sessions === 0)

        assert.deepStrictEqual(seen, [1, 1, 1, 1])
        assert.match(deleted, subject.canAdd ? /^Server still has connections attached to it/ : /^Unknown command/)
      })
  )

  check("ends a session by itself when it is over", (subject) =>
    Effect.gen(function* () {
      const { carryOut, until } = lookAt(subject)
      yield* carryOut(Action.Arrive({ ...step("node1"), endpoint: subject.alive, prove: false }))

      yield* subject.open("node1", 300)

      yield* until("node1", ({ sessions }) => sessions === 1)
      yield* until("node1", ({ sessions }) => sessions === 0)
    })
  )

  check("remembers what its config has disabled, also when it is ready", (subject) =>
    Effect.gen(function* () {
      const { ask } = lookAt(subject)
      const bits = Effect.map(ask("show servers state web"), ([table = ""]) => table.split("\n")[2]?.split(" ")[6])

      const before = yield* bits
      yield* ask("set server web/node1 state ready")
      const ready = yield* bits
      yield* ask("set server web/node1 state drain")

      assert.deepStrictEqual([before, ready, yield* bits], ["5", "4", "12"])
    })
  )

  check("deletes only what is in maintenance", (subject) =>
    Effect.gen(function* () {
      const { ask, servers } = lookAt(subject)
      yield* ask("set server web/node3 state ready")

      const [early = "", , late = ""] = yield* ask(
        "del server web/node3",
        "set server web/node3 state maint",
        "del server web/node3"
      )

      const expected = ["Only servers in maintenance mode can be deleted.", "Server deleted."]
      if (subject.canAdd) assert.deepStrictEqual([early, late], expected)
      assert.strictEqual((yield* servers).has("node3"), !subject.canAdd)
    })
  )

  check("takes `health down` also where no check can bring it up again", (subject) =>
    Effect.gen(function* () {
      const { ask, server } = lookAt(subject)

      const replies = yield* ask("set server web/node3 state ready", "set server web/node3 health down")
      yield* subject.wait

      assert.deepStrictEqual([replies, (yield* server("node3")).health], [["", ""], "down"])
    })
  )
})
