/** What can go wrong between ep2 and AWS, done to the answers of a real API: moto. */
import { connect, createServer, type Server } from "node:net"
import { assert, describe, it, layer } from "@effect/vitest"
import { Duration, Effect, Redacted } from "effect"
import type { AwsAccess } from "../../src/orchestrator/AwsAccess.ts"
import * as AwsError from "../../src/orchestrator/AwsError.ts"
import * as FaultProxy from "../servers/FaultProxy.ts"
import { MotoServer } from "../servers/MotoServer.ts"
import { accessKey, isAction, start, web } from "./AwsGroups.ts"

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
    says: /^the clock of this host is (?:59|60) minutes behind AWS's, so AWS refuses the signature \(SignatureDoesNotMatch\): set the clock, and see to NTP$/
  },
  {
    name: "has another time, and does not say which",
    fault: queryError(403, "RequestTimeTooSkewed", "The difference is too large"),
    reason: "Unauthorized",
    says: /^AWS refuses the time of the signature \(RequestTimeTooSkewed\): is the clock of this host right\?/
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
    name: "cuts its chunks short",
    fault: { kind: "truncate", isChunked: true },
    reason: "Unavailable",
    says: /was cut/
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

  it.effect("slows its calls down when it is throttled, more than by trying again", () =>
    Effect.gen(function* () {
      yield* web
      const { calls, proxy, state } = yield* start()
      yield* proxy.set(queryError(400, "Throttling", "Rate exceeded"), isAction(groupsCall))

      const began = Date.now()
      for (let poll = 0; poll < 3; poll++) yield* Effect.flip(state)
      const tookMillis = Date.now() - began

      // Standard retries took 2 to 5 s for these, adaptive ones 12 s.
      assert.equal(calls().length, 9)
      assert.isAbove(tookMillis, 8000)
    })
  )

  it.effect("waits for no call longer than it may take, and asks anew on new connections after that", () =>
    Effect.gen(function* () {
      const moto = yield* web
      // Sends the head of an answer and nothing more, until it is told to pass everything on.
      let isStalling = true
      const stalling = yield* Effect.acquireRelease(
        Effect.promise(
          () =>
            new Promise<Server>((done) => {
              const server = createServer((client) => {
                client.on("error", () => undefined)
                if (isStalling) {
                  client.once("data", () => client.write("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n<Describe"))
                  return
                }
                const onward = connect(moto.port, moto.host).on("error", () => client.destroy())
                client.pipe(onward).pipe(client)
              }).listen(0, "127.0.0.1", () => done(server))
            })
        ),
        (server) => Effect.sync(() => server.close())
      )
      const endpointUrl = `http://127.0.0.1:${(stalling.address() as { port: number }).port}`
      const { fetch } = yield* start({ endpointUrl }, { callTimeout: Duration.millis(600) })

      const error = yield* Effect.flip(fetch)
      isStalling = false
      const after = yield* fetch.pipe(Effect.timeout("5 seconds"))

      assert.equal(error.reason, "Unavailable")
      assert.match(error.detail, /^no whole answer to autoscaling:DescribeAutoScalingGroups within 0\.6 s: /)
      assert.lengthOf(after, 2)
    })
  )

  it.effect("gives up an answer of which nothing more comes", () =>
    Effect.gen(function* () {
      yield* web
      const { fetch, proxy } = yield* start({}, { requestTimeoutMillis: 200 })
      yield* proxy.set({ kind: "stall" })

      const error = yield* Effect.flip(fetch)

      assert.equal(error.reason, "Unavailable")
      assert.match(error.detail, /in time|was cut/)
    })
  )

  it.effect("knows how far the clock of the host is off", () =>
    Effect.gen(function* () {
      yield* web
      const { api, fetch, proxy } = yield* start()
      yield* proxy.set({ kind: "headers", headers: { date: new Date(Date.now() + 7_200_000).toUTCString() } })

      yield* fetch

      assert.isTrue(Math.abs((yield* api().clockOffMillis) + 7_200_000) < 60_000)
    })
  )

  it.effect("asks through the proxy that the environment names, as EP2 1.0 did", () =>
    Effect.gen(function* () {
      const moto = yield* web
      const proxy = yield* FaultProxy.make(moto)
      const before = process.env.HTTP_PROXY
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          process.env.HTTP_PROXY = `http://127.0.0.1:${proxy.port}`
        }),
        () =>
          Effect.sync(() => {
            if (before === undefined) delete process.env.HTTP_PROXY
            else process.env.HTTP_PROXY = before
          })
      )
      const { fetch } = yield* start({ endpointUrl: moto.url })

      assert.lengthOf(yield* fetch, 2)

      assert.deepEqual(proxy.requests(), [`${moto.url}/`, `${moto.url}/`])
    })
  )

  it.effect("closes its connections with its scope", () =>
    Effect.gen(function* () {
      const moto = yield* web
      const proxy = yield* FaultProxy.make(moto)
      const within = yield* Effect.scoped(
        Effect.gen(function* () {
          const { fetch } = yield* start({ endpointUrl: `http://127.0.0.1:${proxy.port}` })
          yield* fetch
          return yield* proxy.connections
        })
      )
      const after = yield* FaultProxy.untilClosed(proxy)

      assert.isAbove(within, 0)
      assert.equal(after, 0)
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

  const keyed: AwsAccess = { ...access, accessKey: { id: Redacted.make("AKIA+ID"), secret: Redacted.make("s3cr3t/") } }
  const aws = (code: string, message: string, status = 403) =>
    Object.assign(new Error(message), { name: code, Code: code, $metadata: { httpStatusCode: status } })
  const ofCredentials = (cause: unknown, step = "find") =>
    Object.assign(new Error("outer"), { name: "CredentialsError", step, cause })

  it("shows no part of a key, whatever AWS quotes", () => {
    const quoted = [
      aws("IncompleteSignature", "Credential must have 5 elements, got 's3cr3t//20261125'", 400),
      aws("InvalidClientTokenId", "The key AKIA+ID is unknown"),
      aws("Strange", "Authorization was: AWS4-HMAC-SHA256 Credential=s3cr3t//20261125/x, Signature=1", 400),
      new Error("Command failed: /opt/get --token s3cr3t/")
    ]

    for (const cause of [...quoted, ...quoted.map((one) => ofCredentials(one))]) {
      const { message } = AwsError.describe(cause, { access: keyed, action: "ec2:DescribeInstances", nowMillis: 0 })
      assert.notMatch(message, /s3cr3t|AKIA\+ID/)
    }
  })

  it("does not show the command line of a credential_process", () => {
    const error = say(ofCredentials(new Error("Command failed: /opt/get --token hunter2\nboom")))

    assert.match(error.detail, /^no credentials: its credential_process failed: /)
  })

  it.each([
    [
      "AccessDenied",
      403,
      "Unauthorized",
      /^no credentials: a role may not be assumed \(AccessDenied "words"\): its trust policy/
    ],
    ["InvalidIdentityToken", 400, "Unauthorized", /^no credentials: InvalidIdentityToken "words": /],
    ["IDPCommunicationError", 400, "Unauthorized", /^no credentials: IDPCommunicationError/],
    ["ExpiredTokenException", 400, "Unauthorized", /^no credentials: ExpiredTokenException/],
    ["InternalFailure", 500, "Unavailable", /^no credentials: AWS answers InternalFailure/],
    ["Throttling", 400, "Throttled", /asked too often/]
  ] as const)("does not blame the calls when credentials fail with %s", (code, status, reason, says) => {
    const error = say(ofCredentials(aws(code, "words", status)))

    assert.equal(error.reason, reason)
    assert.match(error.detail, says)
    if (reason === "Unauthorized") assert.notMatch(error.detail, /DescribeInstances/)
  })

  it("says the same with each try, whatever AWS adds to its words", () => {
    const wrapped = (some: string) =>
      aws("UnauthorizedOperation", `You may not. Encoded authorization failure message: ${some}`)
    const expired = (time: string) => aws("RequestExpired", `Request has expired. Timestamp date is ${time}.`, 400)

    assert.equal(say(wrapped("abc_def-1")).message, say(wrapped("zyx")).message)
    assert.equal(say(expired("2026-11-25T12:00:00.123Z")).message, say(expired("2026-11-25T12:00:05.456Z")).message)
  })
})
