/** The other half of `Seeds.test.ts`. */
import * as Seeds from "./Seeds.ts"

Seeds.test("second")
