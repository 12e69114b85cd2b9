/** What the tests of the settings decode, and how they look at the outcome. */
import { Result } from "effect"
import * as Settings from "../../src/settings/Settings.ts"

/** The least that starts: everything else is a default. */
export const consul = "[haproxy]\norchestrator = consul\n[CONSUL]\nservice_name = web\n"

export const file = "[haproxy]\norchestrator = file\n[FILE]\npath = /etc/ep2/targets.json\n"

export const aws =
  "[haproxy]\norchestrator = aws\n[AWS]\nasg_name = web\nregion_name = eu-central-1\nip_type = private\n"

/** With more lines in a section of the text: `withLines(consul, "haproxy", "node_slots = 5")`. */
export const withLines = (text: string, section: string, ...lines: ReadonlyArray<string>): string =>
  text.replace(`[${section}]\n`, `[${section}]\n${lines.join("\n")}\n`)

/** Settings and warnings; a refused file fails the test with its message. */
export const loaded = (text: string): Settings.Loaded =>
  Result.getOrThrowWith(Settings.decode("ep2.conf", text), (error) => error)

export const settings = (text: string): Settings.Settings => loaded(text).settings

/** The only backend. */
export const backend = (text: string): Settings.BackendSettings => settings(text).backends[0]

/** The lines of the message; none for a good file. */
export const refusal = (text: string): ReadonlyArray<string> =>
  Result.match(Settings.decode("ep2.conf", text), {
    onSuccess: () => [],
    onFailure: (error) => error.message.split("\n")
  })
