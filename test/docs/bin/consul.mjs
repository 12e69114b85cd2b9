#!/usr/bin/env node
/** `consul` on the PATH of a page (`Session`): the real one, an agent on the ports of the page. */
import { spawn } from "node:child_process"

const args = process.argv.slice(2)
const port = Number(process.env.EP2_DOCS_BASE) + 500
const ports = { http: 500, dns: 600, server: 300, "serf-lan": 301, "serf-wan": 302 }
if (args[0] === "agent") {
  for (const [name, offset] of Object.entries(ports)) args.push(`-${name}-port=${port - 500 + offset}`)
  args.push("-grpc-port=-1", "-bind=127.0.0.1")
}
const env = { ...process.env, CONSUL_HTTP_ADDR: `127.0.0.1:${port}` }
const child = spawn(process.env.EP2_DOCS_CONSUL, args, { stdio: "inherit", env })
for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => child.kill(signal))
child.once("exit", (code, signal) => process.exit(code ?? (signal === null ? 1 : 130)))
