import { defineConfig } from "vitest/config"
import { BaseSequencer, type TestSpecification } from "vitest/node"

/** Files that take the longest go first, so that none of them is left over when all others are done. */
class LongFirst extends BaseSequencer {
  override async sort(files: Array<TestSpecification>) {
    const isLong = ({ moduleId }: TestSpecification) =>
      /\/(KillPoints|Seeds|Seeds\.second|Pool|Aws)\.test\.ts$/.test(moduleId)
    const sorted = await super.sort(files)
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))]
  }
}

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
    sequence: { sequencer: LongFirst },
    reporters: ["default"]
  }
})
