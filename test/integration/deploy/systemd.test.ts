/** deploy/systemd/weir.service, read by systemd's own tools. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { parseConfig } from "../../../src/config/parse.ts";
import { PROJECT } from "../../support/deployed-config.ts";
import { run, tempFolder } from "../../support/processes.ts";
import { toolTest } from "../../support/tools.ts";

let stack: AsyncDisposableStack;

beforeEach(() => {
  stack = new AsyncDisposableStack();
});

afterEach(() => stack.disposeAsync());

const unit = (): Promise<string> => readFile(join(PROJECT, "deploy/systemd/weir.service"), "utf8");

test("its variables are Weir's, and it waits for bodies in flight", async () => {
  const text = await unit();
  const lines = [...text.matchAll(/^Environment=(\w+)=(\S+)$/gm)];
  const env = Object.fromEntries(lines.map(([, name = "", value = ""]) => [name, value]));
  const result = parseConfig({}, env);
  if (!result.ok) throw new Error(JSON.stringify(result.problems));
  const { storage, shutdown } = result.config;
  expect(storage.filesystem.root).toBe(`/var/lib/${/^StateDirectory=(.+)$/m.exec(text)?.[1]}`);
  const seconds = Number(/^TimeoutStopSec=(\d+)s$/m.exec(text)?.[1]);
  expect(seconds * 1000).toBeGreaterThan(shutdown.graceMs);
});

toolTest(["systemd-analyze"], "systemd takes it, and finds it confined", async () => {
  const file = join(await tempFolder(stack), "weir.service");
  await writeFile(file, (await unit()).replaceAll("/opt/weir", PROJECT));
  const { stdout, stderr } = await run(["systemd-analyze", "verify", file]);
  expect(`${stdout}${stderr}`).toBe("");
  // Of 100; what is open to the network cannot have less than some.
  await run(["systemd-analyze", "security", "--offline=true", "--threshold=20", file]);
});
