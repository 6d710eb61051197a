/** One caller's budget at several replicas, which share Redis and nothing else of it. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect } from "vitest";
import { expectStatus, hubUpstream } from "../support/hub-weir.ts";
import { type Content, type Image, seededBytes, sha256, smallImage } from "../support/images.ts";
import { type HttpReply, httpRequest } from "../support/network.ts";
import { tempFolder, until } from "../support/processes.ts";
import { startRedis } from "../support/redis.ts";
import { type HubDouble, startHubDouble } from "../support/registries/dockerhub.ts";
import { basic, htpasswd } from "../support/sign-in.ts";
import { toolTest } from "../support/tools.ts";
import type { WeirProcess } from "../support/weir.ts";
import { startWeirs } from "../support/weir-fleet.ts";

const TIMEOUT_MS = 240_000;
const LAYER_BYTES = 700 * 1024;

let stack: AsyncDisposableStack;
let hub: HubDouble;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  hub = await startHubDouble(stack);
});

afterEach(() => stack.disposeAsync());

/** A repository with one manifest and one layer of most of a budget beside it. */
function add(repository: string): { readonly image: Image; readonly layer: Content } {
  const bytes = seededBytes(repository, LAYER_BYTES);
  const layer = { mediaType: "application/octet-stream", digest: sha256(bytes), bytes };
  const image = smallImage(repository);
  hub.add(repository, image, ["1"]);
  hub.add(repository, { root: image.root, manifests: [], blobs: [layer] }, []);
  return { image, layer };
}

toolTest(
  ["redis-server", "redis-cli"],
  "C2 what a caller has had fetched by one replica counts at the other, also where that has counted itself before",
  async () => {
    const [first, second, third] = ["team/first", "team/second", "team/third"].map(add);
    const file = join(await tempFolder(stack), "htpasswd");
    await writeFile(file, await htpasswd({ ci: "of-ci", other: "of-other" }));
    const redis = await startRedis(stack);
    const [one, two] = await startWeirs(stack, {
      replicas: 2,
      redis,
      config: {
        upstreams: { "docker.io": hubUpstream(hub) },
        access: { mode: "htpasswd", htpasswd: { file }, fetchBudget: { bytes: "1MiB" } },
      },
    });
    if (one === undefined || two === undefined) throw new Error("there are two");
    const get = (weir: WeirProcess, path: string, account = "ci"): Promise<HttpReply> =>
      httpRequest(`${weir.url}/v2/docker.io/${path}`, { headers: { authorization: basic(account, `of-${account}`) } });
    const counted = async (): Promise<number> => {
      const [key = ""] = (await redis.command("KEYS", "*fetch-budgets*")).split("\n");
      return Number(/"bytes":(\d+)/.exec(await redis.command("GET", key))?.[1] ?? 0);
    };
    const pull = async (weir: WeirProcess, repository: string, layer: Content | undefined): Promise<void> => {
      const before = await counted();
      expectStatus(200, await get(weir, `${repository}/blobs/${layer?.digest}`));
      await until("what has come to be counted", async () => (await counted()) >= before + LAYER_BYTES);
    };

    await pull(one, "team/first", first?.layer);
    await pull(two, "team/second", second?.layer);
    // What is not there costs nothing, so that asking for it spends no budget by itself.
    for (const weir of [two, one]) {
      let asked = 0;
      await until("the budget to be spent", async () => {
        asked += 1;
        return (await get(weir, `team/absent/manifests/${asked}`)).status === 429;
      });
    }
    const before = hub.ledger.length;
    for (const weir of [one, two]) {
      const refused = expectStatus(429, await get(weir, "team/third/manifests/1"));
      expect(JSON.parse(refused.body.toString()).errors[0].detail.key).toBe("access.fetchBudget.bytes");
      expect(Number(refused.headers["retry-after"])).toBeGreaterThan(0);
      expectStatus(200, await get(weir, `team/first/blobs/${first?.layer.digest}`));
    }
    expect(hub.ledger.length).toBe(before);
    expectStatus(200, await get(one, `team/third/blobs/${third?.layer.digest}`, "other"));
    expectStatus(200, await get(two, "team/third/manifests/1", "other"));
  },
  TIMEOUT_MS,
);
