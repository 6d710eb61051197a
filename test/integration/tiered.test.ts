/** The whole of Weir on a disk in front of an S3 bucket. */
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { S3Config } from "../../src/config/types.ts";
import { parseDigest } from "../../src/oci/digest.ts";
import { blobKey } from "../../src/storage/layout.ts";
import { PausingClock, startTestApp, type TestApp } from "../support/app.ts";
import { expectStatus, hubUpstream, pullByHead } from "../support/hub-weir.ts";
import { bigImage, type Content, type Image, multiArchImage, sha256, smallImage } from "../support/images.ts";
import type { ManualClock } from "../support/manual-clock.ts";
import { fillsOver, metricOf } from "../support/metrics.ts";
import { httpRequest } from "../support/network.ts";
import { tempFolder, until } from "../support/processes.ts";
import { type HubDouble, startHubDouble } from "../support/registries/dockerhub.ts";
import { startRegistry } from "../support/registry.ts";
import { type S3Proxy, type S3Request, startS3Proxy } from "../support/s3-proxy.ts";
import { describeS3, objectsBelow, s3Config, s3Section } from "../support/s3-store.ts";
import { heldBlobs } from "../support/store-files.ts";
import { toolTest } from "../support/tools.ts";
import { startWeir } from "../support/weir.ts";

const MiB = 1 << 20;

