import { readFile, writeFile } from "node:fs/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { hubUpstream } from "../support/hub-weir.ts";
import { bigImage, type Image, smallImage } from "../support/images.ts";
import { fillsOver, metricOf } from "../support/metrics.ts";
import { httpRequest } from "../support/network.ts";
import { until } from "../support/processes.ts";
import { type HubDouble, startHubDouble } from "../support/registries/dockerhub.ts";
import { heldBlobs, unsound } from "../support/store-files.ts";
import { startWeir, type WeirProcess } from "../support/weir.ts";

const MiB = 1024 * 1024;

let stack: AsyncDisposableStack;
let hub: HubDouble;
const big = bigImage("room big", 3 * MiB);
const small = smallImage("room small");

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  hub = await startHubDouble(stack);
  hub.add("team/big", big, ["1"]);
  hub.add("team/small", small, ["1"]);
});

afterEach(() => stack.disposeAsync());

async function pull(weir: WeirProcess, name: string, image: Image): Promise<void> {
  const base = `${weir.url}/v2/docker.io/team/${name}`;
  const manifest = await httpRequest(`${base}/manifests/1`);
  expect([manifest.status, manifest.headers["docker-content-digest"]]).toEqual([200, image.root.digest]);
  for (const { digest, bytes } of image.blobs) {
    const blob = await httpRequest(`${base}/blobs/${digest}`);
    expect([blob.status, blob.body.equals(bytes)]).toEqual([200, true]);
  }
  await fillsOver(weir);
}

/** Changes the running configuration's `storage`. */
async function configure(weir: WeirProcess, storage: object): Promise<void> {
  const config = JSON.parse(await readFile(weir.file, "utf8"));
  await writeFile(weir.file, JSON.stringify({ ...config, storage: { ...config.storage, ...storage } }));
  weir.process.kill("SIGHUP");
}

test("S3 B15 a lower limit counts at once: layers go, tags still resolve, and pulls heal by one GET of each layer", async () => {
  const weir = await startWeir(stack, {
    config: { upstreams: { "docker.io": hubUpstream(hub) }, freshness: { default: "1h" } },
  });
  await pull(weir, "big", big);
  await pull(weir, "small", small);
  expect(await metricOf(weir.adminUrl, "weir_storage_limit_bytes")).toBe(50 * 2 ** 30);
  expect(await metricOf(weir.adminUrl, "weir_storage_blobs")).toBe((await heldBlobs(weir.root)).length);
  const before = await metricOf(weir.adminUrl, "weir_storage_bytes");
  expect(before).toBeGreaterThan(3 * MiB);

  await configure(weir, { maxSize: "1MiB" });
  await until("room to be made", async () => (await metricOf(weir.adminUrl, "weir_storage_bytes")) < 0.95 * MiB);
  expect(await metricOf(weir.adminUrl, "weir_storage_limit_bytes")).toBe(MiB);
  const evicted = await metricOf(weir.adminUrl, "weir_storage_evicted_bytes_total", { reason: "room" });
  expect(evicted).toBeGreaterThan(3 * MiB);
  const held = await heldBlobs(weir.root);
  expect(held).toContain(big.root.digest);
  expect(big.blobs.filter(({ digest }) => held.includes(digest) && digest === largest(big))).toEqual([]);

  hub.clearLedger();
  await configure(weir, { maxSize: "none" });
  const metrics = async (): Promise<string> => (await httpRequest(`${weir.adminUrl}/metrics`)).body.toString();
  await until("the limit to go", async () => /^weir_storage_limit_bytes \+Inf/m.test(await metrics()));
  await pull(weir, "big", big);
  await pull(weir, "big", big);
  const gets = hub.ledger.filter(({ role, path }) => role === "cdn" && path.includes(largest(big).slice(7)));
  expect(gets).toHaveLength(1);
  expect(hub.ledger.filter(({ path }) => path.includes("/manifests/"))).toEqual([]);
  expect(await unsound(weir.root)).toEqual([]);
});

function largest({ blobs }: Image): string {
  return [...blobs].sort((a, b) => b.bytes.length - a.bytes.length)[0]?.digest ?? "";
}
