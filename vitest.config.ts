import { defineConfig } from "vitest/config";

// .ci/run counts the results from a file.
const report = process.env.WEIR_TEST_REPORT;

// The recorder's own test runs those that must fail.
const include = process.env.WEIR_TEST_INCLUDE ?? "test/**/*.test.ts";

export default defineConfig({
  test: {
    include: [include],
    // Looks, after every test, for secrets that got where they do not belong.
    setupFiles: ["test/support/recorder/setup.ts"],
    // What hangs is to be seen; what is slow only since the machine has other things to do is not to fail.
    testTimeout: 240_000,
    hookTimeout: 240_000,
    expect: { poll: { interval: 20, timeout: 120_000 } },
    pool: "forks",
    reporters: report === undefined ? ["default"] : ["default", ["json", { outputFile: report }]],
    // Two cores: more processes only make the real-client tests time out.
    maxWorkers: 2,
  },
});
