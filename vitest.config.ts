import { defineConfig } from "vitest/config";

// .ci/run counts the results from a file.
const report = process.env.WEIR_TEST_REPORT;

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    pool: "forks",
    reporters: report === undefined ? ["default"] : ["default", ["json", { outputFile: report }]],
    // Two cores: more processes only make the real-client tests time out.
    maxWorkers: 2,
  },
});
