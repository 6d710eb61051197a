/** What real docker-registries hold, adopted and served with every upstream dead. */
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect } from "vitest";
import { expectStatus } from "../support/hub-weir.ts";
import { dockerList, type Image, multiArchImage, push, sha256, smallImage } from "../support/images.ts";
import { httpRequest } from "../support/network.ts";
import { type CommandResult, run, tempFolder, until } from "../support/processes.ts";
import { startRegistry } from "../support/registry.ts";
import { blobFile, heldBlobs } from "../support/store-files.ts";
import { toolTest } from "../support/tools.ts";
import { startWeir, type WeirProcess } from "../support/weir.ts";

const MAIN = new URL("../../src/main.ts", import.meta.url).pathname;

let stack: AsyncDisposableStack;

beforeEach(() => {
  stack = new AsyncDisposableStack();
});

afterEach(() => stack.disposeAsync());

/** Nobody listens there. */
const DEAD = { "docker.io": { type: "dockerhub", endpoints: ["http://127.0.0.1:1"], realms: ["127.0.0.1"] } };

async function weirOn(root?: string): Promise<WeirProcess> {
  return await startWeir(stack, { config: { upstreams: DEAD }, ...(root === undefined ? {} : { root }) });
}

async function command(weir: WeirProcess, args: readonly string[]): Promise<CommandResult> {
  return await run([process.execPath, MAIN, ...args, "--config", weir.file], { allowFailure: true });
}

async function importFrom(weir: WeirProcess, folder: string, ...args: readonly string[]) {
  const { code, stdout, stderr } = await command(weir, [
    "import",
    "--registry-dir",
    folder,
    "--as",
    "docker.io",
    "--json",
    ...args,
  ]);
  expect([code, stderr]).toEqual([0, ""]);
  return JSON.parse(stdout.trim().split("\n").at(-1) ?? "");
}

/** By tag and by digest, types included. */
async function expectServed(weir: WeirProcess, repository: string, tag: string, image: Image): Promise<void> {
  const base = `${weir.url}/v2/docker.io/${repository}`;
  const byTag = expectStatus(200, await httpRequest(`${base}/manifests/${tag}`, { headers: { accept: "*/*" } }));
  expect([byTag.headers["docker-content-digest"], byTag.headers["content-type"]]).toEqual([
    image.root.digest,
    image.root.mediaType,
  ]);
  for (const { digest, mediaType } of image.manifests) {
    const reply = expectStatus(200, await httpRequest(`${base}/manifests/${digest}`, { headers: { accept: "*/*" } }));
    expect([sha256(reply.body), reply.headers["content-type"]]).toEqual([digest, mediaType]);
  }
  for (const { digest } of image.blobs) {
    expect(sha256(expectStatus(200, await httpRequest(`${base}/blobs/${digest}`)).body)).toBe(digest);
  }
}

const inode = async (root: string, digest: string): Promise<number> => (await stat(blobFile(root, digest))).ino;

toolTest(
  ["docker-registry"],
  "S8 a plain registry's folder is adopted by hard links, and served with the upstream dead",
  async () => {
    const registry = await startRegistry(stack);
    const images: readonly (readonly [string, string, string, Image])[] = [
      ["nginx", "library/nginx", "1", multiArchImage("nginx")],
      ["library/redis", "library/redis", "7", smallImage("redis")],
      ["team/app/deep", "team/app/deep", "v1", dockerList("deep")],
      ["team/app", "team/app", "v1", smallImage("redis")],
    ];
    for (const [name, , tag, image] of images) await push(registry.url, name, tag, image);
    await registry.stop();
    const before = await heldBlobs(registry.root);

    const weir = await weirOn();
    const dry = await importFrom(weir, registry.root, "--dry-run");
    expect(dry).toMatchObject({ dryRun: true, repositories: 4, tags: 4, linked: before.length });
    expect(await heldBlobs(weir.root)).toEqual([]);

    const done = await importFrom(weir, registry.root);
    expect(done).toMatchObject({ repositories: 4, tags: 4, linked: before.length, copied: 0, verifying: true });
    expect(await heldBlobs(weir.root)).toEqual(before);
    for (const digest of before) expect(await inode(weir.root, digest)).toBe(await inode(registry.root, digest));
    for (const [, repository, tag, image] of images) await expectServed(weir, repository, tag, image);

    // Once more, and nothing is left to do; what the registry has stays its own.
    expect(await importFrom(weir, registry.root, "--verify")).toMatchObject({
      linked: 0,
      copied: 0,
      held: before.length,
    });
    await weir.stop();
    expect(await command(weir, ["verify"])).toMatchObject({ code: 0 });
    expect(await heldBlobs(registry.root)).toEqual(before);
    await registry.start();
    const [name = "", , tag = "", image] = images[0] ?? [];
    const accept = image?.root.mediaType;
    const reply = await httpRequest(`${registry.url}/v2/${name}/manifests/${tag}`, { headers: { accept } });
    expect(reply.headers["docker-content-digest"]).toBe(image?.root.digest);
  },
);

