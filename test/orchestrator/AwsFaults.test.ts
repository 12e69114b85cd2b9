/** What can go wrong between ep2 and AWS, done to the answers of a real API: moto. */
import { assert, describe, it, layer } from "@effect/vitest"
import { Duration, Effect, Redacted } from "effect"
import type { AwsAccess } from "../../src/orchestrator/AwsAccess.ts"
import * as AwsError from "../../src/orchestrator/AwsError.ts"
import * as FaultProxy from "../servers/FaultProxy.ts"
import { MotoServer } from "../servers/MotoServer.ts"
import { accessKey, actionOf, isAction, start, web } from "./AwsGroups.ts"

const groupsCall = "DescribeAutoScalingGroups"
const instancesCall = "DescribeInstances"

/** An error as the Auto Scaling API words it. Source: its API reference, "Common errors". */
const queryError = (status: number, code: string, message: string, headers: Record<string, string> = {}) =>
  ({
    kind: "answer",
    status,
    headers: { "content-type": "text/xml", ...headers },
    body: `<ErrorResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/"><Error><Type>Sender</Type><Code>${code}</Code><Message>${message}</Message></Error><RequestId>1</RequestId></ErrorResponse>`
  }) as const satisfies FaultProxy.Fault

/** An error as the EC2 API words it. Source: its API reference, "Error codes". */
const ec2Error = (status: number, code: string, message: string) =>
  ({
    kind: "answer",
    status,
    headers: { "content-type": "text/xml" },
    body: `<?xml version="1.0" encoding="UTF-8"?><Response><Errors><Error><Code>${code}</Code><Message>${message}</Message></Error></Errors><RequestID>1</RequestID></Response>`
  }) as const satisfies FaultProxy.Fault

const answer = (status: number, body: string) => ({ kind: "answer", status, body }) as const satisfies FaultProxy.Fault

const hourFromNow = () => new Date(Date.now() + 3_600_000).toUTCString()

