/**
 * The AWS SDK, as far as ep2 uses it: two questions to one account in one
 * region, each answered whole or not at all.
 *
 * Imported only where AWS is the source: loading the SDK takes a fifth of a
 * second and some 35 MiB.
 */
import { createHash } from "node:crypto"
import * as http from "node:http"
import * as https from "node:https"
import {
  AutoScalingClient,
  DescribeAutoScalingGroupsCommand,
  paginateDescribeAutoScalingGroups
} from "@aws-sdk/client-auto-scaling"
import { EC2Client, paginateDescribeInstances } from "@aws-sdk/client-ec2"
import { Array as Arr, Clock, Duration, Effect, Schema } from "effect"
import type { Group } from "./AsgMembership.ts"
import type { AwsAccess } from "./AwsAccess.ts"
import * as AwsCredentials from "./AwsCredentials.ts"
import * as AwsError from "./AwsError.ts"
import { FetchError, oneLine } from "./Fetcher.ts"
import type { Instance } from "./InstanceAddresses.ts"

/** One account in one region, as ep2 asks it. Every call ends within `callTimeout`. */
export interface AwsApi {
  /**
   * The groups of these names, each with all its instances; a name without a
   * group is left out, as AWS does. One call per 100 names. Of an answer that says
   * what the one before said, each group is the very same object.
   */
  readonly groups: (names: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<Group>, FetchError>
  /** What EC2 knows of these instances, those that it does not know left out. One call per 200 ids. */
  readonly instances: (ids: ReadonlyArray<string>) => Effect.Effect<ReadonlyArray<Instance>, FetchError>
  /** The names of up to 100 groups of the region, to tell what a wrong name may have been meant to be. */
  readonly someNames: Effect.Effect<ReadonlyArray<string>, FetchError>
  /** How far this host's clock is ahead of AWS's, as of the last answer; signatures are corrected by it. */
  readonly clockOffMillis: Effect.Effect<number>
}

/** Bounds, for tests. */
export interface Options {
  /** For one try of one call; the SDK makes three. 8 s. */
  readonly requestTimeoutMillis?: number | undefined
  /** For one call with all of its pages and tries, and the search for credentials before it. 45 s. */
  readonly callTimeout?: Duration.Duration | undefined
}

/** A list of more pages than that is one that repeats itself. */
const maxPages = 1000

/** Source: Auto Scaling API reference, DescribeAutoScalingGroups, `MaxRecords`. */
const namesPerCall = 100

/** Source: EC2 API reference, "Filtering your resources": at most 200 values in a filter. */
const idsPerCall = 200

/** Asks nothing yet. Connections end with the scope. */
export const make = Effect.fnUntraced(function* (access: AwsAccess, options: Options = {}) {
  const callTimeout = options.callTimeout ?? Duration.seconds(45)
  let clients = open(access, options)
  yield* Effect.addFinalizer(() => Effect.sync(() => clients.close()))

  // New clients look for their credentials anew, so that mended ones are found without a restart, and what hangs is left.
  const renew = Effect.sync(() => {
    clients.close()
    clients = open(access, options)
  })

  const ask = <A>(
    action: AwsError.Action,
    send: (clients: Clients, options: { readonly abortSignal: AbortSignal }) => Promise<A>
  ) =>
    Effect.gen(function* () {
      const nowMillis = yield* Clock.currentTimeMillis
      return yield* Effect.tryPromise({
        try: (abortSignal) => send(clients, { abortSignal }),
        catch: (cause) => AwsError.describe(cause, { access, action, nowMillis })
      })
    }).pipe(
      Effect.tapError(({ reason }) => (reason === "Unauthorized" ? renew : Effect.void)),
      Effect.timeoutOrElse({
        duration: callTimeout,
        orElse: () =>
          Effect.andThen(
            renew,
            new FetchError({
              target: AwsError.targetOf(access),
              reason: "Unavailable",
              detail: `no whole answer to ${action} within ${Duration.toSeconds(callTimeout)} s: is AWS slow, does the network drop packets, or does a credential_process hang?`
            })
          )
      })
    )

  /** What the pages of the last answer were read as. */
  const groupsOf = new WeakMap<object, ReadonlyArray<Group>>()

  const readGroups = (page: object) =>
    Effect.suspend(() => {
      const known = groupsOf.get(page)
      if (known !== undefined) return Effect.succeed(known)
      return decode(GroupPage, page, access).pipe(
        Effect.map(({ AutoScalingGroups }) => AutoScalingGroups.map(groupOf)),
        Effect.tap((read) => Effect.sync(() => groupsOf.set(page, read)))
      )
    })

  const groups = (names: ReadonlyArray<string>) =>
    Effect.forEach(Arr.chunksOf(names, namesPerCall), (some) =>
      ask("autoscaling:DescribeAutoScalingGroups", async ({ autoScaling }, how) => {
        const pages = paginateDescribeAutoScalingGroups(
          { client: autoScaling, pageSize: namesPerCall },
          { AutoScalingGroupNames: [...some] },
          how
        )
        return pagesOf(pages)
      })
    ).pipe(
      Effect.ensuring(Effect.sync(() => clients.forgetOthers())),
      Effect.flatMap((chunks) => Effect.forEach(chunks.flat(), readGroups)),
      Effect.map((pages) => pages.flat())
    )

  const instances = (ids: ReadonlyArray<string>) =>
    Effect.forEach(
      Arr.chunksOf(ids, idsPerCall),
      (some) =>
        ask("ec2:DescribeInstances", async ({ ec2 }, how) => {
          // By a filter: one unknown id in `InstanceIds` would fail the whole call.
          const filter = { Name: "instance-id", Values: [...some] }
          return pagesOf(paginateDescribeInstances({ client: ec2, pageSize: 1000 }, { Filters: [filter] }, how))
        }).pipe(Effect.flatMap(Effect.forEach((page) => decode(InstancePage, page, access)))),
      { concurrency: 4 }
    ).pipe(
      Effect.map((chunks) =>
        chunks
          .flat()
          .flatMap(({ Reservations }) => Reservations)
          .flatMap(({ Instances }) => Instances.map(instanceOf))
      )
    )

  const someNames = ask("autoscaling:DescribeAutoScalingGroups", ({ autoScaling }, how) =>
    autoScaling.send(new DescribeAutoScalingGroupsCommand({ MaxRecords: namesPerCall }), how)
  ).pipe(
    Effect.flatMap((page) => decode(GroupPage, page, access)),
    Effect.map(({ AutoScalingGroups }) => AutoScalingGroups.map((one) => one.AutoScalingGroupName))
  )

  const clockOffMillis = Effect.sync(() => -clients.autoScaling.config.systemClockOffset)

  return { groups, instances, someNames, clockOffMillis } satisfies AwsApi
})

interface Clients {
  readonly autoScaling: AutoScalingClient
  readonly ec2: EC2Client
  /** Of the answers about groups only those that came since the last call of it are known from then on. */
  readonly forgetOthers: () => void
  readonly close: () => void
}

const open = (access: AwsAccess, { requestTimeoutMillis = 8000 }: Options): Clients => {
  // The variables HTTPS_PROXY, HTTP_PROXY and NO_PROXY count, as they did for EP2 1.0.
  const agent = { keepAlive: true, maxSockets: 50, proxyEnv: process.env }
  const agents = { http: new http.Agent(agent), https: new https.Agent(agent) }
  const config = {
    ...(access.endpointUrl === undefined ? {} : { endpoint: access.endpointUrl }),
    // Slows down when AWS answers that it is asked too often. Source: AWS SDKs reference guide, "Retry behavior".
    retryMode: "adaptive",
    maxAttempts: 3,
    userAgentAppId: "ep2",
    logger: AwsCredentials.quiet,
    requestHandler: {
      connectionTimeout: 3000,
      requestTimeout: requestTimeoutMillis,
      // From here on, since a request counts as answered with the first line of the answer.
      socketTimeout: requestTimeoutMillis,
      throwOnRequestTimeout: true,
      httpAgent: agents.http,
      httpsAgent: agents.https,
      logger: AwsCredentials.quiet
    }
  }
  const credentials = AwsCredentials.provider(access, config)
  const autoScaling = new AutoScalingClient({ ...config, region: access.region, credentials })
  // The first client keeps what it was given until it expires, and the second one asks the first.
  const ec2 = new EC2Client({ ...config, region: access.region, credentials: autoScaling.config.credentials })
  const close = () => {
    autoScaling.destroy()
    ec2.destroy()
    agents.http.destroy()
    agents.https.destroy()
  }
  const forgetOthers = readOnce(autoScaling)
  return { autoScaling, ec2, forgetOthers, close }
}

/**
 * Lets a client read an answer that came before, byte for byte but for the id of the
 * request, as the very same output: most polls are answered with that, and to read
 * the answer for a thousand instances takes some 50 ms. Returns `forgetOthers`.
 */
const readOnce = (client: AutoScalingClient) => {
  const protocol: Protocol = client.config.protocol as never
  let known = new Map<string, unknown>()
  let fresh = new Map<string, unknown>()
  const read = protocol.deserializeResponse.bind(protocol)
  protocol.deserializeResponse = async (operation, context, response) => {
    if (response.statusCode !== 200) return read(operation, context, response)
    const body = await context.streamCollector(response.body)
    const hash = hashOf(body)
    const output = known.get(hash) ?? (await read(operation, context, Object.assign(response, { body })))
    fresh.set(hash, output)
    return output
  }
  return () => {
    known = fresh
    fresh = new Map()
  }
}

/** What the SDK reads answers with, as far as it is used here. */
interface Protocol {
  deserializeResponse: (
    operation: unknown,
    context: { readonly streamCollector: (body: unknown) => Promise<Uint8Array> },
    response: { readonly statusCode: number; readonly body: unknown }
  ) => Promise<unknown>
}

const hashOf = (body: Uint8Array): string => {
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength)
  const from = bytes.lastIndexOf("<RequestId>")
  const hash = createHash("sha256")
  if (from === -1) return hash.update(bytes).digest("hex")
  return hash
    .update(bytes.subarray(0, from))
    .update(bytes.subarray(bytes.indexOf("<", from + 1)))
    .digest("hex")
}

