/**
 * What can go wrong with a source, one thing after the other in one installation:
 * HAProxy keeps just what it serves, loses no request, and what changed meanwhile
 * is served by itself soon after. A sample of it in `npm test`.
 */
import { execFile } from "node:child_process"
import { chmod, lstat, mkdir, rename, rm, symlink, truncate, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { promisify } from "node:util"
import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect } from "effect"
import { endpointKey } from "../../src/domain/State.ts"
import { ConsulServer } from "../servers/ConsulServer.ts"
import * as FaultProxy from "../servers/FaultProxy.ts"
import * as HttpBackends from "../servers/HttpBackends.ts"
import { MotoServer, region } from "../servers/MotoServer.ts"
import * as Ports from "../servers/Ports.ts"
import * as Traffic from "../servers/Traffic.ts"
import * as World from "./World.ts"

const { serves } = World

const isAll = process.env.EP2_TEST_ALL === "1"

interface Step {
  readonly name: string
  readonly begin: Effect.Effect<void>
  readonly end: Effect.Effect<void>
  /** The one warning of it. Left out where the source still answers: changes are then served as ever. */
  readonly says?: RegExp
  /** The source itself is away, and cannot be told of a change before it is back. */
  readonly isAway?: boolean
  /** How soon after the end the change is served, where that is not 5 s. */
  readonly withinSeconds?: number
  /** Part of the sample. */
  readonly isSample?: boolean
}

/** Five servers, the last of which comes and goes: never more than a fifth of them. */
interface Stage {
  readonly world: World.World
  readonly servers: ReadonlyArray<HttpBackends.HttpBackend>
  /** Tells the source whether the last one is to be served. */
  readonly tell: (isIn: boolean) => Effect.Effect<void>
  readonly steps: ReadonlyArray<Step>
}

const stepThrough = Effect.fnUntraced(function* ({ servers, steps, tell, world }: Stage) {
  const ep2 = yield* world.start()
  yield* serves(world, servers)
  yield* World.logs(ep2, /following the source/)
  const pid = Effect.map(world.ask("show info"), (reply) => /^Pid: \d+$/m.exec(reply)?.[0])
  const pidBefore = yield* pid
  const traffic = yield* Traffic.start({ port: world.port })
  let isIn = true
  const change = Effect.suspend(() => {
    isIn = !isIn
    return tell(isIn)
  })
  const isServed = Effect.suspend(() => serves(world, isIn ? servers : servers.slice(0, -1)))
  const took: Array<string> = []

  for (const step of steps.filter(({ isSample }) => isAll || isSample === true)) {
    const before = yield* world.served()
    // HAProxy shows what ep2 did before ep2's line about it comes through the pipe.
    yield* Effect.sleep("300 millis")
    const from = ep2.output().length
    const said = () => ep2.output().slice(from)
    const staysSo = Effect.gen(function* () {
      for (let looks = 0; looks < 10; looks++) {
        assert.deepStrictEqual(yield* world.served(), before, step.name)
        yield* Effect.sleep("50 millis")
      }
      // What an earlier change began may still be on its way to its end.
      assert.notMatch(said(), / server=\S+ endpoint=\S+ (?:arrives|drains)/, step.name)
    })

    yield* step.begin
    if (step.says === undefined) {
      yield* change
      yield* isServed
    } else {
      const { says } = step
      yield* World.eventually(
        `${step.name}: ${says}`,
        Effect.sync(() => says.test(said())),
        // The age of what is served is first said after a minute.
        Duration.seconds(100)
      )
      if (step.isAway !== true) yield* change
      yield* staysSo
    }
    yield* step.end
    if (step.isAway === true) {
      yield* staysSo
      yield* change
    }
    const ended = yield* Clock.currentTimeMillis
    yield* isServed.pipe(Effect.timeout(Duration.seconds(30)))
    const tookMillis = (yield* Clock.currentTimeMillis) - ended
    took.push(`${step.name}: ${tookMillis} ms`)

    assert.isBelow(tookMillis, (step.withinSeconds ?? 5) * 1000, step.name)
    const warnings = said()
      .split("\n")
      .filter((line) => / warning /.test(line) && (step.says ?? / /).test(line))
    assert.lengthOf(warnings, step.says === undefined ? 0 : 1, `${step.name}\n${warnings.join("\n")}`)
  }

  const report = yield* traffic.stop
  assert.deepStrictEqual(report.failures, [], took.join("\n"))
  assert.sameMembers(
    Object.keys(report.byServer),
    servers.map(({ name }) => name)
  )
  assert.isDefined(pidBefore)
  assert.strictEqual(yield* pid, pidBefore)
  assert.notMatch(ep2.output(), /reloading/)
  yield* Effect.logInfo(`served again after\n${took.join("\n")}`)
  return ep2
})

