/**
 * Runs other programs: `haproxy`, `systemctl` and `systemd-notify`. No shell is
 * involved, and what runs sees none of ep2's secrets.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { Context, Duration, Effect, Layer, Schema } from "effect"

/** The program did not run to its end. */
export class CommandError extends Schema.TaggedError<CommandError>()("CommandError", {
  /** The command as one would type it. */
  command: Schema.String,
  /**
   * - `NotRunnable`: no such program, not executable, or no permission.
   * - `TimedOut`: it was ended because it took too long.
   * - `Killed`: a signal ended it.
   */
  reason: Schema.Literals(["NotRunnable", "TimedOut", "Killed"]),
  /** One line. */
  detail: Schema.String,
  /** What it had said until then. */
  output: Schema.String
}) {
  override get message() {
    return this.detail
  }
}

/** How a program ended that ended by itself. */
export interface Ended {
  readonly exitCode: number
  /** Standard output and standard error as they came, up to 64 KiB. */
  readonly output: string
}

/** Runs programs. Several may run at once. */
export class Commands extends Context.Service<
  Commands,
  {
    /**
     * Runs a program and waits for its end. A non-zero exit code is no error
     * here: its meaning is the caller's.
     *
     * A daemon that the program leaves behind lives on, whatever becomes of
     * ep2. The program itself is ended by `timeout` and by interruption. It
     * sees little of ep2's environment, and what `environment` adds.
     */
    readonly run: (
      program: string,
      args: ReadonlyArray<string>,
      timeout: Duration.Duration,
      environment?: Readonly<Record<string, string>>
    ) => Effect.Effect<Ended, CommandError>
  }
>()("ep2/haproxy/Commands") {
  /** The real programs of this machine. */
  static readonly layer = Layer.succeed(Commands, { run: (...given) => run(...given) })
}

const outputLimit = 64 * 1024

/** How long a program that was told to end may take before it is killed. */
const termGrace = Duration.seconds(2)

/** How long output may still come after the end of the program: a daemon that it left may hold the pipe. */
const drainMillis = 250

const run: Commands["Service"]["run"] = (program, args, timeout, environment = {}) =>
  Effect.callback<Ended, CommandError>((resume) => {
    const chunks: Array<Buffer> = []
    let length = 0
    const output = () => Buffer.concat(chunks).subarray(0, outputLimit).toString("utf8")
    const fail = (reason: CommandError["reason"], detail: string) =>
      resume(Effect.fail(new CommandError({ command: [program, ...args].join(" "), reason, detail, output: output() })))

    // In a session of its own, so that Ctrl-C at ep2's terminal does not reach a
    // HAProxy that is just starting. Nothing ever signals that session as a whole.
    const env = { ...cleanEnvironment(), ...environment }
    const child = spawn(program, args, { env, stdio: ["ignore", "pipe", "pipe"], detached: true })
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (chunk: Buffer) => {
        if (length < outputLimit) chunks.push(chunk)
        length += chunk.length
      })
      stream.on("error", () => {})
    }
    // A timer of its own, since the caller may not want to be interrupted.
    let isLate = false
    const late = setTimeout(() => {
      isLate = true
      end(child)
    }, Duration.toMillis(timeout))
    child.once("error", (error: NodeJS.ErrnoException) => {
      clearTimeout(late)
      fail("NotRunnable", `cannot run ${program}: ${whyNot(error)}`)
    })
    child.once("exit", (exitCode, signal) => {
      clearTimeout(late)
      const drained = setTimeout(() => finish(), drainMillis)
      const finish = () => {
        clearTimeout(drained)
        child.stdout.destroy()
        child.stderr.destroy()
        if (isLate) fail("TimedOut", `${program} took longer than ${Duration.toSeconds(timeout)} s`)
        else if (exitCode === null) fail("Killed", `${program} was ended by ${signal}`)
        else resume(Effect.succeed({ exitCode, output: output() }))
      }
      child.once("close", finish)
    })
    return Effect.promise(async () => {
      clearTimeout(late)
      if (!isRunning(child)) return
      const gone = once(child, "exit")
      end(child)
      await gone
    })
  }).pipe(Effect.withSpan("Commands.run"))

const isRunning = (child: ChildProcess): boolean =>
  child.pid !== undefined && child.exitCode === null && child.signalCode === null

/** Asks the program to end, and kills it when it does not. A daemon that it left is not touched. */
const end = (child: ChildProcess): void => {
  const kill = setTimeout(() => child.kill("SIGKILL"), Duration.toMillis(termGrace))
  child.once("exit", () => clearTimeout(kill))
  child.kill("SIGTERM")
}

const whyNot = (error: NodeJS.ErrnoException): string => {
  if (error.code === "ENOENT") return "no such file; is haproxy_binary right?"
  if (error.code === "EACCES") return "it is not an executable file, or a folder above it is closed to ep2"
  return error.message
}

const passedOn = /^(PATH|HOME|USER|LOGNAME|LANG|LC_\w+|TZ|TMPDIR)$/

/** What every program may know. Credentials, and what systemd tells ep2 alone (`NOTIFY_SOCKET`), stay here. */
const cleanEnvironment = (): NodeJS.ProcessEnv =>
  Object.fromEntries(Object.entries(process.env).filter(([name]) => passedOn.test(name)))
