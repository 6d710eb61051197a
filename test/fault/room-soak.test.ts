/**
 * Random pulls over four times what may be held, with eviction going on all the time. By hand for longer, and with real
 * sizes: `npm run soak:room`.
 */
import { spawnSync } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { startBlobOrigin } from "../support/blob-origin.ts";
import { getBlob } from "../support/blob-pull.ts";
import { randomFrom } from "../support/fill-schedule.ts";
import { type BlobContent, seededBlob, stampedBlob } from "../support/fill-sources.ts";
import { fillsOver, metricOf } from "../support/metrics.ts";
import { httpRequest } from "../support/network.ts";
import { until } from "../support/processes.ts";
import { unsound } from "../support/store-files.ts";
import { startWeir, usualNodeOptions, type WeirProcess } from "../support/weir.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
const SECONDS = Number(process.env.WEIR_TEST_ROOM_SOAK_SECONDS ?? 60);
/** The largest blob; everything else follows from it. */
const LARGEST = Number(process.env.WEIR_TEST_ROOM_SOAK_LARGEST_MIB ?? 24) * MiB;
const SEED = Number(process.env.WEIR_TEST_ROOM_SOAK_SEED ?? Date.now() % 2 ** 31);
const CLIENTS = 6;
const MAX_SIZE = 4 * LARGEST;
const HIGH = 0.95 * MAX_SIZE;
/** Measured once a minute; the rest is for a machine that is busy. */
const AGREE_MS = 90_000;
/** What a process may grow by without leaking: the collector's own rhythm, and buffers that are kept for the next read. */
const MEMORY_SLACK = 64 * MiB;

/** Sizes from 1 KiB to the largest, as many small as large. */
function workingSet(random: () => number): BlobContent[] {
  const blobs: BlobContent[] = [];
  for (let bytes = 0; bytes < 4 * MAX_SIZE; ) {
    const size = Math.round(KiB * (LARGEST / KiB) ** random());
    const name = `soak ${SEED} ${blobs.length}`;
    blobs.push(size > MiB ? stampedBlob(name, size) : seededBlob(name, size));
    bytes += size;
  }
  return blobs;
}

/** What lies in the folders, by `du`; what goes while it looks is left out. */
function du(...folders: readonly string[]): number {
  const { stdout } = spawnSync("du", ["-sc", "-B1", ...folders], { encoding: "utf8" });
  return Number(stdout.trim().split("\n").at(-1)?.split("\t")[0]);
}

interface Sample {
  readonly rss: number;
  readonly descriptors: number;
}

async function sample(weir: WeirProcess): Promise<Sample> {
  const { pid } = weir.process;
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return {
    rss: Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) * KiB,
    descriptors: (await readdir(`/proc/${pid}/fd`)).length,
  };
}

/** One client's pull: a whole blob, a look before it, a part, or one that it leaves. */
async function pull(url: string, blob: BlobContent, random: () => number): Promise<void> {
  const kind = random();
  if (kind < 0.1) {
    const head = await httpRequest(url, { method: "HEAD" });
    expect([head.status, head.headers["content-length"]]).toEqual([200, String(blob.size)]);
  }
  if (kind > 0.9) {
    const start = Math.floor(random() * blob.size);
    const client = await getBlob(url, { range: `bytes=${start}-` });
    expect(client.status).toBe(206);
    expect(await client.compare(blob, start)).toEqual({ bytes: blob.size - start, complete: true });
    return;
  }
  const client = await getBlob(url);
  expect(client.status).toBe(200);
  if (kind > 0.87) client.leave();
  else expect(await client.compare(blob)).toEqual({ bytes: blob.size, complete: true });
}

test(
  `S2 ${SECONDS} s of pulls over four times what may be held: none fails, and the bounds hold`,
  async () => {
    process.stdout.write(`WEIR_TEST_ROOM_SOAK_SEED=${SEED}\n`);
    await using stack = new AsyncDisposableStack();
    const random = randomFrom(SEED);
    const origin = await startBlobOrigin(stack);
    const blobs = workingSet(random);
    origin.add("app", ...blobs);
    const weir = await startWeir(stack, {
      nodeOptions: usualNodeOptions(),
      config: {
        upstreams: { "registry.example": origin.upstream },
        routing: { default: "registry.example" },
        telemetry: { logLevel: "warn" },
      },
      env: { ...process.env, WEIR_STORAGE_MAX_SIZE: String(MAX_SIZE) },
    });
    const held = join(weir.root, "docker/registry/v2/blobs");
    const fills = (): Promise<number> => metricOf(weir.adminUrl, "weir_fills_in_flight");
    const account = (): Promise<number> => metricOf(weir.adminUrl, "weir_storage_bytes");
    const agrees = async (): Promise<boolean> => du(held) === (await account());

    const untilMs = Date.now() + SECONDS * 1000;
    let pulls = 0;
    const client = async (): Promise<void> => {
      while (Date.now() < untilMs) {
        // Some are asked for far more often than others.
        const blob = blobs[Math.floor(blobs.length * random() ** 2)];
        if (blob === undefined) throw new Error("nothing to pull");
        await pull(`${weir.url}/v2/app/blobs/${blob.digest}`, blob, random);
        pulls += 1;
      }
    };
    const samples: Sample[] = [];
    const over: string[] = [];
    const watch = async (): Promise<void> => {
      while (Date.now() < untilMs) {
        const before = await fills();
        const bytes = du(held, join(weir.root, "spool"));
        const inFlight = Math.max(before, await fills(), CLIENTS) * LARGEST;
        if (bytes > HIGH + inFlight) over.push(`${bytes} of ${HIGH} and ${inFlight} in flight`);
        samples.push(await sample(weir));
        await delay(500);
      }
    };
    await Promise.all([watch(), ...Array.from({ length: CLIENTS }, client)]);
    await fillsOver(weir);

    expect(over).toEqual([]);
    expect(await metricOf(weir.adminUrl, "weir_storage_evicted_bytes_total", { reason: "room" })).toBeGreaterThan(0);
    await until("the account to agree with du", agrees, AGREE_MS);
    expect(await account()).toBeLessThanOrEqual(HIGH);
    expect(await unsound(weir.root)).toEqual([]);

    const half = Math.floor(samples.length / 2);
    const most = (some: readonly Sample[], of: keyof Sample): number => Math.max(...some.map((one) => one[of]));
    const growth = {
      memory: most(samples.slice(half), "rss") - most(samples.slice(0, half), "rss"),
      descriptors: most(samples.slice(half), "descriptors") - most(samples.slice(0, half), "descriptors"),
    };
    process.stdout.write(
      `${pulls} pulls of ${blobs.length} blobs; ${JSON.stringify({ growth, last: samples.at(-1) })}\n`,
    );
    expect(growth.memory).toBeLessThan(MEMORY_SLACK);
    expect(growth.descriptors).toBeLessThan(4 * CLIENTS);

    await weir.stop();
    await weir.start();
    await until("everything to be counted again", agrees, AGREE_MS);
  },
  (SECONDS + 300) * 1000,
);
