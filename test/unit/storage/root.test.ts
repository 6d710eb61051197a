import { mkdir, mkdtemp, readdir, rm, stat, symlink, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Secret } from "../../../src/base/secret.ts";
import { foldsCase, openRoot, readHolder } from "../../../src/storage/fs/root.ts";
import { HOLDER_KEY, LOCK_KEY, TEMPORARY_FOLDER, TOKEN_KEY_KEY } from "../../../src/storage/layout.ts";
import { filesOpenBelow } from "../../support/open-files.ts";

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "weir-root-"));
});

afterEach(async () => {
  expect(await filesOpenBelow(folder)).toEqual([]);
  await rm(folder, { recursive: true });
});

test("a folder that is missing is made", async () => {
  const root = await openRoot(join(folder, "a/b"));
  expect(root.path).toBe(join(folder, "a/b"));
  expect(await readdir(join(root.path, TEMPORARY_FOLDER))).toEqual([]);
  await root.close();
});

test("S7 a root in use is refused with the key, the process and the remedy; it is free after close", async () => {
  const root = await openRoot(folder);
  await symlink(folder, join(folder, "detour"));
  for (const path of [folder, join(folder, "detour")]) {
    await expect(openRoot(path)).rejects.toMatchObject({
      fault: "unavailable",
      message: expect.stringMatching(
        new RegExp(
          `^storage\\.filesystem\\.root: .* is in use by another Weir \\(process ${process.pid} on .*\\): stop that one`,
        ),
      ),
    });
  }
  await Promise.all([root.close(), root.close()]);
  await (await openRoot(folder)).close();
});

test("S7 a root that all of them share is everybody's; who wants it alone is refused, as is who shares what is not shared", async () => {
  const [one, other] = [await openRoot(folder, "shared"), await openRoot(folder, "shared")];
  await expect(openRoot(folder)).rejects.toThrow("storage.filesystem.shared: true");
  const fresh = join(folder, TEMPORARY_FOLDER, "weir-1-being-written");
  await writeFile(fresh, "half");
  await (await openRoot(folder, "shared")).close();
  expect(await readdir(join(folder, TEMPORARY_FOLDER))).toEqual(["weir-1-being-written"]);
  await one.close();
  await other.close();
  const alone = await openRoot(folder);
  await expect(openRoot(folder, "shared")).rejects.toThrow("is in use");
  expect(await readdir(join(folder, TEMPORARY_FOLDER))).toEqual([]);
  await alone.close();
});

test("the holder says who it is, and how to reach it, to its own user only; it is gone after close", async () => {
  const root = await openRoot(folder);
  expect(await readHolder(folder)).toEqual({ pid: process.pid, host: hostname(), control: undefined });
  const admin = { host: "127.0.0.1", port: 5001 };
  await root.announce({ admin, token: new Secret("for-this-start") });
  expect((await stat(join(folder, HOLDER_KEY))).mode & 0o777).toBe(0o600);
  const holder = await readHolder(folder);
  expect([holder?.control?.admin, holder?.control?.token.reveal()]).toEqual([admin, "for-this-start"]);
  expect(JSON.stringify(holder)).not.toContain("for-this-start");
  await root.close();
  expect(await readHolder(folder)).toBeUndefined();
  for (const text of ["", "process 7 on host", "[]", '{"pid":"7","host":"h"}']) {
    await writeFile(join(folder, HOLDER_KEY), text);
    expect(await readHolder(folder)).toBeUndefined();
  }
});

test("a secret is made once, by whoever is first, and is there for its own user only", async () => {
  const root = await openRoot(folder);
  let made = 0;
  const make = (): string => {
    made += 1;
    return `secret ${made}`;
  };
  const kept = await Promise.all(Array.from({ length: 8 }, () => root.keepSecret(make)));
  expect(new Set(kept.map((secret) => secret.reveal())).size).toBe(1);
  expect((await stat(join(folder, TOKEN_KEY_KEY))).mode & 0o777).toBe(0o600);
  expect(await readdir(join(folder, TEMPORARY_FOLDER))).toEqual([]);
  await root.close();
  const again = await openRoot(folder);
  const before = made;
  expect((await again.keepSecret(make)).reveal()).toBe(kept[0]?.reveal());
  expect(made).toBe(before);
  await again.close();
});

test("S7 of many that open a root at once, one gets it", async () => {
  const opened = await Promise.allSettled(Array.from({ length: 8 }, () => openRoot(folder)));
  const roots = opened.filter((result) => result.status === "fulfilled");
  expect(roots).toHaveLength(1);
  for (const { value } of roots) await value.close();
});

test("temporary files of a crashed process are removed, all else is kept", async () => {
  await mkdir(join(folder, TEMPORARY_FOLDER), { recursive: true });
  await writeFile(join(folder, TEMPORARY_FOLDER, "weir-1-left-over"), "half");
  await writeFile(join(folder, "weir/v1/kept"), "whole");
  const root = await openRoot(folder);
  expect(await readdir(join(folder, TEMPORARY_FOLDER))).toEqual([]);
  expect(await readdir(join(folder, "weir/v1"))).toContain("kept");
  await root.close();
});

test("S7 a refused root is left as it was, its holder's temporary files too", async () => {
  const root = await openRoot(folder);
  await writeFile(join(folder, TEMPORARY_FOLDER, "weir-1-under-way"), "half");
  await expect(openRoot(folder)).rejects.toThrow("in use");
  expect(await readdir(join(folder, TEMPORARY_FOLDER))).toEqual(["weir-1-under-way"]);
  await root.close();
});

describe("S7 a sentence for", () => {
  test("a file in place of the folder, or of one above it", async () => {
    const file = join(folder, "file");
    await writeFile(file, "");
    for (const path of [file, join(file, "below")]) {
      await expect(openRoot(path)).rejects.toMatchObject({
        fault: "unavailable",
        message: `storage.filesystem.root: ${path} is not a folder: name a folder`,
      });
    }
  });

  test("a folder that cannot be written to", async () => {
    await expect(openRoot("/proc/weir")).rejects.toMatchObject({
      fault: "unavailable",
      message: expect.stringMatching(
        /^storage\.filesystem\.root: \/proc\/weir cannot be written to by user \d+ \(\w+\): /,
      ),
    });
  });

  test("a lock file that is no file", async () => {
    await mkdir(join(folder, LOCK_KEY), { recursive: true });
    await expect(openRoot(folder)).rejects.toMatchObject({
      fault: "unavailable",
      message: expect.stringMatching(/cannot be locked .*: name a folder on a filesystem with file locks$/),
    });
  });
});

test("S7 a filesystem that finds a file by its name in upper case is found out", async () => {
  const file = join(folder, "weir-probe");
  await writeFile(file, "");
  expect(await foldsCase(file)).toBe(false);
  // What such a filesystem answers, made with a second file.
  await writeFile(join(folder, "WEIR-PROBE"), "");
  expect(await foldsCase(file)).toBe(true);
});
