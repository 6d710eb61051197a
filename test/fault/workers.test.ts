import { readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type BlobOrigin, startBlobOrigin } from "../support/blob-origin.ts";
import { type BlobPull, getBlob } from "../support/blob-pull.ts";
import { connectionsOf } from "../support/connections.ts";
import { type BlobContent, seededBlob, stampedBlob } from "../support/fill-sources.ts";
import { expectStatus, hubUpstream } from "../support/hub-weir.ts";
import { smallImage } from "../support/images.ts";
import { metricOf } from "../support/metrics.ts";
import { httpRequest } from "../support/network.ts";
import { freePort, tempFolder, until } from "../support/processes.ts";
import { startRedis } from "../support/redis.ts";
import { startHubDouble } from "../support/registries/dockerhub.ts";
import { describeS3, objectsBelow, s3Config, s3Section } from "../support/s3-store.ts";
import { heldBlobs, spooledFiles } from "../support/store-files.ts";
import { toolTest } from "../support/tools.ts";
import { startWeir, type WeirProcess, workersOf } from "../support/weir.ts";
import { startWeirs } from "../support/weir-fleet.ts";

const MiB = 1024 * 1024;
const WHOLE_TEST_MS = 240_000;

/** Where the origin's CDN listens. */
const CDN_HOST = "127.0.0.2";

let stack: AsyncDisposableStack;
let origin: BlobOrigin;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  origin = await startBlobOrigin(stack);
});

afterEach(() => stack.disposeAsync());

function start(more: Readonly<Record<string, unknown>> = {}): Promise<WeirProcess> {
  return startWeir(stack, {
    workers: 3,
    config: { upstreams: { "registry.example": origin.upstream, ...more } },
  });
}

function pull(weir: WeirProcess, blob: BlobContent) {
  return getBlob(`${weir.url}/v2/registry.example/app/blobs/${blob.digest}`);
}

/** Begins pulls of one download: none of them comes when it is over. */
async function together<T>(blob: BlobContent, begin: () => Promise<T>): Promise<T> {
  origin.sendUpTo(MiB);
  const begun = await begin();
  origin.sendUpTo(blob.size);
  return begun;
}

/** The worker that downloads, and how many of all clients are its own. */
async function downloader(weir: WeirProcess, all: number): Promise<{ readonly pid: number; readonly clients: number }> {
  const port = Number(new URL(weir.url).port);
  let workers: readonly { readonly pid: number; readonly clients: number; readonly downloads: boolean }[] = [];
  // Where others come and go the kernel's table may leave one out.
  await until("every connection to be seen", async () => {
    workers = await Promise.all(
      (await workersOf(weir)).map(async (pid) => {
        const connections = await connectionsOf(pid);
        return {
          pid,
          clients: connections.filter(({ localPort }) => localPort === port).length,
          downloads: connections.some(({ remoteHost }) => remoteHost === CDN_HOST),
        };
      }),
    );
    return workers.some(({ downloads }) => downloads) && workers.reduce((sum, { clients }) => sum + clients, 0) === all;
  });
  const found = workers.find(({ downloads }) => downloads);
  if (found === undefined) throw new Error("nobody downloads");
  return found;
}

/** Pulls from different workers: each connection goes to the next. */
async function pulls(weir: WeirProcess, blob: BlobContent, count: number): Promise<BlobPull[]> {
  return await Promise.all(Array.from({ length: count }, () => pull(weir, blob)));
}

