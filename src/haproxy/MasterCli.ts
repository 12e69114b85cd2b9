/**
 * The CLI of HAProxy's master process (`haproxy -S`), as far as a reload needs it.
 *
 * Source: HAProxy management guide, 9.4 "Master CLI"; answers as tried: 2.2 and
 * 2.6 close the connection at once without a word, 3.0 and 3.2 answer when the
 * new worker has loaded its config, `Success=1` or `Success=0` and what it said.
 */
import { connect } from "node:net"
import { Duration, Effect, Schema } from "effect"

/** The master did not take the command, or failed at it. The old worker serves on. */
export class MasterCliError extends Schema.TaggedError<MasterCliError>()("MasterCliError", {
  socket: Schema.String,
  /** One line: what was found, and what to do. */
  detail: Schema.String,
  /** What the master said, verbatim; empty when it said nothing. */
  output: Schema.String
}) {}

/** Waits no longer than this for an answer; a large config takes seconds to load. */
const timeout = Duration.seconds(30)

/**
 * Tells the master to load its config anew. Succeeds when it has taken the
 * command; on 2.2 and 2.6 that says nothing about what comes of it.
 */
export const reload = Effect.fn("MasterCli.reload")(function* (socket: string) {
  const fail = (detail: string, output = "") => new MasterCliError({ socket, detail, output })
  const answer = yield* exchange(socket, "reload").pipe(
    Effect.mapError((cause) => fail(refusalOf(cause))),
    Effect.timeoutOrElse({
      duration: timeout,
      orElse: () => fail(`no answer to \`reload\` within ${Duration.toSeconds(timeout)} s`)
    })
  )
  if (answer.trim() === "" || answer.startsWith("Success=1")) return
  if (answer.startsWith("Success=0")) return yield* fail(`HAProxy did not load it: ${firstAlert(answer)}`, answer)
  return yield* fail(
    `\`reload\` was answered with ${JSON.stringify(answer.trim().slice(0, 200))}: is this the socket of the master, with level admin?`,
    answer
  )
})

/** Asks the master which processes it has, and fails where it is no master that answers. Changes nothing. */
export const probe = Effect.fn("MasterCli.probe")(function* (socket: string) {
  const fail = (detail: string, output = "") => new MasterCliError({ socket, detail, output })
  const answer = yield* exchange(socket, "show proc").pipe(
    Effect.mapError((cause) => fail(refusalOf(cause))),
    Effect.timeoutOrElse({ duration: Duration.seconds(5), orElse: () => fail("no answer to `show proc` within 5 s") })
  )
  if (answer.trimStart().startsWith("#<PID>")) return
  return yield* fail(
    `\`show proc\` was answered with ${JSON.stringify(answer.trim().slice(0, 200))}: is this the socket of the master?`,
    answer
  )
})

const exchange = (socket: string, command: string) =>
  Effect.callback<string, NodeJS.ErrnoException>((resume) => {
    const chunks: Array<Buffer> = []
    const done = () => resume(Effect.succeed(Buffer.concat(chunks).toString("utf8")))
    const connection = connect({ path: socket, allowHalfOpen: true }, () => connection.end(`${command}\n`))
    connection.on("data", (chunk) => chunks.push(chunk))
    // 2.2 and 2.6 may cut the connection as they start themselves anew: the command was taken by then.
    connection.on("error", (cause: NodeJS.ErrnoException) =>
      cause.code === "ECONNRESET" || cause.code === "EPIPE" ? done() : resume(Effect.fail(cause))
    )
    connection.on("close", done)
    return Effect.sync(() => connection.destroy())
  })

const refusalOf = (cause: NodeJS.ErrnoException): string =>
  `cannot connect (${cause.code ?? cause.message}): HAProxy has to be started with -S and this path, and ep2 may need to be of the socket's group`

/** The first line that HAProxy calls an alert, without its prefix; else the last one. */
const firstAlert = (answer: string): string => {
  const lines = answer.split("\n").filter((line) => line.trim() !== "" && line !== "--")
  const alert = lines.find((line) => line.includes("[ALERT]")) ?? lines.at(-1) ?? ""
  return alert.replace(/^\s*\[ALERT\]\s+\(\d+\) : /, "").trim()
}
