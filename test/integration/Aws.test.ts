/** AWS Auto Scaling groups end to end: moto's instances have loopback addresses, where real servers listen. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as FaultProxy from "../servers/FaultProxy.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"
import { MotoServer, region } from "../servers/MotoServer.ts"
import * as Ports from "../servers/Ports.ts"
import * as Traffic from "../servers/Traffic.ts"
import * as World from "./World.ts"

const { logs, serves } = World

/** A world that follows groups, with a proxy between it and AWS. */
const makeWorld = Effect.fnUntraced(function* (
  options: Omit<World.Options, "source"> & {
    /** Lines of [AWS]; an access key unless others are given. */
    readonly credentials?: string
  }
) {
  const moto = yield* MotoServer
  const proxy = yield* FaultProxy.make(moto)
  const port = yield* Ports.freePort
  const world = yield* World.make({
    ...options,
    source: () => `[AWS]
${options.credentials ?? "aws_access_key_id = AKIATEST\naws_secret_access_key = not-a-secret"}
asg_name = web
region_name = ${region}
ip_type = private
endpoint_url = http://127.0.0.1:${proxy.port}`,
    settings: {
      orchestrator: "aws",
      backend_port: String(port),
      node_slots: "24",
      ...options.settings
    }
  })
  const running = new Map<string, HttpBackends.HttpBackend>()

  /** The servers of all instances of a group; those of new ones are started, each named after its instance. */
  const servers = Effect.fnUntraced(function* (group = "web") {
    const all: Array<HttpBackends.HttpBackend> = []
    for (const { address, id } of yield* moto.instances(group)) {
      const server = running.get(id) ?? (yield* HttpBackends.make({ name: id, address, port }))
      running.set(id, server)
      all.push(server)
    }
    return all
  })

  /** Ends the servers of instances that are gone, as AWS does with the instances themselves. */
  const reap = Effect.fnUntraced(function* (left: ReadonlyArray<HttpBackends.HttpBackend>) {
    for (const [id, server] of running) {
      if (left.includes(server)) continue
      yield* server.stop
      running.delete(id)
    }
  })

  return { world, moto, proxy, servers, reap }
})

const without = (all: ReadonlyArray<HttpBackends.HttpBackend>, ...gone: ReadonlyArray<HttpBackends.HttpBackend>) =>
  all.filter((one) => !gone.includes(one))

const lineOf = (ep2: World.Ep2, pattern: RegExp) =>
  ep2
    .output()
    .split("\n")
    .find((line) => pattern.test(line))

describe.each(World.sampleVersions)("an Auto Scaling group to HAProxy %s", (version) => {
  it.live("loses no request while it scales, and while instances are terminated, put in standby and brought back", () =>
    Effect.gen(function* () {
      const { moto, reap, servers, world } = yield* makeWorld({ version })
      yield* moto.makeGroup("web", 0)
      const ep2 = yield* world.start()
      yield* logs(ep2, /following the source/)

      yield* moto.scale("web", 3)
      yield* serves(world, yield* servers())
      const traffic = yield* Traffic.start({ port: world.port })
      const slow = yield* Traffic.start({ port: world.port, path: "/slow?millis=700" })

      yield* moto.scale("web", 10)
      const ten = yield* servers()
      assert.lengthOf(ten, 10)
      yield* serves(world, ten)

      const [standby, terminated] = ten
      yield* moto.enterStandby("web", standby!.name)
      yield* serves(world, without(ten, standby!))
      yield* moto.terminate(terminated!.name)
      const eight = without(ten, standby!, terminated!)
      yield* serves(world, eight)
      // As an instance ends some time after its group has let go of it.
      yield* logs(ep2, new RegExp(`left, its slot is free: ${terminated!.name}`))
      yield* terminated!.stop
      yield* moto.exitStandby("web", standby!.name)
      yield* serves(world, without(ten, terminated!))

      yield* moto.scale("web", 2)
      const two = yield* servers()
      assert.lengthOf(two, 2)
      yield* serves(world, two)
      yield* World.eventually(
        "all others have left",
        Effect.map(world.servers(), (all) => all.filter(({ isMarked }) => isMarked).length === 0)
      )
      yield* reap(two)

      const reports = [yield* traffic.stop, yield* slow.stop]
      assert.deepStrictEqual(
        reports.flatMap(({ failures }) => failures),
        []
      )
      assert.sameMembers(
        Object.keys(reports[0]!.byServer),
        ten.map(({ name }) => name)
      )
      const name = `${standby!.name} in web (${region}a)`
      assert.include(lineOf(ep2, /server=node1 .* arrives/), `(${region}a)`)
      assert.include(
        lineOf(ep2, /drains/),
        `endpoint=${standby!.endpoint.address}:${standby!.endpoint.port} drains: ${name} is in Standby`
      )
      const again = /takes traffic \(again\)|arrives/
      const lines = ep2.output().split("\n")
      assert.isTrue(
        lines.slice(lines.indexOf(lineOf(ep2, /drains/)!)).some((line) => again.test(line) && line.endsWith(name))
      )
      assert.include(ep2.output(), `drains: ${terminated!.name} in web (${region}a) is no longer in the group`)
      assert.include(ep2.output(), `left, its slot is free: ${terminated!.name} in web`)
      assert.notInclude(ep2.output(), "not-a-secret")
      assert.isFalse(World.servesPlaceholder(yield* world.servers()))
    }).pipe(Effect.provide(MotoServer.layer))
  )
})

