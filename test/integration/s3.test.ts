/** The whole of Weir on an S3 bucket. */
import { afterEach, beforeEach, expect, test } from "vitest";
import type { S3Config } from "../../src/config/types.ts";
import { startTestApp, type TestApp } from "../support/app.ts";
import { expectStatus, hubUpstream, pullByHead } from "../support/hub-weir.ts";
import {
  bigImage,
  type Content,
  dockerImage,
  type Image,
  multiArchImage,
  sha256,
  smallImage,
} from "../support/images.ts";
import { fillsOver } from "../support/metrics.ts";
import { httpRequest } from "../support/network.ts";
import { type HubDouble, startHubDouble } from "../support/registries/dockerhub.ts";
import { startRegistry } from "../support/registry.ts";
import { DENIED, startS3Proxy } from "../support/s3-proxy.ts";
import { describeS3, objectsBelow, openTestBucket, s3Config, s3Section } from "../support/s3-store.ts";
import { toolTest } from "../support/tools.ts";

const MiB = 1 << 20;

describeS3(
  "Weir on S3",
  (server) => {
    // More than two parts.
    const big = bigImage("s3", 20 * MiB);
    const images: Readonly<Record<string, Image>> = {
      small: smallImage("s3"),
      multi: multiArchImage("s3"),
      docker: dockerImage("s3"),
      big,
    };
    const layer = largestBlob(big);
    let stack: AsyncDisposableStack;
    /** Ends before the rest where a test has done with upstreams. */
    let upstream: AsyncDisposableStack;
    let hub: HubDouble;
    let place: S3Config;

    beforeEach(async () => {
      stack = new AsyncDisposableStack();
      upstream = stack.use(new AsyncDisposableStack());
      hub = await startHubDouble(upstream);
      for (const [name, image] of Object.entries(images)) hub.add(`team/${name}`, image, ["1"]);
      place = s3Config(server());
    });

    afterEach(() => stack.disposeAsync());

    async function weir(changes: Partial<S3Config> = {}, root?: string): Promise<TestApp> {
      return await startTestApp(stack, {
        ...(root === undefined ? {} : { root }),
        config: {
          storage: {
            driver: "s3",
            s3: s3Section({ ...place, ...changes }),
            ...(root === undefined ? {} : { spool: { dir: `${root}/spool` } }),
          },
          upstreams: { "docker.io": hubUpstream(hub) },
          freshness: { default: "1h" },
        },
      });
    }

    async function pullAll(app: TestApp): Promise<void> {
      for (const [name, image] of Object.entries(images)) await pullByHead(app.url, `team/${name}`, "1", image);
    }

    async function uploads(): Promise<number> {
      const bucket = await openTestBucket(stack, place);
      let count = 0;
      for await (const _ of bucket.uploads("", { signal: new AbortController().signal })) count += 1;
      return count;
    }

    const blobUrl = (app: TestApp, name: string, digest: string): string =>
      `${app.url}/v2/docker.io/team/${name}/blobs/${digest}`;

    test("S6 what was pulled once is served with the upstream dead, after a restart and by another Weir too", async () => {
      const first = await weir();
      await pullAll(first);
      const bytes = hub.bytes("cdn");
      await pullAll(first);
      expect(hub.bytes("cdn")).toBe(bytes);
      await upstream.disposeAsync();
      await pullAll(first);
      await first.stop();
      const [second, third] = [await weir(), await weir()];
      await pullAll(second);
      await pullAll(third);
      expect(await uploads()).toBe(0);
    });

    test("S6 two Weirs on one bucket: what one has pulled the other serves, without asking for its bytes", async () => {
      const [first, second] = [await weir(), await weir()];
      await pullAll(first);
      const bytes = hub.bytes("cdn");
      hub.clearLedger();
      await pullAll(second);
      expect(bytes).toBeGreaterThan(20 * MiB);
      expect(hub.bytes("cdn")).toBe(0);
      expect(hub.count({ method: "GET", path: /\/manifests\// })).toBe(0);
    });

    test("S6 an upload that is refused fails no pull, and what was downloaded is not downloaded again", async () => {
      const proxy = await startS3Proxy(stack, server().endpoint);
      const app = await weir({ endpoint: new URL(proxy.endpoint) });
      proxy.fault = ({ operation }) =>
        operation.endsWith("Upload") || operation === "UploadPart" ? DENIED : undefined;
      await pullByHead(app.url, "team/big", "1", big);
      await fillsOver(app);
      expect(await objectsBelow(server(), `${place.prefix}docker/registry/v2/blobs/`)).not.toContain(layer.digest);
      const bytes = hub.bytes("cdn");
      expect(bytes).toBeGreaterThan(layer.bytes.length);
      proxy.fault = () => undefined;
      await pullByHead(app.url, "team/big", "1", big);
      await fillsOver(app);
      expect(hub.bytes("cdn")).toBe(bytes);
      await upstream.disposeAsync();
      await pullByHead(app.url, "team/big", "1", big);
      expect(await uploads()).toBe(0);
    });

    test.each([
      ["is gone", { status: 404, code: "NoSuchKey" }],
      ["may not be read any more", DENIED],
      ["is another one", { status: 412, code: "PreconditionFailed" }],
    ] as const)("S4 a body whose object %s in mid-read goes on from upstream", async (_what, fault) => {
      const proxy = await startS3Proxy(stack, server().endpoint);
      const app = await weir({ endpoint: new URL(proxy.endpoint) });
      await pullByHead(app.url, "team/big", "1", big);
      await fillsOver(app);
      const bytes = hub.bytes("cdn");
      let reads = 0;
      proxy.fault = ({ operation, key }) => {
        // Its data: what is noted of it is read when it is kept again.
        if (operation !== "GetObject" || !key.endsWith(`${layer.digest.slice(7)}/data`)) return undefined;
        reads += 1;
        return reads === 1 ? { resetAfter: 2 * MiB } : fault;
      };
      const url = blobUrl(app, "big", layer.digest);
      const whole = expectStatus(200, await httpRequest(url));
      expect(sha256(whole.body)).toBe(layer.digest);
      expect(reads).toBe(2);
      // Once for whoever else is reading it.
      expect(hub.bytes("cdn") - bytes).toBe(layer.bytes.length);
    });

    test("redirect: a hit is answered with an address that needs no credentials, and takes ranges", async () => {
      const redirecting = { redirect: true, publicEndpoint: new URL(server().endpoint) };
      const app = await weir(redirecting);
      const url = blobUrl(app, "big", layer.digest);
      // Not held yet: the bytes come from Weir.
      await pullByHead(app.url, "team/big", "1", big);
      await fillsOver(app);

      const answer = await fetch(url, { redirect: "manual" });
      expect(answer.status).toBe(307);
      expect(answer.headers.get("cache-control")).toBe("no-store");
      expect(answer.headers.get("docker-content-digest")).toBe(layer.digest);
      const location = new URL(answer.headers.get("location") ?? "");
      expect(location.origin).toBe(server().endpoint);
      expect(location.searchParams.get("X-Amz-Expires")).toBe("600");
      const followed = Buffer.from(await (await fetch(location)).arrayBuffer());
      expect(sha256(followed)).toBe(layer.digest);

      const part = await fetch(url, { headers: { range: "bytes=5-9" } });
      expect(part.status).toBe(206);
      expect(Buffer.from(await part.arrayBuffer()).equals(layer.bytes.subarray(5, 10))).toBe(true);

      const head = await fetch(url, { method: "HEAD", redirect: "manual" });
      expect([head.status, head.headers.get("content-length")]).toEqual([200, String(layer.bytes.length)]);
      const known = await fetch(url, { redirect: "manual", headers: { "if-none-match": `"${layer.digest}"` } });
      expect(known.status).toBe(304);
      const manifest = await fetch(`${app.url}/v2/docker.io/team/big/manifests/1`, { redirect: "manual" });
      expect(manifest.status).toBe(200);
      expect(JSON.stringify([...answer.headers])).not.toContain(server().secretAccessKey);
    });

    test("redirect: clients in redirectExcept get the bytes from Weir", async () => {
      const app = await weir({
        redirect: true,
        publicEndpoint: new URL(server().endpoint),
        redirectExcept: ["127.0.0.0/8"],
      });
      await pullByHead(app.url, "team/big", "1", big);
      await fillsOver(app);
      const whole = expectStatus(200, await httpRequest(blobUrl(app, "big", layer.digest)));
      expect(sha256(whole.body)).toBe(layer.digest);
    });

    toolTest(
      ["docker-registry"],
      "S1 a stock registry, read-only on the bucket, serves what Weir has put there",
      async () => {
        const app = await weir();
        await pullAll(app);
        await fillsOver(app);
        await upstream.disposeAsync();
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
          const accept = { headers: { accept: image.root.mediaType } };
          const tagged = expectStatus(200, await httpRequest(`${base}/manifests/1`, accept));
          expect(sha256(tagged.body)).toBe(image.root.digest);
          for (const { digest, mediaType } of image.manifests) {
            const found = await httpRequest(`${base}/manifests/${digest}`, { headers: { accept: mediaType } });
            expect(sha256(expectStatus(200, found).body)).toBe(digest);
          }
          for (const { digest } of image.blobs) {
            expect(sha256(expectStatus(200, await httpRequest(`${base}/blobs/${digest}`)).body)).toBe(digest);
          }
        }
        const catalog = await httpRequest(`${registry.url}/v2/_catalog`);
        expect(JSON.parse(catalog.body.toString())).toEqual({
          repositories: Object.keys(images)
            .map((name) => `docker.io/team/${name}`)
            .sort(),
        });
        const tags = await httpRequest(`${registry.url}/v2/docker.io/team/multi/tags/list`);
        expect(JSON.parse(tags.body.toString())).toMatchObject({ tags: ["1"] });
      },
    );
  },
  { proxied: true },
);

function largestBlob(image: Image): Content {
  const [largest] = [...image.blobs].sort((a, b) => b.bytes.length - a.bytes.length);
  if (largest === undefined) throw new Error("the image has no blobs");
  return largest;
}
