import { defineConfig } from "vitest/config";

/** The long rounds of killing servers: one file after another, so that nothing else disturbs the clocks. */
export default defineConfig({
  test: {
    include: ["test/crash/**/*.test.ts"],
    globalSetup: "test/support/services.ts",
    fileParallelism: false,
    testTimeout: 30 * 60_000,
    hookTimeout: 120_000,
  },
});
