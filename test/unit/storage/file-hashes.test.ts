import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { appendFile, open as openFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { silentLog } from "../../../src/base/log.ts";
import { digestOf } from "../../../src/oci/digest.ts";
import { createFileHashes, type FileHashes } from "../../../src/storage/file-hashes.ts";
import { eventually } from "../../support/fill-bench.ts";
import { seededBytes } from "../../support/images.ts";
import { ManualClock } from "../../support/manual-clock.ts";
import { tempFolder } from "../../support/processes.ts";

async function open(stack: AsyncDisposableStack): Promise<{
  hashes: FileHashes;
  clock: ManualClock;
  path: (name: string) => string;
}> {
  const dir = await tempFolder(stack);
  const clock = new ManualClock();
  const hashes = createFileHashes({ clock, log: silentLog });
  stack.defer(() => hashes.close());
  return { hashes, clock, path: (name) => join(dir, name) };
}

/** How many threads this process has. */
function threads(): number {
  return readdirSync("/proc/self/task").length;
}

describe("the hashes of files", () => {
  test("are those of what is in them, however they grow", async () => {
    await using stack = new AsyncDisposableStack();
    const { hashes, path } = await open(stack);
    const bytes = seededBytes("growing", 1_000_003);
    const [one, two] = [path("one"), path("two")];
    await writeFile(one, "");
    await writeFile(two, bytes);
    const first = hashes.begin(one, "sha256");
    const second = hashes.begin(two, "sha512");
    for (let at = 0; at < bytes.length; at += 300_000) {
      const end = Math.min(bytes.length, at + 300_000);
      await appendFile(one, bytes.subarray(at, end));
      first?.advance(end);
      second?.advance(end);
      if (at === 300_000) expect(await first?.digest(end)).toBe(digestOf(bytes.subarray(0, end)));
    }
    expect(await first?.digest(bytes.length)).toBe(digestOf(bytes));
    expect(await second?.digest(bytes.length)).toBe(digestOf(bytes, "sha512"));
    // Bytes that nobody has told of do not count.
    await appendFile(one, "more");
    expect(await first?.digest(bytes.length)).toBe(digestOf(bytes));
  });

  test("are not to be had of files that are not there, or shorter than told, and others do not suffer", async () => {
    await using stack = new AsyncDisposableStack();
    const { hashes, path } = await open(stack);
    const absent = hashes.begin(path("absent"), "sha256");
    await writeFile(path("short"), "short");
    const short = hashes.begin(path("short"), "sha256");
    short?.advance(6);
    await expect(absent?.digest(0)).rejects.toThrow("ENOENT");
    await expect(short?.digest(6)).rejects.toThrow("ends before byte 6");
    const good = hashes.begin(path("short"), "sha256");
    expect(await good?.digest(5)).toBe(digestOf(Buffer.from("short")));
  });

  test("reject when their file is let go of or the thread is ended, and no more are begun", async () => {
    await using stack = new AsyncDisposableStack();
    const { hashes, path } = await open(stack);
    await writeFile(path("file"), "file");
    const dropped = hashes.begin(path("file"), "sha256");
    const lost = dropped?.digest(4);
    dropped?.end();
    dropped?.end();
    await expect(lost).rejects.toThrow("nobody wants the hash any more");
    await expect(dropped?.digest(4)).rejects.toThrow("nothing hashes");
    const left = hashes.begin(path("file"), "sha256");
    const waiting = left?.digest(4);
    const closed = hashes.close();
    await expect(waiting).rejects.toThrow("Weir is stopping");
    await closed;
    expect(hashes.begin(path("file"), "sha256")).toBeUndefined();
    await hashes.close();
  });

  test("are not waited for where their thread stands still, and no thread is tried again", async () => {
    await using stack = new AsyncDisposableStack();
    const { hashes, clock, path } = await open(stack);
    await writeFile(path("file"), "file");
    expect(await hashes.begin(path("file"), "sha256")?.digest(4)).toBe(digestOf(Buffer.from("file")));
    // Whoever opens it to read waits for somebody who writes; who opens it for both does not.
    execFileSync("mkfifo", [path("pipe")]);
    stack.defer(async () => {
      const writer = await openFile(path("pipe"), "r+");
      await hashes.close();
      await writer.close();
    });
    const stuck = hashes.begin(path("pipe"), "sha256");
    const lost = expect(stuck?.digest(1)).rejects.toThrow("has hashed nothing for");
    while (hashes.begin(path("pipe"), "sha256") !== undefined) {
      clock.advance(1_000);
      await nextTurn();
    }
    await lost;
  });

  test("end their thread when there are none for a while, and start another", async () => {
    await using stack = new AsyncDisposableStack();
    const { hashes, clock, path } = await open(stack);
    await writeFile(path("file"), "file");
    const before = threads();
    for (let round = 0; round < 3; round += 1) {
      const [one, two] = [hashes.begin(path("file"), "sha256"), hashes.begin(path("file"), "sha256")];
      expect(await one?.digest(4)).toBe(digestOf(Buffer.from("file")));
      one?.end();
      clock.advance(60_000);
      expect(await two?.digest(4)).toBe(digestOf(Buffer.from("file")));
      expect(threads()).toBe(before + 1);
      two?.end();
      clock.advance(60_000);
      await eventually("the thread to end", () => threads() === before);
    }
  });
});