const pagesOf = async <A>(pages: AsyncIterable<A>): Promise<ReadonlyArray<A>> => {
  const all: Array<A> = []
  for await (const page of pages) {
    if (all.push(page) > maxPages) throw new Error(`more than ${maxPages} pages`)
  }
  return all
}

// The SDK reads any XML as an answer in which everything is missing, an HTML page too: only a list that is there counts.
const GroupPage = Schema.Struct({
  AutoScalingGroups: Schema.Array(
    Schema.Struct({
      AutoScalingGroupName: Schema.NonEmptyString,
      Instances: Schema.Array(
        Schema.Struct({
          InstanceId: Schema.NonEmptyString,
          AvailabilityZone: Schema.String,
          LifecycleState: Schema.NonEmptyString,
          HealthStatus: Schema.NonEmptyString
        })
      )
    })
  )
})

const InstancePage = Schema.Struct({
  Reservations: Schema.Array(
    Schema.Struct({
      Instances: Schema.Array(
        Schema.Struct({
          InstanceId: Schema.NonEmptyString,
          State: Schema.Struct({ Name: Schema.NonEmptyString }),
          PrivateIpAddress: Schema.optional(Schema.String),
          PublicIpAddress: Schema.optional(Schema.String),
          Ipv6Address: Schema.optional(Schema.String),
          NetworkInterfaces: Schema.optional(
            Schema.Array(
              Schema.Struct({
                Ipv6Addresses: Schema.optional(
                  Schema.Array(Schema.Struct({ Ipv6Address: Schema.optional(Schema.String) }))
                )
              })
            )
          )
        })
      )
    })
  )
})