toolTest(["docker-registry"], "S8 a pull-through cache's folder, without a server", async () => {
  const origin = await startRegistry(stack);
  const image = smallImage("cached");
  const never = smallImage("never pulled");
  await push(origin.url, "library/app", "1", image);
  await push(origin.url, "library/app", "2", never);
  const cache = await startRegistry(stack, { remoteUrl: origin.url });
  const base = `${cache.url}/v2/library/app`;
  expectStatus(200, await httpRequest(`${base}/manifests/1`, { headers: { accept: image.root.mediaType } }));
  for (const { digest } of image.blobs) expectStatus(200, await httpRequest(`${base}/blobs/${digest}`));
  // It keeps what it has passed on a moment later.
  const wanted = [...image.blobs, ...image.manifests].map(({ digest }) => digest);
  await until("the cache to have kept them", async () => {
    const held = await heldBlobs(cache.root);
    return wanted.every((digest) => held.includes(digest));
  });
  await origin.stop();
  await cache.stop();

  const weir = await weirOn();
  await weir.stop();
  const done = await importFrom(weir, cache.root, "--from-proxy", "--verify");
  expect(done).toMatchObject({ repositories: 1, tags: 1, manifests: 1, verified: true, verifying: false });
  await weir.start();
  await expectServed(weir, "library/app", "1", image);
});

toolTest(
  ["docker-registry"],
  "S8 the root's own unprefixed repositories are linked below the upstream, and no blob moves",
  async () => {
    const registry = await startRegistry(stack);
    const image = multiArchImage("own");
    await push(registry.url, "nginx", "1", image);
    await registry.stop();
    const before = await heldBlobs(registry.root);
    const inodes = await Promise.all(before.map((digest) => inode(registry.root, digest)));

    const weir = await weirOn(registry.root);
    expect(await importFrom(weir, weir.root)).toMatchObject({ repositories: 1, inPlace: before.length, linked: 0 });
    // What lies below an upstream by now is no stock registry's any more.
    expect(await importFrom(weir, weir.root)).toMatchObject({ repositories: 1 });
    expect(await Promise.all(before.map((digest) => inode(registry.root, digest)))).toEqual(inodes);
    expect(await heldBlobs(weir.root)).toEqual(before);
    await expectServed(weir, "library/nginx", "1", image);
    const { stdout } = await command(weir, ["stats", "--json"]);
    expect(JSON.parse(stdout.trim().split("\n").at(-1) ?? "")).toMatchObject({ blobs: before.length, tags: 1 });
    expect((await readdir(join(weir.root, "docker/registry/v2/repositories"))).sort()).toEqual(["docker.io", "nginx"]);
  },
);

toolTest(
  ["docker-registry"],
  "a folder that holds no registry, and an upstream that is not configured, are told",
  async () => {
    const weir = await weirOn();
    const folder = await tempFolder(stack);
    const nothing = await command(weir, ["import", "--registry-dir", folder, "--as", "docker.io"]);
    expect([nothing.code, nothing.stdout]).toEqual([1, ""]);
    expect(nothing.stderr).toContain("rootdirectory");
    const unknown = await command(weir, ["import", "--registry-dir", folder, "--as", "nowhere.example"]);
    expect([unknown.code, unknown.stderr]).toEqual([
      2,
      "weir: --as: no upstream is called nowhere.example; name a configured one\n",
    ]);
  },
);