const answer = (status: number, body: string, headers: Record<string, string> = {}) =>
  ({ kind: "answer", status, body, headers }) as const satisfies FaultProxy.Fault

const header = (name: string, value: string) => ({ kind: "headers", headers: { [name]: value } }) as const

describe.each([World.newest])("HAProxy %s, when the source is wrong,", (version) => {
  it.live(
    "keeps what Consul named last",
    () =>
      Effect.gen(function* () {
        // What is kept on disk takes seconds to be elected.
        const consul = yield* ConsulServer.make({ isPersistent: isAll })
        const proxy = yield* FaultProxy.make(consul)
        const world = yield* World.make({
          version,
          source: () => `[CONSUL]\nservice_name = web\nconsul_ip = ${proxy.host}\nconsul_port = ${proxy.port}`,
          settings: { orchestrator: "consul", sleep_before_next_run: "0.3" }
        })
        const servers = yield* HttpBackends.makeAll(["a", "b", "c", "d", "e"])
        const register = ({ endpoint, name }: HttpBackends.HttpBackend) =>
          consul
            .register({ id: name, name: "web", address: endpoint.address, port: endpoint.port })
            // Consul writes down what a check was told, and not what it was registered with.
            .pipe(Effect.andThen(consul.setCheck(name, "passing")))
        yield* Effect.forEach(servers, register)
        const none = proxy.set({ kind: "none" })
        const fault = (name: string, kind: FaultProxy.Fault, says?: RegExp): Step => ({
          name,
          begin: proxy.set(kind),
          end: none,
          ...(says === undefined ? {} : { says })
        })
        const sample = (step: Step): Step => ({ ...step, isSample: true })
        const steps: ReadonlyArray<Step> = [
          sample(fault("refused", { kind: "refuse" }, /connection (?:refused|was reset)/)),
          fault("reset", { kind: "reset" }, /the connection was reset/),
          fault("500", answer(500, "No cluster leader"), /Consul answered 500/),
          fault("503", answer(503, "<html>sorry</html>"), /Consul answered 503/),
          fault("malformed", answer(200, '[{"Node": {'), /not the answer of Consul/),
          fault("no body", answer(200, ""), /not the answer of Consul/),
          sample(fault("empty", answer(200, "[]"), /allow_empty/)),
          fault("partial, cut", { kind: "truncate" }, /the answer was cut short/),
          fault("partial, cut in chunks", { kind: "truncate", isChunked: true }, /the answer was cut short/),
          fault(
            "partial, as if it were all",
            { kind: "rewrite", change: (body) => body.slice(0, 60) },
            /not the answer of Consul/
          ),
          fault("partial, longer than it says", answer(200, "[] and", { "content-length": "1" }), /not |no HTTP/),
          sample(fault("filtered", header("x-consul-results-filtered-by-acls", "true"), /Consul left out what/)),
          fault("denied", answer(403, "Permission denied"), /service:read/),
          fault("throttled", answer(429, ""), /it is asked too often/),
          fault("throttled by its own limit", answer(500, "rpc error: rate limit exceeded"), /rate limit exceeded/),
          fault("no leader", header("x-consul-knownleader", "false"), /the servers have no leader/),
          sample(fault("index that goes backwards", header("x-consul-index", "2"))),
          fault("index 0", header("x-consul-index", "0")),
          fault("index that is far ahead", header("x-consul-index", "99999999999")),
          {
            name: "restart with its data",
            begin: consul.stop(),
            end: consul.start,
            says: /Consul service "web"/,
            isAway: true
          },
          fault(
            "refused for a minute",
            { kind: "refuse" },
            / the source has not answered for 1 min \(since .* tries\)/
          ),
          { ...fault("slow", { kind: "delay", millis: 12_000 }, /no whole answer within 10 s/), withinSeconds: 15 },
          { ...fault("stops half-way", { kind: "stall" }, /no whole answer within 10 s/), withinSeconds: 15 }
        ]

        yield* stepThrough({
          world,
          servers,
          steps,
          tell: (isIn) => (isIn ? register(servers[4]!) : consul.deregister("e"))
        })
      }).pipe(Effect.scoped),
    300_000
  )

  it.live(
    "keeps what AWS named last",
    () =>
      Effect.gen(function* () {
        const moto = yield* MotoServer.make
        const proxy = yield* FaultProxy.make(moto)
        const port = yield* Ports.freePort
        const groups = ["web-a", "web-b", "web-c", "web-d"]
        yield* Effect.forEach(groups, (name) => moto.makeGroup(name, name === "web-d" ? 2 : 1))
        const instances = (yield* Effect.forEach(groups, moto.instances)).flat()
        const servers = yield* Effect.forEach(instances, ({ address, id }) =>
          HttpBackends.make({ name: id, address, port })
        )
        const world = yield* World.make({
          version,
          source: () => `[AWS]
aws_access_key_id = AKIATEST
aws_secret_access_key = not-a-secret
asg_name = ${groups.join(", ")}
region_name = ${region}
ip_type = private
endpoint_url = http://127.0.0.1:${proxy.port}`,
          settings: { orchestrator: "aws", backend_port: String(port), sleep_before_next_run: "0.5" }
        })
        // Three groups on a page, so that each answer has two of them.
        const small: FaultProxy.Rule = {
          fault: { kind: "alter", change: (body) => body.replace("MaxRecords=100", "MaxRecords=3") },
          only: () => true
        }
        const none = proxy.setRules(small)
        yield* none
        const error = (status: number, code: string) =>
          answer(
            status,
            `<ErrorResponse><Error><Code>${code}</Code><Message>so it is</Message></Error></ErrorResponse>`
          )
        const isPageTwo = ({ body }: FaultProxy.Seen) => body.includes("NextToken")
        const fault = (
          name: string,
          kind: FaultProxy.Fault,
          says: RegExp,
          only = (_: FaultProxy.Seen) => true
        ): Step => ({
          name,
          begin: proxy.setRules({ fault: kind, only }, small),
          end: none,
          says,
          // The SDK tries by itself, ever later when it is throttled, and its try in hand has to end.
          withinSeconds: 10
        })
        const sample = (step: Step): Step => ({ ...step, isSample: true })
        const steps: ReadonlyArray<Step> = [
          fault("refused", { kind: "refuse" }, /connection refused by|was cut/),
          fault("reset", { kind: "reset" }, /was cut/),
          fault("500", answer(500, "<html>oops</html>"), /500/),
          fault("internal error", error(500, "InternalFailure"), /InternalFailure/),
          fault("malformed", answer(200, "<DescribeAutoScalingGroupsResponse><Desc"), /not AWS's answer/),
          sample(fault("empty", answer(200, ""), /not AWS's answer/)),
          fault("a login page", answer(200, "<html>log in</html>"), /not AWS's answer/),
          fault("partial, cut", { kind: "truncate" }, /was cut/),
          sample(fault("partial, page two fails", error(500, "InternalFailure"), /InternalFailure/, isPageTwo)),
          fault("partial, page two is throttled", error(400, "Throttling"), /Throttling/, isPageTwo),
          fault("partial, page two lacks its groups", answer(200, "<html/>"), /not AWS's answer/, isPageTwo),
          fault(
            "partial, page two has a group less",
            {
              kind: "rewrite",
              change: (body) => body.replace(/<AutoScalingGroups>[\s\S]*<\/AutoScalingGroups>/, "<AutoScalingGroups/>")
            },
            /there is no such group|not AWS's answer/,
            isPageTwo
          ),
          fault("denied", error(403, "AccessDenied"), /may not call/),
          fault("expired", error(403, "ExpiredToken"), /have expired/),
          fault("throttled", error(400, "Throttling"), /Throttling/),
          {
            ...fault("slow", { kind: "delay", millis: 10_000 }, /no answer from|in time|no whole answer/),
            withinSeconds: 30
          }
        ]
        const last = servers[4]!.name

        yield* stepThrough({
          world,
          servers,
          steps,
          tell: (isIn) => (isIn ? moto.exitStandby("web-d", last) : moto.enterStandby("web-d", last))
        })
      }).pipe(Effect.scoped),
    300_000
  )

  it.live(
    "keeps what the file named last",
    () =>
      Effect.gen(function* () {
        const folderOf = (dir: string) => join(dir, "source")
        const world = yield* World.make({
          version,
          source: (dir) => `[FILE]\npath = ${join(folderOf(dir), "targets.json")}`,
          settings: { orchestrator: "file", sleep_before_next_run: "0.3" },
          // Root may read everything, unless it has been told that it may not.
          inside: () =>
            process.getuid?.() === 0 ? ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] : []
        })
        const folder = folderOf(world.dir)
        const path = join(folder, "targets.json")
        const servers = yield* HttpBackends.makeAll(["a", "b", "c", "d", "e"])
        const keys = servers.map(({ endpoint }) => endpointKey(endpoint))
        let wanted = keys
        const document = () => JSON.stringify([{ targets: wanted }], null, 2)
        /** In one step, except where a folder is in the way. */
        const replace = (make: (at: string) => Promise<unknown>) =>
          Effect.promise(async () => {
            const at = `${path}.new`
            await make(at)
            const is = await lstat(at).catch(() => undefined)
            const was = await lstat(path).catch(() => undefined)
            if (is === undefined || is.isDirectory() || was?.isDirectory() === true) {
              await rm(path, { recursive: true, force: true })
            }
            if (is !== undefined) await rename(at, path)
          })
        const put = Effect.suspend(() => replace((at) => writeFile(at, document())))
        yield* Effect.promise(() => mkdir(folder))
        yield* put
        const fault = (name: string, make: (at: string) => Promise<unknown>, says: RegExp): Step => ({
          name,
          begin: replace(make),
          end: put,
          says
        })
        const sample = (step: Step): Step => ({ ...step, isSample: true })
        const steps: ReadonlyArray<Step> = [
          fault("missing", async () => {}, /there is no such file/),
          fault("empty", (at) => writeFile(at, ""), /is empty: write \[\]/),
          fault("nobody", (at) => writeFile(at, "[]"), /allow_empty/),
          sample(fault("half-written", (at) => writeFile(at, document().slice(0, 40)), /is not JSON/)),
          fault("another shape", (at) => writeFile(at, '{"targets": []}'), /is not a list of/),
          sample(
            fault(
              "not to be read",
              async (at) => {
                await writeFile(at, document())
                await chmod(at, 0)
              },
              /cannot be read \(EACCES\)/
            )
          ),
          fault("a folder", (at) => mkdir(at), /is a folder/),
          fault("a link to itself", (at) => symlink(path, at), /ELOOP/),
          fault("a link to nowhere", (at) => symlink(`${path}.gone`, at), /there is no such file/),
          fault("a pipe", (at) => promisify(execFile)("mkfifo", [at]), /is not a regular file/),
          fault("zeros", (at) => writeFile(at, Buffer.alloc(4096)), /is not JSON/),
          sample(fault("binary", (at) => writeFile(at, Buffer.from("8f00ff80c3", "hex")), /is not UTF-8/)),
          fault("UTF-16", (at) => writeFile(at, Buffer.from(`\uFEFF${document()}`, "utf16le")), /is not UTF-8/),
          fault(
            "too large",
            async (at) => {
              await writeFile(at, "")
              await truncate(at, 64 * 1024 * 1024 + 1)
            },
            /is larger than 64 MiB/
          ),
          {
            name: "its folder is away",
            begin: Effect.promise(() => rename(folder, `${folder}.away`)),
            end: Effect.promise(() => rename(`${folder}.away`, folder)).pipe(Effect.andThen(put)),
            says: /there is no such file/
          }
        ]

        yield* stepThrough({
          world,
          servers,
          steps,
          tell: (isIn) =>
            Effect.sync(() => {
              wanted = isIn ? keys : keys.slice(0, -1)
            })
        })
      }).pipe(Effect.scoped),
    300_000
  )
})
