/** A reporter of vitest: writes the errors that no test awaited into the file EP2_TEST_UNHANDLED, one a line, if there are any. */
import { writeFileSync } from "node:fs"
import type { Reporter } from "vitest/node"

export default class Unhandled implements Reporter {
  onTestRunEnd: NonNullable<Reporter["onTestRunEnd"]> = (_modules, errors) => {
    const { EP2_TEST_UNHANDLED: file } = process.env
    if (file === undefined || errors.length === 0) return
    writeFileSync(file, errors.map(({ message }) => (message ?? "no message").split("\n")[0]).join("\n"))
  }
}
