/** The manual page, from what `--help` says: one source for both. */

/** The help of one command: `""` for ep2 itself, else the name of the command. */
export interface Help {
  readonly command: string
  readonly text: string
}

/** The names of the commands that the help of ep2 itself lists. */
export const commandsIn = (help: string): ReadonlyArray<string> => {
  const [, list = ""] = /^SUBCOMMANDS\n((?: {2}.*\n?)*)/m.exec(help) ?? []
  return [...list.matchAll(/^ {2}([a-z][\w-]*)/gm)].map(([, name]) => name!)
}

/** The page, as roff for man(1). The help stands in it as it is. */
export const make = (version: string, helps: ReadonlyArray<Help>): string =>
  [
    `.TH EP2 1 "" "ep2 ${version}" "User Commands"`,
    ".SH NAME",
    "ep2 \\- keeps the servers of HAProxy backends in step with their source",
    ...helps.flatMap(({ command, text }) => [
      command === "" ? ".SH HELP" : `.SH EP2 ${command.toUpperCase()}`,
      ".nf",
      ...text.trimEnd().split("\n").map(escaped),
      ".fi"
    ]),
    ".SH FILES",
    ".TP",
    "/etc/ep2/ep2.conf",
    "The settings; /usr/share/doc/ep2/configuration.md explains every key.",
    ".TP",
    "/etc/ep2/haproxy.cfg.template",
    "The template of HAProxy's config file.",
    ".SH SEE ALSO",
    "haproxy(1), /usr/share/doc/ep2",
    ""
  ].join("\n")

// A line of roff that begins with a dot or a quote is a request, and a bare hyphen is not the minus of a flag.
const escaped = (line: string): string =>
  line
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replace(/^(?=[.'])/, "\\&")
