/**
 * A real moto server, which stands in for AWS: its own port on 127.0.0.1, ended
 * with the scope. Its groups get instances with addresses of 127.0.0.0/16, so
 * that servers can really listen there and HAProxy can serve them.
 *
 * What moto does not do: instances are never on their way (no Pending, no
 * Terminating), credentials are not looked at, nothing is throttled. `FaultProxy`
 * does that to its answers.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { setTimeout as sleep } from "node:timers/promises"
import {
  AutoScalingClient,
  CreateAutoScalingGroupCommand,
  CreateLaunchConfigurationCommand,
  DeleteAutoScalingGroupCommand,
  DescribeAutoScalingGroupsCommand,
  DetachInstancesCommand,
  EnterStandbyCommand,
  ExitStandbyCommand,
  SetDesiredCapacityCommand,
  SetInstanceHealthCommand,
  TerminateInstanceInAutoScalingGroupCommand
} from "@aws-sdk/client-auto-scaling"
import { CreateSubnetCommand, CreateVpcCommand, DescribeInstancesCommand, EC2Client } from "@aws-sdk/client-ec2"
import { Context, Effect, Layer } from "effect"
import * as Binaries from "./Binaries.ts"
import * as Ports from "./Ports.ts"

/** Where all of it is unless another region is named. */
export const region = "eu-central-1"

export interface Instance {
  readonly id: string
  readonly lifecycle: string
  readonly health: string
  /** Private. */
  readonly address: string
  readonly publicAddress: string | undefined
}

export class MotoServer extends Context.Service<
  MotoServer,
  {
    readonly url: string
    readonly host: string
    readonly port: number
    /**
     * Makes a group whose instances have private addresses of a subnet of its own,
     * 127.0.N.4 and up; with `isPublic` in the default network, where they have
     * public ones too and nothing can listen.
     */
    readonly makeGroup: (
      name: string,
      desired: number,
      options?: { readonly isPublic?: boolean }
    ) => Effect.Effect<void>
    readonly deleteGroup: (name: string) => Effect.Effect<void>
    /** Adds instances, or takes away the oldest. */
    readonly scale: (name: string, desired: number) => Effect.Effect<void>
    /** All of a group, oldest first. */
    readonly instances: (name: string) => Effect.Effect<ReadonlyArray<Instance>>
    /** Through the group, which gets smaller by it. */
    readonly terminate: (id: string) => Effect.Effect<void>
    readonly setHealth: (id: string, health: "Healthy" | "Unhealthy") => Effect.Effect<void>
    readonly enterStandby: (name: string, id: string) => Effect.Effect<void>
    readonly exitStandby: (name: string, id: string) => Effect.Effect<void>
    readonly detach: (name: string, id: string) => Effect.Effect<void>
  }
>()("ep2/test/MotoServer") {
  /** Starts a server and returns when it takes requests. */
  static readonly make = Effect.acquireRelease(
    Effect.promise(() => Moto.create()),
    (moto) => Effect.promise(() => moto.close())
  ).pipe(Effect.map((moto) => MotoServer.of(serviceOf(moto))))

  static readonly layer = Layer.effect(MotoServer, MotoServer.make)
}

const credentials = { accessKeyId: "test", secretAccessKey: "test" }

const serviceOf = (moto: Moto): MotoServer["Service"] => {
  const { autoScaling } = moto
  const run = (send: () => Promise<unknown>) => Effect.asVoid(Effect.promise(send))
  const decrement = { ShouldDecrementDesiredCapacity: true }
  return {
    url: moto.url,
    host: "127.0.0.1",
    port: moto.port,
    makeGroup: (name, desired, { isPublic = false } = {}) =>
      run(async () => {
        const place = isPublic ? { AvailabilityZones: [`${region}a`] } : { VPCZoneIdentifier: await moto.subnet() }
        await autoScaling.send(
          new CreateAutoScalingGroupCommand({
            AutoScalingGroupName: name,
            LaunchConfigurationName: "test",
            MinSize: 0,
            MaxSize: 500,
            DesiredCapacity: desired,
            ...place
          })
        )
      }),
    deleteGroup: (name) =>
      run(() => autoScaling.send(new DeleteAutoScalingGroupCommand({ AutoScalingGroupName: name, ForceDelete: true }))),
    scale: (name, desired) =>
      run(() =>
        autoScaling.send(new SetDesiredCapacityCommand({ AutoScalingGroupName: name, DesiredCapacity: desired }))
      ),
    instances: (name) => Effect.promise(() => moto.instances(name)),
    terminate: (id) =>
      run(() => autoScaling.send(new TerminateInstanceInAutoScalingGroupCommand({ InstanceId: id, ...decrement }))),
    setHealth: (id, health) =>
      run(() => autoScaling.send(new SetInstanceHealthCommand({ InstanceId: id, HealthStatus: health }))),
    enterStandby: (name, id) =>
      run(() =>
        autoScaling.send(new EnterStandbyCommand({ AutoScalingGroupName: name, InstanceIds: [id], ...decrement }))
      ),
    exitStandby: (name, id) =>
      run(() => autoScaling.send(new ExitStandbyCommand({ AutoScalingGroupName: name, InstanceIds: [id] }))),
    detach: (name, id) =>
      run(() =>
        autoScaling.send(new DetachInstancesCommand({ AutoScalingGroupName: name, InstanceIds: [id], ...decrement }))
      )
  }
}

