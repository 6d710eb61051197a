import { existsSync } from "node:fs";
import { expect, test } from "vitest";
import { freePort, ready, run, start, tempFolder, until } from "../../support/processes.ts";

const node = process.execPath;

test("a program that cannot be started, or ends at once, fails its test with what it said", async () => {
  await expect(start(["weir-no-such-program"])).rejects.toThrow("weir-no-such-program is not installed");
  await expect(start(["/no/such/program"])).rejects.toThrow(/ENOENT/);
  const running = await start([node, "-e", "console.error('no room'); process.exitCode = 3"]);
  await expect(ready("it", running, async () => false)).rejects.toThrow(/it ended at its start\nno room/);
  expect(await running.exited).toEqual({ code: 3, signal: null });
});

test("stop ends a program, by SIGKILL one that does not hear", async () => {
  const program = "process.on('SIGTERM', () => console.log('deaf')); setInterval(() => {}, 1000); console.log('up')";
  const running = await start([node, "-e", program]);
  await until("it to be up", () => running.output().includes("up"));
  expect(running.rss()).toBeGreaterThan(1024 * 1024);
  expect(await running.stop(100)).toEqual({ code: null, signal: "SIGKILL" });
  expect(running.hasExited).toBe(true);
  expect(running.rss()).toBe(0);
});

test("run gives the output, or an error with it", async () => {
  expect((await run([node, "-e", "console.log('out'); console.error('err')"])).stdout).toBe("out\n");
  const failing = [node, "-e", "console.error('wrong'); process.exitCode = 2"];
  await expect(run(failing)).rejects.toThrow(/ended with 2\nwrong/);
  expect((await run(failing, { allowFailure: true })).code).toBe(2);
  expect((await run([node, "-e", "setInterval(() => {}, 1000)"], { allowFailure: true, timeoutMs: 50 })).signal).toBe(
    "SIGKILL",
  );
});

test("until gives up and says what it waited for", async () => {
  await expect(until("the moon", () => false, 30)).rejects.toThrow("the moon: not within 30 ms");
});

test("folders go with their stack, ports are free", async () => {
  const stack = new AsyncDisposableStack();
  const folder = await tempFolder(stack);
  expect(existsSync(folder)).toBe(true);
  await stack.disposeAsync();
  expect(existsSync(folder)).toBe(false);
  expect(await freePort()).toBeGreaterThan(1023);
});