test(
  "C1 three workers, 30 clients, one cold blob: its bytes cross the wire once",
  async () => {
    const weir = await start();
    expect(await workersOf(weir)).toHaveLength(3);
    const blob = stampedBlob("workers", 32 * MiB);
    origin.add("app", blob);
    const all = await together(blob, () => pulls(weir, blob, 30));
    const ends = await Promise.all(all.map((one) => one.compare(blob)));
    expect(ends).toEqual(Array(30).fill({ bytes: blob.size, complete: true }));
    expect(origin.ledger).toEqual([[0, blob.size]]);
    await until("the blob to be kept", async () => (await heldBlobs(weir.root)).length === 1);
    await until("all workers to be done", async () => (await metricOf(weir.adminUrl, "weir_fills_in_flight")) === 0);
    const again = await Promise.all((await pulls(weir, blob, 9)).map((one) => one.compare(blob)));
    expect(again).toEqual(Array(9).fill({ bytes: blob.size, complete: true }));
    expect(origin.ledger).toHaveLength(1);
    // The metrics of all of them are one Weir's.
    const labels = { upstream: "registry.example", kind: "blob", method: "GET" };
    await until("all requests to be counted", async () => {
      return (await metricOf(weir.adminUrl, "weir_http_requests_total", labels)) === 39;
    });
    expect(await metricOf(weir.adminUrl, "weir_upstream_received_bytes_total", { kind: "blob" })).toBe(blob.size);
    await until("the storage to be counted", async () => (await metricOf(weir.adminUrl, "weir_storage_blobs")) === 1);
  },
  WHOLE_TEST_MS,
);

test(
  "C1 a worker that downloads is killed: clients of the others see one unbroken body, and it is replaced",
  async () => {
    const weir = await start();
    const blob = stampedBlob("workers-killed", 32 * MiB);
    origin.add("app", blob);
    origin.sendUpTo(12 * MiB);
    const all = await pulls(weir, blob, 9);
    await Promise.all(all.map((one) => one.take(8 * MiB)));
    const { pid: downloading, clients } = await downloader(weir, 9);
    process.kill(downloading, "SIGKILL");
    await until("the worker to be replaced", async () => {
      const now = await workersOf(weir);
      return now.length === 3 && !now.includes(downloading);
    });
    origin.sendUpTo(blob.size);
    const ends = await Promise.all(all.map((one) => one.compare(blob).catch(() => undefined)));
    const whole = ends.filter((end) => end?.complete === true);
    // Its own clients have lost their connection.
    expect(clients).toBeGreaterThan(0);
    expect(whole).toHaveLength(9 - clients);
    const sent = origin.ledger.reduce((sum, [, bytes]) => sum + bytes, 0);
    expect(sent).toBeLessThanOrEqual(blob.size + 4 * MiB);
    const replaced = await Promise.all((await pulls(weir, blob, 6)).map((one) => one.compare(blob)));
    expect(replaced).toEqual(Array(6).fill({ bytes: blob.size, complete: true }));
  },
  WHOLE_TEST_MS,
);

test(
  "C4 two workers count as two processes: one GET of a cold tag, and what one has found absent none asks for",
  async () => {
    const hub = await startHubDouble(stack);
    const image = smallImage("workers");
    hub.add("library/app", image, ["1"]);
    const weir = await start({ "docker.io": hubUpstream(hub) });
    const get = (path: string) => httpRequest(`${weir.url}/v2/docker.io/library/app/manifests/${path}`);
    for (const reply of await Promise.all(Array.from({ length: 12 }, () => get("1")))) expectStatus(200, reply);
    for (let i = 0; i < 12; i += 1) expectStatus(404, await get("none"));
    const asked = (tag: string): number =>
      hub.ledger.filter(({ path, status }) => path.endsWith(`/manifests/${tag}`) && status !== 401).length;
    expect([asked("1"), asked("none")]).toEqual([1, 1]);
  },
  WHOLE_TEST_MS,
);

