import { createServer } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import * as Ports from "./Ports.ts"

const hold = (port: number) =>
  new Promise<ReturnType<typeof createServer>>((done, failed) => {
    const server = createServer().once("error", failed)
    server.listen(port, "127.0.0.1", () => done(server))
  })

describe("ports", () => {
  it("are given once, and can be listened on", async () => {
    const ports = await Promise.all(Array.from({ length: 50 }, () => Ports.free()))
    const servers = await Promise.all(ports.map(hold))
    for (const server of servers) server.close()

    assert.strictEqual(new Set(ports).size, 50)
    assert.isBelow(Math.max(...ports), 32_768)
  })

  it("come as a thousand too, of which the asked for are free, until they are given back", async () => {
    const one = await Ports.freeThousand(new Set([80, 443]))
    const server = await hold(one.base + 80)
    const others = await Promise.all([1, 2, 3].map(() => Ports.freeThousand(new Set([80, 443]))))
    server.close()
    for (const { giveBack } of [one, ...others]) giveBack()

    assert.strictEqual(new Set([one, ...others].map(({ base }) => base)).size, 4)
  })
})