describe("an Auto Scaling group", () => {
  const version = World.versions[0]!

  it.live("has what its lifecycle hooks wait for drained and not cut, and what is pending not served", () =>
    Effect.gen(function* () {
      const { moto, proxy, servers, world } = yield* makeWorld({ version })
      yield* moto.makeGroup("web", 3)
      const all = yield* servers()
      const [leaving, pending, other] = all
      const inState = (id: string, state: string) => (body: string) =>
        body.replace(
          new RegExp(`(<InstanceId>${id}</InstanceId>[\\s\\S]*?<LifecycleState>)[^<]*`),
          (_, before) => `${before}${state}`
        )
      const become = (leavingState: string, pendingState: string) =>
        proxy.set({
          kind: "rewrite",
          change: (body) => inState(leaving!.name, leavingState)(inState(pending!.name, pendingState)(body))
        })
      yield* become("InService", "Pending:Wait")
      const ep2 = yield* world.start()
      yield* serves(world, [leaving!, other!])
      const traffic = yield* Traffic.start({ port: world.port, path: "/slow?millis=1500", closing: 4, keeping: 4 })
      yield* World.eventually(
        "the one that is to leave has requests in flight",
        Effect.map(leaving!.counts, ({ inFlight }) => inFlight >= 2)
      )

      yield* become("Terminating:Wait", "InService")
      yield* serves(world, [pending!, other!])
      yield* World.eventually(
        "it has left",
        Effect.sync(() => ep2.output().includes(`left, its slot is free: ${leaving!.name}`))
      )
      yield* leaving!.stop

      const report = yield* traffic.stop
      assert.deepStrictEqual(report.failures, [])
      assert.isAbove(report.byServer[leaving!.name] ?? 0, 1)
      assert.include(ep2.output(), `drains: ${leaving!.name} in web (${region}a) is in Terminating:Wait`)
    }).pipe(Effect.provide(MotoServer.layer))
  )

  const error = (code: string, message: string) => (status: number) =>
    ({
      kind: "answer",
      status,
      body: `<ErrorResponse><Error><Code>${code}</Code><Message>${message}</Message></Error></ErrorResponse>`
    }) as const satisfies FaultProxy.Fault

  it.live("keeps being served, whatever AWS answers, with one line for each trouble and one for its end", () =>
    Effect.gen(function* () {
      const { moto, proxy, servers, world } = yield* makeWorld({ version })
      yield* moto.makeGroup("web", 3)
      const all = yield* servers()
      const ep2 = yield* world.start()
      yield* serves(world, all)
      const traffic = yield* Traffic.start({ port: world.port })
      const troubles: ReadonlyArray<readonly [FaultProxy.Fault, RegExp]> = [
        [{ kind: "refuse" }, /connection refused by/],
        [error("InvalidClientTokenId", "invalid")(403), /AWS does not take the access key/],
        [error("ExpiredToken", "expired")(403), /the credentials have expired/],
        [error("AccessDenied", "no")(403), /may not call autoscaling:DescribeAutoScalingGroups/],
        [{ kind: "answer", status: 200, body: "<html>log in</html>" }, /what came is not AWS's answer/],
        [{ kind: "rewrite", change: (body) => body.replace(/<member>[\s\S]*<\/member>/, "") }, /there is no such group/]
      ]

      for (const [fault, says] of troubles) {
        const ends = () => ep2.output().match(/the source answers again/g)?.length ?? 0
        const before = ends()
        yield* proxy.set(fault)
        yield* logs(ep2, says)
        yield* Effect.sleep("1200 millis")
        yield* serves(world, all)
        yield* proxy.set({ kind: "none" })
        yield* World.eventually(
          "the source answers again",
          Effect.sync(() => ends() > before)
        )
        const lines = ep2.output().split("\n")
        assert.lengthOf(
          lines.filter((line) => / warning /.test(line) && says.test(line)),
          1,
          String(says)
        )
      }

      const report = yield* traffic.stop
      assert.deepStrictEqual(report.failures, [])
      assert.sameMembers(
        Object.keys(report.byServer),
        all.map(({ name }) => name)
      )
    }).pipe(Effect.provide(MotoServer.layer))
  )

  it.live("that is empty at once, or all unhealthy, does not take the last servers away", () =>
    Effect.gen(function* () {
      const { moto, servers, world } = yield* makeWorld({ version })
      yield* moto.makeGroup("web", 2)
      const all = yield* servers()
      const ep2 = yield* world.start()
      yield* serves(world, all)

      for (const { name } of all) yield* moto.setHealth(name, "Unhealthy")
      yield* logs(ep2, /the 2 endpoints that are served stay/)
      yield* Effect.sleep("1500 millis")

      yield* serves(world, all)
    }).pipe(Effect.provide(MotoServer.layer))
  )

  it.live("with a name that is wrong is said to be at the start, and waited for, while HAProxy serves on", () =>
    Effect.gen(function* () {
      const { moto, servers, world } = yield* makeWorld({ version })
      yield* moto.makeGroup("web", 2)
      const all = yield* servers()
      const first = yield* world.start()
      yield* serves(world, all)
      first.signal("SIGTERM")
      assert.strictEqual(yield* first.ended, 0)
      const traffic = yield* Traffic.start({ port: world.port })
      writeFileSync(world.conf, readFileSync(world.conf, "utf8").replace("asg_name = web", "asg_name = wen"))

      const ep2 = yield* world.start()
      yield* logs(ep2, /waiting for the source: Auto Scaling group "wen" .* did you mean "web"\?/)
      yield* serves(world, all)
      yield* moto.makeGroup("wen", 1)
      const renamed = yield* servers("wen")
      yield* serves(world, renamed)

      assert.deepStrictEqual((yield* traffic.stop).failures, [])
    }).pipe(Effect.provide(MotoServer.layer))
  )

  it.live("is followed by the program that is installed too, with a profile that assumes a role", () =>
    Effect.gen(function* () {
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "ep2-installed-"))),
        (made) => Effect.sync(() => rmSync(made, { recursive: true, force: true }))
      )
      const files = {
        AWS_CONFIG_FILE: join(folder, "config"),
        AWS_SHARED_CREDENTIALS_FILE: join(folder, "credentials")
      }
      writeFileSync(
        files.AWS_SHARED_CREDENTIALS_FILE,
        "[base]\naws_access_key_id = AKIABASE\naws_secret_access_key = x\n"
      )
      const role = "role_arn = arn:aws:iam::123456789012:role/ep2\nsource_profile = base"
      writeFileSync(files.AWS_CONFIG_FILE, `[profile ops]\n${role}\n`)
      const { moto, proxy, servers, world } = yield* makeWorld({
        version,
        env: files,
        credentials: "profile = ops"
      })
      yield* moto.makeGroup("web", 2)
      const all = yield* servers()

      yield* world.start()
      yield* serves(world, all)

      const signers = proxy.seen().map(({ headers }) => /Credential=(\w{4})/.exec(headers.authorization ?? "")?.[1])
      assert.strictEqual(signers[0], "AKIA")
      assert.isTrue(signers.length > 2 && signers.slice(1).every((one) => one === "ASIA"), signers.join())
    }).pipe(Effect.provide(MotoServer.layer))
  )
})
