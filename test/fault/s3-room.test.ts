/** Weirs as processes of their own on one bucket, which holds no more than it should. The server's clock is turned for all of them. */
import { afterEach, beforeEach, expect, test } from "vitest";
import type { S3Config } from "../../src/config/types.ts";
import { type Digest, parseDigest } from "../../src/oci/digest.ts";
import { type BucketRecords, createBucketRecords } from "../../src/storage/bucket-records.ts";
import { blobKey, ROOM_SEAT_KEY } from "../../src/storage/layout.ts";
import { createS3SmallObjects } from "../../src/storage/s3/s3-small-objects.ts";
import { hubUpstream, pullByHead } from "../support/hub-weir.ts";
import { bigImage, type Image, sha256 } from "../support/images.ts";
import { fillsOver, metricOf } from "../support/metrics.ts";
import { tempFolder, until } from "../support/processes.ts";
import { type HubDouble, startHubDouble } from "../support/registries/dockerhub.ts";
import { type S3Proxy, startS3Proxy } from "../support/s3-proxy.ts";
import { describeS3, objectsBelow, openTestBucket, s3Config, s3Section } from "../support/s3-store.ts";
import { startWeir, type WeirProcess } from "../support/weir.ts";

const MiB = 1 << 20;
const MINUTE_MS = 60_000;
/** What was used longer ago may be marked, and what was marked longer ago goes. */
const GRACE_MS = 30 * MINUTE_MS;
/** Each claims its seat for some seconds, and starts several processes. */
const TEST_MS = 300_000;

const call = { signal: new AbortController().signal };

