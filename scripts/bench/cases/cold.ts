import { access, mkdtemp, open, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type Bench, type BenchCase, type Prepared, type Subject, until } from "../bench.ts";
import { type Blob, MIB, placeOf } from "../content.ts";
import { median } from "../figures.ts";
import type { Peer } from "../peers.ts";
import type { Sample } from "../result.ts";

/** A server that begins with nothing. */
export interface Fresh {
  readonly peer: Peer;
  /** Where it keeps what it holds; removed when the round is over. */
  readonly folder: string;
  /** The storage's root, where blobs that are verified have a place. */
  readonly root: string | undefined;
}

export interface Cold {
  readonly origin: Peer;
  /** A line a request: the bytes of its body. */
  readonly log: string;
  readonly warmUps: readonly Blob[];
}

/** A server with an empty store, by the name that the figures have. */
export interface Starter {
  readonly server: string;
  readonly start: () => Promise<Fresh>;
}

/** Some blobs before it counts: code is compiled and connections are open, as in a server that has run for a minute. */
const WARM_UPS = 8;
const WARM_UP_BYTES = 16 * MIB;
/** More than any of the servers takes for itself. */
const PROCESS_BYTES = 512 * MIB;
/** At a time, as a docker pull has it. */
const AT_ONCE = 3;

export const cold1g: BenchCase = {
  name: "cold-1g",
  title: "A cold blob of 1 GiB, 1 client",
  needs: ["nginx", "python3"],
  gib: 6,
  prepare: async (bench) => {
    const blobs = await bench.content.blobs(1, 1024 * MIB);
    const cold = await startCold(bench);
    return filling(bench, cold, blobs, { load: "1 client", clients: 1, requests: 1, untilDurable: true });
  },
};

export const coldImage: BenchCase = {
  name: "cold-image",
  title: "A cold image of 8 x 128 MiB, 3 blobs at a time",
  needs: ["nginx", "python3"],
  gib: 6,
  prepare: async (bench) => {
    const blobs = await bench.content.blobs(8, 128 * MIB);
    const cold = await startCold(bench);
    return filling(bench, cold, blobs, { load: "3 clients", clients: AT_ONCE, requests: blobs.length });
  },
};

export const coldSmall: BenchCase = {
  name: "cold-small",
  title: "200 cold blobs of 64 KiB, 32 clients",
  needs: ["nginx", "python3"],
  gib: 1,
  prepare: async (bench) => {
    const blobs = await bench.content.blobs(200, MIB / 16, "cold");
    const cold = await startCold(bench);
    const one: Starter = { server: "weir, 1 worker", start: () => freshWeir(bench, cold.origin, 1) };
    return filling(bench, cold, blobs, { load: "32 clients", clients: 32, requests: blobs.length }, [one]);
  },
};

export const firstByte: BenchCase = {
  name: "first-byte",
  title: "The first byte of a cold blob",
  needs: ["nginx", "python3"],
  gib: 3,
  prepare: async (bench) => {
    const each = 4;
    // Twice as many as are needed: should the rounds be repeated, those of the first are not cold any more.
    const blobs = await bench.content.blobs(2 * each * bench.rounds, 16 * MIB, "first byte");
    const { origin, warmUps } = await startCold(bench);
    const weir = await bench.weir(origin, { workers: 2 });
    await bench.discard(weir, { ...pathsOf(warmUps), clients: AT_ONCE, requests: warmUps.length });
    // Both take the same blob, one after the other: the file is in the system's cache for the second, and both were read before.
    const subject = (server: string, from: Peer): Subject => {
      const left = [...blobs];
      return {
        server,
        load: "1 client",
        measure: async () => {
          const paths = left.splice(0, each);
          const { firstByteMs } = await bench.discard(from, { ...pathsOf(paths), clients: 1, requests: each });
          return { values: { "first byte ms": median(firstByteMs) } };
        },
      };
    };
    bench.note(`A round is ${each} blobs of 16 MiB, one after the other; its value is their median.`);
    const subjects = [subject("direct", origin), subject("weir, 2 workers", weir)];
    return { subjects, control: { server: "direct", metric: "first byte ms" }, warmUps: 0 };
  },
};

/** An origin that counts, and blobs to become warm with. */
export async function startCold(bench: Bench, o: { readonly limitMib?: number } = {}): Promise<Cold> {
  const log = join(await mkdtemp(join(bench.folder, "origin-")), "bodies.log");
  await writeFile(log, "");
  const warmUps = await bench.content.blobs(WARM_UPS, WARM_UP_BYTES, "warm-up");
  return { origin: await bench.origin({ logTo: log, ...o }), log, warmUps };
}

/** What can stand between the clients and the origin. */
export function starters(bench: Bench, { origin }: Cold): readonly Starter[] {
  const all: Starter[] = [
    { server: "weir, 2 workers", start: () => freshWeir(bench, origin, 2) },
    { server: "nginx, proxy_cache", start: () => freshCache(bench, origin) },
  ];
  if (bench.peerProgram("docker-registry") !== undefined) {
    all.push({
      server: "docker-registry, proxy",
      start: async () => {
        const folder = await mkdtemp(join(bench.folder, "cold-"));
        const root = join(folder, "data");
        return { peer: await bench.registry(origin, root), folder, root };
      },
    });
  }
  return all;
}

