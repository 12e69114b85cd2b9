/** One run at a time in one checkout. The lock is the kernel's, so it ends with its holder, however that ends. */
import { DatabaseSync } from "node:sqlite"

const patience = 10 * 60_000

/**
 * Holds the lock of a file until the returned function is called. Calls
 * `onWait` once where another process holds it; rejects after ten minutes.
 */
export const lock = async (file: string, onWait: () => void): Promise<() => void> => {
  const database = new DatabaseSync(file, { timeout: 0 })
  const until = Date.now() + patience
  for (let isFirst = true; ; isFirst = false) {
    try {
      database.exec("BEGIN EXCLUSIVE")
      return () => database.close()
    } catch (cause) {
      if (!/database is locked/.test(String(cause)) || Date.now() > until) throw cause
      if (isFirst) onWait()
      await new Promise((resume) => setTimeout(resume, 200))
    }
  }
}
