/** The commands on what is held, where that is a bucket, or a disk in front of one. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { S3Config } from "../../src/config/types.ts";
import { parseDigest } from "../../src/oci/digest.ts";
import { blobKey } from "../../src/storage/layout.ts";
import { hubUpstream, pullByHead } from "../support/hub-weir.ts";
import { smallImage } from "../support/images.ts";
import { fillsOver, metricOf } from "../support/metrics.ts";
import { type CommandResult, run, tempFolder, until } from "../support/processes.ts";
import { type HubDouble, startHubDouble } from "../support/registries/dockerhub.ts";
import { describeS3, objectsBelow, s3Config, s3Section } from "../support/s3-store.ts";
import { startWeir, type WeirProcess } from "../support/weir.ts";

const MAIN = new URL("../../src/main.ts", import.meta.url).pathname;
/** A dozen processes. */
const TEST_MS = 300_000;

describeS3("the commands on S3", (server) => {
  const image = smallImage("s3-upkeep");
  const imported = smallImage("s3-upkeep-imported");
  const contents = [...image.blobs, ...image.manifests];
  let stack: AsyncDisposableStack;
  let hub: HubDouble;
  let place: S3Config;
  let weir: WeirProcess;

  beforeEach(async () => {
    stack = new AsyncDisposableStack();
    hub = await startHubDouble(stack);
    hub.add("library/app", image, ["1"]);
    place = s3Config(server());
  });

  afterEach(() => stack.disposeAsync());

  async function start(driver: "s3" | "tiered"): Promise<void> {
    const root = join(await tempFolder(stack), "data");
    const front = driver === "tiered" ? { filesystem: { root } } : { spool: { dir: join(root, "spool") } };
    weir = await startWeir(stack, {
      root,
      config: {
        storage: { driver, s3: s3Section(place), ...front },
        upstreams: { "docker.io": hubUpstream(hub) },
        freshness: { default: "1h" },
      },
    });
    await pullByHead(weir.url, "library/app", "1", image);
    await fillsOver(weir);
    if (driver === "tiered") {
      await until("the uploads", async () => {
        return (await metricOf(weir.adminUrl, "weir_storage_upload_queue_entries")) === 0;
      });
    }
    hub.clearLedger();
  }

  async function command(...args: readonly string[]): Promise<CommandResult> {
    return await run([process.execPath, MAIN, ...args, "--config", weir.file], { allowFailure: true });
  }

  async function last(...args: readonly string[]): Promise<Record<string, unknown>> {
    const { stdout, stderr } = await command(...args, "--json");
    expect(stderr).toBe("");
    return JSON.parse(stdout.trim().split("\n").at(-1) ?? "");
  }

  const inBucket = async (digest: string): Promise<boolean> =>
    (await objectsBelow(server(), `${place.prefix}${blobKey(parseDigest(digest))}`)).length === 1;

  describe.each(["s3", "tiered"] as const)("%s", (driver) => {
    test(
      "stats and gc beside the server: what is held is counted, and all of it may stay",
      async () => {
        await start(driver);
        expect(await last("stats", "--repositories", "1")).toMatchObject({
          done: true,
          blobs: new Set(contents.map(({ digest }) => digest)).size,
          tags: 1,
          manifests: image.manifests.length,
          largest: [{ name: "docker.io/library/app" }],
        });
        expect(await last("gc")).toMatchObject({ done: true, count: 0 });
        expect(await command("gc", "--dry-run")).toMatchObject({
          code: 0,
          stdout: expect.stringContaining("nothing to do"),
        });
        for (const { digest } of contents) expect(await inBucket(digest)).toBe(true);
        expect(hub.ledger).toEqual([]);
      },
      TEST_MS,
    );

    test(
      "purge takes it from the bucket as well",
      async () => {
        await start(driver);
        expect((await command("purge", "docker.io/library/app")).code).toBe(0);
        await until("everything to be gone", async () => {
          return !(await Promise.all(contents.map(({ digest }) => inBucket(digest)))).includes(true);
        });
        await pullByHead(weir.url, "library/app", "1", image);
      },
      TEST_MS,
    );
  });

  test(
    "s3: verify and import say that they need a folder",
    async () => {
      await start("s3");
      const folder = await tempFolder(stack);
      for (const args of [["verify"], ["import", "--registry-dir", folder, "--as", "docker.io"]]) {
        const { code, stdout, stderr } = await command(...args);
        expect([code, stdout]).toEqual([2, ""]);
        expect(stderr).toContain(`weir ${args[0]} works on a folder: with storage.driver filesystem, or tiered`);
      }
    },
    TEST_MS,
  );

  test(
    "tiered: what is imported comes into the bucket",
    async () => {
      // What Weir keeps in a folder is what a stock registry keeps there.
      await using other = new AsyncDisposableStack();
      const registry = await startWeir(other, {
        config: { upstreams: { "docker.io": hubUpstream(hub) }, freshness: { default: "1h" } },
      });
      hub.add("library/imported", imported, ["1"]);
      await pullByHead(registry.url, "library/imported", "1", imported);
      await fillsOver(registry);
      await registry.stop();
      await start("tiered");
      const args = ["--registry-dir", registry.root, "--as", "docker.io", "--from-proxy"];
      expect((await command("import", ...args)).code).toBe(0);
      await until("all of it to be in the bucket", async () => {
        const { blobs, manifests } = imported;
        return !(await Promise.all([...blobs, ...manifests].map(({ digest }) => inBucket(digest)))).includes(false);
      });
    },
    TEST_MS,
  );

  test(
    "tiered: verify looks at the disk, and lets be what only the bucket has",
    async () => {
      await start("tiered");
      expect(await last("verify")).toMatchObject({ done: true, sound: true, notHeld: 0 });
      await weir.stop();
      // As if all of it had been evicted.
      await rm(join(weir.root, "docker/registry/v2/blobs"), { recursive: true });
      expect(await last("verify")).toMatchObject({ done: true, sound: true, blobs: 0 });
      await weir.start();
      for (const { digest } of contents) expect(await inBucket(digest)).toBe(true);
      await pullByHead(weir.url, "library/app", "1", image);
      expect(hub.bytes("cdn")).toBe(0);
    },
    TEST_MS,
  );
});
