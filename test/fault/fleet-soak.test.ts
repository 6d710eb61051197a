/**
 * Three replicas, sixty clients, thirty images that share layers: every download is cut once, one replica is frozen past its
 * leases and goes on, another one is killed. By hand with a large blob of 6 GiB: `npm run soak:fleet`; over S3 with
 * `WEIR_TEST_FLEET_SOAK_S3=1`.
 */
import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { expect } from "vitest";
import { digestOf } from "../../src/oci/digest.ts";
import { type BlobOrigin, type OriginGet, startBlobOrigin } from "../support/blob-origin.ts";
import { getBlob } from "../support/blob-pull.ts";
import { connectionsOf } from "../support/connections.ts";
import { randomFrom } from "../support/fill-schedule.ts";
import { type BlobContent, seededBlob, stampedBlob } from "../support/fill-sources.ts";
import { type Content, manifestOver } from "../support/images.ts";
import { httpRequest } from "../support/network.ts";
import { until } from "../support/processes.ts";
import { S3_TOOLS, startS3 } from "../support/radosgw.ts";
import { startRedis } from "../support/redis.ts";
import { s3Config, s3Section } from "../support/s3-store.ts";
import { heldBlobs, unsound } from "../support/store-files.ts";
import { toolTest } from "../support/tools.ts";
import type { WeirProcess } from "../support/weir.ts";
import { startWeirs } from "../support/weir-fleet.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
/** The large blob; everything else follows from it. */
const LARGEST = Number(process.env.WEIR_TEST_FLEET_SOAK_LARGEST_MIB ?? 64) * MiB;
const SEED = Number(process.env.WEIR_TEST_FLEET_SOAK_SEED ?? Date.now() % 2 ** 31);
const ON_S3 = process.env.WEIR_TEST_FLEET_SOAK_S3 === "1";
const REPLICAS = 3;
const CLIENTS = 60;
const IMAGES = 30;
const LAYERS_OF_IMAGE = 4;
const LAYERS = 24;
/** Every tenth image has the large blob as a layer. */
const LARGE_EVERY = 10;
/**
 * What an interrupted download may cost: what lies in the two kernels' socket buffers (half of a receive buffer is window) and
 * a few chunks on their way to the other replicas. Cuts cost nothing.
 */
const BUFFER = largestBuffer("rmem") / 2 + largestBuffer("wmem") + 2 * MiB;
/** Request Timeout. */
const TOO_LATE = 408;
const WHOLE_TEST_MS = 240_000 + (LARGEST / MiB) * 400;

function largestBuffer(kind: "rmem" | "wmem"): number {
  const [, , most] = readFileSync(`/proc/sys/net/ipv4/tcp_${kind}`, "utf8").trim().split(/\s+/);
  return Number(most);
}

interface SoakImage {
  readonly repository: string;
  readonly manifest: Content;
  readonly blobs: readonly BlobContent[];
}

/** Layers of a 64th to a 16th of the largest, each in several images. */
function images(random: () => number, large: BlobContent): readonly SoakImage[] {
  const layers = Array.from({ length: LAYERS }, (_, i) =>
    stampedBlob(`fleet ${SEED} layer ${i}`, Math.round((LARGEST / 64) * (1 + 3 * random()))),
  );
  const picked = (): BlobContent => layers[Math.floor(random() * LAYERS)] ?? large;
  return Array.from({ length: IMAGES }, (_, i) => {
    const config = seededBlob(`fleet ${SEED} config ${i}`, 2 * KiB);
    const first = i % LARGE_EVERY === 0 ? large : (layers[i % LAYERS] ?? large);
    const rest = new Set(Array.from({ length: LAYERS_OF_IMAGE - 1 }, picked));
    const blobs = [first, ...[...rest].filter((layer) => layer !== first)];
    return { repository: `app-${i}`, manifest: manifestOver(config, blobs), blobs: [...blobs, config] };
  });
}

class Fleet {
  readonly #weirs: readonly WeirProcess[];
  readonly #dead = new Set<WeirProcess>();
  /** Requests that a client had to repeat: elsewhere, since its replica had died, or once more at the one that was frozen. */
  repeated = 0;
  /** Frozen for longer than a request may take to arrive, it ends those with 408 that had come and were not read yet. */
  frozen: WeirProcess | undefined;

