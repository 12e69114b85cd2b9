import { defineConfig } from "vitest/config"

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: "test/buildProgram.ts",
    // The matrix makes more rounds in one test.
    testTimeout: process.env.EP2_TEST_ALL === undefined ? 60_000 : 240_000,
    hookTimeout: 60_000,
    maxWorkers: 3,
    // A worker of its own for each file would load Effect anew for each: a minute in all.
    isolate: false,
    reporters: ["default"]
  }
})
