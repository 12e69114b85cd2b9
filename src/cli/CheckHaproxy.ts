/**
 * HAProxy itself: its program, the way in which it is started, and the socket of
 * each process that runs. Only asked, never changed.
 */
import { access } from "node:fs/promises"
import { dirname } from "node:path"
import { Duration, Effect, Result } from "effect"
import { Commands } from "../haproxy/Commands.ts"
import { isAtLeast, type Version } from "../haproxy/ConfigAdvice.ts"
import { HaproxySocket } from "../haproxy/HaproxySocket.ts"
import * as LoadCommand from "../haproxy/LoadCommand.ts"
import * as MasterCli from "../haproxy/MasterCli.ts"
import * as MasterProcess from "../haproxy/MasterProcess.ts"
import * as RuntimeApi from "../haproxy/RuntimeApi.ts"
import type { HaproxySettings } from "../settings/Settings.ts"
import { type Finding, ok, problem, warning } from "./CheckReport.ts"

/** The oldest that EP2 1.0 asked for, and the oldest that ep2 is tested with. */
const [oldest, oldestTested] = [[1, 8] as const, [2, 2] as const]

const commandTimeout = Duration.seconds(10)

/** `haproxy -v`, and the version that it says. */
export const binary = Effect.fnUntraced(function* (path: string) {
  const { run } = yield* Commands
  const ended = yield* Effect.result(run(path, ["-v"], commandTimeout))
  const nothing = { version: undefined as Version | undefined }
  if (Result.isFailure(ended)) return { ...nothing, findings: [problem(path, ended.failure.message)] }
  const { output } = ended.success
  const [, text, major, minor] = /^HA-?Proxy version ((\d+)\.(\d+)\S*)/.exec(output) ?? []
  if (text === undefined) {
    const said = JSON.stringify(output.trim().slice(0, 100))
    return {
      ...nothing,
      findings: [problem(path, `answers -v with ${said}, expected HAProxy's version: correct haproxy_binary`)]
    }
  }
  const version: Version = { major: Number(major), minor: Number(minor) }
  const finding = isAtLeast(version, oldestTested)
    ? ok(path, `HAProxy ${text}`)
    : isAtLeast(version, oldest)
      ? warning(path, `HAProxy ${text} is older than 2.2, the oldest that ep2 is tested with`)
      : problem(path, `HAProxy ${text} is too old: expected 1.8 or later`)
  return { version, findings: [finding] }
})

/** Whether ep2 can start and reload HAProxy in the way that `start_by` names. */
export const startBy = Effect.fnUntraced(function* (haproxy: HaproxySettings, running: ReadonlyArray<Running>) {
  const { configFile, masterSocket, pidFile, serviceName } = haproxy
  switch (haproxy.startBy) {
    case "systemd":
      return yield* unit(serviceName)
    case "binary": {
      const ours = { configFile, pidFile, binary: haproxy.binary }
      const masters = yield* MasterProcess.find(
        ours,
        running.map(({ pid }) => pid)
      )
      const foreign = yield* Effect.result(LoadCommand.refuseForeign(ours, { answering: running, masters }))
      if (Result.isFailure(foreign)) return [problem("start_by = binary", foreign.failure.detail)]
      return []
    }
    case "master": {
      if (masterSocket === undefined) return []
      const probed = yield* Effect.result(MasterCli.probe(masterSocket))
      if (Result.isSuccess(probed)) return [ok(masterSocket, "the master answers")]
      const { detail } = probed.failure
      // One that does not run is started by ep2, with -S.
      const isDown = running.length === 0 && /^cannot connect \((?:ENOENT|ECONNREFUSED)\)/.test(detail)
      return isDown ? [] : [problem(masterSocket, detail)]
    }
  }
})

const unit = Effect.fnUntraced(function* (name: string) {
  const { run } = yield* Commands
  const shown = yield* Effect.result(run("systemctl", ["show", "--property=LoadState,CanReload", name], commandTimeout))
  const place = `service_name = ${name}`
  if (Result.isFailure(shown)) return [problem(place, `start_by = systemd needs systemctl: ${shown.failure.message}`)]
  const { exitCode, output } = shown.success
  const property = (key: string) => new RegExp(`^${key}=(.*)$`, "m").exec(output)?.[1]
  if (exitCode !== 0) return [problem(place, `systemctl cannot tell of it: ${output.trim().split("\n")[0] ?? ""}`)]
  if (property("LoadState") !== "loaded") {
    return [
      problem(
        place,
        `systemd has no such unit (${property("LoadState") ?? "unknown"}): correct service_name, or start_by`
      )
    ]
  }
  if (property("CanReload") === "no") {
    return [
      problem(place, "the unit has no ExecReload, and ep2 reloads HAProxy by it: add one, as the unit of HAProxy has")
    ]
  }
  return [ok(place, "systemd has the unit, and can reload it")]
})

