/** Runs the programs that packages are built with. */
import { execFile } from "node:child_process"
import { promisify } from "node:util"

/** Runs a program to its end and returns its standard output. Rejects with all that it said when it is not there or fails. */
export const run = async (
  program: string,
  args: ReadonlyArray<string>,
  env: Readonly<Record<string, string>> = {}
): Promise<string> => {
  try {
    const { stdout } = await promisify(execFile)(program, args, {
      env: { ...process.env, ...env },
      maxBuffer: 64 * 1024 * 1024
    })
    return stdout
  } catch (cause) {
    const {
      code,
      stderr = "",
      stdout = ""
    } = cause as Error & { code?: string | number; stdout?: string; stderr?: string }
    throw new Error(`${program} ${code === "ENOENT" ? "is not installed" : `failed (${code}): ${stdout}${stderr}`}`, {
      cause
    })
  }
}
