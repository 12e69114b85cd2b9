/** The version of ep2, as package.json has it; the bundle holds a copy. */
import about from "../../package.json" with { type: "json" }

export const version: string = about.version
