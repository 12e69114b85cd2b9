import { isIPv6 } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import { endpointKey } from "../../src/domain/State.ts"
import type { Event } from "../../src/simulation/Event.ts"
import * as RandomScenario from "../../src/simulation/RandomScenario.ts"
import * as Scenario from "../../src/simulation/Scenario.ts"

const backends = [
  { name: "web", slots: 10 },
  { name: "api", slots: 20, port: 9090 }
]

/** What is still broken when a scenario is over, in words. */
const leftBroken = ({ events, start }: Scenario.Scenario): ReadonlyArray<string> => {
  const broken = new Set<string>()
  const wanted = new Map([...start].map(([backend, endpoints]) => [backend, new Set(endpoints.map(endpointKey))]))
  const dead = new Set<string>()
  const happen: { readonly [Tag in Event["_tag"]]: (event: Extract<Event, { readonly _tag: Tag }>) => void } = {
    // One that died is not taken for alive again because the source names it again.
    Want: ({ backend, endpoints }) => wanted.set(backend, new Set(endpoints.map(endpointKey))),
    Die: ({ endpoint }) => dead.add(endpointKey(endpoint)),
    Live: ({ endpoint }) => dead.delete(endpointKey(endpoint)),
    Fail: ({ backend }) => broken.add(`source of ${backend}`),
    Empty: ({ backend }) => broken.add(`source of ${backend}`),
    Slow: ({ backend }) => broken.add(`source of ${backend}`),
    Answer: ({ backend }) => broken.delete(`source of ${backend}`),
    Kill: () => broken.add("HAProxy"),
    Start: () => broken.delete("HAProxy"),
    Reload: () => {},
    Silence: () => {},
    CutReply: () => {},
    RefuseConnections: () => {},
    RefuseReloads: ({ count }) => (count > 0 ? broken.add("reloads") : broken.delete("reloads")),
    Operator: ({ backend, server, state }) =>
      state === "ready" ? broken.delete(`${backend}/${server}`) : broken.add(`${backend}/${server}`)
  }
  for (const { event } of events) (happen[event._tag] as (event: Event) => void)(event)
  const deadAndWanted = [...wanted.values()].flatMap((keys) => [...keys].filter((key) => dead.has(key)))
  return [...broken, ...deadAndWanted]
}

const isOrdered = ({ events }: Scenario.Scenario) =>
  events.every(({ atMillis }, index) => index === 0 || events[index - 1]!.atMillis <= atMillis)
const lastOf = ({ events }: Scenario.Scenario) => events.at(-1)!.atMillis

describe("Scenario", () => {
  it("makes endpoints by their number, each once, and apart from those of other backends", () => {
    const first = Scenario.fleet({ index: 0 }, 1, 600)
    const second = Scenario.fleet({ index: 1, port: 80 }, 250, 251)

    assert.equal(new Set(first.map(endpointKey)).size, 600)
    assert.equal(endpointKey(first[0]!), "10.0.0.1:8080")
    assert.equal(endpointKey(first[599]!), "10.0.2.100:8080")
    assert.deepEqual(second.map(endpointKey), ["10.1.0.250:80", "10.1.1.1:80"])
  })

  it.each(Scenario.builtIns.map((one) => [one.name, one] as const))(
    "%s has its events in order, ends with everything repaired, and leaves time for that",
    (_, builtIn) => {
      const scenario = builtIn.make({ backends, seed: 7 })

      assert.isTrue(isOrdered(scenario))
      assert.deepEqual(leftBroken(scenario), [])
      assert.isAtLeast(scenario.durationMillis - lastOf(scenario), 4 * 60_000)
      assert.isAbove(scenario.events.length, 0)
      assert.sameMembers([...scenario.start.keys()], ["web", "api"])
    }
  )

  it("scale-out goes from 3 to 300", () => {
    const scenario = find("scale-out").make({ backends: [backends[0]!], seed: 1 })

    const [only] = scenario.events
    assert.equal(scenario.start.get("web")?.length, 3)
    assert.equal(only?.event._tag === "Want" && only.event.endpoints.length, 300)
  })

  it("rolling-replacement ends with none of the first endpoints, and is never short of them", () => {
    const scenario = find("rolling-replacement").make({ backends: [backends[0]!], seed: 1, size: 5 })

    const sizes = scenario.events.flatMap(({ event }) => (event._tag === "Want" ? [event.endpoints] : []))
    const first = new Set(scenario.start.get("web")?.map(endpointKey))
    assert.sameMembers([...new Set(sizes.map(({ length }) => length))], [5, 6])
    assert.isTrue(sizes.at(-1)?.every((endpoint) => !first.has(endpointKey(endpoint))))
  })

  it("flapping plays the same with the same seed, and otherwise with another", () => {
    const play = (seed: number) => find("flapping").make({ backends, seed }).events

    assert.deepEqual(play(1), play(1))
    assert.notDeepEqual(play(1), play(2))
  })

  it("a random scenario is the same for the same seed, and repairs everything in the end", () => {
    const seeds = Array.from({ length: 100 }, (_, seed) => seed)

    const scenarios = seeds.map((seed) => RandomScenario.make({ backends, seed, processes: 4 }))

    const kinds = new Set(scenarios.flatMap(({ events }) => events.map(({ event }) => event._tag)))
    const families = new Set(
      scenarios.flatMap(({ events }) =>
        events
          .flatMap(({ event }) => (event._tag === "Want" ? event.endpoints : []))
          .map(({ address }) => isIPv6(address))
      )
    )
    assert.equal(kinds.size, 15)
    assert.sameMembers([...families], [true, false])
    assert.deepEqual(scenarios[5], RandomScenario.make({ backends, seed: 5, processes: 4 }))
    for (const scenario of scenarios) {
      assert.isTrue(isOrdered(scenario), scenario.description)
      assert.deepEqual(leftBroken(scenario), [], scenario.description)
      assert.isAtLeast(scenario.durationMillis - lastOf(scenario), 20 * 60_000)
    }
  })
})

const find = (name: string) => Scenario.builtIns.find((one) => one.name === name)!