const faults: ReadonlyArray<{
  readonly name: string
  readonly fault: FaultProxy.Fault
  /** The call that it is done to; without it, DescribeAutoScalingGroups. */
  readonly call?: string
  readonly reason: string
  readonly says: RegExp
  readonly requestTimeoutMillis?: number
}> = [
  {
    name: "refuses the connection",
    fault: { kind: "refuse" },
    reason: "Unavailable",
    says: /^connection refused by http:.* \(connect ECONNREFUSED 127\.0\.0\.1:\d+\): see endpoint_url$/
  },
  {
    name: "resets the connection",
    fault: { kind: "reset" },
    reason: "Unavailable",
    says: /^the connection to http:.* was cut \(.*\): see endpoint_url$/
  },
  {
    name: "takes too long",
    fault: { kind: "delay", millis: 3000 },
    requestTimeoutMillis: 200,
    reason: "Unavailable",
    says: /^no answer from http:.* in time \(.*200 ms.*\): see endpoint_url$/
  },
  {
    name: "answers 500 with a page of HTML",
    fault: answer(500, "<html><p>sorry</p></html>"),
    reason: "Unavailable",
    says: /^AWS answers status 500: ep2 asks again$/
  },
  {
    name: "answers 503 with something broken",
    fault: answer(503, "<html><p>sorry<br></html>"),
    reason: "Unavailable",
    says: /^AWS answers .*: ep2 asks again$/
  },
  {
    name: "has an internal error",
    fault: ec2Error(500, "InternalError", "An internal error has occurred"),
    call: instancesCall,
    reason: "Unavailable",
    says: /^AWS answers InternalError "An internal error has occurred": ep2 asks again$/
  },
  {
    name: "throttles",
    fault: queryError(400, "Throttling", "Rate exceeded"),
    reason: "Throttled",
    says: /^autoscaling:DescribeAutoScalingGroups is asked too often in this account, by whomever \(Throttling "Rate exceeded"\): ep2 slows down/
  },
  {
    name: "throttles the second call",
    fault: ec2Error(503, "RequestLimitExceeded", "Request limit exceeded."),
    call: instancesCall,
    reason: "Throttled",
    says: /^ec2:DescribeInstances is asked too often in this account/
  },
  {
    name: "does not know the access key",
    fault: queryError(403, "InvalidClientTokenId", "The security token included in the request is invalid"),
    reason: "Unauthorized",
    says: /^AWS does not take the access key \(InvalidClientTokenId "The security token .*"\): see aws_access_key_id and aws_secret_access_key; a region that is not enabled/
  },
  {
    name: "does not know the access key, in the words of EC2",
    fault: ec2Error(401, "AuthFailure", "AWS was not able to validate the provided access credentials"),
    call: instancesCall,
    reason: "Unauthorized",
    says: /^AWS does not take the access key \(AuthFailure /
  },
  {
    name: "finds the wrong secret",
    fault: queryError(403, "SignatureDoesNotMatch", "The request signature we calculated does not match"),
    reason: "Unauthorized",
    says: /^the secret key does not belong to the access key \(SignatureDoesNotMatch .*\): see aws_access_key_id/
  },
  {
    name: "finds an expired token",
    fault: queryError(403, "ExpiredToken", "The security token included in the request is expired"),
    reason: "Unauthorized",
    says: /^the credentials have expired \(ExpiredToken .*\): see aws_access_key_id/
  },
  {
    name: "does not allow the first call",
    fault: queryError(
      403,
      "AccessDenied",
      "User: u is not authorized to perform: autoscaling:DescribeAutoScalingGroups"
    ),
    reason: "Unauthorized",
    says: /^the credentials may not call autoscaling:DescribeAutoScalingGroups \(AccessDenied "User: u .*"\): allow it in their IAM policy, which docs\/aws has/
  },
  {
    name: "does not allow the second call",
    fault: ec2Error(403, "UnauthorizedOperation", "You are not authorized to perform this operation."),
    call: instancesCall,
    reason: "Unauthorized",
    says: /^the credentials may not call ec2:DescribeInstances \(UnauthorizedOperation .*\): allow it/
  },
  {
    name: "has another time, and keeps refusing",
    fault: queryError(403, "SignatureDoesNotMatch", "Signature expired: 20261125T120000Z is now earlier than …", {
      date: hourFromNow()
    }),
    reason: "Unauthorized",
    says: /^the clock of this host is 3\d\d\d s behind AWS's, so AWS refuses the signature \(.*\): set the clock, and see to NTP$/
  },
  {
    name: "has another time, and does not say which",
    fault: queryError(403, "RequestTimeTooSkewed", "The difference is too large"),
    reason: "Unauthorized",
    says: /^AWS refuses the time of the signature \(RequestTimeTooSkewed .*\): is the clock of this host right\?/
  },
  {
    name: "has not enabled the region",
    fault: queryError(403, "OptInRequired", "You are not subscribed to this service"),
    reason: "Unauthorized",
    says: /^the account may not use this region \(OptInRequired/
  },
  {
    name: "answers XML that is cut off",
    fault: answer(200, "<DescribeAutoScalingGroupsResponse><DescribeAutoScalingGroupsResult><AutoScal"),
    reason: "BadResponse",
    says: /^what came is not AWS's answer to autoscaling:DescribeAutoScalingGroups \(XML parse error: .*\): is http:.* an AWS API\?$/
  },
  {
    name: "cuts its answer short",
    fault: { kind: "truncate" },
    reason: "Unavailable",
    says: /^(?:the answer of http:.* was cut short|the connection to http:.* was cut)/
  },
  {
    name: "answers JSON",
    fault: answer(200, '{"AutoScalingGroups":[]}'),
    reason: "BadResponse",
    says: /^what came is not AWS's answer/
  },
  // The SDK takes the next five for answers without a group or an instance.
  {
    name: "answers with a login page",
    fault: answer(200, "<html><body><h1>Log in</h1></body></html>"),
    reason: "BadResponse",
    says: /^what came is not AWS's answer \(.*AutoScalingGroups.*\): is there a proxy or a captive portal in between\?$/
  },
  { name: "answers nothing", fault: answer(200, ""), reason: "BadResponse", says: /^what came is not AWS's answer/ },
  {
    name: "answers nothing to the second call",
    fault: answer(200, ""),
    call: instancesCall,
    reason: "BadResponse",
    says: /^what came is not AWS's answer \(.*Reservations.*\)/
  },
  {
    name: "answers with a login page to the second call",
    fault: answer(200, "<html><body><h1>Log in</h1></body></html>"),
    call: instancesCall,
    reason: "BadResponse",
    says: /^what came is not AWS's answer/
  },
  {
    name: "leaves the instances out of a group",
    fault: {
      kind: "rewrite",
      change: (body) => body.replace(/<Instances>[\s\S]*<\/Instances>/, "")
    },
    reason: "BadResponse",
    says: /^what came is not AWS's answer \(.*Instances.*\)/
  },
  {
    name: "leaves the state out of an instance",
    fault: { kind: "rewrite", change: (body) => body.replace(/<LifecycleState>.*<\/LifecycleState>/, "") },
    reason: "BadResponse",
    says: /^what came is not AWS's answer \(.*LifecycleState.*\)/
  },
  {
    name: "sends elsewhere",
    fault: { kind: "answer", status: 301, body: "", headers: { location: "/login" } },
    reason: "BadResponse",
    says: /^AWS answers autoscaling:DescribeAutoScalingGroups with status 301: is http:.* an AWS API\?$/
  },
  {
    name: "does not like the question",
    fault: queryError(400, "ValidationError", "1 validation error detected"),
    reason: "BadResponse",
    says: /^AWS answers autoscaling:DescribeAutoScalingGroups with ValidationError "1 validation error detected"/
  }
]

layer(MotoServer.layer, { excludeTestServices: true })("AwsAsgFetcher when AWS misbehaves", (it) => {
  it.effect.each(faults)(
    "fails when it $name, in one line that shows no key, and reads on when it is over",
    ({ call = groupsCall, fault, reason, requestTimeoutMillis, says }) =>
      Effect.gen(function* () {
        yield* web
        const { calls, fetch, proxy, target } = yield* start({}, { requestTimeoutMillis })
        yield* proxy.set(fault, isAction(call))

        const error = yield* Effect.flip(fetch)
        yield* proxy.set({ kind: "none" })
        const after = yield* fetch

        assert.match(error.detail, says)
        assert.equal(error.reason, reason)
        assert.equal(error.message, `AWS Auto Scaling in eu-central-1 at ${target.endpointUrl}: ${error.detail}`)
        assert.notMatch(error.message, /[\r\n]/)
        assert.isAtMost(error.message.length, 700)
        assert.notInclude(error.message, Redacted.value(accessKey.id))
        assert.notInclude(error.message, Redacted.value(accessKey.secret))
        assert.lengthOf(after, 2)
        // Twice more at the most: the SDK's own tries.
        assert.isAtMost(calls().filter((one) => one === call).length, 3 + 1)
      })
  )

  it.effect("signs with AWS's time when the clock of the host is off", () =>
    Effect.gen(function* () {
      yield* web
      const { fetch, proxy } = yield* start()
      let refused = 0
      const fault = queryError(403, "SignatureDoesNotMatch", "Signature expired", { date: hourFromNow() })
      yield* proxy.set(fault, () => refused++ === 0)

      assert.lengthOf(yield* fetch, 2)

      const [first, second] = proxy.seen().map(({ headers }) => String(headers["x-amz-date"]))
      assert.isAbove(Date.parse(isoOf(second!)) - Date.parse(isoOf(first!)), 3_500_000)
    })
  )

  it.effect("fails as a whole when page two of the groups fails", () =>
    Effect.gen(function* () {
      const moto = yield* MotoServer
      const names = ["page-a", "page-b", "page-c", "page-d"]
      yield* Effect.forEach(names, (name) => moto.makeGroup(name, 1))
      const { calls, fetch, proxy } = yield* start({ groups: names })
      const isPageTwo = ({ body }: FaultProxy.Seen) => body.includes("NextToken")
      const small: FaultProxy.Rule = {
        fault: { kind: "alter", change: (body) => body.replace("MaxRecords=100", "MaxRecords=3") },
        only: isAction(groupsCall)
      }
      yield* proxy.setRules({ fault: queryError(400, "Throttling", "Rate exceeded"), only: isPageTwo }, small)

      const error = yield* Effect.flip(fetch)
      yield* proxy.setRules(small)
      const after = yield* fetch

      assert.equal(error.reason, "Throttled")
      assert.lengthOf(after, 4)
      assert.deepEqual(calls().slice(-3), [groupsCall, groupsCall, instancesCall])
    })
  )

  it.effect("fails as a whole when page two of the instances fails", () =>
    Effect.gen(function* () {
      const moto = yield* MotoServer
      const names = Array.from({ length: 7 }, (_, index) => `piece-${index}`)
      yield* Effect.forEach(names, (name) => moto.makeGroup(name, 1))
      const { fetch, proxy } = yield* start({ groups: names })
      const isPageTwo = ({ body }: FaultProxy.Seen) => body.includes("NextToken")
      const small: FaultProxy.Rule = {
        fault: { kind: "alter", change: (body) => body.replace("MaxResults=1000", "MaxResults=5") },
        only: isAction(instancesCall)
      }
      yield* proxy.setRules({ fault: ec2Error(500, "InternalError", "oops"), only: isPageTwo }, small)

      const error = yield* Effect.flip(fetch)
      yield* proxy.setRules(small)

      assert.equal(error.reason, "Unavailable")
      assert.lengthOf(yield* fetch, 7)
    })
  )

  it.effect("slows its calls down when it is throttled", () =>
    Effect.gen(function* () {
      yield* web
      const { calls, proxy, state } = yield* start()
      yield* proxy.set(queryError(400, "Throttling", "Rate exceeded"), isAction(groupsCall))

      const began = Date.now()
      for (let poll = 0; poll < 2; poll++) yield* Effect.flip(state)
      const tookMillis = Date.now() - began

      assert.equal(calls().length, 6)
      assert.isAbove(tookMillis, 1000)
    })
  )

  it.effect("waits no longer than its patience for an answer, and takes it when it has come after all", () =>
    Effect.gen(function* () {
      yield* web
      const { calls, fetch, proxy } = yield* start({}, { patience: Duration.millis(200) })
      yield* proxy.set({ kind: "delay", millis: 1000 })

      const error = yield* Effect.flip(fetch)
      yield* proxy.set({ kind: "none" })
      yield* Effect.sleep("1300 millis")
      const after = yield* fetch

      assert.equal(error.reason, "Unavailable")
      assert.match(error.detail, /^no whole answer within 0\.2 s, and it is still waited for: /)
      assert.lengthOf(after, 2)
      assert.deepEqual(calls(), [groupsCall, instancesCall])
    })
  )

  it.effect("asks through the proxy that the environment names, as EP2 1.0 did", () =>
    Effect.gen(function* () {
      const moto = yield* web
      const proxy = yield* FaultProxy.make(moto)
      const setProxy = (url: string | undefined) =>
        Effect.sync(() => {
          if (url === undefined) delete process.env.HTTP_PROXY
          else process.env.HTTP_PROXY = url
        })
      yield* Effect.acquireRelease(setProxy(`http://127.0.0.1:${proxy.port}`), () => setProxy(undefined))
      const { fetch } = yield* start({ endpointUrl: moto.url })

      assert.lengthOf(yield* fetch, 2)

      assert.deepEqual(proxy.requests(), [`${moto.url}/`, `${moto.url}/`])
    })
  )

  it.effect("closes its connections with its scope", () =>
    Effect.gen(function* () {
      yield* web
      const proxy = yield* Effect.scoped(
        Effect.gen(function* () {
          const { fetch, proxy: within } = yield* start()
          yield* fetch
          return within
        })
      )

      assert.isAbove(proxy.seen().length, 0)
      assert.include(proxy.seen().map(actionOf), groupsCall)
      assert.equal(yield* proxy.connections, 0)
    })
  )
})

const isoOf = (amzDate: string): string =>
  amzDate.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, "$1-$2-$3T$4:$5:$6Z")

// What needs a network that is not there, or a name server.
describe("AwsError.describe", () => {
  const access: AwsAccess = { region: "eu-centrl-1" }
  const say = (cause: unknown) =>
    AwsError.describe(cause, { access, action: "ec2:DescribeInstances", nowMillis: Date.now() })
  const system = (code: string, message: string) => Object.assign(new Error(message), { code })

  it.each([
    ["ENOTFOUND", "getaddrinfo ENOTFOUND ec2.eu-centrl-1.amazonaws.com", /see region_name and the resolver/],
    ["EAI_AGAIN", "getaddrinfo EAI_AGAIN ec2.eu-centrl-1.amazonaws.com", /see region_name and the resolver/],
    ["ENETUNREACH", "connect ENETUNREACH", /^no way to AWS .*: see routes, firewalls and VPC endpoints$/],
    ["EHOSTUNREACH", "connect EHOSTUNREACH", /^no way to AWS/],
    ["ETIMEDOUT", "connect ETIMEDOUT", /^no answer from AWS in time .*: see routes/],
    ["SELF_SIGNED_CERT_IN_CHAIN", "self-signed certificate", /^no TLS connection to AWS .*NODE_EXTRA_CA_CERTS/]
  ])("says what to do about %s", (code, message, says) => {
    const error = say(system(code, message))

    assert.equal(error.reason, "Unavailable")
    assert.match(error.detail, says)
    assert.match(error.message, /^AWS Auto Scaling in eu-centrl-1: /)
  })

  it.each([[undefined], [null], ["text"], [42], [{}], [{ message: 7, $metadata: null }], [new Error("")]])(
    "makes an error of ours of %s",
    (cause) => {
      assert.equal(say(cause).reason, "BadResponse")
    }
  )
})
