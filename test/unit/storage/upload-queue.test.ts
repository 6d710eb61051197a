import { beforeEach, expect, test } from "vitest";
import { silentLog } from "../../../src/base/log.ts";
import { digestOf } from "../../../src/oci/digest.ts";
import { StorageError } from "../../../src/storage/blob-store.ts";
import {
  blobKey,
  layerLinkKey,
  repoRecordKey,
  tagLinkKey,
  tagRecordKey,
  UPLOADS_PREFIX,
} from "../../../src/storage/layout.ts";
import type { SmallObjects } from "../../../src/storage/small-objects.ts";
import { type Errand, type Sent, UploadQueue } from "../../../src/storage/tiered/upload-queue.ts";
import { ManualClock } from "../../support/manual-clock.ts";
import { createMemorySmallObjects } from "../../support/memory-store.ts";

const call = { signal: new AbortController().signal };
const repo = { upstream: "registry.example", repository: "team/app" };
const digest = digestOf(Buffer.from("layer"));
const [blob, link] = [blobKey(digest), layerLinkKey(repo, digest)];
const [tag, record] = [tagLinkKey(repo, "1"), tagRecordKey(repo, "1")];

let clock: ManualClock;
let notes: SmallObjects;
let sent: string[];
let full: boolean;
let answer: (key: string, errand: Errand) => Promise<Sent>;

beforeEach(() => {
  clock = new ManualClock();
  const objects = createMemorySmallObjects();
  notes = {
    ...bound(objects),
    async put(key, bytes, o) {
      if (full) throw new StorageError("no-space", "the disk is full");
      await objects.put(key, bytes, o);
    },
  };
  full = false;
  sent = [];
  answer = async () => "sent";
});

function queue(o: { sends?: boolean; hasOthers?: boolean; maxBytes?: number } = {}): UploadQueue {
  return new UploadQueue({
    notes,
    async send(key, errand) {
      const result = await answer(key, errand);
      sent.push(errand === "keep" ? key : `-${key}`);
      return result;
    },
    bytesOf: async () => 0,
    makeRoom: async () => {
      full = false;
      return true;
    },
    maxBytes: () => o.maxBytes,
    sends: o.sends ?? true,
    hasOthers: o.hasOthers ?? false,
    clock,
    random: () => 0,
    log: silentLog,
  });
}

const keep = (to: UploadQueue, key: string, bytes = 0): Promise<void> =>
  to.through(key, { ...call, errand: "keep", bytes }, async () => {});

function bound(objects: SmallObjects): SmallObjects {
  return {
    get: (key, o) => objects.get(key, o),
    put: (key, bytes, o) => objects.put(key, bytes, o),
    stat: (key, o) => objects.stat(key, o),
    delete: (key, o) => objects.delete(key, o),
    list: (prefix, o) => objects.list(prefix, o),
  };
}

async function noted(): Promise<number> {
  let count = 0;
  for await (const _ of notes.list(UPLOADS_PREFIX, call)) count += 1;
  return count;
}

/** Everything that can be done without the clock is done. */
async function settled(): Promise<void> {
  for (let i = 0; i < 20; i += 1) await new Promise((resolve) => setImmediate(resolve));
}

test("S6 what waits is sent in order, whatever is slow, and then has no note any more", async () => {
  const slow = Promise.withResolvers<void>();
  answer = async (key) => {
    if (key === blob) await slow.promise;
    return "sent";
  };
  const uploads = queue();
  uploads.start();
  for (const key of [blob, link, tag, record]) await keep(uploads, key);
  await settled();
  expect(sent).toEqual([]);
  expect(uploads.waiting.entries).toBe(4);
  slow.resolve();
  await settled();
  expect(sent).toEqual([blob, link, tag, record]);
  expect([uploads.waiting.entries, await noted()]).toEqual([0, 0]);
});

test("A1 that a repository is private is sent before its links", async () => {
  const first = Promise.withResolvers<void>();
  answer = async (key) => {
    if (key === repoRecordKey(repo)) await first.promise;
    return "sent";
  };
  const uploads = queue();
  uploads.start();
  await keep(uploads, repoRecordKey(repo));
  await keep(uploads, link);
  await settled();
  expect(sent).toEqual([]);
  first.resolve();
  await settled();
  expect(sent).toEqual([repoRecordKey(repo), link]);
});

