import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { run, tempFolder } from "../../support/processes.ts";

const HERE = new URL("../../..", import.meta.url).pathname;
const PLANTED = "test/support/recorder/planted.fixture.ts";

interface Report {
  readonly testResults: readonly {
    readonly assertionResults: readonly {
      readonly title: string;
      readonly failureMessages: readonly string[];
    }[];
  }[];
}

let stack: AsyncDisposableStack;

beforeEach(() => {
  stack = new AsyncDisposableStack();
});

afterEach(() => stack.disposeAsync());

/** What the hook says at the end of each planted test. */
async function verdicts(): Promise<Readonly<Record<string, string>>> {
  const file = join(await tempFolder(stack), "report.json");
  await run([process.execPath, "node_modules/vitest/vitest.mjs", "run"], {
    cwd: HERE,
    env: { WEIR_TEST_INCLUDE: PLANTED, WEIR_TEST_REPORT: file },
    allowFailure: true,
  });
  const report = JSON.parse(await readFile(file, "utf8")) as Report;
  const results = report.testResults.flatMap(({ assertionResults }) => assertionResults);
  return Object.fromEntries(results.map(({ title, failureMessages }) => [title, failureMessages.join("\n")]));
}

test("A4 U2 a secret that gets where it does not belong fails a test that does not look for it, and is not repeated", async () => {
  const said = await verdicts();
  expect(said).toEqual({
    "nothing planted": "",
    "in a log line of a Weir within the process": expect.stringContaining("a secret stands in a log line"),
    "in the output of a process": expect.stringContaining("a secret stands in the output"),
    "a token in the body of an error": expect.stringContaining("a secret stands in the body of an error"),
    "in what a collector of traces is sent": expect.stringContaining("stands in what was sent to the collector"),
    "in a page for operators": expect.stringContaining("a secret stands in what weir check says"),
    "an Authorization header to the blob store": expect.stringContaining("brought credentials to a host that none"),
    "a cookie to the registry": expect.stringContaining("brought a cookie"),
    "a password in a URL": expect.stringContaining("has a password in its URL"),
    "another registry's password": expect.stringContaining("brought another registry's secret"),
    "a password that is configured for another host": expect.stringContaining("configured for another host"),
  });
  expect(Object.values(said).join("\n")).not.toContain("dckr-pat-planted");
});
