/** `weir explain` as its users run it: beside a running server, without one, and in front of several workers. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { expectStatus, hubUpstream, pullByHead } from "../support/hub-weir.ts";
import { smallImage } from "../support/images.ts";
import { fillsOver } from "../support/metrics.ts";
import { httpRequest } from "../support/network.ts";
import { type CommandResult, run, until } from "../support/processes.ts";
import { startRedis } from "../support/redis.ts";
import { type HubDouble, startHubDouble } from "../support/registries/dockerhub.ts";
import { toolTest } from "../support/tools.ts";
import { startWeir, type WeirProcess } from "../support/weir.ts";

const MAIN = new URL("../../src/main.ts", import.meta.url).pathname;
const IMAGE = smallImage("explained by command");

let stack: AsyncDisposableStack;
let hub: HubDouble;
let weir: WeirProcess;

async function start(workers = 1): Promise<void> {
  weir = await startWeir(stack, {
    config: { upstreams: { "docker.io": hubUpstream(hub) }, freshness: { default: "1h" } },
    workers,
  });
  await pullByHead(weir.url, "library/app", "1", IMAGE);
  await fillsOver(weir);
  hub.clearLedger();
}

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  hub = await startHubDouble(stack);
  hub.add("library/app", IMAGE, ["1"]);
});

afterEach(() => stack.disposeAsync());

async function command(...args: readonly string[]): Promise<CommandResult> {
  return await run([process.execPath, MAIN, "explain", ...args, "--config", weir.file], { allowFailure: true });
}

describe.each([
  ["beside a running server", true],
  ["without a server", false],
] as const)("%s", (_, running) => {
  test("an image: words, JSON, and what makes no sense", async () => {
    await start();
    if (!running) await weir.stop();
    const words = await command("app:1");
    expect([words.code, words.stderr]).toEqual([0, ""]);
    expect(words.stdout).toMatch(/^reference {2}docker\.io\/library\/app:1\n/);
    expect(words.stdout).toContain(`means      ${IMAGE.root.digest}`);
    expect(words.stdout).toContain("next pull  it is answered from storage, and nobody is asked\n");
    const json = await command("app:1", "--json");
    expect(JSON.parse(json.stdout)).toMatchObject({
      done: true,
      content: { held: true },
      next: { does: "serve" },
    });
    for (const args of [["docker.io/**"], ["app"], [], ["app:1", "--request", "x"]]) {
      const { code, stdout, stderr } = await command(...args);
      expect([args, code, stdout]).toEqual([args, 2, ""]);
      expect(stderr).toMatch(/^weir: [^\n]+\n$/);
    }
    expect(hub.ledger).toEqual([]);
  });
});

test("a request: by its id beside the server, and nowhere else", async () => {
  await start();
  const reply = expectStatus(200, await httpRequest(`${weir.url}/v2/docker.io/library/app/manifests/1`));
  const id = String(reply.headers["x-request-id"]);
  await until("the request to be over", async () => (await command("--request", id)).stdout.includes("cache    hit"));
  expect(JSON.parse((await command("--request", id, "--json")).stdout)).toMatchObject({
    requests: [{ requestId: id, cache: { outcome: "hit" }, steps: [] }],
  });
  const unknown = await command("--request", "never");
  expect([unknown.code, unknown.stdout]).toEqual([1, ""]);
  expect(unknown.stderr).toContain("no request never is remembered");
  await weir.stop();
  const { code, stderr } = await command("--request", id);
  expect([code, stderr]).toEqual([2, expect.stringContaining("no server is running")]);
});

test("several workers: the one that has answered tells of the request, and any of them of the image", async () => {
  await start(2);
  const ids = await Promise.all(
    Array.from({ length: 8 }, async () => {
      const { headers } = await httpRequest(`${weir.url}/v2/docker.io/library/app/manifests/1`);
      return String(headers["x-request-id"]);
    }),
  );
  for (const id of ids) expect((await command("--request", id)).stdout).toContain("/manifests/1");
  const explained = JSON.parse((await command("app:1", "--json")).stdout);
  expect(explained).toMatchObject({ next: { does: "serve" }, room: { pinned: false } });
});

toolTest(
  ["redis-server"],
  "beside others, by Redis: whose turn it was to ask, the download, and its bytes",
  async () => {
    const redis = await startRedis(stack);
    weir = await startWeir(stack, {
      config: {
        upstreams: { "docker.io": hubUpstream(hub) },
        state: { driver: "redis", redis: { url: redis.url } },
        cluster: { listen: "127.0.0.1:0", secret: "of more than sixteen characters" },
      },
    });
    const [blob = IMAGE.root] = IMAGE.blobs;
    const path = `/v2/docker.io/library/app/blobs/${blob.digest}`;
    const headers = { "x-request-id": "the-first" };
    expectStatus(200, await httpRequest(weir.url + path, { headers }));
    let words = "";
    await until("the request to be over", async () => {
      words = (await command("--request", "the-first")).stdout;
      return words.includes("cache    miss") && words.includes(": committed");
    });
    expect(words).toContain("route    docker.io/library/app@sha256:");
    expect(words).toMatch(/turn to ask \(.*\): ours/);
    expect(words).toContain(`started the download of ${blob.digest}: committed`);
    expect(words).toMatch(/asked GET \S+ \[blob, redirect 1\]: 200 in [^,]+, \d+ B/);
  },
);
