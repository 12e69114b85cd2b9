/**
 * What went wrong between ep2 and AWS, in one line that names the place, what
 * AWS said, and what to do.
 *
 * | found | reason |
 * | --- | --- |
 * | no connection, no answer in time, 5xx | Unavailable |
 * | one of AWS's codes for "too often" | Throttled |
 * | no credentials, wrong, expired or not enough ones, a clock that is off | Unauthorized |
 * | anything else that is not what the API promises | BadResponse |
 *
 * Source: EC2 API reference, "Error codes"; Auto Scaling API reference, "Common
 * errors"; STS API reference, AssumeRole.
 */
import { Redacted } from "effect"
import { type AwsAccess, nameOf } from "./AwsAccess.ts"
import { FetchError, oneLine } from "./Fetcher.ts"

/** The IAM action of a call. All that ep2 needs is listed here. */
export type Action = "autoscaling:DescribeAutoScalingGroups" | "ec2:DescribeInstances" | "sts:AssumeRole"

/** Turns what the SDK rejected with into an error of ours, in one line that shows no credential. */
export const describe = (
  cause: unknown,
  asked: { readonly access: AwsAccess; readonly action: Action; readonly nowMillis: number }
): FetchError => {
  const { access, nowMillis } = asked
  const error = read(cause)
  const step = error.name === "CredentialsError" ? read(error.cause) : error
  const action: Action = error.step === "assume" ? "sts:AssumeRole" : asked.action
  const { detail, reason } = judge(step, {
    access,
    action,
    isCredentials: error.name === "CredentialsError",
    clockOffMillis: clockOff(step, nowMillis)
  })
  return new FetchError({ target: targetOf(access), reason, detail: withoutKeys(detail, access) })
}

