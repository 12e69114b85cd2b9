/**
 * Stops with one line on a Node that is too old. `main.ts` imports it before
 * everything else, and the build sees to it that nothing is loaded before it
 * has run.
 */
const [major = 0, minor = 0] = process.versions.node.split(".").map(Number)

if (major < 22 || (major === 22 && minor < 19)) {
  console.error(
    `ep2: needs Node 22.19 or newer, and this is Node ${process.versions.node} (${process.execPath}): ` +
      "install a newer one, or name one when you start it: /path/to/node /path/to/ep2 …"
  )
  process.exit(1)
}