test(
  "after a restart, a blob that one worker has read whole is handed over by all of them",
  async () => {
    const weir = await start();
    const blob = stampedBlob("workers-whole", 8 * MiB);
    origin.add("app", blob);
    await (await pull(weir, blob)).compare(blob);
    await until("the blob to be kept", async () => (await heldBlobs(weir.root)).length === 1);
    await weir.stop();
    const config = JSON.parse(await readFile(weir.file, "utf8"));
    Object.assign(config.server, { accelRedirect: "/files/", trustedProxies: ["127.0.0.1"] });
    await writeFile(weir.file, JSON.stringify(config));
    await weir.start();
    const url = `${weir.url}/v2/registry.example/app/blobs/${blob.digest}`;
    const whole = await getBlob(url, { "x-forwarded-for": "203.0.113.7" });
    expect(whole.headers).not.toHaveProperty("x-accel-redirect");
    expect(await whole.compare(blob)).toEqual({ bytes: blob.size, complete: true });
    // Messages come in order: the parent has been told before all of them have told it of the first of these, and the workers have
    // heard before they tell of the second.
    for (const heads of [9, 18]) {
      for (const reply of await Promise.all(Array.from({ length: 9 }, () => httpRequest(url, { method: "HEAD" })))) {
        expectStatus(200, reply);
      }
      await until("all HEADs to be counted", async () => {
        return (await metricOf(weir.adminUrl, "weir_http_requests_total", { kind: "blob", method: "HEAD" })) === heads;
      });
    }
    const headers = { "x-forwarded-for": "203.0.113.7", range: "bytes=0-3" };
    const replies = await Promise.all(Array.from({ length: 9 }, () => httpRequest(url, { headers })));
    expect(replies.map((reply) => typeof reply.headers["x-accel-redirect"])).toEqual(Array(9).fill("string"));
  },
  WHOLE_TEST_MS,
);

test(
  "O2 SIGTERM: bodies in flight finish, every process ends, and what is unfinished is kept for resuming",
  async () => {
    const weir = await start();
    const [small, large] = [seededBlob("small", 2 * MiB), stampedBlob("large", 32 * MiB)];
    origin.add("app", small, large);
    await (await pull(weir, small)).compare(small);
    await until("the blob to be kept", async () => (await heldBlobs(weir.root)).length === 1);
    origin.sendUpTo(16 * MiB);
    const lost = await pull(weir, large);
    await lost.take(8 * MiB);
    lost.leave();
    const held = await Promise.all(
      (await pulls(weir, small, 6)).map(async (one) => ({ one, start: await one.take(MiB) })),
    );
    const workers = await workersOf(weir);
    const ended = weir.stop();
    const ends = await Promise.all(held.map(({ one }) => one.compare(small)));
    expect(ends).toEqual(Array(6).fill({ bytes: small.size, complete: true }));
    expect(await ended).toEqual({ code: 0, signal: null });
    for (const pid of workers) expect(() => process.kill(pid, 0)).toThrow("ESRCH");
    expect((await spooledFiles(weir.root)).filter((name) => name.endsWith(".json"))).toHaveLength(1);
  },
  WHOLE_TEST_MS,
);

test(
  "the parent is killed: its workers end, and the storage is free for the next",
  async () => {
    const weir = await start();
    const workers = await workersOf(weir);
    await weir.kill();
    await until("the workers to end", () =>
      workers.every((pid) => {
        try {
          process.kill(pid, 0);
          return false;
        } catch {
          return true;
        }
      }),
    );
    await weir.start();
    expectStatus(200, await httpRequest(`${weir.url}/v2/`));
  },
  WHOLE_TEST_MS,
);

test(
  "O3 a changed configuration reaches every worker",
  async () => {
    const weir = await start();
    const blob = seededBlob("reload", 1000);
    origin.add("app", blob);
    const config = JSON.parse(await readFile(weir.file, "utf8"));
    config.upstreams["registry.example"].deny = ["app"];
    await writeFile(weir.file, JSON.stringify(config));
    weir.process.kill("SIGHUP");
    await until("all of them to refuse", async () => {
      const url = `${weir.url}/v2/registry.example/app/blobs/${blob.digest}`;
      const replies = await Promise.all(Array.from({ length: 6 }, () => httpRequest(url, { method: "HEAD" })));
      return replies.every(({ status }) => status === 403);
    });
  },
  WHOLE_TEST_MS,
);

