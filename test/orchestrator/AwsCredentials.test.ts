/**
 * Each way to give credentials, to the call that is signed with them. moto
 * stands in for STS; what hands out credentials on AWS's own machines is stood in
 * for by small servers that answer as AWS documents it.
 */
import { createHash } from "node:crypto"
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, layer } from "@effect/vitest"
import { Effect, Redacted } from "effect"
import type * as FaultProxy from "../servers/FaultProxy.ts"
import { MotoServer } from "../servers/MotoServer.ts"
import { accessKey, actionOf, start, web } from "./AwsGroups.ts"

const soon = () => new Date(Date.now() + 3_600_000).toISOString()

/** The access key id that a request was signed with. */
const signer = ({ headers }: FaultProxy.Seen) => /Credential=([^/]+)\//.exec(headers.authorization ?? "")?.[1]

/**
 * A folder, and an environment for the test alone: no variable of AWS but these,
 * no role of the instance, and config files that are in the folder or nowhere.
 */
const surroundings = Effect.fnUntraced(function* (variables: (folder: string) => Readonly<Record<string, string>>) {
  return yield* Effect.acquireRelease(
    Effect.sync(() => {
      const before = { ...process.env }
      const folder = mkdtempSync(join(tmpdir(), "ep2-aws-"))
      for (const name of Object.keys(process.env)) if (name.startsWith("AWS_")) delete process.env[name]
      Object.assign(process.env, {
        HOME: folder,
        AWS_CONFIG_FILE: join(folder, "config"),
        AWS_SHARED_CREDENTIALS_FILE: join(folder, "credentials"),
        AWS_EC2_METADATA_DISABLED: "true",
        ...variables(folder)
      })
      return { before, folder }
    }),
    ({ before, folder }) =>
      Effect.sync(() => {
        for (const name of Object.keys(process.env)) if (!(name in before)) delete process.env[name]
        Object.assign(process.env, before)
        rmSync(folder, { recursive: true, force: true })
      })
  ).pipe(Effect.map(({ folder }) => folder))
})

/** A small server on a free port, until the scope ends. */
const serve = (handle: (request: IncomingMessage, response: ServerResponse) => void) =>
  Effect.acquireRelease(
    Effect.promise(
      () =>
        new Promise<ReturnType<typeof createServer>>((done) => {
          const server = createServer(handle).listen(0, "127.0.0.1", () => done(server))
        })
    ),
    (server) =>
      Effect.promise(() => {
        server.closeAllConnections()
        return new Promise((done) => server.close(done))
      })
  ).pipe(Effect.map((server) => `http://127.0.0.1:${(server.address() as AddressInfo).port}`))

const json = (response: ServerResponse, body: unknown) =>
  response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(body))

const withoutKeys = { accessKey: undefined }

