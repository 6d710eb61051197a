import { expect } from "vitest";
import { silentLog } from "../../src/base/log.ts";
import { systemClock } from "../../src/base/system-clock.ts";
import { parseDigest } from "../../src/oci/digest.ts";
import { createFsBlobStore } from "../../src/storage/fs/fs-blob-store.ts";
import { createFsSmallObjects } from "../../src/storage/fs/fs-small-objects.ts";
import { upstreamFolder } from "../../src/storage/layout.ts";
import { createRepositories } from "../../src/storage/repositories-store.ts";
import { type Content, dockerImage, dockerList, type Image, multiArchImage, smallImage } from "../support/images.ts";
import { httpRequest } from "../support/network.ts";
import { tempFolder } from "../support/processes.ts";
import { startRegistry } from "../support/registry.ts";
import { toolTest } from "../support/tools.ts";

const call = { signal: new AbortController().signal };

toolTest(["docker-registry"], "S1 a stock registry, read-only on the root, serves what was kept", async () => {
  await using stack = new AsyncDisposableStack();
  const root = await tempFolder(stack);
  const blobs = await createFsBlobStore({ root, log: silentLog, clock: systemClock });
  const repositories = createRepositories(await createFsSmallObjects({ root }), silentLog);

  const keep = async (upstream: string, repository: string, tags: readonly string[], image: Image): Promise<void> => {
    const repo = { upstream, repository };
    for (const { digest: text, bytes } of image.blobs) {
      await blobs.put(parseDigest(text), bytes, call);
      await repositories.linkLayer(repo, parseDigest(text), call);
    }
    for (const { digest: text, bytes, mediaType } of image.manifests) {
      const digest = parseDigest(text);
      await blobs.put(digest, bytes, call);
      await repositories.linkRevision(repo, digest, call);
      await repositories.putManifestRecord(digest, { mediaType, size: bytes.length }, call);
    }
    const digest = parseDigest(image.root.digest);
    for (const tag of tags) await repositories.putTag(repo, tag, { digest, checkedAtMs: 1 }, call);
  };

  const kept = [
    { upstream: "docker.io", repository: "library/nginx", tags: ["1.27", "latest"], image: multiArchImage("nginx") },
    { upstream: "docker.io", repository: "library/nginx/inner", tags: ["v1"], image: smallImage("inner") },
    { upstream: "quay.io", repository: "team/app", tags: ["Foo", "foo"], image: dockerImage("app") },
    { upstream: "reg.example:5000", repository: "list", tags: ["v2"], image: dockerList("list") },
  ];
  for (const { upstream, repository, tags, image } of kept) await keep(upstream, repository, tags, image);
  // Only ever asked for its manifest: none of its blobs is held.
  const asked = smallImage("asked");
  await keep("docker.io", "only/manifest", ["v1"], { ...asked, blobs: [] });

  const registry = await startRegistry(stack, { readOnlyRoot: root });
  const get = (path: string, accept = "*/*") => httpRequest(`${registry.url}/v2/${path}`, { headers: { accept } });

  const expectContent = async (
    path: string,
    { mediaType, digest, bytes }: Content,
    manifest: boolean,
  ): Promise<void> => {
    const reply = await get(path, manifest ? mediaType : "*/*");
    expect(reply.status, path).toBe(200);
    expect(reply.body.equals(bytes), path).toBe(true);
    expect(reply.headers["docker-content-digest"], path).toBe(digest);
    if (manifest) expect(reply.headers["content-type"], path).toBe(mediaType);
  };

  // In any order: this version does not sort.
  const listedTags = async (name: string): Promise<string[]> =>
    JSON.parse((await get(`${name}/tags/list`)).body.toString()).tags;

  for (const { upstream, repository, tags, image } of kept) {
    const name = `${upstreamFolder(upstream)}/${repository}`;
    for (const tag of tags) await expectContent(`${name}/manifests/${tag}`, image.root, true);
    for (const manifest of image.manifests) await expectContent(`${name}/manifests/${manifest.digest}`, manifest, true);
    for (const blob of image.blobs) await expectContent(`${name}/blobs/${blob.digest}`, blob, false);
    expect((await listedTags(name)).sort()).toEqual(tags);
  }
  await expectContent("docker.io/only/manifest/manifests/v1", asked.root, true);

  expect(JSON.parse((await get("_catalog")).body.toString())).toEqual({
    repositories: [
      "docker.io/library/nginx",
      "docker.io/library/nginx/inner",
      "docker.io/only/manifest",
      "quay.io/team/app",
      "reg.example__5000/list",
    ],
  });

  // A repository has only what is linked to it, whatever else the store holds.
  const foreign = kept[0]?.image.blobs[0]?.digest;
  expect((await get(`quay.io/team/app/blobs/${foreign}`)).status).toBe(404);

  await repositories.deleteTag({ upstream: "quay.io", repository: "team/app" }, "foo", call);
  expect((await get("quay.io/team/app/manifests/foo")).status).toBe(404);
  expect(await listedTags("quay.io/team/app")).toEqual(["Foo"]);
});
