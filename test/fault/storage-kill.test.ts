import { spawnSync } from "node:child_process";
import { randomInt } from "node:crypto";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openUpkeep } from "../../src/compose.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { VerifyFinding } from "../../src/storage/verify.ts";
import { PausingClock } from "../support/app.ts";
import { hubUpstream } from "../support/hub-weir.ts";
import { bigImage, type Image, multiArchImage, sha256, smallImage } from "../support/images.ts";
import { fillsOver, metricOf } from "../support/metrics.ts";
import { httpRequest } from "../support/network.ts";
import { tempFolder, until } from "../support/processes.ts";
import { startHubDouble } from "../support/registries/dockerhub.ts";
import { spooledFiles, unsound } from "../support/store-files.ts";
import { startWeir, type WeirProcess } from "../support/weir.ts";

/** `npm run soak:kill` asks for more. */
const KILLS = Number(process.env.WEIR_TEST_KILLS ?? 10);
const SEED = Number(process.env.WEIR_TEST_SEED ?? randomInt(2 ** 31));
const CLIENTS = 6;
const MiB = 1024 * 1024;
/** Less than the images together, so that eviction runs as well. */
const MAX_SIZE = "20MiB";

/** mulberry32: small, and good enough to pick moments. */
function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

interface Target {
  readonly path: string;
  readonly digest: string;
}

/** Asks for one thing after another until Weir is gone. What comes whole is right, whenever it was killed. */
async function client(
  url: string,
  targets: readonly Target[],
  next: () => number,
  answered: () => void,
): Promise<void> {
  for (;;) {
    const { path, digest } = targets[Math.floor(next() * targets.length)] as Target;
    let reply: Awaited<ReturnType<typeof httpRequest>>;
    try {
      reply = await httpRequest(url + path);
    } catch {
      return;
    }
    expect([path, reply.status]).toEqual([path, 200]);
    expect(sha256(reply.body)).toBe(digest);
    answered();
  }
}

/** What is wrong in the storage; undone half-writes of records count as nothing. */
async function verify(weir: WeirProcess): Promise<readonly VerifyFinding[]> {
  const config = await loadConfig({ file: weir.file, env: {}, cwd: weir.root });
  // Later than anything was written, so that nothing is passed over for being young.
  const { upkeep, close } = await openUpkeep(config, { clock: new PausingClock(Date.now() + 600_000) });
  try {
    const findings: VerifyFinding[] = [];
    const { signal } = new AbortController();
    for await (const event of upkeep.verify({ signal, bytesPerS: 2 ** 50 })) {
      if ("event" in event && event.event === "finding" && event.problem !== "incomplete") findings.push(event);
    }
    return findings;
  } finally {
    await close();
  }
}

test(
  `S2 ${KILLS} kills under load: nothing is wrong, nothing leaks, and what is counted is what du counts`,
  async () => {
    process.stdout.write(`WEIR_TEST_SEED=${SEED}\n`);
    await using stack = new AsyncDisposableStack();
    const hub = await startHubDouble(stack);
    const images: readonly Image[] = [
      ...Array.from({ length: 8 }, (_, i) => bigImage(`big ${i}`, (1 + (i % 4)) * MiB)),
      ...Array.from({ length: 4 }, (_, i) => smallImage(`small ${i}`)),
      multiArchImage("many"),
    ];
    const targets = images.flatMap((image, i): Target[] => {
      hub.add(`team/app-${i}`, image, ["1"]);
      const base = `/v2/docker.io/team/app-${i}`;
      return [
        { path: `${base}/manifests/1`, digest: image.root.digest },
        ...image.manifests.map(({ digest }) => ({ path: `${base}/manifests/${digest}`, digest })),
        ...image.blobs.map(({ digest }) => ({ path: `${base}/blobs/${digest}`, digest })),
      ];
    });
    const root = join(await tempFolder(stack), "data");
    const weir = await startWeir(stack, {
      root,
      config: {
        upstreams: { "docker.io": hubUpstream(hub) },
        storage: { driver: "filesystem", filesystem: { root }, maxSize: MAX_SIZE },
        telemetry: { logLevel: "error" },
        freshness: { default: "1s" },
      },
    });
    await weir.stop();

    for (let kill = 1; kill <= KILLS; kill += 1) {
      const next = random(SEED + kill);
      await weir.start();
      let left = 1 + Math.floor(next() * 60);
      const enough = Promise.withResolvers<void>();
      const answered = (): void => {
        left -= 1;
        if (left === 0) enough.resolve();
      };
      const clients = Array.from({ length: CLIENTS }, () => client(weir.url, targets, next, answered));
      await Promise.race([enough.promise, Promise.all(clients)]);
      await weir.kill();
      await Promise.all(clients);
      expect([kill, await unsound(weir.root)]).toEqual([kill, []]);
      expect([kill, await verify(weir)]).toEqual([kill, []]);
    }

    // Everything once more: what was broken off is gone on with, and nothing of it stays behind.
    await weir.start();
    for (const { path, digest } of targets) {
      const reply = await httpRequest(weir.url + path);
      expect([path, reply.status, sha256(reply.body)]).toEqual([path, 200, digest]);
    }
    await fillsOver(weir);
    expect(await spooledFiles(weir.root)).toEqual([]);
    await weir.stop();
    expect(await verify(weir)).toEqual([]);
    await weir.start();
    await until("the storage to be counted as du counts it", async () => {
      const { stdout } = spawnSync("du", ["-s", "-B1", join(weir.root, "docker/registry/v2/blobs")], {
        encoding: "utf8",
      });
      return (await metricOf(weir.adminUrl, "weir_storage_bytes")) === Number(stdout.split("\t")[0]);
    });
    expect(await metricOf(weir.adminUrl, "weir_storage_blobs")).toBeGreaterThan(0);
  },
  120_000 + KILLS * 20_000,
);
