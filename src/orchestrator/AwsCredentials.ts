/**
 * Which credentials the AWS API is asked with: the access key of `ep2.conf`, a
 * profile, or what the AWS SDK finds by itself (environment, SSO, web identity,
 * container, role of the instance by IMDSv2); on top of any of them a role.
 *
 * Imported only where AWS is the source, since it loads the SDK.
 */
import { hostname } from "node:os"
import { fromIni, fromNodeProviderChain, fromTemporaryCredentials } from "@aws-sdk/credential-providers"
import { Redacted } from "effect"
import type { AwsAccess } from "./AwsAccess.ts"

type Provider = ReturnType<typeof fromNodeProviderChain>

/** No credentials could be had. `step` says whether some were looked for, or a role was to be assumed with them. */
export class CredentialsError extends Error {
  readonly step: "find" | "assume"
  constructor(step: "find" | "assume", cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause })
    this.name = "CredentialsError"
    this.step = step
  }
}

/**
 * A provider as the SDK wants it, which caches nothing itself. Rejects with a `CredentialsError`.
 * `clientConfig` is for the clients that it makes, without a region: SSO has one of its own.
 */
export const provider = (access: AwsAccess, clientConfig: Readonly<Record<string, unknown>>): Provider => {
  const base = failingAs("find", baseOf(access, clientConfig))
  if (access.roleArn === undefined) return base
  const assumed = fromTemporaryCredentials({
    masterCredentials: base,
    params: {
      RoleArn: access.roleArn,
      RoleSessionName: sessionName(),
      ...(access.externalId === undefined ? {} : { ExternalId: access.externalId })
    },
    clientConfig: { ...clientConfig, region: access.region }
  })
  return failingAs("assume", assumed)
}

const baseOf = ({ accessKey, profile }: AwsAccess, clientConfig: Readonly<Record<string, unknown>>): Provider => {
  if (accessKey !== undefined) {
    const { id, secret } = accessKey
    return async () => ({ accessKeyId: Redacted.value(id), secretAccessKey: Redacted.value(secret) })
  }
  // Files are read anew each time a provider is made, so that keys can be changed while ep2 runs.
  const options = { clientConfig, logger: quiet, ignoreCache: true, ec2MetadataV1Disabled: true }
  // Not the chain: where the profile gives nothing, it would go on to what the operator did not name.
  return profile === undefined ? fromNodeProviderChain(options) : fromIni({ ...options, profile })
}

const failingAs =
  (step: "find" | "assume", inner: Provider): Provider =>
  async (properties) => {
    try {
      return await inner(properties)
    } catch (cause) {
      throw cause instanceof CredentialsError ? cause : new CredentialsError(step, cause)
    }
  }

/** How CloudTrail names ep2's sessions. Source: STS API reference, AssumeRole, `RoleSessionName`. */
const sessionName = (): string => `ep2-${hostname().replace(/[^\w+=,.@-]/g, "-")}`.slice(0, 64)

/** Where the SDK would write to the console. What matters of it comes back as an error. */
export const quiet = { trace: () => {}, debug: () => {}, info: () => {}, warn: () => {}, error: () => {} }
