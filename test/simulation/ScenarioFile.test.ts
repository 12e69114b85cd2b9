import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import { endpointKey } from "../../src/domain/State.ts"
import { Event } from "../../src/simulation/Event.ts"
import * as ScenarioFile from "../../src/simulation/ScenarioFile.ts"

const web = { name: "web", slots: 10, port: 8080 }
const api = { name: "api", slots: 10, port: 9090 }

const parse = (text: string, backends = [web]) => ScenarioFile.parse("own.yml", text, backends)
const problemsOf = (text: string, backends = [web]): ReadonlyArray<string> => {
  const result = parse(text, backends)
  return Result.isFailure(result) ? result.failure.message.split("\n") : []
}

/** A file that is good, with these events. */
const withEvents = (...events: ReadonlyArray<string>) =>
  ["duration: 30m", "start: { web: { fleet: 3 } }", "events:", ...events.map((event) => `  - ${event}`)].join("\n")

describe("ScenarioFile", () => {
  it("reads every kind of event, in the order of their times", () => {
    const text = withEvents(
      "{ at: 2m, want: { fleet: 2-3 } }",
      "{ at: 1m, die: { fleet: 2 } }",
      '{ at: 61s, live: { endpoints: ["10.0.0.1:8080"] } }',
      "{ at: 62s, fail: { reason: Throttled } }",
      "{ at: 63s, empty: {} }",
      "{ at: 64s, slow: { by: 1500ms } }",
      "{ at: 65s, answer: {} }",
      "{ at: 66s, kill: { process: 1 } }",
      "{ at: 67s, start: {} }",
      "{ at: 68s, reload: {} }",
      "{ at: 69s, silence: { process: 0, for: 5s } }",
      "{ at: 69s, cut_reply: { process: 0, reply: 3 } }",
      "{ at: 69s, refuse_connections: { process: 0, count: 2 } }",
      "{ at: 70s, refuse_reloads: { count: 2 } }",
      "{ at: 1h30m, operator: { server: node1, state: maint } }"
    )

    const scenario = Result.getOrThrow(parse(text))

    const [one, two, three] = [1, 2, 3].map((number) => ({ address: `10.0.0.${number}`, port: 8080 }))
    assert.equal(scenario.durationMillis, 1_800_000)
    assert.deepEqual([...scenario.start], [["web", [one!, two!, three!]]])
    assert.deepEqual(scenario.events, [
      { atMillis: 60_000, event: Event.Die({ endpoint: one! }) },
      { atMillis: 60_000, event: Event.Die({ endpoint: two! }) },
      { atMillis: 61_000, event: Event.Live({ endpoint: one! }) },
      { atMillis: 62_000, event: Event.Fail({ backend: "web", failure: "Throttled" }) },
      { atMillis: 63_000, event: Event.Empty({ backend: "web" }) },
      { atMillis: 64_000, event: Event.Slow({ backend: "web", millis: 1500 }) },
      { atMillis: 65_000, event: Event.Answer({ backend: "web" }) },
      { atMillis: 66_000, event: Event.Kill({ process: 1 }) },
      { atMillis: 67_000, event: Event.Start() },
      { atMillis: 68_000, event: Event.Reload() },
      { atMillis: 69_000, event: Event.Silence({ process: 0, millis: 5000 }) },
      { atMillis: 69_000, event: Event.CutReply({ process: 0, reply: 3 }) },
      { atMillis: 69_000, event: Event.RefuseConnections({ process: 0, count: 2 }) },
      { atMillis: 70_000, event: Event.RefuseReloads({ count: 2 }) },
      { atMillis: 120_000, event: Event.Want({ backend: "web", endpoints: [two!, three!] }) },
      { atMillis: 5_400_000, event: Event.Operator({ backend: "web", server: "node1", state: "maint" }) }
    ])
  })

  it("gives each backend endpoints of its own, and none to one that is not named", () => {
    const scenario = Result.getOrThrow(parse("duration: 1h\nstart: { api: { fleet: 2 } }\nevents: []", [web, api]))

    assert.deepEqual(scenario.start.get("web"), [])
    assert.deepEqual(scenario.start.get("api")?.map(endpointKey), ["10.1.0.1:9090", "10.1.0.2:9090"])
  })

  it("says all that is wrong at once, each with its line, what was found and what was expected", () => {
    const problems = problemsOf(`duration: soon
procesess: 4
start:
  web: { fleet: 70000 }
events:
  - want: { fleet: 3 }
  - at: 5
    fail:
      reason: Broken
  - { at: 1m, die: { endpoints: ["10.0.0.1:8080", "web1:80"] } }
  - { at: 1m, explode: {} }
  - { at: 1m, slow: { for: 5s } }
  - { at: 1m, kill: { process: -1 } }
`)

    assert.deepEqual(problems, [
      'own.yml:1: duration: found "soon", expected a duration such as 250ms, 90s, 15m or 1h',
      "own.yml:2: procesess: is not known, expected description, duration, processes, start, events",
      "own.yml:4: start.web.fleet: found 70000, expected a number of endpoints such as 12, or numbers from and to such as 3-14, at most 64000",
      "own.yml:6: events[1].at: is missing, expected a duration such as 250ms, 90s, 15m or 1h",
      "own.yml:7: events[2].at: found 5, expected a duration such as 250ms, 90s, 15m or 1h",
      'own.yml:9: events[2].fail.reason: found "Broken", expected Unavailable, Throttled, Unauthorized, TargetMissing or BadResponse',
      'own.yml:10: events[3].die.endpoints[2]: found "web1:80", expected an address and a port such as 10.0.0.3:8080 or [2001:db8::5]:8080',
      "own.yml:11: events[4].explode: is not known, expected at and one of want, die, live, fail, empty, slow, answer, kill, start, reload, silence, cut_reply, refuse_connections, refuse_reloads, operator",
      "own.yml:12: events[5].slow.for: is not known, expected backend, by",
      "own.yml:12: events[5].slow.by: is missing, expected a duration such as 250ms, 90s, 15m or 1h",
      "own.yml:13: events[6].kill.process: found -1, expected a whole number from 0 to 63"
    ])
  })

  it("says which events do nothing, two things, or something to nobody", () => {
    const problems = problemsOf(
      withEvents(
        "{ at: 1m }",
        "{ at: 1m, empty: {}, answer: {} }",
        "{ at: 1m, want: {} }",
        '{ at: 1m, want: { fleet: 1, endpoints: ["10.0.0.1:80"] } }',
        "{ at: 1m, empty: { backend: wbe } }"
      )
    )

    assert.deepEqual(problems, [
      "own.yml:4: events[1]: found nothing that happens, expected one of want, die, live, fail, empty, slow, answer, kill, start, reload, silence, cut_reply, refuse_connections, refuse_reloads, operator",
      "own.yml:5: events[2]: found empty and answer, expected one of want, die, live, fail, empty, slow, answer, kill, start, reload, silence, cut_reply, refuse_connections, refuse_reloads, operator",
      "own.yml:6: events[3].want: found neither, expected fleet or endpoints",
      "own.yml:7: events[4].want: found both, expected fleet or endpoints",
      'own.yml:8: events[5].empty.backend: found "wbe", expected web'
    ])
  })

  it("asks for the backend where there are several", () => {
    const problems = problemsOf("duration: 1h\nstart: { web: { fleet: 1 } }\nevents: [{ at: 1s, empty: {} }]", [
      web,
      api
    ])

    assert.deepEqual(problems, ["own.yml:3: events[1].empty: has no backend, expected web or api"])
  })

  it.each([
    ["nothing", "", [/^own\.yml: found nothing, expected description, duration, start and events$/]],
    ["a list", "- 1", [/^own\.yml:1: found \[1\], expected description, duration, start and events$/]],
    ["no YAML", "duration: 1h\nstart: {", [/^own\.yml:2: is not YAML: /]],
    ["a tab", "duration: 1h\nstart:\n\tweb: {}", [/^own\.yml:3: is not YAML: /]]
  ])("refuses %s", (_, text, expected) => {
    const problems = problemsOf(text)

    assert.isAtLeast(problems.length, 1)
    expected.forEach((pattern, index) => {
      assert.match(problems[index] ?? "", pattern)
    })
  })

  it.each([
    ["250ms", 250],
    ["90s", 90_000],
    ["1.5h", 5_400_000],
    ["1h30m", 5_400_000],
    ["1d", 86_400_000],
    ["0s", 0],
    ["90", undefined],
    ["", undefined],
    ["-1s", undefined],
    ["1 h", undefined]
  ])("reads the duration %j as %s ms", (text, expected) => {
    assert.equal(ScenarioFile.readDuration(text), expected)
  })
})
