import { afterEach, beforeEach, expect, test } from "vitest";
import { hubUpstream, pullByHead } from "../support/hub-weir.ts";
import { type Image, smallImage } from "../support/images.ts";
import { type HubDouble, startHubDouble } from "../support/registries/dockerhub.ts";
import { startWeir, type WeirProcess } from "../support/weir.ts";

const PASSWORD = "dckr_pat_not_to_be_seen";

let stack: AsyncDisposableStack;

beforeEach(() => {
  stack = new AsyncDisposableStack();
});

afterEach(() => stack.disposeAsync());

async function weirBefore(
  hub: HubDouble,
  more: { readonly upstream?: object; readonly sections?: object } = {},
): Promise<WeirProcess> {
  return await startWeir(stack, {
    secrets: [PASSWORD],
    config: {
      upstreams: {
        "docker.io": { ...hubUpstream(hub), ...more.upstream },
      },
      ...more.sections,
    },
  });
}

/** The upstream requests that a pull costs once a token is at hand. */
function costOf(repository: string, tag: string, image: Image): string[] {
  const base = `/v2/${repository}`;
  return [
    `registry HEAD ${base}/manifests/${tag} bearer 200`,
    `registry GET ${base}/manifests/${image.root.digest} bearer 200`,
    ...image.blobs.flatMap(({ digest }) => {
      const hex = digest.slice("sha256:".length);
      return [
        `registry GET ${base}/blobs/${digest} bearer 307`,
        `cdn GET /registry-v2/docker/registry/v2/blobs/sha256/${hex.slice(0, 2)}/${hex}/data none 200`,
      ];
    }),
  ];
}

test("Docker Hub: one 401 and one token make a repository warm, then every request is right the first time", async () => {
  const hub = await startHubDouble(stack);
  const [first, second] = [smallImage("first"), smallImage("second")];
  hub.add("library/app", first, ["1"]);
  hub.add("library/app", second, ["2"]);
  const weir = await weirBefore(hub);

  await pullByHead(weir.url, "library/app", "1", first);
  expect(hub.lines()).toEqual([
    "registry HEAD /v2/library/app/manifests/1 none 401",
    "token GET /token none 200",
    ...costOf("library/app", "1", first),
  ]);

  hub.clearLedger();
  await pullByHead(weir.url, "library/app", "1", first);
  expect(hub.lines()).toEqual([]);

  await pullByHead(weir.url, "library/app", "2", second);
  expect(hub.lines()).toEqual(costOf("library/app", "2", second));
});

test("Docker Hub: a private repository with a credential, which is in no output and reaches the token server only", async () => {
  const hub = await startHubDouble(stack, { accounts: [{ username: "ci", password: PASSWORD }] });
  const [first, second] = [smallImage("first"), smallImage("second")];
  hub.add("myorg/app", first, ["1"], "private");
  hub.add("myorg/app", second, ["2"], "private");
  const weir = await weirBefore(hub, {
    upstream: { credentials: [{ label: "ci", username: "ci", password: PASSWORD }] },
    sections: { access: { privateToAnonymous: true } },
  });

  await pullByHead(weir.url, "myorg/app", "1", first);
  expect(hub.count({ role: "token", authorization: "basic", status: 200 })).toBe(1);
  expect(hub.count({ authorization: "basic" })).toBe(1);
  expect(hub.count({ role: "cdn", authorization: "none" })).toBe(first.blobs.length);

  hub.clearLedger();
  await pullByHead(weir.url, "myorg/app", "2", second);
  expect(hub.lines()).toEqual(costOf("myorg/app", "2", second));
});
