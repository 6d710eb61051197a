import { mkdtemp } from "node:fs/promises";
import { join } from "node:path";
import type { Bench, BenchCase, Prepared, Subject } from "../bench.ts";
import { SkipError } from "../bench.ts";
import { type Blob, MIB } from "../content.ts";
import type { Peer, Weir } from "../peers.ts";

/** A server that holds the blobs, by the name that the figures have. */
export interface Server {
  readonly name: string;
  readonly peer: Peer;
}

const NGINX = "nginx";
const NGINX_NOPUSH = "nginx, tcp_nopush";
const HELD = "GB/s";
/** Of rounds of less than half a second, where most of a request is the server's own work: V8 goes on compiling for some 20,000 requests. */
const WARM_UPS = 3;

export const blobLarge: BenchCase = {
  name: "blob-large",
  title: "A held blob of 1 GiB",
  needs: ["nginx", "python3"],
  gib: 5,
  prepare: async (bench) => {
    const blobs = await bench.content.blobs(1, 1024 * MIB);
    const origin = await bench.origin();
    const servers = [
      { name: "weir, 2 workers", peer: await holding(bench, origin, blobs, 2) },
      { name: "weir, 1 worker", peer: await holding(bench, origin, blobs, 1) },
      ...(await statics(bench)),
      ...(await registries(bench, blobs, origin)),
    ];
    return byClients(bench, servers, blobs, [1, 8, 64], HELD);
  },
};

export const blobs128m: BenchCase = {
  name: "blobs-128m",
  title: "Eight held blobs of 128 MiB",
  needs: ["nginx", "python3"],
  gib: 4,
  prepare: async (bench) => {
    const blobs = await bench.content.blobs(8, 128 * MIB);
    const origin = await bench.origin();
    const weir = { name: "weir, 2 workers", peer: await holding(bench, origin, blobs, 2) };
    return byClients(bench, [weir, ...(await statics(bench))], blobs, [8, 64], HELD);
  },
};

export const blobs64k: BenchCase = {
  name: "blobs-64k",
  title: "64 held blobs of 64 KiB",
  needs: ["nginx", "python3"],
  gib: 1,
  prepare: async (bench) => {
    const blobs = await bench.content.blobs(64, MIB / 16);
    const origin = await bench.origin();
    const servers = [
      { name: "weir, 2 workers", peer: await holding(bench, origin, blobs, 2) },
      { name: "weir, 1 worker", peer: await holding(bench, origin, blobs, 1) },
      ...(await statics(bench)),
      ...(await registries(bench, blobs, undefined)),
      ...(await registries(bench, blobs, origin)),
    ];
    return { ...byClients(bench, servers, blobs, [8, 64], "requests/s"), warmUps: WARM_UPS };
  },
};

export const accel: BenchCase = {
  name: "accel",
  title: "A held blob of 1 GiB behind nginx, with server.accelRedirect",
  needs: ["nginx", "python3"],
  gib: 3,
  prepare: async (bench) => {
    const blobs = await bench.content.blobs(1, 1024 * MIB);
    const origin = await bench.origin();
    const weir = await accelerating(bench, origin);
    await pull(bench, weir, blobs);
    const servers = [
      { name: "weir behind nginx", peer: await accelerated(bench, weir, "") },
      { name: "weir behind nginx, tcp_nopush", peer: await accelerated(bench, weir, "tcp_nopush on;") },
      ...(await statics(bench)),
    ];
    return byClients(bench, servers, blobs, [1, 8, 64], HELD);
  },
};

/** A Weir that has pulled the blobs. */
export async function holding(bench: Bench, origin: Peer, blobs: readonly Blob[], workers: number): Promise<Weir> {
  const weir = await bench.weir(origin, { workers });
  await pull(bench, weir, blobs);
  return weir;
}

async function pull(bench: Bench, peer: Peer, blobs: readonly Blob[]): Promise<void> {
  const paths = blobs.map(({ path }) => path);
  await bench.discard(peer, { paths, clients: Math.min(3, paths.length), requests: paths.length });
}

/** nginx over the content itself, both ways. */
export async function statics(bench: Bench): Promise<readonly Server[]> {
  const server = (more: string): string =>
    `keepalive_requests 1000000; ${more} server { listen 127.0.0.1:PORT; ${bench.content.locations()} }`;
  return [
    { name: NGINX, peer: await bench.nginx(2, server("")) },
    { name: NGINX_NOPUSH, peer: await bench.nginx(2, server("tcp_nopush on;")) },
  ];
}

/** docker-registry that holds the blobs, where it is installed: a pull-through one of `origin`, or a plain one. */
export async function registries(
  bench: Bench,
  blobs: readonly Blob[],
  origin: Peer | undefined,
): Promise<readonly Server[]> {
  if (bench.peerProgram("docker-registry") === undefined) return [];
  const data = join(await mkdtemp(join(bench.folder, "held-")), "data");
  await bench.content.layOut(data, blobs);
  const name = origin === undefined ? "docker-registry, plain" : "docker-registry, proxy";
  return [{ name, peer: await bench.registry(origin, data) }];
}

async function accelerating(bench: Bench, origin: Peer): Promise<Weir> {
  const server = { accelRedirect: "/internal-blobs/", trustedProxies: ["127.0.0.1"] };
  try {
    return await bench.weir(origin, { workers: 2, server });
  } catch (error) {
    throw new SkipError(
      `Weir does not start with server.accelRedirect: ${String(error).replaceAll(/\s+/g, " ").trim()}`,
    );
  }
}

/** nginx that asks Weir, and sends what Weir points to, as config/nginx/accel.conf has it. */
async function accelerated(bench: Bench, weir: Weir, more: string): Promise<Peer> {
  const front = await bench.nginx(
    2,
    `keepalive_requests 1000000; ${more}
     upstream weir { server ${new URL(weir.base).host}; keepalive 64; }
     server {
       listen 127.0.0.1:PORT;
       location / {
         proxy_pass http://weir; proxy_http_version 1.1; proxy_set_header Connection "";
         proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr; proxy_max_temp_file_size 0;
       }
       location /internal-blobs/ { internal; alias ${weir.data}/; }
     }`,
  );
  return { ...front, behind: weir };
}

/** Every server under each number of clients, server by server, so that all of them see the same moments of the machine. */
function byClients(
  bench: Bench,
  servers: readonly Server[],
  blobs: readonly Blob[],
  counts: readonly number[],
  metric: "GB/s" | "requests/s",
): Prepared {
  const paths = blobs.map(({ path }) => path);
  const seconds = bench.loadMs(servers.length * counts.length) / 1000;
  const subjects = counts.flatMap((clients) =>
    servers.map(
      ({ name, peer }): Subject => ({
        server: name,
        load: clients === 1 ? "1 client" : `${clients} clients`,
        measure: () => bench.bodies(peer, { paths, clients, seconds }, metric),
      }),
    ),
  );
  return { subjects, control: { server: NGINX, metric }, warmUps: 1 };
}
