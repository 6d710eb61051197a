import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { run, tempFolder } from "../support/processes.ts";
import { usualNodeOptions } from "../support/weir.ts";

const CHILD = fileURLToPath(new URL("fill-b5.child.ts", import.meta.url));
const SIZE_MIB = 4096;

interface Report {
  readonly outcome: string;
  /** Readers that got every byte. */
  readonly whole: number;
  readonly requests: number;
  readonly sent: number;
  readonly peakRssMiB: number;
}

test("B5 a hundred readers of a blob of 4 GiB: one download, in less than 300 MiB of memory", async () => {
  await using stack = new AsyncDisposableStack();
  const folder = await tempFolder(stack);
  const { stdout } = await run([process.execPath, ...usualNodeOptions(), CHILD, folder, String(SIZE_MIB)], {
    timeoutMs: 580_000,
  });
  const report: Report = JSON.parse(stdout);
  expect(report).toMatchObject({ outcome: "committed", whole: 99, requests: 1, sent: SIZE_MIB * 1024 * 1024 });
  expect(report.peakRssMiB).toBeLessThan(300);
}, 600_000);
