/** Weir on an S3 server that fails one request in ten, in every way that passes. */
import { expect, test } from "vitest";
import { silentLog } from "../../src/base/log.ts";
import { digestOf, parseDigest } from "../../src/oci/digest.ts";
import { UPLOAD_GRACE_MS, UploadSweeper } from "../../src/storage/s3/upload-sweeper.ts";
import { collect } from "../contract/blob-store.contract.ts";
import { startTestApp } from "../support/app.ts";
import { randomFrom } from "../support/fill-schedule.ts";
import { hubUpstream, pullByHead } from "../support/hub-weir.ts";
import { bigImage, type Image, multiArchImage, smallImage } from "../support/images.ts";
import { ManualClock } from "../support/manual-clock.ts";
import { fillsOver } from "../support/metrics.ts";
import { until } from "../support/processes.ts";
import { startHubDouble } from "../support/registries/dockerhub.ts";
import { INTERNAL_ERROR, type S3Fault, SLOW_DOWN, startS3Proxy } from "../support/s3-proxy.ts";
import {
  describeS3,
  openTestBucket,
  s3BlobStore,
  s3Config,
  s3Section,
  unfinishedUploads,
} from "../support/s3-store.ts";

const MiB = 2 ** 20;
const MINUTE_MS = 60_000;
const SEED = Number(process.env.WEIR_TEST_S3_SEED ?? Date.now() % 2 ** 31);
const FAULTS: readonly S3Fault[] = [INTERNAL_ERROR, SLOW_DOWN, "reset", "lose-answer", { resetAfter: 100 }, "hang"];

describeS3(
  "a storm",
  (server) => {
    test(`S6 every image pulls, and nothing is half there (WEIR_TEST_S3_SEED=${SEED})`, async () => {
      await using stack = new AsyncDisposableStack();
      const random = randomFrom(SEED);
      const images: Readonly<Record<string, Image>> = {
        small: smallImage("storm"),
        multi: multiArchImage("storm"),
        one: bigImage("storm one", 20 * MiB),
        two: bigImage("storm two", 11 * MiB),
      };
      const hub = await startHubDouble(stack);
      for (const [name, image] of Object.entries(images)) hub.add(`team/${name}`, image, ["1"]);
      const proxy = await startS3Proxy(stack, server().endpoint);
      const place = s3Config(server(), {
        endpoint: new URL(proxy.endpoint),
        timeouts: { connectMs: 10_000, idleMs: 10_000 },
      });
      const app = await startTestApp(stack, {
        config: {
          storage: { driver: "s3", s3: s3Section(place) },
          upstreams: { "docker.io": hubUpstream(hub) },
        },
      });
      let faults = 0;
      /** Keys of uploads whose id may have been lost on its way. */
      const unnamed = new Set<string>();
      proxy.fault = ({ operation, key }) => {
        if (random() >= 0.1) return undefined;
        faults += 1;
        const fault = FAULTS[Math.floor(random() * FAULTS.length)];
        if (operation === "CreateMultipartUpload") unnamed.add(key.slice(place.prefix.length));
        return fault;
      };
      const pulls = Object.entries(images).flatMap((image) => [image, image]);
      await Promise.all(pulls.map(([name, image]) => pullByHead(app.url, `team/${name}`, "1", image)));
      await fillsOver(app);
      expect(faults).toBeGreaterThan(0);

      proxy.fault = () => undefined;
      await app.stop();
      const bucket = await openTestBucket(stack, place);
      const store = s3BlobStore(bucket);
      const o = { signal: new AbortController().signal };
      // Nobody but the sweeper can give those up whose id was lost.
      for (const key of await unfinishedUploads(bucket)) expect(unnamed).toContain(key);
      const clock = new ManualClock(Date.now() + UPLOAD_GRACE_MS + MINUTE_MS);
      const sweeper = new UploadSweeper(store, { clock, log: silentLog });
      sweeper.start();
      stack.defer(() => sweeper.stop());
      await until("the end of the sweep", () => clock.sleepers === 1);
      expect(await unfinishedUploads(bucket)).toEqual([]);
      const held = new Set<string>();
      for await (const { digest } of store.list(o)) {
        const blob = await store.open(digest, o);
        expect(blob && digestOf(await collect(blob.read(0, blob.size, o)))).toBe(digest);
        held.add(digest);
      }
      for (const { digest } of Object.values(images).flatMap(({ blobs, manifests }) => [...blobs, ...manifests])) {
        expect(held).toContain(parseDigest(digest));
      }
      // What hangs takes its time.
    }, 300_000);
  },
  { proxied: true },
);
