import { mkdir, rename, symlink, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { fileStamp, fileStampSync } from "../../../src/base/file-stamp.ts";
import { tempFolder } from "../../support/processes.ts";

let stack: AsyncDisposableStack;
let folder: string;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  folder = await tempFolder(stack);
});

afterEach(() => stack.disposeAsync());

test("is the same for a file that nobody has touched, whichever way it is asked for", async () => {
  const path = join(folder, "file");
  await writeFile(path, "one");
  expect(await fileStamp(path)).toBe(await fileStamp(path));
  expect(fileStampSync(path)).toBe(await fileStamp(path));
});

test("differs for other content of the same length, also where its time is set back", async () => {
  const path = join(folder, "file");
  await writeFile(path, "one");
  await utimes(path, 1, 1);
  const before = await fileStamp(path);
  await rename(path, join(folder, "old"));
  await writeFile(path, "two");
  await utimes(path, 1, 1);
  expect(await fileStamp(path)).not.toBe(before);
});

test("differs for a symbolic link that leads to another folder with the same", async () => {
  for (const name of ["..1", "..2"]) {
    await mkdir(join(folder, name));
    await writeFile(join(folder, name, "file"), "same");
  }
  await symlink("..1", join(folder, "..data"));
  await symlink(join("..data", "file"), join(folder, "file"));
  const before = await fileStamp(join(folder, "file"));
  await symlink("..2", join(folder, "..tmp"));
  await rename(join(folder, "..tmp"), join(folder, "..data"));
  expect(await fileStamp(join(folder, "file"))).not.toBe(before);
});

test("of no file is the error's code", async () => {
  expect(await fileStamp(join(folder, "absent"))).toBe("ENOENT");
  expect(fileStampSync(join(folder, "absent"))).toBe("ENOENT");
});