  constructor(weirs: readonly WeirProcess[]) {
    this.#weirs = weirs;
  }

  get living(): readonly WeirProcess[] {
    return this.#weirs.filter((weir) => !this.#dead.has(weir));
  }

  async kill(weir: WeirProcess): Promise<void> {
    this.#dead.add(weir);
    await weir.kill();
  }

  /** What a balancer does: each client has its replica, and another one when that has died; any other failure is one. */
  async atReplica<T extends object>(
    client: number,
    work: (weir: WeirProcess) => Promise<T | "again" | undefined>,
  ): Promise<T> {
    for (;;) {
      const { living } = this;
      const weir = living[client % living.length];
      if (weir === undefined) throw new Error("no replica is left");
      const result = await work(weir).catch((error: unknown) => {
        if (!this.#dead.has(weir)) throw error;
        return undefined;
      });
      if (typeof result === "object") return result;
      const mayRepeat = this.#dead.has(weir) || (result === "again" && weir === this.frozen);
      if (!mayRepeat) throw new Error(`client ${client} was failed by a replica that lives`);
      this.repeated += 1;
    }
  }

  /** Whose connection a download came by. */
  async downloader(get: OriginGet): Promise<WeirProcess> {
    let found: WeirProcess | undefined;
    // Where others come and go the kernel's table may leave it out.
    await until(`the connection from port ${get.clientPort} to be seen`, async () => {
      for (const weir of this.living) {
        const connections = await connectionsOf(weir.process.pid);
        if (connections.some(({ localPort }) => localPort === get.clientPort)) found = weir;
      }
      return found !== undefined;
    });
    if (found === undefined) throw new Error("nobody has the connection");
    return found;
  }
}

async function pull(fleet: Fleet, client: number, image: SoakImage): Promise<void> {
  const at = (weir: WeirProcess, what: string): string => `${weir.url}/v2/registry.example/${image.repository}/${what}`;
  const manifest = await fleet.atReplica(client, async (weir) => {
    const reply = await httpRequest(at(weir, "manifests/1"));
    return reply.status === TOO_LATE ? "again" : reply;
  });
  expect([manifest.status, digestOf(manifest.body)]).toEqual([200, image.manifest.digest]);
  for (const blob of image.blobs) {
    const end = await fleet.atReplica(client, async (weir) => {
      const body = await getBlob(at(weir, `blobs/${blob.digest}`));
      if (body.status === TOO_LATE) return "again";
      expect(body.status).toBe(200);
      const got = await body.compare(blob);
      return got.complete ? got : undefined;
    });
    expect(end).toEqual({ bytes: blob.size, complete: true });
  }
}

function getsOf(origin: BlobOrigin, blob: BlobContent): readonly OriginGet[] {
  return origin.gets.filter(({ path }) => path.endsWith(blob.digest));
}

/** The last download of the blob, once it has sent up to `position`. */
async function sentUpTo(origin: BlobOrigin, blob: BlobContent, position: number): Promise<OriginGet> {
  let last: OriginGet | undefined;
  await until(
    `byte ${position} to be sent`,
    () => {
      last = getsOf(origin, blob).at(-1);
      return last !== undefined && last.start + last.sent >= position;
    },
    WHOLE_TEST_MS,
  );
  if (last === undefined) throw new Error("nobody downloads");
  return last;
}

const mib = (bytes: number): string => `${(bytes / MiB).toFixed(1)} MiB`;

toolTest(
  ["redis-server", ...(ON_S3 ? S3_TOOLS : [])],
  `C1 B7 ${CLIENTS} clients, ${IMAGES} images, ${mib(LARGEST)}, a cut in every download, a replica frozen, one killed`,
  async () => {
    process.stdout.write(`WEIR_TEST_FLEET_SOAK_SEED=${SEED}\n`);
    await using stack = new AsyncDisposableStack();
    const random = randomFrom(SEED);
    const origin = await startBlobOrigin(stack);
    const large = stampedBlob(`fleet ${SEED} large`, LARGEST);
    const all = images(random, large);
    const blobs = new Set(all.flatMap((image) => image.blobs));
    for (const { repository, manifest, blobs: parts } of all) {
      origin.add(repository, ...parts);
      origin.addManifest(repository, "1", manifest);
    }
    for (const blob of blobs) origin.answer(blob, { cutAt: Math.floor(blob.size * (0.1 + 0.1 * random())) });
    const s3 = ON_S3 ? s3Section(s3Config(await startS3(stack))) : undefined;
    const weirs = await startWeirs(stack, {
      replicas: REPLICAS,
      redis: await startRedis(stack),
      ...(s3 === undefined ? {} : { storage: { driver: "s3", s3 } }),
      config: { upstreams: { "registry.example": origin.upstream }, telemetry: { logLevel: "warn" } },
    });
    const fleet = new Fleet(weirs);

    // What is beyond this position of a blob comes later; the other layers are smaller.
    origin.sendUpTo(LARGEST / 4);
    const clients = Array.from({ length: CLIENTS }, (_, client) => client);
    const imageOf = (client: number): SoakImage => all[client % IMAGES] as SoakImage;
    const startedMs = Date.now();
    const pullAll = async (some: readonly number[]): Promise<void> => {
      await Promise.all(some.map((client) => pull(fleet, client, imageOf(client))));
    };
    const first = pullAll(clients.filter((client) => client % LARGE_EVERY === 0));
    first.catch(() => {});
    const frozen = await fleet.downloader(await sentUpTo(origin, large, LARGEST / 4));
    const others = pullAll(clients.filter((client) => client % LARGE_EVERY !== 0));
    others.catch(() => {});
    // In the middle of whatever it downloads just then.
    await delay(300);
    fleet.frozen = frozen;
    frozen.process.kill("SIGSTOP");
    origin.sendUpTo(LARGEST / 2);
    // Only who has taken over can get further.
    const killed = await fleet.downloader(await sentUpTo(origin, large, LARGEST / 2));
    expect(killed).not.toBe(frozen);
    frozen.process.kill("SIGCONT");
    // Until it has seen that its lease is lost it takes what comes.
    const downloads = (): number => getsOf(origin, large).filter(({ over }) => !over).length;
    await until("one of them to leave its download to the other", () => downloads() === 1);
    await fleet.kill(killed);
    origin.sendUpTo(Number.POSITIVE_INFINITY);
    await Promise.all([first, others]);
    const seconds = (Date.now() - startedMs) / 1000;

    const unique = [...blobs].reduce((sum, { size }) => sum + size, 0);
    const interrupted = origin.gets.length - 2 * blobs.size;
    const { sent } = origin;
    const served = clients.flatMap((client) => imageOf(client).blobs).reduce((sum, { size }) => sum + size, 0);
    const heads = origin.asked.filter((line) => line.startsWith("HEAD") && line.endsWith("/1")).length;
    const manifests = origin.asked.filter((line) => line.startsWith("GET") && line.endsWith("/1")).length;
    process.stdout.write(
      [
        `${blobs.size} blobs, ${mib(unique)}; the large one ${mib(LARGEST)}; ${seconds.toFixed(1)} s`,
        `clients received ${mib(served)} of blobs, ${fleet.repeated} requests repeated since their replica had died or been frozen`,
        `upstream sent ${mib(sent)} in ${origin.gets.length} answers: ${blobs.size} cut, ${interrupted} interrupted by the freeze and the kill`,
        `beyond the unique bytes: ${sent - unique} bytes`,
        `large blob: ${JSON.stringify(getsOf(origin, large).map(({ start, sent: bytes }) => [start, bytes]))}`,
        `manifests by tag: ${manifests} GET and ${heads} HEAD for ${IMAGES} tags and ${CLIENTS} pulls`,
        "",
      ].join("\n"),
    );
    expect(sent).toBeGreaterThanOrEqual(unique);
    // A cut by itself costs nothing: the freeze and the kill cost what was on its way.
    expect(sent - unique).toBeLessThanOrEqual(Math.max(0, interrupted) * BUFFER);
    if (!ON_S3) {
      const { root } = frozen;
      await until(
        "all blobs to be kept",
        async () => (await heldBlobs(root)).length >= blobs.size + IMAGES,
        WHOLE_TEST_MS,
      );
      expect(await unsound(root)).toEqual([]);
    }
  },
  WHOLE_TEST_MS,
);
