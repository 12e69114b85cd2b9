import { assert, describe, it } from "@effect/vitest"
import { Duration } from "effect"
import * as Conf from "./Conf.ts"

const backends = (text: string) => Conf.settings(text).backends

/** A file whose first five lines are those of `Conf.consul`, and a blank one. */
const withBackend = (header: string, ...lines: ReadonlyArray<string>) =>
  `${Conf.consul}\n[${header}]\n${lines.join("\n")}\n`

describe("[backend NAME]", () => {
  it("is a further backend that has all that [haproxy] and the source's section say", () => {
    const [first, second] = backends(withBackend("backend api"))

    assert.deepStrictEqual(second, { ...first, name: "api" })
  })

  it("overrides its own source, port, slots, guard, drain and interval, and leaves the first backend alone", () => {
    const [first, second] = backends(
      withBackend(
        "Backend api.v2",
        "service_name = api",
        "tags = blue",
        "backend_port = 8080",
        "node_slots = 3",
        "min_servers = 2",
        "drain_timeout = 7",
        "sleep_before_next_run = 2"
      )
    )

    assert.strictEqual(second?.name, "api.v2")
    assert.deepInclude(second?.source, { _tag: "Consul", service: "api", tags: ["blue"], port: 8500 })
    assert.deepStrictEqual([second?.port, second?.nodeSlots, second?.guard.minServers], [8080, 3, 2])
    assert.deepStrictEqual([second?.drainTimeout, second?.interval], [Duration.seconds(7), Duration.seconds(2)])
    assert.deepStrictEqual(first, Conf.backend(Conf.consul))
  })

  it("may have another orchestrator, whose keys stand in it or in its own section", () => {
    const text = `${Conf.consul}[AWS]\nregion_name = eu-central-1\nip_type = private\n`

    const [, file, aws] = backends(
      `${text}[backend a]\norchestrator = file\npath = /a.json\n[backend b]\norchestrator = aws\nasg_name = b\n`
    )

    assert.deepStrictEqual(file?.source, { _tag: "File", path: "/a.json" })
    assert.strictEqual(file?.newServers, "checked")
    assert.deepInclude(aws?.source, { _tag: "Aws", groups: ["b"], region: "eu-central-1", ipType: "private" })
  })

  it("takes its own one of two keys that exclude each other in place of the inherited one", () => {
    const text = Conf.withLines(Conf.consul, "CONSUL", "token = secret")

    const [, second] = backends(`${text}[backend api]\ntoken_file = /etc/ep2/api.token\n`)

    assert.deepInclude(second?.source, { token: undefined, tokenFile: "/etc/ep2/api.token" })
  })

  it("keeps what [haproxy] says before what [DEFAULT] says, and its own before both", () => {
    const text = `[DEFAULT]\nnode_slots = 1\nmin_servers = 4\n${Conf.withLines(Conf.consul, "haproxy", "node_slots = 2")}`

    const [, api, web] = backends(`${text}[backend api]\n[backend other]\nnode_slots = 3\n`)

    assert.deepStrictEqual([api?.nodeSlots, web?.nodeSlots, api?.guard.minServers], [2, 3, 4])
  })

  it("resolves %(name)s with its own keys", () => {
    const [, second] = backends(withBackend("backend api", "zone = b", "service_name = api-%(zone)s"))

    assert.deepInclude(second?.source, { service: "api-b" })
  })

  it("warns of a key that ep2 does not know, and names one that it may have been meant to be", () => {
    assert.deepStrictEqual(Conf.loaded(withBackend("backend api", "service_name = api", "colour = blue")).warnings, [
      "ep2.conf:8: [backend api] colour: ep2 knows no such key and ignores it"
    ])
    assert.deepStrictEqual(Conf.refusal(withBackend("backend api", "servce_name = api")), [
      "ep2.conf:7: [backend api] servce_name: ep2 knows no such key; expected service_name"
    ])
  })

  for (const [header, lines, message] of [
    [
      "backend",
      [],
      "ep2.conf:6: [backend]: expected [backend NAME] with the name of a backend or listen of the template: letters, digits and . _ : -"
    ],
    [
      "backend a b",
      [],
      "ep2.conf:6: [backend a b]: expected [backend NAME] with the name of a backend or listen of the template: letters, digits and . _ : -"
    ],
    [
      "backend haproxynode",
      [],
      "ep2.conf:6: [backend haproxynode]: the backend that backend_name in [haproxy] names; expected another one; the first backend's keys stand in [haproxy]"
    ],
    [
      "backend api",
      ["[backend  api]"],
      "ep2.conf:7: [backend  api]: the same backend as in line 6; expected each backend once"
    ],
    [
      "backend api",
      ["lock_dir = /run"],
      "ep2.conf:7: [backend api] lock_dir: a key that holds for all backends; expected lock_dir in [haproxy]"
    ],
    [
      "backend api",
      ["backend_name = x"],
      "ep2.conf:7: [backend api] backend_name: a key for the first backend; expected the name in the header: [backend NAME]"
    ],
    [
      "backend api",
      ["node_slots = abc"],
      'ep2.conf:7: [backend api] node_slots = "abc": expected a whole number from 0 to 4096'
    ],
    [
      "backend api",
      ["orchestrator = file"],
      "ep2.conf:6: [backend api] path: missing; expected the absolute path of a file"
    ],
    [
      "backend api",
      ["server_options = maxconn 5", "backend_maxconn = 6"],
      "ep2.conf:7: [backend api] server_options: maxconn, which backend_maxconn sets too; expected one of backend_maxconn and maxconn"
    ]
  ] as const) {
    it(`[${header}] with ${lines.join(" ") || "nothing"} is refused in one line`, () => {
      assert.deepStrictEqual(Conf.refusal(withBackend(header, ...lines)), [message])
    })
  }

  it("reports what it inherits and is wrong once, at its own place", () => {
    const text = `${Conf.withLines(Conf.consul, "haproxy", "node_slots = abc")}[backend a]\n[backend b]\n`

    assert.deepStrictEqual(Conf.refusal(text), [
      'ep2.conf:2: [haproxy] node_slots = "abc": expected a whole number from 0 to 4096'
    ])
  })

  it("has what [DEFAULT] says of a source whose section is not there", () => {
    const text = `[DEFAULT]\ntags = blue\n${Conf.file}[backend api]\norchestrator = consul\nservice_name = api\n`

    assert.deepInclude(backends(text)[1]?.source, { service: "api", tags: ["blue"] })
  })

  it("is warned of where it serves just what another one does, as with a forgotten key", () => {
    const twin = /^ep2\.conf:6: \[backend api\]: it has the source and the port of haproxynode/

    assert.match(Conf.loaded(withBackend("backend api")).warnings.join(), twin)
    assert.deepStrictEqual(Conf.loaded(withBackend("backend api", "backend_port = 81")).warnings, [])
  })

  it("is one of a hundred", () => {
    const names = Array.from({ length: 100 }, (_, index) => `b${index}`)

    const text = `${Conf.consul}${names.map((name) => `[backend ${name}]\nservice_name = ${name}\n`).join("")}`

    assert.deepStrictEqual(
      backends(text)
        .slice(1)
        .map(({ name, source }) => [name, "service" in source ? source.service : ""]),
      names.map((name) => [name, name])
    )
  })
})
