/** Several Weirs on one S3 bucket, which holds no more than it should. The time of day is turned, the server is real. */
import { stat } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { silentLog } from "../../src/base/log.ts";
import { composeBucketRoom } from "../../src/compose/bucket-room.ts";
import type { S3Config } from "../../src/config/types.ts";
import { digestOf, parseDigest } from "../../src/oci/digest.ts";
import { blobKey } from "../../src/storage/layout.ts";
import { openStorage } from "../../src/storage/open-storage.ts";
import { createRepositories } from "../../src/storage/repositories-store.ts";
import { PausingClock, startTestApp, type TestApp } from "../support/app.ts";
import { expectStatus, hubUpstream, pullByHead } from "../support/hub-weir.ts";
import { bigImage, type Content, type Image, sha256, smallImage } from "../support/images.ts";
import { fillsOver } from "../support/metrics.ts";
import { httpRequest } from "../support/network.ts";
import { tempFolder, until } from "../support/processes.ts";
import { type HubDouble, startHubDouble } from "../support/registries/dockerhub.ts";
import { marks, UNLIMITED } from "../support/room-bench.ts";
import { type S3Proxy, startS3Proxy } from "../support/s3-proxy.ts";
import { describeS3, objectsBelow, openTestBucket, s3Config, s3Section } from "../support/s3-store.ts";

const MiB = 1 << 20;
const MINUTE_MS = 60_000;
const GRACE_MS = 30 * MINUTE_MS;

/** Looks, 5 ms apart, at which nothing was asked: between two questions a busy machine may take a while. */
const QUIET_LOOKS = 12;

/** Some hours pass in each, in steps of a minute with a dozen requests. */
const TEST_MS = 300_000;