describeS3(
  "the room of a bucket that processes share",
  (server) => {
    const images: Readonly<Record<string, Image>> = {
      one: bigImage("s3 processes one", 12 * MiB),
      two: bigImage("s3 processes two", 12 * MiB),
    };
    const layers = new Map(Object.entries(images).map(([name, image]) => [largestBlob(image), name]));
    let stack: AsyncDisposableStack;
    let hub: HubDouble;
    let proxy: S3Proxy;
    let place: S3Config;
    let records: BucketRecords;

    beforeEach(async () => {
      stack = new AsyncDisposableStack();
      hub = await startHubDouble(stack);
      for (const [name, image] of Object.entries(images)) hub.add(`team/${name}`, image, ["1"]);
      proxy = await startS3Proxy(stack, server().endpoint);
      place = s3Config(server(), { endpoint: new URL(proxy.endpoint), maxSize: 20 * MiB });
      records = createBucketRecords(createS3SmallObjects(await openTestBucket(stack, place)));
    });

    afterEach(() => stack.disposeAsync());

    async function weir(o: { readonly workers?: number; readonly s3?: Partial<S3Config> } = {}): Promise<WeirProcess> {
      const folder = await tempFolder(stack);
      return await startWeir(stack, {
        workers: o.workers ?? 1,
        nodeOptions: ["--import", new URL("../support/turned-clock.ts", import.meta.url).href],
        config: {
          storage: { driver: "s3", s3: s3Section({ ...place, ...o.s3 }), spool: { dir: `${folder}/spool` } },
          upstreams: { "docker.io": hubUpstream(hub) },
          freshness: { default: "30d" },
        },
      });
    }

    /** Pulls everything, which is more than there should be, and stops: what it has used is known then. */
    async function fill(weir: WeirProcess): Promise<void> {
      for (const [name, image] of Object.entries(images)) await pullByHead(weir.url, `team/${name}`, "1", image);
      await fillsOver(weir);
      await weir.stop();
      expect(await names("uses")).toHaveLength(1);
      // It was given back.
      expect(await records.seat(call)).toBeUndefined();
    }

    async function names(what: "marks" | "uses"): Promise<string[]> {
      const ids: string[] = [];
      for await (const id of records[what].ids(call)) ids.push(id);
      return ids;
    }

    /** Of the layers: what is small goes with them. */
    async function marked(): Promise<Digest[]> {
      const batches = await Promise.all((await names("marks")).map((id) => records.marks.get(id, call)));
      const digests = batches.flatMap((batch) => batch?.value?.marks.map(({ digest }) => digest) ?? []);
      return digests.filter((digest) => layers.has(digest));
    }

    /** It looks at once what it would look at within a minute. */
    async function look(weir: WeirProcess): Promise<void> {
      const looks = (): number => proxy.requests.filter(({ key }) => key.endsWith(ROOM_SEAT_KEY)).length;
      const before = looks();
      weir.process.kill("SIGHUP");
      await until("it to look", () => looks() > before);
    }

    const holds = async (digest: Digest): Promise<boolean> =>
      (await objectsBelow(server(), `${place.prefix}${blobKey(digest)}`)).length === 1;
    const blobUrl = (weir: WeirProcess, digest: Digest): string =>
      `${weir.url}/v2/docker.io/team/${layers.get(digest)}/blobs/${digest}`;

    test(
      "S2 S4 whoever looks after the bucket is killed: another process takes its seat, marks what is too much, and deletes it",
      async () => {
        const first = await weir();
        await fill(first);
        await first.start();
        await until("it to have the seat", async () => (await records.seat(call)) !== undefined);
        const second = await weir();
        const seat = await records.seat(call);
        await first.kill();
        expect(await marked()).toEqual([]);

        await look(second);
        expect((await records.seat(call))?.token).toBe(seat?.token);
        proxy.aheadMs += GRACE_MS + 10 * MINUTE_MS;
        second.process.kill("SIGUSR2");
        await until("the seat to be taken", async () => (await records.seat(call))?.token !== seat?.token);
        await until("something to be marked", async () => (await marked()).length > 0);
        const [goes, ...others] = await marked();
        if (goes === undefined) throw new Error("nothing is marked");
        expect(others).toEqual([]);
        const name = layers.get(goes) ?? "";
        expect(await holds(goes)).toBe(true);

        proxy.aheadMs += GRACE_MS + MINUTE_MS;
        second.process.kill("SIGHUP");
        await until("it to go", async () => !(await holds(goes)));
        await until("its mark to go", async () => (await names("marks")).length === 0);
        expect(await Promise.all([...layers.keys()].map(holds))).toEqual(
          [...layers.keys()].map((layer) => layer !== goes),
        );
        const evicted = await metricOf(second.adminUrl, "weir_storage_evicted_bytes_total", { reason: "room" });
        expect(evicted).toBeGreaterThanOrEqual(12 * MiB);
        expect(await metricOf(second.adminUrl, "weir_storage_bytes")).toBeLessThan(17 * MiB);
        hub.clearLedger();
        await pullByHead(second.url, `team/${name}`, "1", images[name] as Image);
        const downloads = hub.ledger.filter(({ role, path }) => role === "cdn" && path.includes(goes.slice(7)));
        expect(downloads).toHaveLength(1);
      },
      TEST_MS,
    );

    test(
      "S4 two workers: neither sends a client to what is marked, and what they serve is used",
      async () => {
        const both = await weir({
          workers: 2,
          s3: { redirect: true, publicEndpoint: new URL(server().endpoint) },
        });
        await fill(both);
        const before = await names("uses");
        proxy.aheadMs += GRACE_MS + 10 * MINUTE_MS;
        await both.start();
        await until("something to be marked", async () => (await marked()).length > 0);
        const goes = await marked();
        expect(goes).toHaveLength(1);
        const answer = async (digest: Digest): Promise<number> => {
          const reply = await fetch(blobUrl(both, digest), { redirect: "manual", headers: { connection: "close" } });
          const body = Buffer.from(await reply.arrayBuffer());
          if (reply.status === 200) expect(sha256(body)).toBe(digest);
          return reply.status;
        };
        for (const layer of layers.keys()) {
          // Each connection goes to the next of them.
          const statuses = await Promise.all(Array.from({ length: 4 }, () => answer(layer)));
          expect(statuses).toEqual(Array(4).fill(goes.includes(layer) ? 200 : 307));
        }
        await until("the mark to be taken away", async () => {
          await look(both);
          return (await marked()).length === 0;
        });
        await until("their uses to be told", async () => {
          const told = (await names("uses")).filter((id) => !before.includes(id));
          const uses = await Promise.all(told.map((id) => records.uses.get(id, call)));
          return uses.some((use) => use?.value?.blobs.some(({ digest }) => goes.includes(digest)));
        });
        expect(await Promise.all([...layers.keys()].map(holds))).toEqual([true, true]);
      },
      TEST_MS,
    );
  },
  { proxied: true },
);

function largestBlob(image: Image): Digest {
  const [largest] = [...image.blobs].sort((a, b) => b.bytes.length - a.bytes.length);
  if (largest === undefined) throw new Error("the image has no blobs");
  return parseDigest(largest.digest);
}
