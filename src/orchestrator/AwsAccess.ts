/** How one AWS account is reached in one region. */
import type { Redacted } from "effect"

/** What `[AWS]` says of the way there. */
export interface AwsAccess {
  /** `eu-central-1`. */
  readonly region: string
  /** Without it, `profile` or what the AWS SDK finds. */
  readonly accessKey?:
    | { readonly id: Redacted.Redacted<string>; readonly secret: Redacted.Redacted<string> }
    | undefined
  /** Of the AWS config files; never together with `accessKey`. */
  readonly profile?: string | undefined
  /** Assumed with the credentials above. */
  readonly roleArn?: string | undefined
  readonly externalId?: string | undefined
  /** In place of AWS's own addresses, for all of its services that ep2 asks. */
  readonly endpointUrl?: string | undefined
}

/** `eu-central-1`, or `eu-central-1 at http://127.0.0.1:5000`, for messages. */
export const nameOf = ({ endpointUrl, region }: AwsAccess): string =>
  endpointUrl === undefined ? region : `${region} at ${endpointUrl}`
