/** Where ep2.conf is: the flag that all commands share. */
import { Flag } from "effect/cli"

/** As EP2 1.0 had it. */
export const defaultConf = "/etc/ep2/ep2.conf"

/** `--conf FILE`, and `-f FILE` as EP2 1.0 had it. Not checked here: the message of `Settings.load` says more. */
export const conf = Flag.String("conf").pipe(
  Flag.withAlias("f"),
  Flag.withDescription(`Configuration file (default: ${defaultConf})`),
  Flag.withDefault(defaultConf)
)
