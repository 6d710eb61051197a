import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createFsSmallObjects } from "../../../src/storage/fs/fs-small-objects.ts";
import { TEMPORARY_FOLDER } from "../../../src/storage/layout.ts";
import type { SmallObjects } from "../../../src/storage/small-objects.ts";
import { filesOpenBelow } from "../../support/open-files.ts";

const call = { signal: new AbortController().signal };
let root: string;
let objects: SmallObjects;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "weir-fs-"));
  objects = await createFsSmallObjects({ root });
});

afterEach(async () => {
  expect(await filesOpenBelow(root)).toEqual([]);
  expect(await readdir(join(root, TEMPORARY_FOLDER))).toEqual([]);
  await rm(root, { recursive: true });
});

test("a file where a folder should be, and the reverse, is a fault with a sentence", async () => {
  await writeFile(join(root, "file"), "x");
  await mkdir(join(root, "folder/below"), { recursive: true });
  const fault = { fault: "unavailable", message: /a file stands where a folder should, or the other way round/ };
  await expect(objects.get("file/below", call)).rejects.toMatchObject(fault);
  await expect(objects.put("file/below", Buffer.from("x"), call)).rejects.toMatchObject(fault);
  await expect(objects.delete("file/below", call)).rejects.toMatchObject(fault);
  await expect(objects.list("file/", call)[Symbol.asyncIterator]().next()).rejects.toMatchObject(fault);
  await expect(objects.get("folder", call)).rejects.toMatchObject(fault);
  await expect(objects.put("folder", Buffer.from("x"), call)).rejects.toMatchObject(fault);
  await expect(objects.delete("folder", call)).rejects.toMatchObject(fault);
});

test("an object of a megabyte is kept, a larger one refused, and a larger file not read", async () => {
  const most = Buffer.alloc(1 << 20, "x");
  await objects.put("most", most, call);
  expect((await objects.get("most", call))?.length).toBe(most.length);
  await expect(objects.put("more", Buffer.alloc(most.length + 1), call)).rejects.toThrow(RangeError);
  await writeFile(join(root, "more"), Buffer.alloc(most.length + 1));
  await expect(objects.get("more", call)).rejects.toMatchObject({ fault: "corrupt" });
});
