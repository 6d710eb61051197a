/** What networks and S3 servers do to the store: afterwards nothing is half there, and what was kept can be read. */
import { open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { silentLog } from "../../src/base/log.ts";
import type { S3Config } from "../../src/config/types.ts";
import { digestOf } from "../../src/oci/digest.ts";
import { type BlobStore, StorageError } from "../../src/storage/blob-store.ts";
import { blobKey } from "../../src/storage/layout.ts";
import { createS3SmallObjects } from "../../src/storage/s3/s3-small-objects.ts";
import { FIRST_PART_BYTES } from "../../src/storage/s3/upload.ts";
import { SWEEP_EVERY_MS, UPLOAD_GRACE_MS, UploadSweeper } from "../../src/storage/s3/upload-sweeper.ts";
import { collect } from "../contract/blob-store.contract.ts";
import { seededBytes } from "../support/images.ts";
import { ManualClock } from "../support/manual-clock.ts";
import { tempFolder, until } from "../support/processes.ts";
import {
  DENIED,
  firstOf,
  INTERNAL_ERROR,
  type S3Fault,
  type S3Request,
  SLOW_DOWN,
  startS3Proxy,
} from "../support/s3-proxy.ts";
import {
  describeS3,
  objectsBelow,
  openTestBucket,
  s3BlobStore,
  s3Config,
  unfinishedUploads,
} from "../support/s3-store.ts";

const call = { signal: new AbortController().signal };
/** Short, for tests that wait for it; long enough for a busy machine's server to answer within. */
const IDLE_MS = 4_000;
/** Three parts, the last one short. */
const LARGE = seededBytes("large", 2 * FIRST_PART_BYTES + 1_234_567);
const LARGE_DIGEST = digestOf(LARGE);
const SMALL = seededBytes("small", 100_000);
const SMALL_DIGEST = digestOf(SMALL);

describeS3(
  "S6 faults of an S3 server",
  (server) => {
    async function bench(stack: AsyncDisposableStack, changes: Partial<S3Config> = {}) {
      const proxy = await startS3Proxy(stack, server().endpoint);
      const config = s3Config(server(), { endpoint: new URL(proxy.endpoint), ...changes });
      const bucket = await openTestBucket(stack, config);
      const store = s3BlobStore(bucket);
      const folder = await tempFolder(stack);
      const path = join(folder, "finished");
      const ingest = async (bytes: Uint8Array): Promise<void> => {
        await writeFile(path, bytes);
        await store.ingest(digestOf(bytes), path, call);
      };
      /** Looked at without the faults. */
      const uploads = async (): Promise<number> => {
        proxy.fault = () => undefined;
        let count = 0;
        for await (const _ of bucket.uploads("", call)) count += 1;
        return count;
      };
      return { proxy, config, bucket, store, path, ingest, uploads };
    }

    async function content(store: BlobStore, bytes: Uint8Array): Promise<Buffer | undefined> {
      const blob = await store.open(digestOf(bytes), call);
      return blob && (await collect(blob.read(0, blob.size, call)));
    }

    const isPart =
      (number: number) =>
      ({ operation, part }: S3Request): boolean =>
        operation === "UploadPart" && part === number;
    const is =
      (operation: S3Request["operation"]) =>
      (asked: S3Request): boolean =>
        asked.operation === operation;

    describe("an upload goes through in spite of", () => {
      const passing: [string, (request: S3Request) => boolean, S3Fault][] = [
        ["a 500 to its beginning", is("CreateMultipartUpload"), INTERNAL_ERROR],
        ["SlowDown for the second part", isPart(2), SLOW_DOWN],
        ["a reset of the second part", isPart(2), "reset"],
        ["a lost answer to the third part", isPart(3), "lose-answer"],
        ["a time-out on the second part, which is never answered", isPart(2), "hang"],
        ["SlowDown for its completion", is("CompleteMultipartUpload"), SLOW_DOWN],
        ["a lost answer to its completion", is("CompleteMultipartUpload"), "lose-answer"],
        ["a 500 to the question whether it is there", is("HeadObject"), INTERNAL_ERROR],
      ];
      test.each(passing)("S6 %s", async (_name, fits, fault) => {
        await using stack = new AsyncDisposableStack();
        const { proxy, store, ingest, uploads } = await bench(stack, {
          timeouts: { connectMs: 5_000, idleMs: fault === "hang" ? IDLE_MS : 30_000 },
        });
        proxy.fault = firstOf(1, fits, fault);
        await ingest(LARGE);
        expect(await uploads()).toBe(0);
        expect((await content(store, LARGE))?.equals(LARGE)).toBe(true);
      });
    });

    describe("an upload fails, and leaves nothing, where", () => {
      const lasting: [string, (request: S3Request) => boolean, S3Fault, string][] = [
        ["its beginning is denied", is("CreateMultipartUpload"), DENIED, "AccessDenied"],
        ["the second part is denied in mid-run", isPart(2), DENIED, "storage.s3.accessKeyId"],
        ["the credentials expire", isPart(3), { status: 400, code: "ExpiredToken" }, "storage.s3.sessionToken"],
        ["the completion is denied", is("CompleteMultipartUpload"), DENIED, "AccessDenied"],
        ["the server has no room", isPart(2), { status: 403, code: "QuotaExceeded" }, "no room"],
      ];
      test.each(lasting)("S6 %s", async (_name, fits, fault, sentence) => {
        await using stack = new AsyncDisposableStack();
        const { proxy, config, store, path, ingest, uploads } = await bench(stack);
        proxy.fault = (asked) => (fits(asked) ? fault : undefined);
        const failure = await ingest(LARGE).catch((error: unknown) => error);
        expect(failure).toBeInstanceOf(StorageError);
        expect(String(failure)).toContain(sentence);
        expect(failure).toMatchObject({ fault: sentence === "no room" ? "no-space" : "unavailable" });
        expect(await uploads()).toBe(0);
        expect(await objectsBelow(server(), config.prefix)).toEqual([]);
        // The file is where it was: it can be tried again.
        await store.ingest(LARGE_DIGEST, path, call);
        expect((await content(store, LARGE))?.equals(LARGE)).toBe(true);
      });
    });

    test("S6 what fits into one part is one request, also after a reset", async () => {
      await using stack = new AsyncDisposableStack();
      const { proxy, store, ingest } = await bench(stack);
      proxy.fault = firstOf(1, is("PutObject"), "reset");
      await ingest(SMALL);
      expect(proxy.count("PutObject")).toBe(2);
      expect(proxy.count("CreateMultipartUpload")).toBe(0);
      expect((await content(store, SMALL))?.equals(SMALL)).toBe(true);
    });

    describe("a read goes on from the byte where", () => {
      const breaks: [string, S3Fault][] = [
        ["the connection is reset", { resetAfter: 3_000_000 }],
        ["the connection falls silent", { stallAfter: 3_000_000 }],
      ];
      test.each(breaks)("S6 %s", async (_name, fault) => {
        await using stack = new AsyncDisposableStack();
        const { proxy, store, ingest } = await bench(stack, { timeouts: { connectMs: 5_000, idleMs: IDLE_MS } });
        await ingest(LARGE);
        proxy.fault = firstOf(2, is("GetObject"), fault);
        const blob = await store.open(LARGE_DIGEST, call);
        const [start, end] = [1_000, LARGE.length - 1_000];
        const read = blob && (await collect(blob.read(start, end, call)));
        expect(read?.equals(LARGE.subarray(start, end))).toBe(true);
        const asked = proxy.requests.filter(is("GetObject")).map(({ range }) => range);
        expect(asked[0]).toBe(`bytes=${start}-${end - 1}`);
        expect(asked).toHaveLength(3);
        // Nothing of what had come is asked for again.
        const starts = asked.map((range) => Number(/=(\d+)-/.exec(range ?? "")?.[1]));
        expect(starts[1]).toBeGreaterThan(start);
        expect(starts[2]).toBeGreaterThan(starts[1] ?? 0);
      });

      test("S6 its reader stood still for longer than a connection may be silent", async () => {
        await using stack = new AsyncDisposableStack();
        const { proxy, store, ingest } = await bench(stack, { timeouts: { connectMs: 5_000, idleMs: IDLE_MS } });
        await ingest(LARGE);
        const blob = await store.open(LARGE_DIGEST, call);
        if (blob === undefined) throw new Error("it is not held");
        const parts: Buffer[] = [];
        for await (const chunk of blob.read(0, blob.size, call)) {
          parts.push(Buffer.from(chunk));
          if (parts.length === 1) await until("the connection to be given up", () => proxy.open === 0);
        }
        expect(Buffer.concat(parts).equals(LARGE)).toBe(true);
        expect(proxy.count("GetObject")).toBe(2);
      });

      test("S6 a server that sends nothing is given up, as unavailable", async () => {
        await using stack = new AsyncDisposableStack();
        const { proxy, store, ingest } = await bench(stack);
        await ingest(SMALL);
        proxy.fault = (asked) => (asked.operation === "GetObject" ? { resetAfter: 0 } : undefined);
        await expect(content(store, SMALL)).rejects.toMatchObject({ fault: "unavailable" });
      });

      test("S6 another object in its place is corrupt, never a mix", async () => {
        await using stack = new AsyncDisposableStack();
        const { proxy, bucket, store, ingest } = await bench(stack);
        await ingest(LARGE);
        const blob = await store.open(LARGE_DIGEST, call);
        if (blob === undefined) throw new Error("it is not held");
        proxy.fault = firstOf(1, is("GetObject"), { resetAfter: 3_000_000 });
        const other = join(await tempFolder(stack), "other");
        await writeFile(other, Buffer.alloc(LARGE.length));
        let got = 0;
        const read = async (): Promise<void> => {
          for await (const chunk of blob.read(0, blob.size, call)) {
            expect(Buffer.compare(chunk, LARGE.subarray(got, got + chunk.length))).toBe(0);
            if (got === 0) {
              await bucket.putFile(blobKey(LARGE_DIGEST), { path: other, start: 0, end: LARGE.length }, call);
            }
            got += chunk.length;
          }
        };
        await expect(read()).rejects.toMatchObject({ fault: "corrupt" });
      });
    });

    test("S6 a 403 in mid-run is unavailable, not absent, and says which right is missing", async () => {
      await using stack = new AsyncDisposableStack();
      const { proxy, bucket, store, ingest } = await bench(stack);
      await ingest(SMALL);
      proxy.fault = () => DENIED;
      const calls = [
        () => store.stat(SMALL_DIGEST, call),
        () => store.put(SMALL_DIGEST, SMALL, call),
        () => store.delete(SMALL_DIGEST, call),
        () => createS3SmallObjects(bucket).get("weir/v1/x.json", call),
      ];
      for (const asked of calls) await expect(asked()).rejects.toMatchObject({ fault: "unavailable" });
      await expect(createS3SmallObjects(bucket).get("weir/v1/x.json", call)).rejects.toThrow(
        /AccessDenied.*s3:GetObject/,
      );
    });

    test("S6 a clock that is an hour off: the server's time is learnt from its answer", async () => {
      await using stack = new AsyncDisposableStack();
      const { proxy, store, ingest } = await bench(stack);
      await ingest(SMALL);
      const date = new Date().toUTCString();
      proxy.fault = firstOf(1, is("GetObject"), { status: 403, code: "RequestTimeTooSkewed", date });
      expect((await content(store, SMALL))?.equals(SMALL)).toBe(true);
      proxy.fault = () => ({ status: 403, code: "RequestTimeTooSkewed", date });
      await expect(
        createS3SmallObjects(
          await openTestBucket(stack, s3Config(server(), { endpoint: new URL(proxy.endpoint) })),
        ).get("a", call),
      ).rejects.toThrow(/set the clock/);
    });

    test("B16 nothing can be seen of a blob that arrives before it is complete, and nothing is left when it is given up", async () => {
      await using stack = new AsyncDisposableStack();
      const { proxy, config, store, path, uploads } = await bench(stack);
      const file = await open(path, "w");
      stack.defer(() => file.close());
      for (const end of ["abort", "complete"] as const) {
        const before = proxy.count("UploadPart");
        await file.truncate(0);
        const pending = store.begin?.(LARGE_DIGEST, path);
        if (pending === undefined) throw new Error("the store takes no growing files");
        for (let at = 0; at < LARGE.length; at += 1_000_000) {
          const part = LARGE.subarray(at, at + 1_000_000);
          await file.write(part, 0, part.length, at);
          pending.advance(at + part.length);
        }
        while (proxy.count("UploadPart") < before + 2) await new Promise(setImmediate);
        expect(await store.stat(LARGE_DIGEST, call)).toBeUndefined();
        expect(await objectsBelow(server(), config.prefix)).toEqual([]);
        if (end === "abort") {
          await pending.abort();
          await pending.abort();
          expect(await store.stat(LARGE_DIGEST, call)).toBeUndefined();
        } else {
          await pending.complete(call);
          expect(proxy.count("UploadPart")).toBe(before + 3);
          expect((await content(store, LARGE))?.equals(LARGE)).toBe(true);
        }
        expect(await uploads()).toBe(0);
      }
    });

    test("S6 a blob that another Weir has kept meanwhile is left as it is", async () => {
      await using stack = new AsyncDisposableStack();
      const { proxy, ingest, uploads } = await bench(stack);
      await ingest(LARGE);
      const completed = proxy.count("CompleteMultipartUpload");
      await ingest(LARGE);
      expect(proxy.count("CompleteMultipartUpload")).toBe(completed);
      expect(await uploads()).toBe(0);
    });

    test("S6 a prefix that is the prefix of another sees nothing of it", async () => {
      await using stack = new AsyncDisposableStack();
      const { config } = await bench(stack);
      const place = config.prefix.slice(0, -1);
      const inner = await openTestBucket(stack, s3Config(server(), { prefix: `${place}/` }));
      const outer = await openTestBucket(stack, s3Config(server(), { prefix: `${place}2/` }));
      await s3BlobStore(outer).put(SMALL_DIGEST, SMALL, call);
      await createS3SmallObjects(outer).put("weir/v1/x.json", SMALL.subarray(0, 10), call);
      expect(await s3BlobStore(inner).stat(SMALL_DIGEST, call)).toBeUndefined();
      for await (const { digest } of s3BlobStore(inner).list(call)) throw new Error(`${digest} is somebody else's`);
      for await (const name of createS3SmallObjects(inner).list("weir/", call))
        throw new Error(`${name} is not its own`);
    });

    test("S6 uploads that nobody finishes are cleared away after a day; others' are left alone", async () => {
      await using stack = new AsyncDisposableStack();
      const { bucket } = await bench(stack);
      const blob = blobKey(LARGE_DIGEST);
      const foreign = "docker/registry/v2/blobs/somebody/else";
      for (const key of [blob, foreign]) await bucket.startUpload(key, call);
      const left = (): Promise<string[]> => unfinishedUploads(bucket);
      const clock = new ManualClock(Date.now());
      const sweeper = new UploadSweeper(s3BlobStore(bucket), { clock, log: silentLog });
      sweeper.start();
      stack.defer(() => sweeper.stop());
      await until("the first sweep", () => clock.sleepers === 1);
      expect(await left()).toEqual([blob, foreign].sort());
      clock.advance(UPLOAD_GRACE_MS + SWEEP_EVERY_MS);
      await until("the second sweep", async () => (await left()).length === 1);
      expect(await left()).toEqual([foreign]);
    });
  },
  { proxied: true },
);