/** A process that answers. */
export interface Running {
  readonly socket: string
  readonly pid: number
}

/** What is known of the sockets, and of the processes that answer on them. */
export interface Sockets {
  readonly findings: ReadonlyArray<Finding>
  readonly running: ReadonlyArray<Running>
}

/** Asks every socket who answers, what it allows, and what it can do. `mark` is that of the config that ep2 would render now. */
export const sockets = Effect.fnUntraced(function* (haproxy: HaproxySettings, mark: string | undefined) {
  const asked = yield* Effect.forEach(
    haproxy.sockets,
    (socket) => Effect.map(Effect.result(ask(socket)), (answer) => ({ socket, answer })),
    { concurrency: "unbounded" }
  )
  const running: Array<Running> = []
  const seen = new Map<string, string>()
  const findings: Array<Finding> = []
  const isAnyUp = asked.some(({ answer }) => Result.isSuccess(answer))
  for (const { answer, socket } of asked) {
    if (Result.isFailure(answer)) {
      findings.push(yield* silent(haproxy, { socket, detail: answer.failure.detail, isAnyUp }))
      continue
    }
    const { info, level, pid, runs, version } = answer.success
    const identity = RuntimeApi.parseIdentity(info)
    const twin = seen.get(identity)
    seen.set(identity, socket)
    if (pid === undefined || version === undefined) {
      findings.push(
        problem(socket, `answers ${RuntimeApi.quoted(info.slice(0, 100))} to \`show info\`: is it HAProxy's?`)
      )
      continue
    }
    running.push({ socket, pid })
    if (twin !== undefined) {
      const remedy = "name one socket per process in haproxy_socket_file"
      findings.push(problem(socket, `is another socket of the process behind ${twin}: ${remedy}`))
    } else if (level !== "admin" && !level.startsWith("Unknown command")) {
      const remedy = `write "level admin" on its "stats socket" line, and reload HAProxy`
      findings.push(problem(socket, `has level ${level}, and ep2 changes servers, which takes level admin: ${remedy}`))
    } else {
      const adds = RuntimeApi.parseCanAdd(info)
        ? "can add servers"
        : "cannot add servers while it runs (2.6 and later can)"
      const what = mark === undefined ? "" : runs === mark ? ", runs what ep2 renders" : `, ${otherConfig(runs)}`
      findings.push(ok(socket, `HAProxy ${version} (pid ${pid}), level admin, ${adds}${what}`))
    }
  }
  return { findings, running } satisfies Sockets
})

const otherConfig = (mark: string | undefined): string =>
  mark === undefined
    ? "runs a config that is not ep2's: ep2 reloads it when it starts"
    : "runs another template or other settings: ep2 reloads it when it starts, or at HUP"

const ask = Effect.fnUntraced(function* (socket: string) {
  const { session } = yield* HaproxySocket
  const commands = [RuntimeApi.showInfo, RuntimeApi.showLevel, RuntimeApi.showMark].map(({ text }) => text)
  const [info = "", level = "", mark = ""] = yield* (yield* session(socket)).ask(commands)
  return {
    info,
    level,
    pid: RuntimeApi.parsePid(info),
    version: RuntimeApi.parseVersion(info),
    runs: RuntimeApi.parseMark(mark)
  }
}, Effect.scoped)

/** A socket that does not answer: ep2 starts a HAProxy that does not run, and one that runs has to answer. */
const silent = Effect.fnUntraced(function* (
  { startBy: way }: HaproxySettings,
  { detail, isAnyUp, socket }: { readonly socket: string; readonly detail: string; readonly isAnyUp: boolean }
) {
  if (/EACCES|EPERM/.test(detail)) {
    return problem(
      socket,
      `${detail}: set mode, user and group of its "stats socket" line so that ep2's user may write to it`
    )
  }
  if (!/ENOENT|ECONNREFUSED/.test(detail)) return problem(socket, `${detail}: is it HAProxy that answers there?`)
  if (isAnyUp)
    return problem(socket, `${detail}, and others answer: is that process down, or its "stats socket" line missing?`)
  const folder = dirname(socket)
  const isFolder = yield* Effect.promise(() =>
    access(folder).then(
      () => true,
      () => false
    )
  )
  if (!isFolder)
    return problem(
      socket,
      `there is no folder ${folder}, where HAProxy is to open it: make it, or correct haproxy_socket_file`
    )
  return warning(
    socket,
    `HAProxy does not run (${detail}): ep2 starts it when it starts${way === "systemd" ? ", by its unit" : ""}`
  )
})