// AWS quotes the header of a request that it cannot read, with the secret in it where the two parts are mixed up.
const withoutKeys = (text: string, { accessKey }: AwsAccess): string => {
  const keys = accessKey === undefined ? [] : [accessKey.id, accessKey.secret].map(Redacted.value)
  return keys
    .reduce((shown, key) => shown.replaceAll(key, "…"), text)
    .replaceAll(/Credential=[^\s,"']+/g, "Credential=…")
}

/** The target of errors that are about all groups of a region. */
export const targetOf = (access: AwsAccess): string => `AWS Auto Scaling in ${nameOf(access)}`

interface Verdict {
  readonly reason: FetchError["reason"]
  readonly detail: string
}

interface Circumstances {
  readonly access: AwsAccess
  readonly action: Action
  /** It happened while credentials were looked for. */
  readonly isCredentials: boolean
  /** How far this host's clock is ahead of AWS's, where the answer tells. */
  readonly clockOffMillis: number | undefined
}

const judge = (error: SdkError, about: Circumstances): Verdict => {
  const { access, action, isCredentials } = about
  const { code, status } = error
  const said = saidBy(error)
  const network = networkOf(error, access)
  if (network !== undefined) return { reason: "Unavailable", detail: network }
  if (throttling.has(code) || status === 429) {
    return {
      reason: "Throttled",
      detail: `${action} is asked too often in this account, by whomever (${said}): ep2 slows down by itself; if it stays so, raise sleep_before_next_run`
    }
  }
  if (isAboutTime(code) && isSkewed(about.clockOffMillis)) {
    return unauthorized(
      `the clock of this host is ${minutes(about.clockOffMillis)}, so AWS refuses the signature (${code}): set the clock, and see to NTP`
    )
  }
  if (skew.has(code) || (code === "SignatureDoesNotMatch" && /expired|not yet current/i.test(error.message))) {
    return unauthorized(`AWS refuses the time of the signature (${code}): is the clock of this host right? see to NTP`)
  }
  if (isCredentials && action !== "sts:AssumeRole") return noCredentials(error, access)
  if (expired.has(code)) {
    return unauthorized(`the credentials have expired (${said}): ${whose(access)}`)
  }
  if (denied.has(code)) return unauthorized(denial(action, access, said))
  if (code === "SignatureDoesNotMatch") {
    return unauthorized(`the secret key does not belong to the access key (${said}): ${whose(access)}`)
  }
  if (unknownKey.has(code)) {
    return unauthorized(
      `AWS does not take the access key (${said}): ${whose(access)}; a region that is not enabled for the account answers so too`
    )
  }
  if (code === "OptInRequired") {
    return unauthorized(`the account may not use this region (${said}): enable it, or see region_name`)
  }
  if (status !== undefined && status >= 500) {
    return { reason: "Unavailable", detail: `AWS answers ${said}: ep2 asks again` }
  }
  if (/XML parse error/.test(error.message) || status === 200) {
    return {
      reason: "BadResponse",
      detail: `what came is not AWS's answer to ${action} (${error.message}): ${whoAnswers(access)}`
    }
  }
  return { reason: "BadResponse", detail: `AWS answers ${action} with ${said}: ${whoAnswers(access)}` }
}

/** What went wrong while credentials were looked for, where it was AWS that said no, or nobody. */
const noCredentials = (error: SdkError, access: AwsAccess): Verdict => {
  const { code, message, status } = error
  if (status !== undefined && status >= 500) {
    return { reason: "Unavailable", detail: `no credentials: AWS answers ${saidBy(error)}: ep2 asks again` }
  }
  if (denied.has(code)) {
    return unauthorized(
      `no credentials: a role may not be assumed (${saidBy(error)}): its trust policy has to name the caller; ${whose(access)}`
    )
  }
  // A command line may have a secret in it.
  const words =
    status !== undefined ? saidBy(error) : /^Command failed: /.test(message) ? "its credential_process failed" : message
  return unauthorized(`no credentials: ${words}: ${whose(access)}`)
}

const unauthorized = (detail: string): Verdict => ({ reason: "Unauthorized", detail })

const throttling = new Set([
  "Throttling",
  "ThrottlingException",
  "ThrottledException",
  "RequestThrottled",
  "RequestThrottledException",
  "RequestLimitExceeded",
  "TooManyRequestsException",
  "BandwidthLimitExceeded",
  "EC2ThrottledException",
  "PriorRequestNotComplete",
  "SlowDown"
])
const skew = new Set(["RequestTimeTooSkewed", "RequestInTheFuture", "InvalidSignatureException"])
const expired = new Set(["ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"])
const denied = new Set(["AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "NotAuthorized"])
const unknownKey = new Set([
  "InvalidClientTokenId",
  "UnrecognizedClientException",
  "AuthFailure",
  "InvalidAccessKeyId",
  "IncompleteSignature",
  "MissingAuthenticationToken",
  "Blocked",
  "PendingVerification"
])

const isAboutTime = (code: string): boolean =>
  code === "SignatureDoesNotMatch" || skew.has(code) || code === "RequestExpired" || code === "AuthFailure"

/** AWS takes signatures that are up to five minutes old. Source: Signature Version 4, "Troubleshooting". */
const isSkewed = (offMillis: number | undefined): offMillis is number =>
  offMillis !== undefined && Math.abs(offMillis) >= 240_000

// In minutes, so that the same trouble is the same line with each try.
const minutes = (offMillis: number): string =>
  `${Math.round(Math.abs(offMillis) / 60_000)} minutes ${offMillis > 0 ? "ahead of" : "behind"} AWS's`

const whose = ({ accessKey, profile }: AwsAccess): string => {
  if (accessKey !== undefined) return "see aws_access_key_id and aws_secret_access_key"
  if (profile !== undefined) {
    return `see profile ${JSON.stringify(oneLine(profile))} in the AWS config files of the user that runs ep2`
  }
  return "set an access key or a profile, or see to the environment or the role of this host (docs/aws)"
}

const denial = (action: Action, access: AwsAccess, said: string): string => {
  if (action !== "sts:AssumeRole") {
    return `the credentials may not call ${action} (${said}): allow it in their IAM policy, which docs/aws has in full`
  }
  const id = access.externalId === undefined ? "no external_id is set" : "with this external_id"
  return `role_arn ${access.roleArn} may not be assumed (${said}): its trust policy has to name the caller (${id}), and the caller needs sts:AssumeRole on it`
}

const whoAnswers = ({ endpointUrl }: AwsAccess): string =>
  endpointUrl === undefined ? "is there a proxy or a captive portal in between?" : `is ${endpointUrl} an AWS API?`

const networkOf = ({ code, message, name }: SdkError, access: AwsAccess): string | undefined => {
  const at = access.endpointUrl === undefined ? "AWS" : access.endpointUrl
  const see = access.endpointUrl === undefined ? "see routes, firewalls and VPC endpoints" : "see endpoint_url"
  // The SDK calls some cut connections a TimeoutError, so the code goes first.
  switch (code) {
    case "ECONNREFUSED":
      return `connection refused by ${at} (${message || code}): ${see}`
    case "ECONNRESET":
    case "EPIPE":
    case "ECONNABORTED":
      return `the connection to ${at} was cut (${message}): ${see}`
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return `a host name cannot be looked up (${message}): see ${access.endpointUrl === undefined ? "region_name" : "endpoint_url"} and the resolver of this host`
    case "EHOSTUNREACH":
    case "ENETUNREACH":
      return `no way to ${at} (${message}): ${see}`
  }
  if (name === "TimeoutError" || code === "ETIMEDOUT") return `no answer from ${at} in time (${message}): ${see}`
  if (/^(?:CERT_|UNABLE_TO_|SELF_SIGNED_|DEPTH_ZERO_|ERR_TLS_|ERR_SSL_|EPROTO)/.test(code)) {
    return `no TLS connection to ${at} (${code}): is there a proxy in between? NODE_EXTRA_CA_CERTS names further CAs`
  }
  if (message === "aborted" || message === "socket hang up" || code === "ERR_STREAM_PREMATURE_CLOSE") {
    return `the answer of ${at} was cut short (${message}): ep2 asks again`
  }
  return undefined
}

interface SdkError {
  readonly name: string
  /** AWS's own code, or Node's. */
  readonly code: string
  /** One line, without what the SDK says to programmers. */
  readonly message: string
  readonly status: number | undefined
  /** The answer's `Date` header. */
  readonly date: string | undefined
  readonly step: string | undefined
  readonly cause: unknown
}

// The SDK rejects with whatever it met: what is not there, or not text, is not there.
const read = (cause: unknown): SdkError => {
  const name = textOf(cause, "name") ?? "Error"
  const [message] = (textOf(cause, "message") ?? String(cause)).split("\n")
  const status = fieldOf(fieldOf(cause, "$metadata"), "httpStatusCode")
  return {
    name,
    code: textOf(cause, "Code") ?? textOf(cause, "code") ?? name,
    message: oneLine((message ?? "").replace(/^@aws-sdk /, "")),
    status: typeof status === "number" ? status : undefined,
    date: textOf(fieldOf(fieldOf(cause, "$response"), "headers"), "date"),
    step: textOf(cause, "step"),
    cause: fieldOf(cause, "cause")
  }
}

const fieldOf = (of: unknown, key: string): unknown =>
  typeof of === "object" && of !== null ? Reflect.get(of, key) : undefined

const textOf = (of: unknown, key: string): string | undefined => {
  const value = fieldOf(of, key)
  return typeof value === "string" ? value : undefined
}

/** AWS's code and words, without what differs from try to try. */
const saidBy = ({ code, message, status }: SdkError): string => {
  const plain = code === "IncompleteSignature" ? "" : message.replaceAll(changing, "…")
  const words = plain === code || plain === "" || plain === "Unknown" ? "" : ` ${JSON.stringify(plain)}`
  return code === "Unknown" && status !== undefined ? `status ${status}` : `${code}${words}`
}

/** Times, request ids, and what EC2 wraps a refusal in. */
const changing =
  /\d{4}-?\d\d-?\d\dT[\d:.]+Z?|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<=authorization failure message: )\S+/gi

const clockOff = ({ date }: SdkError, nowMillis: number): number | undefined => {
  const theirs = date === undefined ? Number.NaN : Date.parse(date)
  return Number.isFinite(theirs) ? nowMillis - theirs : undefined
}