const decode = <S extends Schema.Codec<unknown, unknown>>(schema: S, page: unknown, access: AwsAccess) =>
  Schema.decodeUnknownEffect(schema)(page).pipe(
    Effect.mapError(
      (cause) =>
        new FetchError({
          target: AwsError.targetOf(access),
          reason: "BadResponse",
          detail: `what came is not AWS's answer (${oneLine(cause.message)}): is there a proxy or a captive portal in between?`,
          cause
        })
    )
  )

const groupOf = (group: (typeof GroupPage.Type)["AutoScalingGroups"][number]): Group => ({
  name: group.AutoScalingGroupName,
  members: group.Instances.map((one) => ({
    id: one.InstanceId,
    zone: one.AvailabilityZone,
    lifecycle: one.LifecycleState,
    health: one.HealthStatus
  }))
})

type InstanceShape = (typeof InstancePage.Type)["Reservations"][number]["Instances"][number]

const instanceOf = (one: InstanceShape): Instance => ({
  id: one.InstanceId,
  state: one.State.Name,
  private: present(one.PrivateIpAddress),
  public: present(one.PublicIpAddress),
  ipv6: present(
    one.Ipv6Address ?? one.NetworkInterfaces?.flatMap(({ Ipv6Addresses = [] }) => Ipv6Addresses)[0]?.Ipv6Address
  )
})

// A stopped instance has an element without text where its public address was.
const present = (text: string | undefined): string | undefined => (text === "" ? undefined : text)
