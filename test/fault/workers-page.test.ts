/** The status page of a Weir with several workers: the parent shows what all of them do, and what they have written. */
import { afterEach, beforeEach, expect, test } from "vitest";
import { type BlobOrigin, startBlobOrigin } from "../support/blob-origin.ts";
import { getBlob } from "../support/blob-pull.ts";
import { stampedBlob } from "../support/fill-sources.ts";
import { expectStatus, hubUpstream } from "../support/hub-weir.ts";
import { smallImage } from "../support/images.ts";
import { httpRequest } from "../support/network.ts";
import { freePort, until } from "../support/processes.ts";
import { type HubDouble, startHubDouble } from "../support/registries/dockerhub.ts";
import { startWeir, type WeirProcess } from "../support/weir.ts";

const MiB = 1 << 20;
const WHOLE_TEST_MS = 240_000;
const TOKEN = "an-admin-token-of-some-length";
const CLIENTS = 9;
const PULLS = 12;

let stack: AsyncDisposableStack;
let hub: HubDouble;
let origin: BlobOrigin;
let weir: WeirProcess;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  hub = await startHubDouble(stack);
  hub.add("library/app", smallImage("app"), ["1"]);
  origin = await startBlobOrigin(stack);
  weir = await startWeir(stack, {
    workers: 3,
    env: { WEIR_ADMIN_TOKEN: TOKEN },
    config: {
      upstreams: {
        // What a tag means is asked each time.
        "docker.io": { ...hubUpstream(hub), freshness: { default: "0s" } },
        "blobs.example": origin.upstream,
        "dead.example": { endpoints: [`http://127.0.0.1:${await freePort()}`] },
      },
    },
    secrets: [TOKEN],
  });
});

afterEach(() => stack.disposeAsync());

async function html(path: string): Promise<string> {
  const reply = await httpRequest(`${weir.adminUrl}${path}`, { headers: { authorization: `Bearer ${TOKEN}` } });
  return expectStatus(200, reply).body.toString();
}

/** What stands on a page, without its markup. */
async function text(path: string): Promise<string> {
  const inline = (await html(path)).replaceAll("</span>", "");
  return inline.replaceAll(/<[^>]*>/g, " ").replaceAll(/\s+/g, " ");
}

/** Each connection goes to the next worker. */
async function pull(name: string): Promise<string> {
  const reply = await httpRequest(`${weir.url}/v2/${name}`);
  return String(reply.headers["x-request-id"]);
}

test(
  "one download, whichever worker has it, with the readers of all of them",
  async () => {
    const blob = stampedBlob("workers-page", 16 * MiB);
    origin.add("app", blob);
    origin.sendUpTo(8 * MiB);
    const url = `${weir.url}/v2/blobs.example/app/blobs/${blob.digest}`;
    const readers = await Promise.all(Array.from({ length: CLIENTS }, () => getBlob(url)));
    await Promise.all(readers.map((reader) => reader.take(4 * MiB)));
    await until("all readers to be told of", async () =>
      (await text("/page")).includes(`${CLIENTS} clients read along`),
    );
    expect(await text("/page")).toMatch(/Downloads 1 /);
    origin.sendUpTo(blob.size);
    await Promise.all(readers.map((reader) => reader.compare(blob)));
    await until("it to be over", async () => (await text("/page")).includes("Downloads 0 "));
    await until("it to be held", async () => (await text("/page/held")).includes("blobs.example/app"));
  },
  WHOLE_TEST_MS,
);

test(
  "what was pulled through any of them is held, and its pulls are told of, until it is purged",
  async () => {
    const ids = await Promise.all(Array.from({ length: PULLS }, () => pull("docker.io/library/app/manifests/1")));
    await until("it to be held", async () => (await text("/page/held")).includes("docker.io/library/app"));
    expect(await html("/page/repository?upstream=docker.io&repository=library/app")).toContain(
      smallImage("app").root.digest,
    );
    const pulls = await html("/page/pulls");
    for (const id of ids) expect(pulls).toContain(id);
    expectStatus(
      200,
      await httpRequest(`${weir.adminUrl}/control/purge`, {
        method: "POST",
        headers: { authorization: `Bearer ${TOKEN}` },
        body: Buffer.from(JSON.stringify({ reference: "app" })),
      }),
    );
    await until("it to be gone", async () => !(await text("/page/held")).includes("docker.io/library/app"));
  },
  WHOLE_TEST_MS,
);

test(
  "a tag that one of them has found to have moved is told as it is now",
  async () => {
    const path = "/page/repository?upstream=docker.io&repository=library/app";
    await pull("docker.io/library/app/manifests/1");
    expect(await html(path)).toContain(smallImage("app").root.digest);
    hub.add("library/app", smallImage("moved"), ["1"]);
    await pull("docker.io/library/app/manifests/1");
    await until("it to be told", async () => (await html(path)).includes(smallImage("moved").root.digest));
  },
  WHOLE_TEST_MS,
);

test(
  "what any of them has found out about an upstream is told",
  async () => {
    expect(await text("/page")).not.toContain("ECONNREFUSED");
    await pull("dead.example/app/manifests/1");
    expect(await text("/page")).toContain("ECONNREFUSED");
  },
  WHOLE_TEST_MS,
);