test("S6 while nothing is taken it waits longer and longer, and a restart begins where it was", async () => {
  let asked = 0;
  answer = async () => {
    asked += 1;
    throw new StorageError("unavailable", "down");
  };
  const before = queue();
  before.start();
  await keep(before, blob, 5);
  await settled();
  expect([asked, before.waiting]).toEqual([1, { entries: 1, bytes: 5 }]);
  for (const [ms, attempts] of [
    [500, 2],
    [999, 2],
    [1, 3],
  ] as const) {
    clock.advance(ms);
    await settled();
    expect([ms, asked]).toEqual([ms, attempts]);
  }
  await keep(before, link);
  await before.stop();
  answer = async () => "sent";
  const after = queue();
  await after.load(call);
  expect(after.waiting.entries).toBe(2);
  expect(await after.has(digest, call)).toBe(true);
  expect([...after.digests()]).toEqual([digest]);
  after.start();
  await settled();
  expect(sent).toEqual([blob, link]);
  expect(await after.has(digest, call)).toBe(false);
});

test("what is noted anew while it is sent is sent once more, one at a time", async () => {
  const gates = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  let [running, most, calls] = [0, 0, 0];
  answer = async () => {
    running += 1;
    most = Math.max(most, running);
    await gates[calls++]?.promise;
    running -= 1;
    return "sent";
  };
  const uploads = queue();
  uploads.start();
  await keep(uploads, blob);
  await settled();
  await uploads.through(blob, { ...call, errand: "delete" }, async () => {});
  expect(await uploads.errand(blob, call)).toBe("delete");
  expect([...uploads.deletions()]).toEqual([blob]);
  gates[0]?.resolve();
  await settled();
  expect(await noted()).toBe(1);
  gates[1]?.resolve();
  await settled();
  expect(sent).toEqual([blob, `-${blob}`]);
  expect([most, await noted()]).toEqual([1, 0]);
});

test("no more bytes wait than may; links to what is not sent do", async () => {
  answer = async () => {
    throw new StorageError("unavailable", "down");
  };
  const uploads = queue({ maxBytes: 10 });
  uploads.start();
  await keep(uploads, blob, 8);
  await keep(uploads, blobKey(digestOf(Buffer.from("other"))), 3);
  await keep(uploads, link);
  expect(uploads.waiting).toEqual({ entries: 2, bytes: 8 });
});

test("S6 one thing that can never be sent does not hold up the rest", async () => {
  answer = async (key) => {
    if (key === blob) throw new StorageError("corrupt", "wrong");
    return "sent";
  };
  const uploads = queue();
  uploads.start();
  await keep(uploads, blob);
  await keep(uploads, link);
  await settled();
  expect(sent).toEqual([link]);
  expect(uploads.waiting.entries).toBe(0);
});

test("of several processes one sends what all have noted, and waits for what is noted before it is written", async () => {
  const onDisk = new Set<string>();
  answer = async (key) => (onDisk.has(key) ? "sent" : "absent");
  const [worker, parent] = [queue({ sends: false }), queue({ hasOthers: true })];
  await parent.load(call);
  parent.start();
  const writing = Promise.withResolvers<void>();
  const written = worker.through(blob, { ...call, errand: "keep" }, () => writing.promise);
  await settled();
  expect(await worker.has(digest, call)).toBe(true);
  expect(await parent.has(digest, call)).toBe(true);
  clock.advance(2_000);
  await settled();
  expect(await noted()).toBe(1);
  onDisk.add(blob);
  writing.resolve();
  await written;
  clock.advance(2_000);
  await settled();
  expect(sent.at(-1)).toBe(blob);
  expect([await noted(), await worker.has(digest, call)]).toEqual([0, false]);
  await parent.stop();
});

test("B14 a disk that is full for a note is given room", async () => {
  const uploads = queue();
  uploads.start();
  full = true;
  await keep(uploads, blob);
  await settled();
  expect(sent).toEqual([blob]);
});
