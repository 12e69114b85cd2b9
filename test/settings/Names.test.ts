import { assert, describe, it } from "@effect/vitest"
import * as Conf from "./Conf.ts"

describe("sections", () => {
  it("are found without regard to case and blanks", () => {
    const text = "[HAProxy]\nORCHESTRATOR : Consul\n[ consul ]\nService_Name = web\n"

    assert.deepStrictEqual(Conf.settings(text), Conf.settings(Conf.consul))
  })

  it("two spellings of one section are an error that names both", () => {
    assert.deepStrictEqual(Conf.refusal(`${Conf.consul}[consul]\ntags = a\n`), [
      "ep2.conf:5: [consul]: the same section as [CONSUL] in line 3; expected each section once, in whatever case"
    ])
  })

  for (const [written, meant] of [
    ["haprox", "haproxy"],
    ["CONSULL", "CONSUL"],
    ["FIEL2", "FILE"],
    ["default", "DEFAULT"],
    ["AWS2", "AWS"]
  ] as const) {
    it(`[${written}] is taken for a slip of [${meant}]`, () => {
      assert.deepStrictEqual(Conf.refusal(`${Conf.consul}[${written}]\n`), [
        `ep2.conf:5: [${written}]: ep2 knows no such section; expected [${meant}]`
      ])
    })
  }
})

describe("keys", () => {
  for (const [written, meant] of [
    ["node_slot", "node_slots"],
    ["nodeslots", "node_slots"],
    ["node-slots", "node_slots"],
    ["haproxy_sock_file", "haproxy_socket_file"],
    ["sleep_before_next_rnu", "sleep_before_next_run"],
    ["lockdir", "lock_dir"]
  ] as const) {
    it(`${written} is taken for a slip of ${meant}`, () => {
      assert.deepStrictEqual(Conf.refusal(Conf.withLines(Conf.consul, "haproxy", `${written} = 1`)), [
        `ep2.conf:2: [haproxy] ${written}: ep2 knows no such key; expected ${meant}`
      ])
    })
  }

  it("a key of another section is an error that says which", () => {
    const text = Conf.withLines(Conf.withLines(Conf.consul, "CONSUL", "node_slots = 5"), "haproxy", "consul_port = 1")

    assert.deepStrictEqual(Conf.refusal(text), [
      "ep2.conf:2: [haproxy] consul_port: a key of another section; expected consul_port in [CONSUL]",
      "ep2.conf:5: [CONSUL] node_slots: a key of another section; expected node_slots in [haproxy]"
    ])
  })

  it("a slip of a key of another section says which, too", () => {
    assert.deepStrictEqual(Conf.refusal(Conf.withLines(Conf.consul, "haproxy", "only_pasing = True")), [
      "ep2.conf:2: [haproxy] only_pasing: ep2 knows no such key; expected only_passing in [CONSUL]"
    ])
  })

  it("a key that is like none is a warning", () => {
    const { settings, warnings } = Conf.loaded(Conf.withLines(Conf.consul, "CONSUL", "comment = none"))

    assert.deepStrictEqual(settings, Conf.settings(Conf.consul))
    assert.deepStrictEqual(warnings, ["ep2.conf:4: [CONSUL] comment: ep2 knows no such key and ignores it"])
  })

  it("a key that others refer to may have any name", () => {
    const text = Conf.withLines(Conf.consul, "haproxy", "lockdir = /run/ep2", "lock_dir = %(lockdir)s")

    const { settings, warnings } = Conf.loaded(text)

    assert.strictEqual(settings.lock.dir, "/run/ep2")
    assert.deepStrictEqual(warnings, [])
  })

  it("keys of [DEFAULT] count in every section, and what no section knows is named", () => {
    const text = `[DEFAULT]\nroot = /srv\nservice_name = web\nnode_slotz = 5\nother = 1\nlock_dir = %(root)s\n${Conf.consul}`

    assert.deepStrictEqual(Conf.refusal(text), [
      "ep2.conf:4: [DEFAULT] node_slotz: ep2 knows no such key; expected node_slots"
    ])

    const { settings, warnings } = Conf.loaded(text.replace("node_slotz", "node_slots"))
    assert.strictEqual(settings.haproxy.serviceName, "web")
    assert.strictEqual(settings.lock.dir, "/srv")
    assert.strictEqual(settings.backends[0].nodeSlots, 5)
    assert.deepStrictEqual(warnings, ["ep2.conf:5: [DEFAULT] other: ep2 knows no such key and ignores it"])
  })
})
