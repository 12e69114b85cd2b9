/** Requests of the bench, over connections that stay. */
import { Agent, request } from "node:http"
import { Effect } from "effect"

export const keptAgent = Effect.acquireRelease(
  Effect.sync(() => new Agent({ keepAlive: true, maxSockets: 1 })),
  (agent) => Effect.sync(() => agent.destroy())
)

/** Which server answers a request that HAProxy gets now; `undefined` where none does. */
export const whoAnswers = (port: number, agent: Agent) =>
  Effect.callback<string | undefined>((resume) => {
    const asked = request({ host: "127.0.0.1", port, agent, path: "/bench" }, (answer) => {
      answer.resume().once("end", () => resume(Effect.succeed(answer.headers["x-served-by"] as string | undefined)))
    })
    asked.once("error", () => resume(Effect.undefined)).end()
  })

/** Asks until that server answers. A short pause between two requests leaves the processor to those that are measured. */
export const untilAnswers = Effect.fnUntraced(function* (name: string, port: number, agent: Agent) {
  while ((yield* whoAnswers(port, agent)) !== name) yield* Effect.sleep("1 millis")
})

/** An answer, as far as Consul's watches need it. */
export const get = (url: string) =>
  Effect.promise(
    () =>
      new Promise<{ readonly index: string; readonly body: string }>((done, failed) => {
        request(url, { agent: false }, async (answer) => {
          const body = Buffer.concat(await answer.toArray()).toString("utf8")
          done({ index: String(answer.headers["x-consul-index"]), body })
        })
          .once("error", failed)
          .end()
      })
  )
