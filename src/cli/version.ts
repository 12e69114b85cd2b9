/** The version of ep2 and of what it runs on. The bundle holds a copy of both files, and of Effect itself. */
import effect from "effect/package.json" with { type: "json" }
import about from "../../package.json" with { type: "json" }

/** As package.json has it: `2.0.0`. */
export const version: string = about.version

/** `ep2 2.0.0 (Node v24.21.0, Effect 4.1.0)`: what a report of a defect has to name. */
export const whole = `ep2 ${version} (Node ${process.version}, Effect ${effect.version})`