/** A port may be taken between finding and using it; another try finds another. */
const startTries = 4

const startTimeoutMillis = 30_000

class Moto {
  readonly port: number
  readonly url: string
  readonly autoScaling: AutoScalingClient
  readonly ec2: EC2Client
  private child: ChildProcess | undefined
  private said = ""
  private vpc: string | undefined
  private subnets = 0

  private constructor(port: number) {
    this.port = port
    this.url = `http://127.0.0.1:${port}`
    const options = { endpoint: this.url, region, credentials }
    this.autoScaling = new AutoScalingClient(options)
    this.ec2 = new EC2Client(options)
  }

  static async create(): Promise<Moto> {
    for (let tries = 1; ; tries++) {
      const moto = new Moto(await Ports.free())
      try {
        await moto.start()
        return moto
      } catch (cause) {
        await moto.close()
        if (tries === startTries) throw cause
      }
    }
  }

  private async start(): Promise<void> {
    const child = spawn(Binaries.moto(), ["-H", "127.0.0.1", "-p", String(this.port)], {
      stdio: ["ignore", "pipe", "pipe"]
    })
    this.child = child
    child.on("error", () => undefined)
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        this.said = (this.said + text).slice(-2000)
      })
    }
    const deadline = Date.now() + startTimeoutMillis
    while (!(await this.isReady())) {
      if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined || Date.now() > deadline) {
        throw new Error(`moto does not start: ${this.said}`)
      }
      await sleep(50)
    }
    await this.autoScaling.send(
      new CreateLaunchConfigurationCommand({
        LaunchConfigurationName: "test",
        ImageId: "ami-12c6146b",
        InstanceType: "t3.micro"
      })
    )
  }

  private async isReady(): Promise<boolean> {
    try {
      return (await fetch(`${this.url}/moto-api/data.json`)).ok
    } catch {
      return false
    }
  }

  async close(): Promise<void> {
    this.autoScaling.destroy()
    this.ec2.destroy()
    const child = this.child
    if (child === undefined || child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
    const gone = new Promise((done) => child.once("exit", done))
    child.kill("SIGKILL")
    await gone
  }

  /** The id of a new subnet, 127.0.4.0/24 and up. */
  async subnet(): Promise<string> {
    this.vpc ??= (await this.ec2.send(new CreateVpcCommand({ CidrBlock: "127.0.0.0/16" }))).Vpc?.VpcId
    const { Subnet } = await this.ec2.send(
      new CreateSubnetCommand({
        VpcId: this.vpc!,
        CidrBlock: `127.0.${4 + this.subnets++}.0/24`,
        AvailabilityZone: `${region}a`
      })
    )
    return Subnet!.SubnetId!
  }

  async instances(name: string): Promise<ReadonlyArray<Instance>> {
    const { AutoScalingGroups } = await this.autoScaling.send(
      new DescribeAutoScalingGroupsCommand({ AutoScalingGroupNames: [name] })
    )
    const members = AutoScalingGroups?.[0]?.Instances ?? []
    if (members.length === 0) return []
    const { Reservations } = await this.ec2.send(
      new DescribeInstancesCommand({
        Filters: [{ Name: "instance-id", Values: members.map((one) => one.InstanceId!) }]
      })
    )
    const all = (Reservations ?? []).flatMap(({ Instances = [] }) => Instances)
    return members.map((member) => {
      const found = all.find(({ InstanceId }) => InstanceId === member.InstanceId)
      return {
        id: member.InstanceId!,
        lifecycle: member.LifecycleState!,
        health: member.HealthStatus!,
        address: found?.PrivateIpAddress ?? "",
        publicAddress: found?.PublicIpAddress
      }
    })
  }
}
