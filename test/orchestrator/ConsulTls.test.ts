import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import type { ConsulTarget } from "../../src/orchestrator/ConsulHealth.ts"
import { ConsulServer, makeCertificates } from "../servers/ConsulServer.ts"
import { noticed, start } from "./ConsulService.ts"

describe("ConsulFetcher over TLS", () => {
  it.live("shows its certificate, trusts the CA, and says which file is wrong otherwise", () =>
    Effect.gen(function* () {
      const tls = yield* makeCertificates
      const consul = yield* ConsulServer.make({ tls })
      yield* consul.register({ id: "web-1", name: "web", address: "10.0.0.1", port: 80 })
      const scheme = "https"
      const caFile = tls.ca
      const good = { scheme, caFile, certFile: tls.clientCert, keyFile: tls.clientKey } as const
      const { until, awaitChange, state } = yield* start(consul, "web", good)
      const complaint = (target: Partial<ConsulTarget>) =>
        start(consul, "web", target).pipe(
          Effect.flatMap(({ fetch }) => Effect.flip(fetch)),
          Effect.map(({ detail, reason }) => `${reason}: ${detail}`)
        )

      yield* until("10.0.0.1:80")
      yield* noticed(awaitChange, consul.setCheck("web-1", "critical"))
      assert.deepEqual((yield* state).wanted, [])

      const untrusted =
        /^Unauthorized: Consul's certificate is not trusted \(UNABLE_TO_VERIFY_LEAF_SIGNATURE\), .*: see ca_file$/
      assert.match(yield* complaint({ scheme }), untrusted)
      const unshown = /^Unauthorized: Consul refused the TLS connection \(.*\): see cert_file and key_file$/
      assert.match(yield* complaint({ scheme, caFile }), unshown)
      assert.match(yield* complaint({ scheme: "http" }), /^BadResponse: .*: set scheme = https$/)
      assert.equal(
        yield* complaint({ ...good, keyFile: tls.serverKey }),
        `Unauthorized: key_file ${tls.serverKey} is not the key of cert_file ${tls.clientCert}`
      )
      assert.equal(
        yield* complaint({ scheme, caFile: "/nowhere/ca.pem" }),
        "Unauthorized: ca_file /nowhere/ca.pem cannot be read (ENOENT): correct the path or its permissions"
      )
      assert.equal(
        yield* complaint({ scheme, caFile: tls.clientKey }),
        `Unauthorized: ca_file ${tls.clientKey} does not hold a PEM certificate (no BEGIN CERTIFICATE)`
      )
      assert.match(yield* complaint({ ...good, keyFile: tls.ca }), /^Unauthorized: key_file .* without a passphrase \(/)
      assert.equal(
        yield* complaint({ scheme, caFile, certFile: tls.clientCert }),
        "Unauthorized: cert_file is set without key_file: set both or neither"
      )
    })
  )

  it.live("says that there is no TLS where the agent speaks plain HTTP", () =>
    Effect.gen(function* () {
      const consul = yield* ConsulServer.make()
      const { fetch } = yield* start(consul, "web", { scheme: "https" }, { timeout: Duration.seconds(5) })

      const error = yield* Effect.flip(fetch)

      assert.equal(error.reason, "BadResponse")
      assert.match(error.detail, /^no TLS on this port \(.*\): set scheme = http, or the agent's HTTPS port$/)
    })
  )
})
