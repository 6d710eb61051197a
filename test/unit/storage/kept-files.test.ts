import type { BigIntStats } from "node:fs";
import { mkdir, mkdtemp, rename, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type KeptFile, KeptFiles } from "../../../src/storage/fs/kept-files.ts";
import { ManualClock } from "../../support/manual-clock.ts";
import { filesOpenBelow } from "../../support/open-files.ts";
import { until } from "../../support/processes.ts";

const MAX_IDLE = 256;
const SWEEP_MS = 1_000;

let folder: string;
let path: string;
let clock: ManualClock;
let closed: KeptFile[];
let files: KeptFiles;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "weir-kept-"));
  path = join(folder, "file");
  await writeFile(path, "content");
  clock = new ManualClock();
  closed = [];
  files = new KeptFiles({ clock, closing: (file) => closed.push(file) });
});

afterEach(async () => {
  await files.close();
  expect(await filesOpenBelow(folder)).toEqual([]);
  expect(clock.sleepers).toBe(0);
  await rm(folder, { recursive: true });
});

const usable = ({ size }: BigIntStats): boolean => size > 0n;

async function opened(of = path): Promise<KeptFile> {
  const file = await files.open(of, usable);
  if (file === undefined) throw new Error(`${of} is not there`);
  return file;
}

async function contentOf(file: KeptFile): Promise<string> {
  const buffer = Buffer.alloc(100);
  return buffer.toString("latin1", 0, await file.read(buffer, buffer.length, 0));
}

async function nothingOpen(): Promise<void> {
  await until("every file to be closed", async () => (await filesOpenBelow(folder)).length === 0);
}

async function sweep(): Promise<void> {
  await clock.sleeping();
  clock.advance(SWEEP_MS);
}

test("those who use a file at once, or soon after one another, have one descriptor", async () => {
  const [one, ...others] = await Promise.all(Array.from({ length: 10 }, () => opened()));
  for (const file of others) expect(file).toBe(one);
  expect(await filesOpenBelow(folder)).toEqual([path]);
  await Promise.all([one, ...others].map((file) => file?.release()));
  expect(await opened()).toBe(one);
  expect(closed).toEqual([]);
  await one?.release();
});

test("what is idle is closed after a second or two, what is used is not", async () => {
  const file = await opened();
  await file.release();
  await sweep();
  expect(await opened()).toBe(file);
  await file.release();
  await sweep();
  expect(closed).toEqual([]);
  await sweep();
  await nothingOpen();
  expect(closed).toEqual([file]);

  const used = await opened();
  const idle = await opened();
  await idle.release();
  expect(clock.sleepers).toBe(0);
  expect(await contentOf(used)).toBe("content");
  await used.release();
});

test("a file that is not there, is of no use or is no file is told as what it is, and not kept", async () => {
  expect(await files.open(join(folder, "missing"), usable)).toBeUndefined();
  await writeFile(join(folder, "empty"), "");
  expect(await files.open(join(folder, "empty"), usable)).toBeUndefined();
  await mkdir(join(folder, "folder"));
  const refuse = (): boolean => {
    throw new Error("not a file");
  };
  await expect(files.open(join(folder, "folder"), refuse)).rejects.toThrow("not a file");
  expect(await filesOpenBelow(folder)).toEqual([]);
});

test("B15 a path that leads elsewhere, or to what was altered, is another file; who had the old one goes on with it", async () => {
  const first = await opened();
  await writeFile(path, "altered");
  const second = await opened();
  expect(second.version).not.toBe(first.version);
  await writeFile(join(folder, "new"), "replaced");
  await rename(join(folder, "new"), path);
  const third = await opened();
  expect([await contentOf(second), await contentOf(third)]).toEqual(["altered", "replaced"]);
  await rm(path);
  expect(await files.open(path, usable)).toBeUndefined();
  expect(closed).toEqual([]);
  expect(await contentOf(third)).toBe("replaced");
  for (const file of [first, second, third]) await file.release();
  expect(closed).toEqual([first, second, third]);
  expect(await filesOpenBelow(folder)).toEqual([]);
});

test("S4 what is dropped is closed at once, or when its last user releases it", async () => {
  await (await opened()).release();
  await files.drop(path);
  expect(await filesOpenBelow(folder)).toEqual([]);
  const users = [await opened(), await opened()];
  await files.drop(path);
  for (const user of users) {
    expect(await contentOf(user)).toBe("content");
    await user.release();
  }
  expect(await filesOpenBelow(folder)).toEqual([]);
  await files.drop(path);
});

test(`no more than ${MAX_IDLE} idle files are kept, those used last`, async () => {
  const paths = Array.from({ length: MAX_IDLE + 3 }, (_, index) => join(folder, String(index)));
  for (const one of paths) {
    await writeFile(one, "x");
    await (await opened(one)).release();
  }
  expect((await filesOpenBelow(folder)).sort()).toEqual(paths.slice(3).sort());
});

test("after close nothing is kept, and what is in use is closed by its user", async () => {
  const used = await opened();
  const idle = join(folder, "idle");
  await writeFile(idle, "x");
  await (await opened(idle)).release();
  await files.close();
  expect(await filesOpenBelow(folder)).toEqual([path]);
  await used.release();
  await (await opened()).release();
  expect(await filesOpenBelow(folder)).toEqual([]);
});

/** As often as it takes until the content of a file counts as at hand. */
async function readOften(file: KeptFile): Promise<void> {
  for (let i = 0; i < 8; i += 1) expect(await contentOf(file)).toBe("content");
}

test("what is read at once again and again is at hand: then it is read in place, and the others get their turn in between", async () => {
  const file = await opened();
  expect(file.isAtHand).toBe(false);
  await readOften(file);
  expect(file.isAtHand).toBe(true);
  for (let i = 0; i < 3; i += 1) {
    let othersTurn = false;
    setImmediate(() => {
      othersTurn = true;
    });
    expect(await contentOf(file)).toBe("content");
    expect(othersTurn).toBe(true);
  }
  await file.release();
});

test("ahead, another thread reads, though it is at hand", async () => {
  const file = await opened();
  await readOften(file);
  const elsewhere = vi.spyOn(file.handle, "read");
  expect(await contentOf(file)).toBe("content");
  expect(elsewhere).not.toHaveBeenCalled();
  const buffer = Buffer.alloc(3);
  expect(await file.read(buffer, 3, 2, true)).toBe(3);
  expect(buffer.toString()).toBe("nte");
  expect(elsewhere).toHaveBeenCalledOnce();
  expect(file.isAtHand).toBe(true);
  await file.release();
});

test("what lets one wait is not read in place any more", async () => {
  const file = await opened();
  await readOften(file);
  const { now } = clock;
  let looks = 0;
  clock.now = () => {
    looks += 1;
    return 10 * looks;
  };
  expect(await contentOf(file)).toBe("content");
  expect(file.isAtHand).toBe(false);
  clock.now = now;
  await file.release();
});

test("what may be on another machine is never read in place", async () => {
  const remote = new KeptFiles({ clock, remote: true, closing() {} });
  const file = await remote.open(path, usable);
  if (file === undefined) throw new Error(`${path} is not there`);
  await readOften(file);
  expect(file.isAtHand).toBe(false);
  await file.release();
  await remote.close();
});

test("in place, too, a file that has become shorter is read to its end, and one that cannot be read says so", async () => {
  const file = await opened();
  await readOften(file);
  await truncate(path, 3);
  expect(await contentOf(file)).toBe("con");
  expect(file.isAtHand).toBe(true);
  await expect(file.read(Buffer.alloc(10), 10, -2)).rejects.toThrow();
  await file.release();
});
