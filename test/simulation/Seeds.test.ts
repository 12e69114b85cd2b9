/**
 * Whatever comes: settings, HAProxy and scenario by chance, and every rule of ep2
 * held against each change of what HAProxy serves. `Seeds.second.test.ts` plays the
 * other half, beside this one.
 *
 * `npm run simulate:soak -- --seed N` shows one of them, and `-- --minutes N` plays more.
 */
import * as Seeds from "./Seeds.ts"

Seeds.test("first")
