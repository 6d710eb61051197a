import { open, readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import type { SpoolNote } from "../../src/storage/spool.ts";
import { FillBench, readAll } from "../support/fill-bench.ts";
import { ScriptedSource, stampedBlob } from "../support/fill-sources.ts";
import { start, tempFolder, until } from "../support/processes.ts";

const CHILD = fileURLToPath(new URL("fill-b9.child.ts", import.meta.url));
const MiB = 1024 * 1024;
const SIZE = 200 * MiB;
const LIMIT = 170 * MiB;
const MARK_EVERY = 64 * MiB;

async function spooled(dir: string, extension: string): Promise<string | undefined> {
  const name = (await readdir(dir, { recursive: true })).find((entry) => entry.endsWith(extension));
  return name === undefined ? undefined : join(dir, name);
}

test("B9 killed in mid-fill: cut to the mark, hashed again, resumed, and right although the last MiB was lost", async () => {
  await using stack = new AsyncDisposableStack();
  const dir = await tempFolder(stack);
  const child = await start([process.execPath, CHILD, dir, String(SIZE), String(LIMIT)]);
  stack.defer(async () => void (await child.stop()));
  const noted = async (): Promise<SpoolNote | undefined> => {
    const path = await spooled(dir, ".json");
    return path === undefined ? undefined : JSON.parse(await readFile(path, "utf8"));
  };
  const written = async (): Promise<number> => {
    const path = await spooled(dir, ".part");
    return path === undefined ? 0 : (await stat(path)).size;
  };
  await until("almost all that comes to be written, and the second mark with it", async () => {
    if (child.hasExited) throw new Error(child.output());
    return (await written()) > LIMIT - MiB && ((await noted())?.mark ?? 0) >= 2 * MARK_EVERY;
  });
  child.kill("SIGKILL");
  await child.exited;
  const { mark = 0 } = (await noted()) ?? {};
  const end = await written();
  expect(mark).toBeLessThan(end - MiB);
  const part = await open((await spooled(dir, ".part")) ?? "", "r+");
  await part.write(Buffer.alloc(MiB), 0, MiB, end - MiB);
  await part.close();

  await using bench = await FillBench.create({ dir });
  bench.tick();
  const blob = stampedBlob("b9", SIZE);
  const source = new ScriptedSource({ blob, chunkBytes: 256 * 1024 });
  const fill = bench.join(blob, source);
  expect((await readAll(fill)).equals(blob.read(0, SIZE))).toBe(true);
  expect(await fill.outcome).toBe("committed");
  expect(source.ledger).toEqual([{ start: mark, sent: SIZE - mark }]);
  expect(await bench.spooled()).toEqual([]);
}, 240_000);
