import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect } from "vitest";
import { type BlobOrigin, startBlobOrigin } from "../support/blob-origin.ts";
import { getBlob } from "../support/blob-pull.ts";
import { seededBlob } from "../support/fill-sources.ts";
import { bigImage, type Image, sha256 } from "../support/images.ts";
import { fillsOver, metricOf } from "../support/metrics.ts";
import { hostNetwork, httpRequest, type Network } from "../support/network.ts";
import { tempFolder, until } from "../support/processes.ts";
import { type HubDouble, startHubDouble } from "../support/registries/dockerhub.ts";
import { heldBlobs, spooledFiles, unsound } from "../support/store-files.ts";
import { toolTest } from "../support/tools.ts";
import { startWeir, type WeirProcess } from "../support/weir.ts";

const MiB = 1024 * 1024;
const WAITERS = 20;

let stack: AsyncDisposableStack;
let hub: HubDouble;
let origin: BlobOrigin;
const image = bigImage("b14", 2 * MiB);

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  hub = await startHubDouble(stack);
  hub.add("library/app", image, ["1"]);
  origin = await startBlobOrigin(stack);
});

afterEach(() => stack.disposeAsync());

interface SmallDisk {
  readonly weir: WeirProcess;
  /** The disk as Weir sees it, which nobody else does. */
  readonly path: string;
  /** Weir's folder on it. */
  readonly root: string;
}

/** Weir with everything it writes on a tmpfs of its own; `prepare` is a shell command that runs before it, in that folder. */
async function weirOnSmallDisk(
  options: string,
  prepare = "true",
  storage: Readonly<Record<string, unknown>> = {},
): Promise<SmallDisk> {
  const disk = await tempFolder(stack);
  const script = `mount -t tmpfs -o "$1" tmpfs "$2" && cd "$2" && ${prepare}; shift 2; exec "$@"`;
  const network: Network = {
    ...hostNetwork,
    command: (argv) => ["unshare", "--mount", "sh", "-c", script, "sh", options, disk, ...argv],
  };
  const weir = await startWeir(stack, {
    network,
    root: join(disk, "data"),
    config: {
      storage: { driver: "filesystem", filesystem: { root: join(disk, "data") }, ...storage },
      upstreams: {
        "registry.example": origin.upstream,
        "docker.io": {
          type: "dockerhub",
          endpoints: [hub.url],
          realms: ["127.0.0.2"],
          redirects: { allow: ["127.0.0.0/8"] },
        },
      },
    },
  });
  const path = `/proc/${weir.process.pid}/root${disk}`;
  return { weir, path, root: join(path, "data") };
}

/** As a client that has nothing pulls: manifest, configuration, layer. All of it must be right. */
async function pull(weir: WeirProcess): Promise<void> {
  const base = `${weir.url}/v2/docker.io/library/app`;
  const manifest = await httpRequest(`${base}/manifests/1`);
  expect([manifest.status, sha256(manifest.body)]).toEqual([200, image.root.digest]);
  for (const { digest, bytes } of image.blobs) {
    const content = { read: (start: number, end: number) => Buffer.from(bytes).subarray(start, end) };
    const client = await getBlob(`${base}/blobs/${digest}`);
    expect(client.status).toBe(200);
    expect(await client.compare(content)).toEqual({ bytes: bytes.length, complete: true });
  }
}

/** Many clients of one cold blob, all of them waiting before its first byte comes; then a whole image. */
async function expectPassedOn({ weir, root }: SmallDisk, name: string, size: number): Promise<void> {
  const blob = seededBlob(name, size);
  origin.add("app", blob);
  origin.forget();
  origin.sendUpTo(0);
  const url = `${weir.url}/v2/registry.example/app/blobs/${blob.digest}`;
  const clients = await Promise.all(Array.from({ length: WAITERS }, () => getBlob(url)));
  await until("all to be reading", async () => (await metricOf(weir.adminUrl, "weir_fill_readers")) === WAITERS);
  origin.sendUpTo(size);
  const ends = await Promise.all(clients.map((client) => client.compare(blob)));
  expect(ends).toEqual(Array(WAITERS).fill({ bytes: size, complete: true }));
  await fillsOver(weir);
  expect(origin.ledger).toEqual([[0, size]]);
  expect(await heldBlobs(root)).not.toContain(blob.digest);
  expect(await spooledFiles(root)).toEqual([]);
  expect(await metricOf(weir.adminUrl, "weir_build_info")).toBe(1);
  expect((await httpRequest(`${weir.adminUrl}/healthz`)).status).toBe(200);
}

/** Each blob of the image has come over the wire once. */
function expectOneGetEach(image: Image): void {
  for (const { digest, bytes } of image.blobs) {
    const gets = hub.ledger.filter(({ role, path }) => role === "cdn" && path.includes(digest.slice(7)));
    expect(gets.map((get) => get.bytes)).toEqual([bytes.length]);
  }
}

async function expectKept({ weir, root }: SmallDisk): Promise<void> {
  await pull(weir);
  await fillsOver(weir);
  for (const { digest } of image.blobs) expect(await heldBlobs(root)).toContain(digest);
  hub.clearLedger();
  await pull(weir);
  expect(hub.lines("cdn")).toEqual([]);
  expect(await spooledFiles(root)).toEqual([]);
  expect(await unsound(root)).toEqual([]);
}