describeS3(
  "the room of an S3 bucket",
  (server) => {
    const old = bigImage("s3 room old", 12 * MiB);
    const later = bigImage("s3 room later", 12 * MiB);
    const small = smallImage("s3 room");
    const layer = largestBlob(old);
    let stack: AsyncDisposableStack;
    let hub: HubDouble;
    let clock: PausingClock;
    let place: S3Config;
    /** Of all Weirs of a test: they are one server's clock. */
    let proxies: S3Proxy[];
    let folder: string;

    beforeEach(async () => {
      stack = new AsyncDisposableStack();
      hub = await startHubDouble(stack);
      hub.add("team/old", old, ["1"]);
      hub.add("team/later", later, ["1"]);
      hub.add("team/small", small, ["1"]);
      clock = new PausingClock(Date.now());
      place = s3Config(server());
      proxies = [await startS3Proxy(stack, server().endpoint)];
      folder = await tempFolder(stack);
    });

    afterEach(() => stack.disposeAsync());

    const proxy = (): S3Proxy => proxies[0] as S3Proxy;

    async function weir(
      changes: Partial<S3Config> & { readonly root?: string; readonly storage?: object } = {},
    ): Promise<TestApp> {
      const { root, storage, ...s3 } = changes;
      const section = s3Section({ ...place, endpoint: new URL(proxy().endpoint), ...s3 });
      return await startTestApp(stack, {
        clock,
        ...(root === undefined ? {} : { root }),
        config: {
          storage: { driver: "s3", s3: section, ...storage },
          upstreams: { "docker.io": hubUpstream(hub) },
          freshness: { default: "30d" },
        },
      });
    }

    /** Nothing is asked of the server any more; `reading` bodies stay where they are. */
    async function quiet(reading = 0): Promise<void> {
      const asked = (): number => proxies.reduce((sum, { requests }) => sum + requests.length, 0);
      const open = (): number => proxies.reduce((sum, each) => sum + each.open, 0);
      for (let [before, same] = [asked(), 0]; same < QUIET_LOOKS; same += 1) {
        // The pool's round trip too: what it has been given before is done by then, however late it is served.
        await Promise.all([delay(5), stat(folder)]);
        if (asked() !== before || open() > reading) same = -1;
        before = asked();
      }
    }

    /** Time passes for Weirs and the server, and everybody does what is due. */
    async function pass(ms: number, reading = 0): Promise<void> {
      await quiet(reading);
      for (let left = ms; left > 0; left -= MINUTE_MS) {
        const step = Math.min(left, MINUTE_MS);
        for (const each of proxies) each.aheadMs += step;
        clock.advance(step);
        await quiet(reading);
      }
    }

    async function holds({ digest }: Content): Promise<boolean> {
      const key = `${place.prefix}${blobKey(parseDigest(digest))}`;
      return (await objectsBelow(server(), key)).length > 0;
    }

    async function marked(): Promise<number> {
      return (await objectsBelow(server(), `${place.prefix}weir/v1/room/marks/`)).length;
    }

    /** What is due is done at the next minute at the latest, unless a busy machine was looked at too soon. */
    async function untilMarked(): Promise<void> {
      await until("the one that was used least recently to be marked", async () => {
        if ((await marked()) === 1) return true;
        await pass(MINUTE_MS);
        return false;
      });
    }

    async function pull(app: TestApp, name: string, image: Image): Promise<void> {
      await pullByHead(app.url, `team/${name}`, "1", image);
      await fillsOver(app);
    }

    const blobUrl = (app: TestApp, name: string, { digest }: Content): string =>
      `${app.url}/v2/docker.io/team/${name}/blobs/${digest}`;
    const downloads = ({ digest }: Content): number =>
      hub.ledger.filter(({ role, path }) => role === "cdn" && path.includes(digest.slice(7))).length;

    test(
      "S4 B15 what goes is readable by the addresses that were given out for it, for the whole grace, and comes back by one GET",
      async () => {
        const bounded = { maxSize: 20 * MiB, redirect: true, publicEndpoint: new URL(server().endpoint) };
        const [evictor, reader] = [await weir(bounded), await weir(bounded)];
        await pass(10_000);
        await pull(reader, "old", old);
        await pass(MINUTE_MS);
        await pull(reader, "later", later);
        await pass(2 * MINUTE_MS);
        expect(await evictor.metric("weir_storage_bytes")).toBeGreaterThan(24 * MiB);
        expect(await evictor.metric("weir_storage_limit_bytes")).toBe(20 * MiB);
        await pass(GRACE_MS - 4 * MINUTE_MS);
        const asked = proxy().requests.length;
        for (let i = 0; i < 50; i += 1) {
          await fetch(blobUrl(reader, "later", largestBlob(later)), { redirect: "manual" });
        }
        await quiet();
        // To find out what is marked, once.
        expect(
          proxy()
            .requests.slice(asked)
            .filter(({ key, operation }) => key.includes("/room/") || operation === "ListObjects").length,
        ).toBeLessThanOrEqual(1);
        const redirected = await fetch(blobUrl(reader, "old", layer), { redirect: "manual" });
        expect(redirected.status).toBe(307);
        const address = redirected.headers.get("location") ?? "";
        // That was a use: the other one is older now, until it is used as well.
        expect((await fetch(blobUrl(reader, "later", largestBlob(later)), { redirect: "manual" })).status).toBe(307);
        await pass(GRACE_MS + 3 * MINUTE_MS);
        await untilMarked();
        // Nobody is sent there any more.
        expect((await fetch(blobUrl(reader, "small", largestBlob(small)), { redirect: "manual" })).status).not.toBe(
          307,
        );
        const ofMarked = await fetch(blobUrl(evictor, "old", layer), { redirect: "manual", method: "HEAD" });
        expect(ofMarked.status).toBe(200);
        expect(sha256(Buffer.from(await (await fetch(address)).arrayBuffer()))).toBe(layer.digest);
        // The HEAD was a use, too, and took the mark to the other one; both are used no more.
        await pass(3 * GRACE_MS);
        expect([await holds(layer), await holds(largestBlob(later))].sort()).toEqual([false, true]);
        const gone = (await holds(layer)) ? later : old;
        const name = gone === old ? "old" : "later";
        const reason = await evictor.metric("weir_storage_evicted_bytes_total", { reason: "room" });
        expect(reason).toBeGreaterThanOrEqual(12 * MiB);
        expect(await evictor.metric("weir_storage_bytes")).toBeLessThan(17 * MiB);
        expect(await reader.metric("weir_storage_bytes")).toBe(await evictor.metric("weir_storage_bytes"));
        const before = downloads(largestBlob(gone));
        hub.clearLedger();
        await Promise.all([pull(reader, name, gone), pull(reader, name, gone)]);
        expect([before, downloads(largestBlob(gone))]).toEqual([1, 1]);
        expect(hub.ledger.filter(({ path }) => path.includes("/manifests/"))).toEqual([]);
      },
      TEST_MS,
    );

    test(
      "S4 B15 a body that is read while its object is deleted is whole",
      async () => {
        const bounded = { maxSize: 20 * MiB };
        const [evictor, reader] = [await weir(bounded), await weir(bounded)];
        await pass(10_000);
        await pull(evictor, "old", old);
        await pass(MINUTE_MS);
        await pull(evictor, "later", later);
        // What it has used is known to nobody.
        const stuck = await startS3Proxy(stack, server().endpoint);
        proxies.push(stuck);
        stuck.fault = ({ operation, key }) =>
          operation === "PutObject" && key.includes("/room/uses/") ? { status: 403, code: "AccessDenied" } : undefined;
        const mute = await weir({ ...bounded, endpoint: new URL(stuck.endpoint) });
        await pass(GRACE_MS + 4 * MINUTE_MS);
        expect(await marked()).toBe(1);
        await pass(GRACE_MS - 6 * MINUTE_MS);
        const reply = await fetch(blobUrl(mute, "old", layer));
        expect(reply.status).toBe(200);
        const body = reply.body?.getReader();
        const first = await body?.read();
        await pass(8 * MINUTE_MS, 1);
        expect(await holds(layer)).toBe(false);
        const chunks: Uint8Array[] = [first?.value ?? new Uint8Array()];
        for (let read = await body?.read(); read?.done === false; read = await body?.read()) chunks.push(read.value);
        expect(sha256(Buffer.concat(chunks))).toBe(layer.digest);
        expect(sha256((await httpRequest(blobUrl(reader, "old", layer))).body)).toBe(layer.digest);
      },
      TEST_MS,
    );

    test(
      "S2 S4 whoever lets go is cut off between marking and deleting: another Weir goes on, and a use there still counts",
      async () => {
        const bounded = { maxSize: 20 * MiB };
        const own = await startS3Proxy(stack, server().endpoint);
        proxies.push(own);
        const evictor = await weir({ ...bounded, endpoint: new URL(own.endpoint) });
        await until("it to look after the bucket", async () => {
          await pass(1000);
          return own.requests.some(({ operation, key }) => operation === "PutObject" && key.endsWith("/usage.json"));
        });
        const [second, third] = [await weir(bounded), await weir(bounded)];
        await pull(second, "old", old);
        await pass(MINUTE_MS);
        await pull(second, "later", later);
        await pass(GRACE_MS + 3 * MINUTE_MS);
        await untilMarked();
        expect(own.requests.some(({ operation, key }) => operation === "PutObject" && key.includes("/marks/"))).toBe(
          true,
        );
        own.fault = () => "reset";
        await pass(10 * MINUTE_MS);
        expect(sha256((await httpRequest(blobUrl(third, "old", layer))).body)).toBe(layer.digest);
        await pass(GRACE_MS - 8 * MINUTE_MS);
        expect([await holds(layer), await holds(largestBlob(later))]).toEqual([true, true]);
        // The other one was marked by whoever has the seat now.
        await pass(GRACE_MS);
        expect([await holds(layer), await holds(largestBlob(later))]).toEqual([true, false]);
        expect(await second.metric("weir_storage_bytes")).toBeLessThan(17 * MiB);
        own.fault = () => undefined;
        await pass(2 * MINUTE_MS);
        await pull(evictor, "later", later);
        expect(await marked()).toBe(0);
      },
      TEST_MS,
    );

    test(
      "S4 tiered: the bucket has a bound of its own, the disk keeps what it has, and what is hot there stays in both",
      async () => {
        const root = `${await tempFolder(stack)}/data`;
        const app = await weir({
          root,
          maxSize: 20 * MiB,
          storage: { driver: "tiered", filesystem: { root }, maxSize: "1GiB" },
        });
        await pass(10_000);
        const sent = (): Promise<void> =>
          until("the uploads", async () => {
            await pass(1000);
            return (await app.metric("weir_storage_upload_queue_entries")) === 0;
          });
        await pull(app, "old", old);
        await sent();
        await pass(MINUTE_MS);
        await pull(app, "later", later);
        await sent();
        for (let minutes = 0; minutes < 70; minutes += 10) {
          await pass(10 * MINUTE_MS);
          // From the disk, and yet a use of what the bucket has.
          expectStatus(200, await httpRequest(blobUrl(app, "old", layer)));
        }
        expect([await holds(layer), await holds(largestBlob(later))]).toEqual([true, false]);
        expect(await app.metric("weir_storage_bucket_bytes")).toBeLessThan(17 * MiB);
        expect(await app.metric("weir_storage_bucket_limit_bytes")).toBe(20 * MiB);
        expect(await app.metric("weir_storage_evicted_bytes_total", { reason: "bucket" })).toBeGreaterThan(12 * MiB);
        expect(await app.metric("weir_storage_bytes")).toBeGreaterThan(24 * MiB);
        expectStatus(200, await httpRequest(blobUrl(app, "later", largestBlob(later))));
        expect(downloads(largestBlob(later))).toBe(1);
      },
      TEST_MS,
    );

    test(
      "S6 letting go of 1,000 blobs costs two requests for each, and some for all of them",
      async () => {
        const config = s3Config(server(), { endpoint: new URL(proxy().endpoint) });
        const deps = { clock, random: Math.random, log: silentLog };
        const filesystem = { root: await tempFolder(stack), shared: false };
        const storage = await openStorage({ driver: "s3", filesystem, s3: config }, deps);
        stack.defer(() => storage.close());
        const { bucket } = storage;
        if (bucket === undefined) throw new Error("there is no bucket");
        const signal = new AbortController().signal;
        const blobs = Array.from({ length: 1_100 }, (_, n) => Buffer.alloc(1000, `blob ${n} `));
        const beside = await openTestBucket(stack, { ...config, endpoint: new URL(server().endpoint) });
        for (let at = 0; at < blobs.length; at += 50) {
          const some = blobs.slice(at, at + 50);
          await Promise.all(some.map((bytes) => beside.put(blobKey(digestOf(bytes)), bytes, { signal })));
        }
        await pass(2 * GRACE_MS);
        let evicted = 0;
        const room = composeBucketRoom(bucket, createRepositories(storage.objects, silentLog), {
          ...deps,
          storage,
          spoolDir: "",
          limits: () => UNLIMITED,
          bucketLimits: () => ({ ...UNLIMITED, total: { ...marks(200_000), low: 100_000 } }),
          pins: { read: async () => [] },
          changed() {},
          fills: () => undefined,
          forget() {},
          parent: undefined,
          observer: {
            evicted() {
              evicted += 1;
            },
          },
        });
        stack.defer(() => room.stop({ signal }));
        const before = proxy().requests.length;
        room.start();
        await pass(2 * MINUTE_MS);
        expect(await objectsBelow(server(), `${config.prefix}weir/v1/room/marks/`)).toHaveLength(1);
        const marking = proxy().requests.length - before;
        await pass(GRACE_MS + 2 * MINUTE_MS);
        expect(evicted).toBe(1000);
        expect(room.usage()).toMatchObject({ bytes: 100_000, blobs: 100, counting: false });
        const ofBlobs = proxy()
          .requests.slice(before)
          .filter(({ key }) => key.includes("/blobs/"))
          .map(({ operation }) => operation);
        expect(ofBlobs.filter((operation) => operation === "HeadObject")).toHaveLength(1000);
        expect(ofBlobs.filter((operation) => operation === "DeleteObject")).toHaveLength(1000);
        expect(ofBlobs).toHaveLength(2000);
        // Some 10 a minute for the seat, the clock, the marks and what others have used.
        expect(marking).toBeLessThan(60);
        expect(proxy().requests.length - before).toBeLessThan(2000 + 600);
      },
      TEST_MS,
    );
  },
  { proxied: true },
);

function largestBlob(image: Image): Content {
  const [largest] = [...image.blobs].sort((a, b) => b.bytes.length - a.bytes.length);
  if (largest === undefined) throw new Error("the image has no blobs");
  return largest;
}