export async function freshWeir(bench: Bench, origin: Peer, workers: number): Promise<Fresh> {
  const weir = await bench.weir(origin, { workers });
  return { peer: weir, folder: dirname(weir.data), root: weir.data };
}

async function freshCache(bench: Bench, origin: Peer): Promise<Fresh> {
  const folder = await mkdtemp(join(bench.folder, "cold-"));
  const peer = await bench.nginx(
    2,
    `proxy_cache_path ${folder} keys_zone=blobs:1m use_temp_path=off max_size=20g;
     server {
       listen 127.0.0.1:PORT;
       location /v2/ {
         proxy_pass ${origin.base}; proxy_http_version 1.1; proxy_set_header Connection "";
         proxy_cache blobs; proxy_cache_valid 200 1h;
         proxy_cache_lock on; proxy_cache_lock_timeout 1h; proxy_cache_lock_age 1h;
       }
     }`,
  );
  return { peer, folder, root: undefined };
}

interface Fill {
  readonly load: string;
  readonly clients: number;
  readonly requests: number;
  /** Whether to wait for the first blob to be where the server keeps what it has verified. */
  readonly untilDurable?: boolean;
}

function filling(
  bench: Bench,
  cold: Cold,
  blobs: readonly Blob[],
  fill: Fill,
  more: readonly Starter[] = [],
): Prepared {
  const subjects = [...starters(bench, cold), ...more].map(
    ({ server, start }): Subject => ({
      server,
      load: fill.load,
      measure: async () => await measureFill(bench, await start(), cold, blobs, fill),
    }),
  );
  return { subjects, control: { server: "nginx, proxy_cache", metric: "client s" }, warmUps: 0 };
}

/**
 * Takes so much of the system's memory for a file, and gives it back: a virtual machine's host takes back what is free for some
 * seconds, and having it again costs more than everything else that a cold blob does. Whoever is measured next has it at hand.
 */
async function touchMemory(folder: string, bytes: number): Promise<void> {
  const path = join(folder, "touched");
  const file = await open(path, "wx");
  try {
    const zeros = Buffer.alloc(4 * MIB);
    for (let at = 0; at < bytes; at += zeros.length) await file.write(zeros);
  } finally {
    await file.close();
    await rm(path);
  }
}

/** One download of everything through a server that has nothing of it; the server is gone afterwards. */
export async function measureFill(
  bench: Bench,
  { peer, folder, root }: Fresh,
  { log, warmUps }: Cold,
  blobs: readonly Blob[],
  { clients, requests, untilDurable = false }: Fill,
): Promise<Sample> {
  try {
    await bench.discard(peer, { ...pathsOf(warmUps), clients: AT_ONCE, requests: warmUps.length });
    const size = blobs.reduce((sum, one) => sum + one.size, 0);
    await touchMemory(folder, size + PROCESS_BYTES);
    await truncate(log);
    const [blob] = blobs;
    const place = untilDurable && root !== undefined && blob !== undefined ? placeOf(root, blob) : undefined;
    const { result, cpuSeconds, peakBytes } = await bench.watched(peer, async () => {
      const durable = place === undefined ? undefined : seenAt(place);
      const taken = await bench.discard(peer, { ...pathsOf(blobs), clients, requests });
      return { ...taken, durableMs: (await durable) ?? undefined };
    });
    const wanted = (requests / blobs.length) * size;
    if (result.bytes !== wanted) throw new Error(`${result.bytes} of ${wanted} bytes`);
    const durable = result.durableMs === undefined ? {} : { "durable s": (result.durableMs - result.startedMs) / 1000 };
    // docker-registry goes on downloading for its store when its clients have everything; stopping it ends that.
    await bench.stop(peer);
    const asked = await askedFor(log);
    return {
      values: {
        "client s": result.seconds,
        "first byte ms": median(result.firstByteMs),
        "upstream bytes": asked.bytes / size,
        "upstream GETs": asked.gets,
        ...durable,
      },
      cpu: { seconds: cpuSeconds, amount: wanted / 1e9, unit: "GB" },
      peakBytes,
    };
  } finally {
    await bench.stop(peer);
    await rm(folder, { recursive: true, force: true });
  }
}

/** When the file was there, in milliseconds since the epoch. */
async function seenAt(path: string): Promise<number> {
  return await until(`${path} to be there`, () =>
    access(path).then(
      () => Date.now(),
      () => undefined,
    ),
  );
}

/** Of what `/v2/` answers. */
const GREETING_BYTES = 2;

/** What the origin has sent so far, in answers that had a body. */
async function askedFor(log: string): Promise<{ readonly bytes: number; readonly gets: number }> {
  // nginx writes a line when the answer is over, which the last reader may know first.
  const lines = await until("the origin's log", async () => {
    const found = (await readFile(log, "utf8"))
      .split("\n")
      .map(Number)
      .filter((bytes) => bytes > GREETING_BYTES);
    return found.length > 0 ? found : undefined;
  });
  return { bytes: lines.reduce((sum, bytes) => sum + bytes, 0), gets: lines.length };
}

function pathsOf(blobs: readonly Blob[]): { readonly paths: readonly string[] } {
  return { paths: blobs.map(({ path }) => path) };
}
