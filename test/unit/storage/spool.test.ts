import { mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { silentLog } from "../../../src/base/log.ts";
import { digestOf } from "../../../src/oci/digest.ts";
import { createSpool, type Spool, type SpoolNote } from "../../../src/storage/spool.ts";
import { filesOpenBelow } from "../../support/open-files.ts";
import { start, tempFolder } from "../../support/processes.ts";

const digest = digestOf(Buffer.from("blob"));

function note(mark: number, more: Partial<SpoolNote> = {}): SpoolNote {
  return { domain: "public", digest, total: 10, mark, source: "a.example/b", writtenAtMs: 1, ...more };
}

async function openSpool(stack: AsyncDisposableStack, dir: string): Promise<Spool> {
  const spool = createSpool({ dir, log: silentLog });
  stack.defer(() => spool.close());
  return spool;
}

async function names(dir: string): Promise<string[]> {
  const all = await readdir(dir, { recursive: true });
  return all.filter((name) => name.includes(".")).sort();
}

/** The folder of the spool's only file. */
function home(path: string): string {
  return join(path, "..");
}

async function written(spool: Spool, bytes: string, mark: number) {
  const file = await spool.create();
  await file.write([Buffer.from(bytes)], 0);
  await file.sync();
  await file.annotate(note(mark));
  return file;
}

describe("a spool file", () => {
  test("is a new one each time, below the folder, and has what was written", async () => {
    await using stack = new AsyncDisposableStack();
    const dir = join(await tempFolder(stack), "a", "b");
    const spool = await openSpool(stack, dir);
    const [one, two] = [await spool.create(), await spool.create()];
    expect(one.path).not.toBe(two.path);
    expect(one.path.startsWith(dir)).toBe(true);
    await one.write([Buffer.from("hello "), Buffer.from(""), Buffer.from("world")], 0);
    await one.write([Buffer.from("!")], 11);
    const buffer = Buffer.alloc(20);
    expect(await one.read(buffer, 0)).toBe(12);
    expect(buffer.toString("utf8", 0, 12)).toBe("hello world!");
    expect(await one.read(buffer.subarray(0, 3), 6)).toBe(3);
    expect(await two.read(buffer, 0)).toBe(0);
    await one.truncate(5);
    expect((await stat(one.path)).size).toBe(5);
    await Promise.all([one.release(), two.release()]);
  });

  test("of many parts is written whole", async () => {
    await using stack = new AsyncDisposableStack();
    const spool = await openSpool(stack, await tempFolder(stack));
    const file = await spool.create();
    const parts = Array.from({ length: 3000 }, (_, index) => Buffer.from([index % 256, 1, 2]));
    await file.write(parts, 0);
    expect((await readFile(file.path)).equals(Buffer.concat(parts))).toBe(true);
    await file.release();
  });

  test("stays readable for its holders when it is removed, and is closed with the last", async () => {
    await using stack = new AsyncDisposableStack();
    const dir = await tempFolder(stack);
    const spool = await openSpool(stack, dir);
    const file = await written(spool, "0123456789", 4);
    file.hold();
    await file.remove();
    await file.remove();
    expect(await names(dir)).toEqual([]);
    await file.release();
    const buffer = Buffer.alloc(10);
    expect(await file.read(buffer, 0)).toBe(10);
    await file.release();
    expect((await filesOpenBelow(dir)).filter((name) => name.includes(".part"))).toEqual([]);
  });

  test("that is kept is cut to its mark and can be resumed", async () => {
    await using stack = new AsyncDisposableStack();
    const dir = await tempFolder(stack);
    const spool = await openSpool(stack, dir);
    const file = await written(spool, "0123456789", 0);
    const leftover = await file.keep(note(7));
    expect((await stat(file.path)).size).toBe(7);
    const again = await leftover.resume();
    await again.write([Buffer.from("xyz")], 7);
    expect(await readFile(again.path, "utf8")).toBe("0123456xyz");
    await again.release();
  });
});

describe("leftovers", () => {
  test("of an owner that is gone are taken over, by one of those who look", async () => {
    await using stack = new AsyncDisposableStack();
    const dir = await tempFolder(stack);
    const dead = await openSpool(stack, dir);
    const file = await written(dead, "0123456789", 7);
    await file.release();
    await dead.close();
    const heirs = [await openSpool(stack, dir), await openSpool(stack, dir)];
    const found = await Promise.all(heirs.map((heir) => heir.leftovers()));
    expect(found.flat().map((leftover) => leftover.note)).toEqual([note(7)]);
    const [leftover] = found.flat();
    const resumed = await leftover?.resume();
    const buffer = Buffer.alloc(10);
    expect(await resumed?.read(buffer, 0)).toBe(7);
    await resumed?.release();
    await leftover?.remove();
    expect(await names(dir)).toEqual([]);
  });

  test("of an owner that lives are left alone, and so are files in use", async () => {
    await using stack = new AsyncDisposableStack();
    const dir = await tempFolder(stack);
    const living = await openSpool(stack, dir);
    const file = await written(living, "0123456789", 7);
    const other = await openSpool(stack, dir);
    expect(await other.leftovers()).toEqual([]);
    expect(await living.leftovers()).toEqual([]);
    expect(await names(dir)).toHaveLength(2);
    await file.release();
    expect(await living.leftovers()).toHaveLength(1);
  });

  test("of a killed process are taken over", async () => {
    await using stack = new AsyncDisposableStack();
    const dir = await tempFolder(stack);
    const owner = `
      const { createSpool } = await import(${JSON.stringify(join(import.meta.dirname, "../../../src/storage/spool.ts"))});
      globalThis.spool = createSpool({ dir: ${JSON.stringify(dir)}, log: console });
      const file = await spool.create();
      await file.write([Buffer.from("0123456789")], 0);
      await file.annotate(${JSON.stringify(note(5))});
      console.log("written");
      setInterval(() => {}, 1000);`;
    const process_ = await start([process.execPath, "--input-type=module", "--eval", owner]);
    stack.defer(async () => void (await process_.stop()));
    const spool = await openSpool(stack, dir);
    while (!process_.output().includes("written")) {
      if (process_.hasExited) throw new Error(process_.output());
      expect(await spool.leftovers()).toEqual([]);
    }
    process_.kill("SIGKILL");
    await process_.exited;
    expect((await spool.leftovers()).map((leftover) => leftover.note.mark)).toEqual([5]);
  });

  test.for([
    ["no note", undefined],
    ["an empty note", ""],
    ["half a note", JSON.stringify(note(3)).slice(0, 30)],
    ["a note that is no object", "[]"],
    ["a digest that is none", JSON.stringify({ ...note(3), digest: "sha256:../../etc" })],
    ["a mark that is none", JSON.stringify({ ...note(3), mark: -1 })],
    ["a mark beyond the end", JSON.stringify(note(11))],
    ["a note without a time", JSON.stringify({ ...note(3), writtenAtMs: undefined })],
    ["a note longer than any", JSON.stringify({ ...note(3), more: "x".repeat(10_000) })],
  ] as const)("with %s are removed", async ([, text]) => {
    await using stack = new AsyncDisposableStack();
    const dir = await tempFolder(stack);
    const spool = await openSpool(stack, dir);
    const file = await spool.create();
    await file.release();
    if (text !== undefined) await writeFile(file.path.replace(".part", ".json"), text);
    expect(await spool.leftovers()).toEqual([]);
    expect(await names(dir)).toEqual([]);
  });

  test("of whatever else lies in the folder are cleared away", async () => {
    await using stack = new AsyncDisposableStack();
    const dir = await tempFolder(stack);
    const spool = await openSpool(stack, dir);
    const file = await written(spool, "0123456789", 7);
    await file.release();
    await writeFile(join(home(file.path), "orphan.json"), JSON.stringify(note(1)));
    await writeFile(join(home(file.path), "half.json.new"), "");
    await mkdir(join(dir, "empty"));
    expect(await spool.leftovers()).toHaveLength(1);
    expect(await names(dir)).toHaveLength(2);
  });

  test("that have become too short are not resumed", async () => {
    await using stack = new AsyncDisposableStack();
    const spool = await openSpool(stack, await tempFolder(stack));
    const file = await written(spool, "0123456789", 7);
    await file.truncate(6);
    await file.release();
    const [leftover] = await spool.leftovers();
    await expect(leftover?.resume()).rejects.toThrow("6 bytes");
  });

  test("are none where the folder cannot be made, and files neither", async () => {
    await using stack = new AsyncDisposableStack();
    const dir = await tempFolder(stack);
    await writeFile(join(dir, "file"), "");
    const spool = await openSpool(stack, join(dir, "file", "spool"));
    expect(await spool.leftovers()).toEqual([]);
    await expect(spool.create()).rejects.toMatchObject({ code: "ENOTDIR" });
  });
});

test("a closed spool leaves no empty folder behind", async () => {
  await using stack = new AsyncDisposableStack();
  const dir = await tempFolder(stack);
  const spool = await openSpool(stack, dir);
  const file = await spool.create();
  await file.remove();
  await file.release();
  await spool.close();
  await spool.close();
  expect(await readdir(dir)).toEqual([]);
});