describeS3(
  "Weir on a disk in front of S3",
  (server) => {
    const big = bigImage("tiered", 10 * MiB);
    const images: Readonly<Record<string, Image>> = {
      small: smallImage("tiered"),
      multi: multiArchImage("tiered"),
      big,
    };
    const layer = largestBlob(big);
    let stack: AsyncDisposableStack;
    /** Ends before the rest where a test has done with upstreams. */
    let upstream: AsyncDisposableStack;
    let hub: HubDouble;
    let proxy: S3Proxy;
    let place: S3Config;

    beforeEach(async () => {
      stack = new AsyncDisposableStack();
      upstream = stack.use(new AsyncDisposableStack());
      hub = await startHubDouble(upstream);
      for (const [name, image] of Object.entries(images)) hub.add(`team/${name}`, image, ["1"]);
      proxy = await startS3Proxy(stack, server().endpoint);
      place = s3Config(server(), { endpoint: new URL(proxy.endpoint) });
    });

    afterEach(() => stack.disposeAsync());

    async function weir(
      o: { readonly root?: string; readonly storage?: object; readonly clock?: ManualClock } = {},
    ): Promise<TestApp> {
      const root = o.root ?? join(await tempFolder(stack), "data");
      return await startTestApp(stack, {
        root,
        ...(o.clock === undefined ? {} : { clock: o.clock }),
        config: {
          storage: { driver: "tiered", filesystem: { root }, s3: s3Section(place), ...o.storage },
          upstreams: { "docker.io": hubUpstream(hub) },
          freshness: { default: "1h" },
        },
      });
    }

    async function pullAll(app: TestApp): Promise<void> {
      for (const [name, image] of Object.entries(images)) await pullByHead(app.url, `team/${name}`, "1", image);
    }

    /** Everything that is held is in the bucket. */
    async function sent(app: TestApp): Promise<void> {
      await fillsOver(app);
      await until("the uploads", async () => (await app.metric("weir_storage_upload_queue_entries")) === 0);
    }

    const blobUrl = (app: TestApp, digest: string): string => `${app.url}/v2/docker.io/team/big/blobs/${digest}`;
    const cutOff = (): void => {
      proxy.fault = () => "reset";
    };
    const requestsOf = (content: Content): S3Request[] =>
      proxy.requests.filter(({ key }) => key.includes(content.digest.slice(7)));

    test("S6 what is hot costs S3 nothing: no request for any number of pulls", async () => {
      const app = await weir({ clock: new PausingClock(Date.now()) });
      await pullAll(app);
      await pullAll(app);
      await sent(app);
      const asked = proxy.requests.length;
      for (let i = 0; i < 5; i += 1) await pullAll(app);
      expect(proxy.requests.slice(asked)).toEqual([]);
    });

    test("S6 50 readers of a blob that only the bucket has cost one GET, and the next none", async () => {
      const first = await weir();
      await pullByHead(first.url, "team/big", "1", big);
      await sent(first);
      await upstream.disposeAsync();
      const second = await weir();
      const asked = proxy.requests.length;
      // Whose it is has to be known first.
      expectStatus(200, await httpRequest(`${second.url}/v2/docker.io/team/big/manifests/${big.root.digest}`));
      const replies = await Promise.all(Array.from({ length: 50 }, () => httpRequest(blobUrl(second, layer.digest))));
      for (const reply of replies) expect(sha256(expectStatus(200, reply).body)).toBe(layer.digest);
      const gets = (): number =>
        requestsOf(layer).filter(({ operation, key }) => operation === "GetObject" && key.endsWith("/data")).length;
      expect(proxy.requests.length).toBeGreaterThan(asked);
      expect(gets()).toBe(1);
      // It is on the disk when it is whole, which its readers do not wait for.
      await until("the disk to have it", async () => (await heldBlobs(second.root)).includes(layer.digest));
      cutOff();
      expect(sha256((await httpRequest(blobUrl(second, layer.digest))).body)).toBe(layer.digest);
      expect(gets()).toBe(1);
    });

    test("S6 a wrong object in the bucket is noticed on its way to the disk: no wrong byte, and it heals", async () => {
      const first = await weir();
      await pullByHead(first.url, "team/big", "1", big);
      await sent(first);
      await first.stop();
      const wrong = Buffer.from(layer.bytes);
      wrong[wrong.length >> 1] = (wrong[wrong.length >> 1] ?? 0) ^ 1;
      await replaceObject(`${place.prefix}${blobKey(parseDigest(layer.digest))}`, wrong);
      const second = await weir();
      expectStatus(200, await httpRequest(`${second.url}/v2/docker.io/team/big/manifests/${big.root.digest}`));
      // What was handed out before the end is not the blob: the connection is reset.
      await expect(fetch(blobUrl(second, layer.digest)).then((reply) => reply.arrayBuffer())).rejects.toThrow();
      await until("the object to be right again", async () => {
        const reply = await httpRequest(blobUrl(second, layer.digest));
        expect(sha256(expectStatus(200, reply).body)).toBe(layer.digest);
        await sent(second);
        return (await objectsBelow(server(), `${place.prefix}${blobKey(parseDigest(layer.digest))}`)).length === 1;
      });
    });

    test("S6 S3 is gone at the start and in mid-run: the disk serves and fills, and uploads when it is back", async () => {
      cutOff();
      const root = join(await tempFolder(stack), "data");
      const app = await weir({ root });
      await pullAll(app);
      await fillsOver(app);
      const bytes = hub.bytes("cdn");
      await pullAll(app);
      expect(hub.bytes("cdn")).toBe(bytes);
      expect(await app.metric("weir_storage_upload_queue_entries")).toBeGreaterThan(10);
      expect(await app.metric("weir_storage_upload_queue_bytes")).toBeGreaterThan(10 * MiB);
      await app.stop();
      // What waits survives a restart, and S3 is still gone.
      const again = await weir({ root });
      await pullAll(again);
      expect(await again.metric("weir_storage_upload_queue_bytes")).toBeGreaterThan(10 * MiB);
      await again.stop();
      proxy.fault = () => undefined;
      const last = await weir({ root });
      await sent(last);
      await upstream.disposeAsync();
      const other = await weir();
      await pullAll(other);
    });

    test("S6 what is sent is in order: no link before its blob, no tag before its links, no record before its tag", async () => {
      cutOff();
      const app = await weir();
      await pullByHead(app.url, "team/small", "1", images.small as Image);
      await fillsOver(app);
      proxy.fault = () => undefined;
      const from = proxy.requests.length;
      await sent(app);
      const puts = proxy.requests
        .slice(from)
        .filter(({ operation, key }) => operation === "PutObject" && !key.endsWith("/probe"))
        .map(({ key }) => key.slice(place.prefix.length));
      const rank = (key: string): number =>
        key.includes("/blobs/sha256/") && key.endsWith("/data")
          ? 0
          : key.includes("/tags/")
            ? 2
            : key.endsWith(".json")
              ? 3
              : 1;
      const lastOf = (wanted: number): number => puts.findLastIndex((key) => rank(key) === wanted);
      const tag = puts.findIndex((key) => rank(key) === 2);
      expect(puts.filter((key) => rank(key) === 0).length).toBeGreaterThanOrEqual(3);
      const manifest = puts.findIndex((key) => key.includes((images.small as Image).root.digest.slice(7)));
      expect(manifest).toBeLessThan(tag);
      expect(tag).toBeGreaterThan(-1);
      expect(puts.findIndex((key) => key.includes("_tags/1.json"))).toBeGreaterThan(tag);
      expect(lastOf(3)).toBeGreaterThan(lastOf(0));
    });

    test("S4 what is not in the bucket yet stays on the disk, whatever its size, until it is", async () => {
      cutOff();
      const app = await weir({ storage: { maxSize: "13MiB" } });
      await pullByHead(app.url, "team/big", "1", big);
      await fillsOver(app);
      const other = bigImage("tiered-other", 6 * MiB);
      hub.add("team/other", other, ["1"]);
      await pullByHead(app.url, "team/other", "1", other);
      await fillsOver(app);
      const bytes = hub.bytes("cdn");
      await pullByHead(app.url, "team/big", "1", big);
      expect(hub.bytes("cdn")).toBe(bytes);
      proxy.fault = () => undefined;
      await until("the disk to have room again", async () => {
        await pullByHead(app.url, "team/small", "1", images.small as Image);
        return (await app.metric("weir_storage_evicted_bytes_total")) > 0 || (await isSmall(app));
      });
    });

    async function isSmall(app: TestApp): Promise<boolean> {
      return (await app.metric("weir_storage_bytes")) < 13 * MiB;
    }

    test("S4 evicted from the disk, a blob comes from the bucket: the upstream is not asked again", async () => {
      const app = await weir({ storage: { maxSize: "13MiB" } });
      await pullByHead(app.url, "team/big", "1", big);
      await sent(app);
      const other = bigImage("tiered-evicting", 8 * MiB);
      hub.add("team/other", other, ["1"]);
      await pullByHead(app.url, "team/other", "1", other);
      await sent(app);
      await until("the first layer to go", async () => (await app.metric("weir_storage_evicted_bytes_total")) > 0);
      const bytes = hub.bytes("cdn");
      await pullByHead(app.url, "team/big", "1", big);
      expect(hub.bytes("cdn")).toBe(bytes);
      expect(requestsOf(layer).some(({ operation }) => operation === "GetObject")).toBe(true);
    });

    test("what another Weir writes to the bucket is served here without the upstream", async () => {
      const [first, second] = [await weir(), await weir()];
      await pullAll(first);
      await sent(first);
      hub.clearLedger();
      await pullAll(second);
      expect(hub.bytes("cdn")).toBe(0);
      expect(hub.count({ method: "GET", path: /\/manifests\// })).toBe(0);
    });

    toolTest(["docker-registry"], "S1 a stock registry serves the bucket behind the disk, read-only", async () => {
      const app = await weir();
      await pullAll(app);
      await sent(app);
      const { accessKeyId, secretAccessKey, bucket, region, endpoint } = server();
      const registry = await startRegistry(stack, {
        readOnlyBucket: {
          accesskey: accessKeyId,
          secretkey: secretAccessKey,
          bucket,
          region,
          regionendpoint: endpoint,
          rootdirectory: `/${place.prefix.slice(0, -1)}`,
          secure: false,
        },
      });
      for (const [name, image] of Object.entries(images)) {
        const base = `${registry.url}/v2/docker.io/team/${name}`;
        const tagged = await httpRequest(`${base}/manifests/1`, { headers: { accept: image.root.mediaType } });
        expect(sha256(expectStatus(200, tagged).body)).toBe(image.root.digest);
        for (const { digest } of image.blobs) {
          expect(sha256(expectStatus(200, await httpRequest(`${base}/blobs/${digest}`)).body)).toBe(digest);
        }
      }
    });

    test("S6 two workers that are killed while S3 is gone: what they have kept is sent after the next start", async () => {
      cutOff();
      const root = join(await tempFolder(stack), "data");
      const process = await startWeir(stack, {
        root,
        workers: 2,
        config: {
          storage: { driver: "tiered", filesystem: { root }, s3: s3Section(place) },
          upstreams: { "docker.io": hubUpstream(hub) },
          freshness: { default: "1h" },
          telemetry: { logLevel: "error" },
        },
      });
      for (const [name, image] of Object.entries(images)) await pullByHead(process.url, `team/${name}`, "1", image);
      await fillsOver(process);
      await process.kill();
      proxy.fault = () => undefined;
      await process.start();
      const left = (): Promise<number> => metricOf(process.adminUrl, "weir_storage_upload_queue_entries");
      await until("the uploads", async () => (await left()) === 0);
      // And what a worker notes while the parent runs.
      const late = smallImage("tiered-late");
      hub.add("team/late", late, ["1"]);
      await pullByHead(process.url, "team/late", "1", late);
      const tag = `${place.prefix}weir/v1/repositories/docker.io/team/late/_tags/1.json`;
      await until("the late tag", async () => (await objectsBelow(server(), tag)).length === 1);
      await upstream.disposeAsync();
      const other = await weir();
      await pullAll(other);
      await pullByHead(other.url, "team/late", "1", late);
    });

    async function replaceObject(key: string, bytes: Uint8Array): Promise<void> {
      const { PutObjectCommand } = await import("@aws-sdk/client-s3");
      const { s3Client } = await import("../support/radosgw.ts");
      const client = s3Client(server());
      try {
        await client.send(new PutObjectCommand({ Bucket: server().bucket, Key: key, Body: bytes }));
      } finally {
        client.destroy();
      }
    }
  },
  { proxied: true },
);

function largestBlob(image: Image): Content {
  const [largest] = [...image.blobs].sort((a, b) => b.bytes.length - a.bytes.length);
  if (largest === undefined) throw new Error("the image has no blobs");
  return largest;
}