/** Takes all the room there is. */
async function fillUp(path: string): Promise<void> {
  await expect(writeFile(join(path, "filler"), Buffer.alloc(64 * MiB))).rejects.toMatchObject({ code: "ENOSPC" });
}

toolTest(
  ["mount"],
  "B14 full in mid-fill: 20 pulls succeed by one GET, nothing is kept, and what fits is kept again",
  async () => {
    const disk = await weirOnSmallDisk("size=16m");
    await expectPassedOn(disk, "b14 mid-fill", 40 * MiB);
    await expectKept(disk);
  },
);

toolTest(["mount"], "B14 full before: pulls succeed by one GET, and are kept once there is room", async () => {
  const disk = await weirOnSmallDisk("size=16m");
  await fillUp(disk.path);
  await pull(disk.weir);
  expectOneGetEach(image);
  await expectPassedOn(disk, "b14 before", 20 * MiB);
  await rm(join(disk.path, "filler"));
  await expectKept(disk);
});

toolTest(["mount"], "B14 no spool file can be made, for want of inodes: the same", async () => {
  const disk = await weirOnSmallDisk("size=16m,nr_inodes=200");
  const fillers = join(disk.path, "fillers");
  await mkdir(fillers);
  const takeAll = async (): Promise<never> => {
    for (let index = 0; ; index += 1) await writeFile(join(fillers, String(index)), "");
  };
  await expect(takeAll()).rejects.toMatchObject({ code: "ENOSPC" });
  await pull(disk.weir);
  expectOneGetEach(image);
  await expectPassedOn(disk, "b14 inodes", 20 * MiB);
  await rm(fillers, { recursive: true });
  await expectKept(disk);
});

toolTest(["mount"], "B14 full when Weir starts: it starts, and says so, and pulls succeed", async () => {
  const disk = await weirOnSmallDisk("size=16m", "head -c 64m /dev/zero > filler 2> errors");
  await until("the log to tell", () => disk.weir.output().includes("nothing can be kept"));
  await pull(disk.weir);
  expectOneGetEach(image);
  await expectPassedOn(disk, "b14 start", 20 * MiB);
  await rm(join(disk.path, "filler"));
  await expectKept(disk);
});

toolTest(
  ["mount"],
  "B14 full of what is held: what was used least recently goes, and the new blob is kept",
  async () => {
    const disk = await weirOnSmallDisk("size=24m");
    const { weir, root } = disk;
    const blobs = ["first", "second", "third", "fourth"].map((name) => seededBlob(`b14 held ${name}`, 7 * MiB));
    for (const blob of blobs) {
      origin.add("app", blob);
      origin.forget();
      const clients = await Promise.all(
        Array.from({ length: WAITERS }, () => getBlob(`${weir.url}/v2/registry.example/app/blobs/${blob.digest}`)),
      );
      const ends = await Promise.all(clients.map((client) => client.compare(blob)));
      expect(ends).toEqual(Array(WAITERS).fill({ bytes: blob.size, complete: true }));
      await fillsOver(weir);
      expect(origin.ledger).toEqual([[0, blob.size]]);
      expect(await heldBlobs(root)).toContain(blob.digest);
    }
    expect(await heldBlobs(root)).not.toContain(blobs[0]?.digest);
    expect(await metricOf(weir.adminUrl, "weir_storage_evicted_bytes_total", { reason: "emergency" })).toBe(7 * MiB);
    expect(await unsound(root)).toEqual([]);
  },
);

toolTest(["mount"], "B14 a limit below the disk's size: room is made before the disk is full", async () => {
  const disk = await weirOnSmallDisk("size=24m", "true", { maxSize: "16MiB" });
  const { weir, root } = disk;
  for (const name of ["first", "second", "third", "fourth"]) {
    const blob = seededBlob(`b14 limit ${name}`, 7 * MiB);
    origin.add("app", blob);
    expect(await (await getBlob(`${weir.url}/v2/registry.example/app/blobs/${blob.digest}`)).compare(blob)).toEqual({
      bytes: blob.size,
      complete: true,
    });
    await fillsOver(weir);
    expect(await heldBlobs(root)).toContain(blob.digest);
  }
  expect(await metricOf(weir.adminUrl, "weir_storage_evicted_bytes_total", { reason: "emergency" })).toBe(0);
  expect(await metricOf(weir.adminUrl, "weir_storage_bytes")).toBeLessThanOrEqual(0.95 * 16 * MiB);

  const large = seededBlob("b14 too large", 18 * MiB);
  origin.add("app", large);
  origin.forget();
  expect(await (await getBlob(`${weir.url}/v2/registry.example/app/blobs/${large.digest}`)).compare(large)).toEqual({
    bytes: large.size,
    complete: true,
  });
  await fillsOver(weir);
  expect(origin.ledger).toEqual([[0, large.size]]);
  expect(await heldBlobs(root)).not.toContain(large.digest);
  await until("the log to tell", () => weir.output().includes("storage.maxSize"));
});
