/** What the workers of a Weir have in memory, while others write what it rests on; the content itself stays held. */
import { rm } from "node:fs/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type BlobOrigin, startBlobOrigin } from "../support/blob-origin.ts";
import { type BlobContent, stampedBlob } from "../support/fill-sources.ts";
import { expectStatus, hubUpstream } from "../support/hub-weir.ts";
import { smallImage } from "../support/images.ts";
import { fillsOver, metricOf } from "../support/metrics.ts";
import { type HttpReply, httpRequest } from "../support/network.ts";
import { until } from "../support/processes.ts";
import { type HubDouble, startHubDouble } from "../support/registries/dockerhub.ts";
import { heldBlobs, layerLink } from "../support/store-files.ts";
import { startWeir, type WeirProcess, workersOf } from "../support/weir.ts";

const WHOLE_TEST_MS = 240_000;
const TOKEN = "an-admin-token-of-some-length";
const ACCOUNT = { username: "weir", password: "dckr-pat-workers" };
const WORKERS = 3;
/** Each connection goes to the next worker: all of them are asked, each several times. */
const CLIENTS = 4 * WORKERS;
/** Long enough for any machine, and not for what is in memory to become too old, which it is after a minute. */
const FORGOTTEN_MS = 30_000;

let stack: AsyncDisposableStack;
let hub: HubDouble;
let origin: BlobOrigin;
let blob: BlobContent;
let weir: WeirProcess;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  hub = await startHubDouble(stack, { accounts: [ACCOUNT] });
  origin = await startBlobOrigin(stack);
  blob = stampedBlob("workers-memory", 1000);
  for (const repository of ["app", "other"]) origin.add(repository, blob);
  weir = await startWeir(stack, {
    workers: WORKERS,
    env: { WEIR_ADMIN_TOKEN: TOKEN },
    config: {
      upstreams: {
        "docker.io": { ...hubUpstream(hub), credentials: [{ label: "ci", ...ACCOUNT }] },
        "blobs.example": origin.upstream,
      },
      access: { privateToAnonymous: true },
    },
    secrets: [TOKEN, ACCOUNT.password],
  });
});

afterEach(() => stack.disposeAsync());

function fromAll(path: string): Promise<readonly HttpReply[]> {
  return Promise.all(Array.from({ length: CLIENTS }, () => httpRequest(`${weir.url}/v2/${path}`)));
}

async function allHit(path: string): Promise<boolean> {
  const replies = await fromAll(path);
  return replies.every((reply) => /; hit/.test(String(expectStatus(200, reply).headers["cache-status"])));
}

/** Every worker has it in memory from then on. */
async function warm(...paths: readonly string[]): Promise<void> {
  for (const path of paths) await until("all of them to have it", () => allHit(path));
  // What one looks for while another one writes is not kept; whoever has followed a download writes its link at the end.
  await fillsOver(weir);
  for (let round = 0; round < 2; round += 1) {
    for (const path of paths) expect(await allHit(path)).toBe(true);
  }
}

/** All of them answer so, before what they have in memory would be too old. */
async function allAnswer(status: number, path: string): Promise<void> {
  const isSo = async (): Promise<boolean> => (await fromAll(path)).every((reply) => reply.status === status);
  await until("none of them to answer from memory", isSo, FORGOTTEN_MS);
}

const of = (repository: string): string => `blobs.example/${repository}/blobs/${blob.digest}`;

test(
  "C4 what is purged from one repository every worker asks for anew, though another one still has it",
  async () => {
    await warm(of("app"), of("other"));
    origin.remove("app", blob);
    origin.forget();
    const purged = await httpRequest(`${weir.adminUrl}/control/purge`, {
      method: "POST",
      headers: { authorization: `Bearer ${TOKEN}` },
      body: Buffer.from(JSON.stringify({ reference: "blobs.example/app" })),
    });
    expectStatus(200, purged);
    expect(await heldBlobs(weir.root)).toEqual([blob.digest]);
    await allAnswer(404, of("app"));
    expect(await allHit(of("other"))).toBe(true);
    expect(new Set(origin.asked)).toEqual(new Set([`HEAD app/${blob.digest}`]));
    expect(origin.gets).toEqual([]);
  },
  WHOLE_TEST_MS,
);

test(
  "C4 M5 when one worker learns that Weir may read a repository no more, none gives what it has in memory of it",
  async () => {
    const image = smallImage("workers-memory");
    hub.add("team/vault", image, ["1", "2"], "private");
    const held = `docker.io/team/vault/blobs/${image.blobs[0]?.digest}`;
    const ask = (tag: string) => httpRequest(`${weir.url}/v2/docker.io/team/vault/manifests/${tag}`);
    // Before any blob: whether everybody may read it is asked with a manifest.
    expectStatus(200, await ask("1"));
    await warm(held);
    hub.removeRepository("team/vault");
    expectStatus(404, await ask("2"));
    await allAnswer(404, held);
  },
  WHOLE_TEST_MS,
);

test(
  "C4 when a worker has died that may have written, the others look anew",
  async () => {
    await warm(of("app"));
    const [victim = 0] = await workersOf(weir);
    origin.remove("app", blob);
    await rm(layerLink(weir.root, "blobs.example/app", blob.digest));
    process.kill(victim, "SIGKILL");
    await until("it to be replaced", async () => {
      return !(await workersOf(weir)).includes(victim) && (await metricOf(weir.adminUrl, "weir_workers")) === WORKERS;
    });
    await allAnswer(404, of("app"));
  },
  WHOLE_TEST_MS,
);
