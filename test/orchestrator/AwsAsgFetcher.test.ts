/** The AWS source on a real API: moto. What moto does not do is in AwsFaults.test.ts. */
import { readFileSync } from "node:fs"
import { assert, layer } from "@effect/vitest"
import { Duration, Effect } from "effect"
import { endpointKey } from "../../src/domain/State.ts"
import * as AwsAsgFetcher from "../../src/orchestrator/AwsAsgFetcher.ts"
import * as FaultProxy from "../servers/FaultProxy.ts"
import { MotoServer } from "../servers/MotoServer.ts"
import { actionOf, isAction, start, targetOf } from "./AwsGroups.ts"

const groupsCall = "DescribeAutoScalingGroups"
const instancesCall = "DescribeInstances"

layer(MotoServer.layer, { excludeTestServices: true })("AwsAsgFetcher", (it) => {
  it.effect("serves the instances that are in service, with instance id, group and zone as their origin", () =>
    Effect.gen(function* () {
      const moto = yield* MotoServer
      yield* moto.makeGroup("plain", 2)
      const { state } = yield* start({ groups: ["plain"], port: 8080 })

      const desired = yield* state

      const expected = (yield* moto.instances("plain")).map(({ address, id }) => ({
        endpoint: { address, port: 8080 },
        origin: `${id} in plain (eu-central-1a)`
      }))
      assert.lengthOf(expected, 2)
      assert.sameDeepMembers([...desired.wanted], expected)
      assert.deepEqual([desired.refused, desired.pending, desired.leaving], [[], [], []])
    })
  )

  it.effect("follows a group that grows and shrinks, an empty one being an answer and no error", () =>
    Effect.gen(function* () {
      const moto = yield* MotoServer
      yield* moto.makeGroup("scales", 0)
      const { fetch } = yield* start({ groups: ["scales"] })

      for (const count of [0, 3, 10, 2, 0]) {
        yield* moto.scale("scales", count)
        const addresses = (yield* moto.instances("scales")).map(({ address }) => `${address}:80`).sort()
        assert.lengthOf(addresses, count)
        assert.deepEqual(yield* fetch, addresses)
      }
    })
  )

  it.effect("lets go of what is in standby, unhealthy, detached or terminated, and says why; standby comes back", () =>
    Effect.gen(function* () {
      const moto = yield* MotoServer
      yield* moto.makeGroup("leaves", 4)
      const { fetch, state } = yield* start({ groups: ["leaves"] })
      const [standby, unhealthy, detached, terminated] = yield* moto.instances("leaves")
      const at = (...some: ReadonlyArray<typeof standby>) => some.map((one) => `${one!.address}:80`).sort()
      assert.deepEqual(yield* fetch, at(standby, unhealthy, detached, terminated))

      yield* moto.enterStandby("leaves", standby!.id)
      yield* moto.setHealth(unhealthy!.id, "Unhealthy")
      yield* moto.detach("leaves", detached!.id)
      const { leaving, wanted } = yield* state
      yield* moto.terminate(terminated!.id)
      const without = yield* fetch
      yield* moto.exitStandby("leaves", standby!.id)

      assert.deepEqual(
        wanted.map(({ endpoint }) => endpointKey(endpoint)),
        at(terminated)
      )
      assert.sameDeepMembers(
        [...leaving],
        [
          {
            endpoint: { address: standby!.address, port: 80 },
            origin: `${standby!.id} in leaves (eu-central-1a)`,
            reason: "is in Standby"
          },
          {
            endpoint: { address: unhealthy!.address, port: 80 },
            origin: `${unhealthy!.id} in leaves (eu-central-1a)`,
            reason: "is Unhealthy"
          },
          {
            endpoint: { address: detached!.address, port: 80 },
            origin: `${detached!.id} in leaves (eu-central-1a)`,
            reason: "is no longer in the group",
            isMissing: true
          }
        ]
      )
      assert.deepEqual(without, [])
      assert.deepEqual(yield* fetch, at(standby))
    })
  )

  it.effect("serves several groups together", () =>
    Effect.gen(function* () {
      const moto = yield* MotoServer
      yield* moto.makeGroup("web-blue", 2)
      yield* moto.makeGroup("web-green", 1)
      const { fetch } = yield* start({ groups: ["web-blue", "web-green"] })

      const all = [...(yield* moto.instances("web-blue")), ...(yield* moto.instances("web-green"))]

      assert.deepEqual(yield* fetch, all.map(({ address }) => `${address}:80`).sort())
    })
  )

  it.effect("serves public addresses, and says what to do where there is none", () =>
    Effect.gen(function* () {
      const moto = yield* MotoServer
      yield* moto.makeGroup("public", 2, { isPublic: true })
      yield* moto.makeGroup("hidden", 1)
      const { fetch, state } = yield* start({ groups: ["public", "hidden"], ipType: "public" })
      const addresses = (yield* moto.instances("public")).map(({ publicAddress }) => publicAddress)

      assert.deepEqual(yield* fetch, addresses.map((address) => `${address}:80`).sort())

      const [hidden] = yield* moto.instances("hidden")
      assert.deepEqual((yield* state).pending, [
        {
          origin: `${hidden!.id} in hidden (eu-central-1a)`,
          reason: "has no public address yet; if its subnet gives none, set ip_type = private",
          isUnknown: false
        }
      ])
    })
  )

  it.effect("serves IPv6 addresses, of the instance or of its first interface that has one", () =>
    Effect.gen(function* () {
      const moto = yield* MotoServer
      yield* moto.makeGroup("six", 2)
      const { fetch, proxy } = yield* start({ groups: ["six"], ipType: "ipv6" })
      const [one, other] = yield* moto.instances("six")
      // moto has no IPv6 in the networks that it makes up.
      const byInterface =
        "<networkInterfaceSet><item><ipv6AddressesSet><item><ipv6Address>2001:db8::b</ipv6Address></item></ipv6AddressesSet></item></networkInterfaceSet>"
      yield* proxy.set(
        {
          kind: "rewrite",
          change: (body) =>
            body
              .replaceAll(/<networkInterfaceSet>[\s\S]*?<\/networkInterfaceSet>/g, "")
              .replace(`<instanceId>${one!.id}</instanceId>`, "$&<ipv6Address>2001:db8::a</ipv6Address>")
              .replace(`<instanceId>${other!.id}</instanceId>`, `$&${byInterface}`)
        },
        isAction(instancesCall)
      )

      assert.deepEqual(yield* fetch, ["[2001:db8::a]:80", "[2001:db8::b]:80"])
    })
  )

  it.effect("names a group that does not exist and what it may have been meant to be, and asks for that once", () =>
    Effect.gen(function* () {
      const moto = yield* MotoServer
      yield* moto.makeGroup("typo-blue", 1)
      const { calls, fetch, target } = yield* start({ groups: ["typo-blue", "typo-bleu"] })

      const error = yield* Effect.flip(fetch)
      yield* Effect.flip(fetch)

      assert.equal(error.reason, "TargetMissing")
      assert.equal(
        error.message,
        `Auto Scaling group "typo-bleu" in eu-central-1 at ${target.endpointUrl}: there is no such group; did you mean "typo-blue"?: see asg_name, region_name and the account of the credentials`
      )
      assert.deepEqual(calls(), [groupsCall, instancesCall, groupsCall, groupsCall])
    })
  )

  it.effect("says of a wrong region that it has no groups", () =>
    Effect.gen(function* () {
      const { fetch } = yield* start({ groups: ["plain"], region: "eu-west-3" })

      const error = yield* Effect.flip(fetch)

      assert.equal(error.reason, "TargetMissing")
      assert.match(
        error.message,
        /^Auto Scaling group "plain" in eu-west-3 at .*; this region of the account has none at all: see asg_name, region_name/
      )
    })
  )

  it.effect("fails, and does not answer with nobody, when a group is deleted; a new one of its name is served", () =>
    Effect.gen(function* () {
      const moto = yield* MotoServer
      yield* moto.makeGroup("deleted", 1)
      const { fetch } = yield* start({ groups: ["deleted"] })
      yield* fetch
      yield* moto.deleteGroup("deleted")

      const error = yield* Effect.flip(fetch)
      yield* moto.makeGroup("deleted", 1)

      assert.equal(error.reason, "TargetMissing")
      assert.lengthOf(yield* fetch, 1)
    })
  )

  it.effect("asks for instances by 200, all of them", () =>
    Effect.gen(function* () {
      const moto = yield* MotoServer
      yield* moto.makeGroup("large", 230)
      const { calls, fetch } = yield* start({ groups: ["large"] })

      assert.lengthOf(new Set(yield* fetch), 230)

      assert.deepEqual(calls(), [groupsCall, instancesCall, instancesCall])
    })
  )

  it.effect("asks for groups by 100, all of them", () =>
    Effect.gen(function* () {
      const moto = yield* MotoServer
      const names = Array.from({ length: 101 }, (_, index) => `many-${index}`)
      yield* Effect.forEach(names, (name) => moto.makeGroup(name, name === "many-100" ? 2 : 0, { isPublic: true }))
      const { calls, fetch } = yield* start({ groups: names })

      assert.lengthOf(yield* fetch, 2)

      assert.deepEqual(calls(), [groupsCall, groupsCall, instancesCall])
    })
  )

  it.effect("reads an answer that says the same as the one before as the very same, and any other anew", () =>
    Effect.gen(function* () {
      const { api, proxy } = yield* start({ groups: ["web"] })
      const answer = (request: string, health: string) => `
        <DescribeAutoScalingGroupsResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/">
          <DescribeAutoScalingGroupsResult><AutoScalingGroups><member>
            <AutoScalingGroupName>web</AutoScalingGroupName>
            <Instances><member>
              <InstanceId>i-1</InstanceId><AvailabilityZone>a</AvailabilityZone>
              <LifecycleState>InService</LifecycleState><HealthStatus>${health}</HealthStatus>
            </member></Instances>
          </member></AutoScalingGroups></DescribeAutoScalingGroupsResult>
          <ResponseMetadata><RequestId>${request}</RequestId></ResponseMetadata>
        </DescribeAutoScalingGroupsResponse>`
      const ask = Effect.fnUntraced(function* (request: string, health: string) {
        const headers = { "content-type": "text/xml" }
        yield* proxy.set({ kind: "answer", status: 200, headers, body: answer(request, health) })
        return (yield* api().groups(["web"]))[0]!
      })

      const first = yield* ask("1", "Healthy")
      const second = yield* ask("2", "Healthy")
      const third = yield* ask("3", "Unhealthy")
      const fourth = yield* ask("4", "Healthy")

      assert.strictEqual(second, first)
      assert.deepEqual(
        [first, third, fourth].map(({ members }) => members[0]?.health),
        ["Healthy", "Unhealthy", "Healthy"]
      )
    })
  )

  it.effect("reads all pages of both calls", () =>
    Effect.gen(function* () {
      const moto = yield* MotoServer
      const names = Array.from({ length: 7 }, (_, index) => `paged-${index}`)
      yield* Effect.forEach(names, (name) => moto.makeGroup(name, 1))
      const { calls, fetch, proxy } = yield* start({ groups: names })
      // moto pages instances by what was started together: 7 groups, 7 times one.
      const small = {
        kind: "alter",
        change: (body) => body.replace(/Max(Records|Results)=\d+/, "Max$1=5")
      } as const satisfies FaultProxy.Fault
      yield* proxy.set(small)

      assert.lengthOf(yield* fetch, 7)

      assert.deepEqual(calls(), [groupsCall, groupsCall, instancesCall, instancesCall])
    })
  )

  it.effect("asks again soon for an instance that EC2 does not know yet, and serves the others meanwhile", () =>
    Effect.gen(function* () {
      const moto = yield* MotoServer
      yield* moto.makeGroup("early", 2)
      const { awaitChange, calls, fetch, proxy, state } = yield* start({
        groups: ["early"],
        interval: Duration.minutes(5)
      })
      const [early, other] = yield* moto.instances("early")
      // EC2 is asked for an id that it really does not know, in place of the one that came too early.
      yield* proxy.set(
        { kind: "alter", change: (body) => body.replace(early!.id, "i-0123456789abcdef0") },
        isAction(instancesCall)
      )

      const desired = yield* state
      yield* proxy.set({ kind: "none" })
      yield* awaitChange.pipe(Effect.timeout("5 seconds"))

      assert.deepEqual(
        desired.wanted.map(({ endpoint }) => endpoint.address),
        [other!.address]
      )
      assert.deepEqual(desired.pending, [
        { origin: `${early!.id} in early (eu-central-1a)`, reason: "is not known to EC2 yet", isUnknown: true }
      ])
      assert.deepEqual(yield* fetch, [`${early!.address}:80`, `${other!.address}:80`].sort())
      assert.deepEqual(calls(), [groupsCall, instancesCall, groupsCall, instancesCall])
    })
  )

  it.effect("costs one call per poll for 5 backends on 8 groups in which nothing changes", () =>
    Effect.gen(function* () {
      const moto = yield* MotoServer
      const names = Array.from({ length: 8 }, (_, index) => `shared-${index}`)
      yield* Effect.forEach(names, (name) => moto.makeGroup(name, 3))
      const proxy = yield* FaultProxy.make(moto)
      const url = `http://127.0.0.1:${proxy.port}`
      const groupsOf = [names.slice(0, 2), names.slice(2, 4), names.slice(4, 6), names.slice(6), names] as const
      const targets = groupsOf.map((groups, index): [string, AwsAsgFetcher.AwsTarget] => [
        `backend-${index}`,
        targetOf(url, { groups })
      ])
      const fetcher = yield* AwsAsgFetcher.make(new Map(targets))
      const pollAll = Effect.forEach(targets, ([backend]) => fetcher.fetch(backend), { concurrency: "unbounded" })
      const first = yield* pollAll
      const before = proxy.seen().length

      for (let poll = 0; poll < 100; poll++) assert.deepEqual(yield* pollAll, first)

      const calls = proxy.seen().slice(before).map(actionOf)
      assert.deepEqual(
        first.map(({ wanted }) => wanted.length),
        [6, 6, 6, 6, 24]
      )
      assert.deepEqual(proxy.seen().slice(0, before).map(actionOf), [groupsCall, instancesCall])
      assert.deepEqual(calls, Array(100).fill(groupsCall))
    })
  )

  it.effect("makes no call but those that the policy in docs/aws allows, and both of them", () =>
    Effect.gen(function* () {
      const moto = yield* MotoServer
      yield* moto.makeGroup("policy", 1)
      const { fetch, proxy } = yield* start({ groups: ["policy"] })
      yield* fetch
      yield* moto.deleteGroup("policy")
      yield* Effect.flip(fetch)

      const made = proxy.seen().map((one) => {
        const service = /\/([a-z0-9]+)\/aws4_request/.exec(one.headers.authorization ?? "")?.[1]
        return `${service}:${actionOf(one)}`
      })

      const page = readFileSync(new URL("../../docs/aws/README.md", import.meta.url), "utf8")
      const policy = JSON.parse(/```json\n([\s\S]*?)```/.exec(page)?.[1] ?? "")
      assert.sameMembers([...new Set(made)], policy.Statement[0].Action)
    })
  )

  it.effect("keeps one backend going when a group of another one is missing", () =>
    Effect.gen(function* () {
      const moto = yield* MotoServer
      yield* moto.makeGroup("there", 1)
      const fetcher = yield* AwsAsgFetcher.make(
        new Map([
          ["one", targetOf(moto.url, { groups: ["there"] })],
          ["other", targetOf(moto.url, { groups: ["not-there"] })]
        ])
      )

      const [one, other] = yield* Effect.all([fetcher.fetch("one"), Effect.flip(fetcher.fetch("other"))], {
        concurrency: 2
      })

      assert.lengthOf(one.wanted, 1)
      assert.equal(other.reason, "TargetMissing")
    })
  )

  it.effect("asks each region by itself", () =>
    Effect.gen(function* () {
      const moto = yield* MotoServer
      yield* moto.makeGroup("regional", 1)
      const proxy = yield* FaultProxy.make(moto)
      const url = `http://127.0.0.1:${proxy.port}`
      const fetcher = yield* AwsAsgFetcher.make(
        new Map([
          ["here", targetOf(url, { groups: ["regional"] })],
          ["there", targetOf(url, { groups: ["regional"], region: "us-east-1" })]
        ])
      )

      yield* Effect.all([fetcher.fetch("here"), Effect.flip(fetcher.fetch("there"))], { concurrency: 2 })

      const regions = proxy.seen().map(({ headers }) => /\/\d+\/([^/]+)\//.exec(headers.authorization ?? "")?.[1])
      assert.sameMembers([...new Set(regions)], ["eu-central-1", "us-east-1"])
    })
  )
})