test(
  "a worker that cannot start anew is tried again, the others serve meanwhile, and it is back when it can",
  async () => {
    const weir = await start();
    const blob = seededBlob("broken", 1000);
    origin.add("app", blob);
    const config = await readFile(weir.file, "utf8");
    const [victim] = await workersOf(weir);
    if (victim === undefined) throw new Error("there are no workers");
    await writeFile(weir.file, "server: nonsense");
    process.kill(victim, "SIGKILL");
    const ended = (): Promise<number> => metricOf(weir.adminUrl, "weir_workers_ended_total");
    await until("it to fail several times", async () => (await ended()) >= 3);
    expect(await (await pull(weir, blob)).compare(blob)).toEqual({ bytes: blob.size, complete: true });
    expectStatus(200, await httpRequest(`${weir.adminUrl}/readyz`));
    await writeFile(weir.file, config);
    await until("it to be back", async () => (await metricOf(weir.adminUrl, "weir_workers")) === 3);
    expect(await workersOf(weir)).toHaveLength(3);
  },
  WHOLE_TEST_MS,
);

toolTest(
  ["redis-server"],
  "C1 two replicas of two workers each, over Redis: one download for all four processes, each on a port of its own",
  async () => {
    const ports = await Promise.all([adjacentPorts(2), adjacentPorts(2)]);
    const weirs = await startWeirs(stack, {
      replicas: 2,
      workers: 2,
      redis: await startRedis(stack),
      cluster: (replica) => ({ listen: `127.0.0.1:${ports[replica]}` }),
      config: { upstreams: { "registry.example": origin.upstream } },
    });
    const blob = stampedBlob("workers-redis", 24 * MiB);
    origin.add("app", blob);
    const all = await together(blob, () => Promise.all(weirs.map((weir) => pulls(weir, blob, 6))));
    const ends = await Promise.all(all.flat().map((one) => one.compare(blob)));
    expect(ends).toEqual(Array(12).fill({ bytes: blob.size, complete: true }));
    expect(origin.ledger).toEqual([[0, blob.size]]);
    for (const port of ports.flatMap((first) => [first, first + 1])) {
      expect((await httpRequest(`http://127.0.0.1:${port}/v1/fill`)).status).toBe(403);
    }
  },
  WHOLE_TEST_MS,
);

describeS3("workers over a bucket", (server) => {
  test(
    "C1 two workers: one download, one object, and a hit from every one of them",
    async () => {
      const s3 = s3Config(server());
      const weir = await startWeir(stack, {
        workers: 2,
        config: {
          storage: { driver: "s3", s3: s3Section(s3), spool: { dir: join(await tempFolder(stack), "spool") } },
          upstreams: { "registry.example": origin.upstream },
        },
      });
      const blob = stampedBlob("workers-s3", 12 * MiB);
      origin.add("app", blob);
      const all = await together(blob, () => pulls(weir, blob, 6));
      expect(await Promise.all(all.map((one) => one.compare(blob)))).toEqual(
        Array(6).fill({ bytes: blob.size, complete: true }),
      );
      await until("all workers to be done", async () => (await metricOf(weir.adminUrl, "weir_fills_in_flight")) === 0);
      const hex = blob.digest.slice("sha256:".length);
      const kept = (await objectsBelow(server(), s3.prefix)).filter((key) => key.endsWith(`${hex}/data`));
      expect(kept).toHaveLength(1);
      const again = await pulls(weir, blob, 4);
      expect(await Promise.all(again.map((one) => one.compare(blob)))).toEqual(
        Array(4).fill({ bytes: blob.size, complete: true }),
      );
      expect(origin.ledger).toEqual([[0, blob.size]]);
    },
    WHOLE_TEST_MS,
  );
});

/** The first of so many free ports in a row. */
async function adjacentPorts(count: number): Promise<number> {
  for (;;) {
    const first = await freePort();
    const free = await Promise.all(Array.from({ length: count }, (_, i) => isFree(first + i)));
    if (free.every((one) => one)) return first;
  }
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  return await new Promise((resolve) => {
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}