layer(MotoServer.layer, { excludeTestServices: true })("AWS credentials", (it) => {
  it.effect("are the access key of ep2.conf, before whatever else is there", () =>
    Effect.gen(function* () {
      yield* web
      yield* surroundings(() => ({ AWS_ACCESS_KEY_ID: "AKIAOTHER", AWS_SECRET_ACCESS_KEY: "x" }))
      const { fetch, proxy } = yield* start()

      assert.lengthOf(yield* fetch, 2)

      assert.deepEqual(proxy.seen().map(signer), ["AKIATEST", "AKIATEST"])
    })
  )

  it.effect("are those of the environment", () =>
    Effect.gen(function* () {
      yield* web
      yield* surroundings(() => ({
        AWS_ACCESS_KEY_ID: "AKIAENV",
        AWS_SECRET_ACCESS_KEY: "x",
        AWS_SESSION_TOKEN: "session"
      }))
      const { fetch, proxy } = yield* start(withoutKeys)

      assert.lengthOf(yield* fetch, 2)

      assert.deepEqual(proxy.seen().map(signer), ["AKIAENV", "AKIAENV"])
      assert.equal(proxy.seen()[0]!.headers["x-amz-security-token"], "session")
    })
  )

  it.effect("are those of a profile, before those of the environment", () =>
    Effect.gen(function* () {
      yield* web
      const folder = yield* surroundings(() => ({ AWS_ACCESS_KEY_ID: "AKIAENV", AWS_SECRET_ACCESS_KEY: "x" }))
      writeFileSync(join(folder, "credentials"), "[ops]\naws_access_key_id = AKIAOPS\naws_secret_access_key = x\n")
      const { fetch, proxy } = yield* start({ ...withoutKeys, profile: "ops" })

      assert.lengthOf(yield* fetch, 2)

      assert.deepEqual(proxy.seen().map(signer), ["AKIAOPS", "AKIAOPS"])
    })
  )

  it.effect("are what the command of a profile prints", () =>
    Effect.gen(function* () {
      yield* web
      const folder = yield* surroundings(() => ({}))
      const printed = JSON.stringify({ Version: 1, AccessKeyId: "AKIACMD", SecretAccessKey: "x", Expiration: soon() })
      writeFileSync(join(folder, "printed.json"), printed)
      writeFileSync(join(folder, "config"), `[profile cmd]\ncredential_process = cat ${join(folder, "printed.json")}\n`)
      const { fetch, proxy } = yield* start({ ...withoutKeys, profile: "cmd" })

      assert.lengthOf(yield* fetch, 2)

      assert.deepEqual(proxy.seen().map(signer), ["AKIACMD", "AKIACMD"])
    })
  )

  it.effect("of a profile are read anew after they were refused, without a restart", () =>
    Effect.gen(function* () {
      yield* web
      const folder = yield* surroundings(() => ({}))
      const { fetch, proxy } = yield* start({ ...withoutKeys, profile: "ops" })

      const none = yield* Effect.flip(fetch)
      writeFileSync(join(folder, "credentials"), "[ops]\naws_access_key_id = AKIAOLD\naws_secret_access_key = x\n")
      const refusal = `<ErrorResponse><Error><Code>InvalidClientTokenId</Code><Message>no</Message></Error></ErrorResponse>`
      yield* proxy.set({ kind: "answer", status: 403, body: refusal })
      const old = yield* Effect.flip(fetch)
      writeFileSync(join(folder, "credentials"), "[ops]\naws_access_key_id = AKIANEW\naws_secret_access_key = x\n")
      yield* proxy.set({ kind: "none" })

      assert.lengthOf(yield* fetch, 2)
      assert.match(
        none.detail,
        /^no credentials: Could not resolve credentials using profile: \[ops\] .*: see profile "ops" in the AWS config files of the user that runs ep2$/
      )
      assert.match(old.detail, /^AWS does not take the access key .*: see profile "ops"/)
      assert.deepEqual(proxy.seen().map(signer), ["AKIAOLD", "AKIANEW", "AKIANEW"])
    })
  )

  it.effect("are those of a role, assumed with the access key and the external id", () =>
    Effect.gen(function* () {
      yield* web
      yield* surroundings(() => ({}))
      const roleArn = "arn:aws:iam::123456789012:role/ep2"
      const { fetch, proxy } = yield* start({ roleArn, externalId: "ep2-production" })

      assert.lengthOf(yield* fetch, 2)

      const [assume, ...calls] = proxy.seen()
      const asked = new URLSearchParams(assume!.body)
      assert.equal(actionOf(assume!), "AssumeRole")
      assert.equal(signer(assume!), "AKIATEST")
      assert.equal(asked.get("RoleArn"), roleArn)
      assert.equal(asked.get("ExternalId"), "ep2-production")
      assert.match(asked.get("RoleSessionName") ?? "", /^ep2-[\w+=,.@-]+$/)
      assert.lengthOf(calls, 2)
      for (const call of calls) assert.match(signer(call) ?? "", /^ASIA/)
    })
  )

  it.effect("of a profile that is not there are an error, whatever else there is", () =>
    Effect.gen(function* () {
      yield* web
      const url = yield* serve((_, response) =>
        json(response, { AccessKeyId: "ASIACONTAINER", SecretAccessKey: "x", Token: "t", Expiration: soon() })
      )
      yield* surroundings(() => ({ AWS_CONTAINER_CREDENTIALS_FULL_URI: url }))
      const { fetch, proxy } = yield* start({ ...withoutKeys, profile: "typo" })

      const error = yield* Effect.flip(fetch)

      assert.match(error.detail, /^no credentials: .*\[typo\].*: see profile "typo"/)
      assert.deepEqual(proxy.seen(), [])
    })
  )

  it.effect("of a role that may not be assumed are an error that says what its policy has to have", () =>
    Effect.gen(function* () {
      yield* web
      yield* surroundings(() => ({}))
      const roleArn = "arn:aws:iam::123456789012:role/ep2"
      const { fetch, proxy } = yield* start({ roleArn })
      const words = "User: u is not authorized to perform: sts:AssumeRole on resource: r"
      yield* proxy.set(
        {
          kind: "answer",
          status: 403,
          body: `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>${words}</Message></Error></ErrorResponse>`
        },
        (request) => actionOf(request) === "AssumeRole"
      )

      const error = yield* Effect.flip(fetch)

      assert.equal(error.reason, "Unauthorized")
      assert.equal(
        error.detail,
        `role_arn ${roleArn} may not be assumed (AccessDenied "${words}"): its trust policy has to name the caller (no external_id is set), and the caller needs sts:AssumeRole on it`
      )
    })
  )

  it.effect("of a role are an error that can pass by itself where STS does not answer", () =>
    Effect.gen(function* () {
      yield* web
      yield* surroundings(() => ({}))
      const { fetch, proxy } = yield* start({ roleArn: "arn:aws:iam::123456789012:role/ep2" })
      yield* proxy.set({ kind: "refuse" })

      const error = yield* Effect.flip(fetch)

      assert.equal(error.reason, "Unavailable")
      assert.match(error.detail, /^connection refused by /)
    })
  )

  it.effect("come from a web identity, as in a Kubernetes pod", () =>
    Effect.gen(function* () {
      yield* web
      const { fetch, proxy } = yield* start(withoutKeys)
      const folder = yield* surroundings((dir) => ({
        AWS_ROLE_ARN: "arn:aws:iam::123456789012:role/pod",
        AWS_WEB_IDENTITY_TOKEN_FILE: join(dir, "token")
      }))
      writeFileSync(join(folder, "token"), "a.web.token")

      assert.lengthOf(yield* fetch, 2)

      const [assume, ...calls] = proxy.seen()
      assert.equal(actionOf(assume!), "AssumeRoleWithWebIdentity")
      assert.equal(new URLSearchParams(assume!.body).get("WebIdentityToken"), "a.web.token")
      for (const call of calls) assert.match(signer(call) ?? "", /^ASIA/)
    })
  )

  it.effect("come from the container, as in ECS and EKS Pod Identity", () =>
    Effect.gen(function* () {
      yield* web
      let authorization: string | undefined
      const url = yield* serve((request, response) => {
        authorization = request.headers.authorization
        json(response, { AccessKeyId: "ASIACONTAINER", SecretAccessKey: "x", Token: "t", Expiration: soon() })
      })
      yield* surroundings(() => ({
        AWS_CONTAINER_CREDENTIALS_FULL_URI: `${url}/v1/credentials`,
        AWS_CONTAINER_AUTHORIZATION_TOKEN: "let me in"
      }))
      const { fetch, proxy } = yield* start(withoutKeys)

      assert.lengthOf(yield* fetch, 2)

      assert.equal(authorization, "let me in")
      assert.deepEqual(proxy.seen().map(signer), ["ASIACONTAINER", "ASIACONTAINER"])
    })
  )

  it.effect("come from the role of the instance, by IMDSv2", () =>
    Effect.gen(function* () {
      yield* web
      const asked: Array<string> = []
      const url = yield* serve((request, response) => {
        asked.push(`${request.method} ${request.url} ${request.headers["x-aws-ec2-metadata-token"] ?? "-"}`)
        if (request.method === "PUT") response.end("imds-token")
        else if (request.url === "/latest/meta-data/iam/security-credentials/") response.end("ep2-role")
        else {
          json(response, {
            Code: "Success",
            AccessKeyId: "ASIAIMDS",
            SecretAccessKey: "x",
            Token: "t",
            Expiration: soon()
          })
        }
      })
      yield* surroundings(() => ({ AWS_EC2_METADATA_DISABLED: "false", AWS_EC2_METADATA_SERVICE_ENDPOINT: url }))
      const { fetch, proxy } = yield* start(withoutKeys)

      assert.lengthOf(yield* fetch, 2)

      assert.deepEqual(proxy.seen().map(signer), ["ASIAIMDS", "ASIAIMDS"])
      assert.deepEqual(asked, [
        "PUT /latest/api/token -",
        "GET /latest/meta-data/iam/security-credentials/ imds-token",
        "GET /latest/meta-data/iam/security-credentials/ep2-role imds-token"
      ])
    })
  )

  const sso = (folder: string, expiresAt: string) => {
    writeFileSync(
      join(folder, "config"),
      `[sso-session corp]\nsso_region = us-west-2\nsso_start_url = https://corp.awsapps.com/start\nsso_registration_scopes = sso:account:access\n\n` +
        `[profile sso]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = ep2\n`
    )
    mkdirSync(join(folder, ".aws/sso/cache"), { recursive: true })
    const name = createHash("sha1").update("corp").digest("hex")
    writeFileSync(
      join(folder, ".aws/sso/cache", `${name}.json`),
      JSON.stringify({
        accessToken: "sso-token",
        expiresAt,
        region: "us-west-2",
        startUrl: "https://corp.awsapps.com/start"
      })
    )
  }

  it.effect("come from SSO, with the token that `aws sso login` left", () =>
    Effect.gen(function* () {
      yield* web
      const folder = yield* surroundings(() => ({}))
      sso(folder, soon())
      const { fetch, proxy } = yield* start({ ...withoutKeys, profile: "sso" })
      const body = JSON.stringify({
        roleCredentials: {
          accessKeyId: "ASIASSO",
          secretAccessKey: "x",
          sessionToken: "t",
          expiration: Date.parse(soon())
        }
      })
      const headers = { "content-type": "application/json" }
      yield* proxy.set({ kind: "answer", status: 200, body, headers }, ({ url }) => url.startsWith("/federation/"))

      assert.lengthOf(yield* fetch, 2)

      const [federation, ...calls] = proxy.seen()
      assert.match(federation!.url, /^\/federation\/credentials\?.*role_name=ep2/)
      assert.equal(federation!.headers["x-amz-sso_bearer_token"], "sso-token")
      assert.deepEqual(calls.map(signer), ["ASIASSO", "ASIASSO"])
    })
  )

  it.effect("of SSO that have expired are an error that says how to log in again", () =>
    Effect.gen(function* () {
      yield* web
      const folder = yield* surroundings(() => ({}))
      sso(folder, new Date(Date.now() - 1000).toISOString())
      const { fetch } = yield* start({ ...withoutKeys, profile: "sso" })

      const error = yield* Effect.flip(fetch)

      assert.equal(error.reason, "Unauthorized")
      assert.match(
        error.detail,
        /^no credentials: .*run 'aws sso login' with the corresponding profile.*: see profile "sso"/
      )
    })
  )

  it.effect("that are nowhere are an error that says where they may be", () =>
    Effect.gen(function* () {
      yield* web
      yield* surroundings(() => ({}))
      const { fetch, proxy } = yield* start(withoutKeys)

      const error = yield* Effect.flip(fetch)

      assert.equal(error.reason, "Unauthorized")
      assert.match(
        error.detail,
        /^no credentials: .*: set an access key or a profile, or see to the environment or the role of this host \(docs\/aws\)$/
      )
      assert.deepEqual(proxy.seen(), [])
      assert.notInclude(error.message, Redacted.value(accessKey.secret))
    })
  )
})
