/**
 * Where the addresses, ports and paths of the documentation are while a test runs its
 * commands: the one place that says so. Nothing outside of one temporary folder is touched,
 * and no port that a reader would use.
 *
 * | in the documentation | in the test |
 * | --- | --- |
 * | `/etc/…`, `/run/…`, `/var/…`, `/usr/local/…` | the same below the folder |
 * | `~`, `$HOME`, and where a page begins | `home` in the folder |
 * | `/usr/sbin/haproxy`, `/usr/bin/ep2` | `bin` in the folder, which is first on the PATH |
 * | ports 8000 to 8999, and a `bind` of `:80` or `:443` | a thousand ports that are free, in the same order |
 * | `user` and `group` in a HAProxy config | left out: whoever runs the tests |
 * | a `[CONSUL]` without `consul_port` | with the port that stands for 8500 |
 * | `sleep N` | up to three times as long, where the machine is busy |
 * | a terminal, colours | none of them |
 */
import * as Ports from "../servers/Ports.ts"

/** The way there and back. */
export interface Places {
  /** A text of the documentation, as the test uses it. */
  readonly here: (text: string) => string
  /** What a program said, as the documentation would have it. */
  readonly there: (text: string) => string
  /** The port that stands for 8000. */
  readonly base: number
  /** For when nothing of it is in use any more. */
  readonly giveBack: () => void
}

/** For one page, whose text says which ports have to be free. */
export const make = async (folder: string, page: string): Promise<Places> => {
  const { base, giveBack } = await freeThousand(page)
  const here = (text: string) =>
    withoutUsers(text)
      .replace(/(?<![\w.~/-])\/usr\/s?bin\/(haproxy|ep2)\b/g, `${folder}/bin/$1`)
      .replace(/(?<![\w.~/}-])\/(?=(?:etc|run|var|usr\/local)(?![\w.-]))/g, `${folder}/`)
      .replace(/(?<=\bbind +(?:\*|0\.0\.0\.0)?):(80|443)\b/g, (_, port) => `127.0.0.1:${base + Number(port)}`)
      .replace(/(?<![\w.])8(\d{3})(?![\w.])/g, (_, rest) => `${base + Number(rest)}`)
      .replace(/^\[CONSUL\]\n(?![^[]*^consul_port)/gm, `[CONSUL]\nconsul_port = ${base + 500}\n`)
  const there = (text: string) =>
    text
      .replaceAll(`${folder}/bin/`, "/usr/sbin/")
      .replaceAll(`${folder}/home`, "~")
      .replaceAll(folder, "")
      .replace(/\b\d{5}\b/g, (number) =>
        Number(number) >= base && Number(number) < base + 1000 ? `8${number.slice(-3)}` : number
      )
  return { here, there, base, giveBack }
}

/** A thousand ports of which those that the page speaks of are free. */
const freeThousand = (page: string) => {
  const offsets = new Set([...page.matchAll(/(?<![\w.])8(\d{3})(?![\w.])/g)].map(([, rest]) => Number(rest)))
  // 80 and 443 of a bind, those of a Consul, and those of the machine itself.
  for (const offset of [80, 443, 300, 301, 302, 500, 600, 901, 902]) offsets.add(offset)
  return Ports.freeThousand(offsets)
}

/** A HAProxy config without `user` and `group`, which a machine that has no HAProxy does not know. */
export const withoutUsers = (text: string): string =>
  text.replace(/^( *)(?:user|group) \w+$/gm, "$1# as whoever runs it")
