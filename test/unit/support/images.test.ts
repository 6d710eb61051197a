import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import {
  artifact,
  bigImage,
  dockerImage,
  dockerList,
  helmChart,
  type Image,
  multiArchImage,
  push,
  sha256,
  smallImage,
  writeLayout,
} from "../../support/images.ts";
import { httpRequest } from "../../support/network.ts";
import { run, tempFolder } from "../../support/processes.ts";
import { startRegistry } from "../../support/registry.ts";
import { toolTest } from "../../support/tools.ts";

let stack: AsyncDisposableStack;

beforeEach(() => {
  stack = new AsyncDisposableStack();
});

afterEach(() => stack.disposeAsync());

const makers: readonly [name: string, make: (seed: string) => Image][] = [
  ["small", smallImage],
  ["multi", multiArchImage],
  ["big", (seed) => bigImage(seed, 3_000_000)],
  ["docker", dockerImage],
  ["docker-list", dockerList],
  ["artifact", artifact],
  ["helm", helmChart],
];

test.each(makers)("%s: the same seed gives the same digest, another seed another", (_, make) => {
  expect(make("a").root.digest).toBe(make("a").root.digest);
  expect(make("a").root.digest).not.toBe(make("b").root.digest);
});

test.each(makers)("%s: every digest is that of its bytes, and every descriptor has its content", (_, make) => {
  const image = make("a");
  const held = new Map([...image.blobs, ...image.manifests].map((item) => [item.digest, item]));
  for (const item of held.values()) expect(sha256(item.bytes)).toBe(item.digest);
  for (const manifest of image.manifests) {
    const { config, layers = [], manifests = [] } = JSON.parse(Buffer.from(manifest.bytes).toString());
    for (const { digest, size, mediaType } of [...(config ? [config] : []), ...layers, ...manifests]) {
      expect([held.get(digest)?.bytes.length, held.get(digest)?.mediaType]).toEqual([size, mediaType]);
    }
  }
});

toolTest(["tar"], "layers are archives that tar reads", async () => {
  const folder = await tempFolder(stack);
  for (const [index, layer] of [...smallImage("a").blobs.slice(1), ...bigImage("a", 1000).blobs.slice(1)].entries()) {
    const out = join(folder, String(index));
    await mkdir(out);
    await writeFile(`${out}.tar`, layer.bytes);
    await run(["tar", "-xf", `${out}.tar`, "-C", out]);
  }
  expect(await readFile(join(folder, "0", "etc", "greeting"), "utf8")).toBe("hello from a\n");
  expect((await readFile(join(folder, "1", "data.bin"))).length).toBe(100_000);
  expect((await readFile(join(folder, "2", "big.bin"))).length).toBe(1000);
});

toolTest(["docker-registry"], "a stock registry takes every kind and gives back the same bytes", async () => {
  const registry = await startRegistry(stack);
  for (const [name, make] of makers) {
    const image = make("a");
    await push(registry.url, `library/${name}`, "1", image);
    const reply = await httpRequest(`${registry.url}/v2/library/${name}/manifests/1`, {
      headers: { accept: image.root.mediaType },
    });
    expect([name, reply.status, sha256(reply.body)]).toEqual([name, 200, image.root.digest]);
  }
});

toolTest(["root", "umoci"], "umoci unpacks a layout", async () => {
  const folder = await tempFolder(stack);
  await writeLayout(folder, smallImage("a"), "latest");
  const bundle = join(folder, "bundle");
  await run(["umoci", "raw", "unpack", "--image", `${folder}:latest`, bundle]);
  expect(await readFile(join(bundle, "etc", "greeting"), "utf8")).toBe("hello from a\n");
});
