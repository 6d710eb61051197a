import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { digestOf } from "../../../src/oci/digest.ts";
import { FsOpenBlob } from "../../../src/storage/fs/fs-open-blob.ts";
import { type KeptFile, KeptFiles } from "../../../src/storage/fs/kept-files.ts";
import { ReadBuffers } from "../../../src/storage/fs/read-buffers.ts";
import { SharedChunks } from "../../../src/storage/fs/shared-chunks.ts";
import { seededBytes } from "../../support/images.ts";
import { ManualClock } from "../../support/manual-clock.ts";

const MIB = 1 << 20;
const { signal } = new AbortController();
const bytes = seededBytes("content", 5 * MIB);
let folder: string;
let buffers: ReadBuffers;
let files: KeptFiles;
let file: KeptFile;
let blob: FsOpenBlob;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "weir-open-"));
  const path = join(folder, "data");
  await writeFile(path, bytes);
  buffers = new ReadBuffers();
  const chunks = new SharedChunks(buffers);
  files = new KeptFiles({ clock: new ManualClock(), closing: (closed) => chunks.forget(closed) });
  const opened = await files.open(path, () => true);
  if (opened === undefined) throw new Error(`${path} is not there`);
  file = opened;
  blob = new FsOpenBlob(digestOf(bytes), file, { buffers, chunks });
  for (let i = 0; i < 8; i += 1) await file.read(Buffer.alloc(1), 1, i);
  expect(file.isAtHand).toBe(true);
});

afterEach(async () => {
  await blob.close();
  await files.close();
  await rm(folder, { recursive: true });
});

test("what is at hand is read ahead for a lone reader, and when it is asked for where there are others", async () => {
  const read = vi.spyOn(file, "read");
  const got: Buffer[] = [];
  const next = async (): Promise<void> => {
    const { value } = await stream.next();
    got.push(Buffer.from(value ?? []));
  };
  const stream = blob.read(0, bytes.length, { signal })[Symbol.asyncIterator]();
  await next();
  expect(read.mock.calls.map(([, , position, ahead]) => [position, ahead])).toEqual([
    [0, false],
    [2 * MIB, true],
  ]);
  const left = buffers.begin();
  await next();
  expect(read).toHaveBeenCalledTimes(2);
  await next();
  expect(read.mock.lastCall?.slice(2)).toEqual([4 * MIB, false]);
  left();
  await next();
  expect(read).toHaveBeenCalledTimes(3);
  expect(Buffer.concat(got).equals(bytes)).toBe(true);
});

test("a lone reader that leaves has no buffer filled any more when it is gone", async () => {
  const gives = vi.spyOn(buffers, "give");
  const ended = vi.fn();
  const { read } = file;
  vi.spyOn(file, "read").mockImplementation((...args) => read.apply(file, args).finally(ended));
  for await (const chunk of blob.read(0, bytes.length, { signal })) {
    expect(chunk.length).toBe(2 * MIB);
    break;
  }
  expect(ended).toHaveBeenCalledTimes(2);
  expect(gives).toHaveBeenCalledTimes(2);
  expect(buffers.isAlone).toBe(false);
});
