import { beforeEach, describe, expect, test } from "vitest";
import { silentLog } from "../../src/base/log.ts";
import { type Digest, digestOf } from "../../src/oci/digest.ts";
import { formatRepo, type RepoRef } from "../../src/oci/reference.ts";
import * as layout from "../../src/storage/layout.ts";
import type { Repositories } from "../../src/storage/repositories.ts";
import { createRepositories } from "../../src/storage/repositories-store.ts";
import type { SmallObjects } from "../../src/storage/small-objects.ts";

const NGINX: RepoRef = { upstream: "docker.io", repository: "library/nginx" };
const OTHER: RepoRef = { upstream: "quay.io", repository: "library/nginx" };
const ONE = digestOf(Buffer.from("one"));
const TWO = digestOf(Buffer.from("two"));
const LONG = digestOf(Buffer.from("one"), "sha512");

/** What {@link Repositories} promises, over any kind of small objects. `create` makes empty ones. */
export function repositoriesContract(o: { name: string; create(): Promise<SmallObjects> }): void {
  describe(`Repositories contract: ${o.name}`, () => {
    const call = { signal: new AbortController().signal };
    let objects: SmallObjects;
    let puts: string[];
    let malformed: string[];
    let changes: string[];
    let repositories: Repositories;

    beforeEach(async () => {
      objects = await o.create();
      puts = [];
      malformed = [];
      changes = [];
      const counted: SmallObjects = {
        get: (key, options) => objects.get(key, options),
        put(key, bytes, options) {
          puts.push(key);
          return objects.put(key, bytes, options);
        },
        stat: (key, options) => objects.stat(key, options),
        delete: (key, options) => objects.delete(key, options),
        list: (prefix, options) => objects.list(prefix, options),
      };
      const log = {
        ...silentLog,
        debug: (fields: Readonly<Record<string, unknown>>) => malformed.push(String(fields.key)),
      };
      repositories = createRepositories(counted, log, {
        linking() {},
        changed: (repo, how) => changes.push(`${how} ${formatRepo(repo)}`),
      });
    });

    async function write(key: string, text: string): Promise<void> {
      await objects.put(key, Buffer.from(text), call);
    }

    async function revisions(repo: RepoRef): Promise<Digest[]> {
      const digests: Digest[] = [];
      for await (const digest of repositories.revisions(repo, call)) digests.push(digest);
      return digests.sort();
    }

    async function all(): Promise<string[]> {
      const names: string[] = [];
      for await (const repo of repositories.all(call)) names.push(formatRepo(repo));
      return names;
    }

    test("R5 links count for their own repository, kind and digest only", async () => {
      await repositories.linkLayer(NGINX, ONE, call);
      await repositories.linkRevision(NGINX, TWO, call);
      expect(await repositories.hasLayer(NGINX, ONE, call)).toBe(true);
      expect(await repositories.hasRevision(NGINX, TWO, call)).toBe(true);
      expect(await repositories.hasLayer(NGINX, TWO, call)).toBe(false);
      expect(await repositories.hasRevision(NGINX, ONE, call)).toBe(false);
      expect(await repositories.hasLayer(NGINX, LONG, call)).toBe(false);
      expect(await repositories.hasLayer(OTHER, ONE, call)).toBe(false);
      expect(await repositories.hasRevision(OTHER, TWO, call)).toBe(false);
    });

    test("revisions come and go, of both algorithms", async () => {
      for (const digest of [ONE, TWO, LONG]) await repositories.linkRevision(NGINX, digest, call);
      expect(await revisions(NGINX)).toEqual([ONE, TWO, LONG].sort());
      expect(await revisions(OTHER)).toEqual([]);
      expect(await repositories.unlinkRevision(NGINX, ONE, call)).toBe(true);
      expect(await repositories.unlinkRevision(NGINX, ONE, call)).toBe(false);
      expect(await revisions(NGINX)).toEqual([TWO, LONG].sort());
    });

    test.each([
      ["an empty link", ""],
      ["a link with a newline", `${ONE}\n`],
      ["rubbish", "\0\0\0"],
      ["a link to another digest", TWO],
    ])("S1 %s counts as absent, and is put right by the next", async (_, text) => {
      await write(layout.layerLinkKey(NGINX, ONE), text);
      await write(layout.revisionLinkKey(NGINX, ONE), text);
      expect(await repositories.hasLayer(NGINX, ONE, call)).toBe(false);
      expect(await repositories.hasRevision(NGINX, ONE, call)).toBe(false);
      expect(await revisions(NGINX)).toEqual([]);
      await repositories.linkLayer(NGINX, ONE, call);
      await repositories.linkRevision(NGINX, ONE, call);
      expect(await repositories.hasLayer(NGINX, ONE, call)).toBe(true);
      expect(await revisions(NGINX)).toEqual([ONE]);
    });

    test("a tag comes back as it was put, moves, and goes", async () => {
      expect(await repositories.getTag(NGINX, "1.27", call)).toBeUndefined();
      const first = { digest: ONE, checkedAtMs: 1000 };
      await repositories.putTag(NGINX, "1.27", first, call);
      expect(await repositories.getTag(NGINX, "1.27", call)).toEqual(first);
      const moved = { digest: TWO, checkedAtMs: 2000, goneSinceMs: 3000, etag: 'W/"x"' };
      await repositories.putTag(NGINX, "1.27", moved, call);
      expect(await repositories.getTag(NGINX, "1.27", call)).toEqual(moved);
      expect(await repositories.getTag(NGINX, "1.28", call)).toBeUndefined();
      expect(await repositories.getTag(OTHER, "1.27", call)).toBeUndefined();
      expect(await repositories.deleteTag(NGINX, "1.27", call)).toBe(true);
      expect(await repositories.deleteTag(NGINX, "1.27", call)).toBe(false);
      expect(await repositories.getTag(NGINX, "1.27", call)).toBeUndefined();
      expect(await repositories.tags(NGINX, call)).toEqual([]);
    });

    test("a tag's link is written before its record", async () => {
      await repositories.putTag(NGINX, "1.27", { digest: ONE, checkedAtMs: 1000 }, call);
      expect(puts).toEqual([
        layout.tagIndexLinkKey(NGINX, "1.27", ONE),
        layout.tagLinkKey(NGINX, "1.27"),
        layout.tagRecordKey(NGINX, "1.27"),
      ]);
    });

    test("M9 a link newer than its record: the tag counts as never checked", async () => {
      await repositories.putTag(NGINX, "1.27", { digest: ONE, checkedAtMs: 1000, etag: "old" }, call);
      await write(layout.tagLinkKey(NGINX, "1.27"), TWO);
      expect(await repositories.getTag(NGINX, "1.27", call)).toEqual({ digest: TWO, checkedAtMs: 0 });
    });

    test("M9 a record newer than its link does not count either", async () => {
      await repositories.putTag(NGINX, "1.27", { digest: ONE, checkedAtMs: 1000 }, call);
      await write(layout.tagRecordKey(NGINX, "1.27"), JSON.stringify({ digest: TWO, checkedAtMs: 2000 }));
      expect(await repositories.getTag(NGINX, "1.27", call)).toEqual({ digest: ONE, checkedAtMs: 0 });
    });

    test("M9 a record without a link is no tag; a link without a record is an adopted one", async () => {
      await write(layout.tagRecordKey(NGINX, "lonely"), JSON.stringify({ digest: ONE, checkedAtMs: 1000 }));
      expect(await repositories.getTag(NGINX, "lonely", call)).toBeUndefined();
      await write(layout.tagLinkKey(NGINX, "adopted"), ONE);
      expect(await repositories.getTag(NGINX, "adopted", call)).toEqual({ digest: ONE, checkedAtMs: 0 });
      expect(await repositories.tags(NGINX, call)).toEqual(["adopted"]);
    });

    test("tags are listed in lexical order, those with a broken link left out", async () => {
      const many = Array.from({ length: 40 }, (_, index) => `t${index}`);
      for (const tag of ["b", "a", "B", "a.1", "_", ...many]) {
        await repositories.putTag(NGINX, tag, { digest: ONE, checkedAtMs: 1 }, call);
      }
      await write(layout.tagLinkKey(NGINX, "broken"), "");
      await write(layout.tagIndexLinkKey(NGINX, "half", ONE), ONE);
      expect(await repositories.tags(NGINX, call)).toEqual(["b", "a", "B", "a.1", "_", ...many].sort());
      expect(await repositories.tags(OTHER, call)).toEqual([]);
    });

    test("what is there already is not written again", async () => {
      const tag = { digest: ONE, checkedAtMs: 1000 };
      const everything = async (): Promise<void> => {
        await repositories.linkLayer(NGINX, ONE, call);
        await repositories.linkRevision(NGINX, TWO, call);
        await repositories.putTag(NGINX, "1.27", tag, call);
        await repositories.putManifestRecord(TWO, { mediaType: "a/b", size: 3 }, call);
        await repositories.putBlobRecord(ONE, { public: true, upstreams: [] }, call);
        await repositories.putRepoRecord(NGINX, { visibility: "public", visibilityAtMs: 1, provedAtMs: 0 }, call);
      };
      await everything();
      puts = [];
      await everything();
      expect(puts).toEqual([]);
      await repositories.putTag(NGINX, "1.27", { ...tag, checkedAtMs: 2000 }, call);
      expect(puts).toEqual([layout.tagRecordKey(NGINX, "1.27")]);
    });

    test("M2 records come back as they were put", async () => {
      const manifest = { mediaType: "application/vnd.oci.image.index.v1+json", size: 10_229 };
      const blob = { public: false, upstreams: ["registry.gitlab.com"] };
      const repo = { visibility: "private", visibilityAtMs: 1, provedAtMs: 2 } as const;
      expect(await repositories.getManifestRecord(ONE, call)).toBeUndefined();
      expect(await repositories.getBlobRecord(ONE, call)).toBeUndefined();
      expect(await repositories.getRepoRecord(NGINX, call)).toBeUndefined();
      await repositories.putManifestRecord(ONE, manifest, call);
      await repositories.putBlobRecord(ONE, blob, call);
      await repositories.putRepoRecord(NGINX, repo, call);
      expect(await repositories.getManifestRecord(ONE, call)).toEqual(manifest);
      expect(await repositories.getBlobRecord(ONE, call)).toEqual(blob);
      expect(await repositories.getRepoRecord(NGINX, call)).toEqual(repo);
      expect(await repositories.getRepoRecord(OTHER, call)).toBeUndefined();
      expect(await all()).toEqual([]);
    });

    test("M2 lists of referrers come back as they were put, by repository and subject, and go", async () => {
      const referrer = { mediaType: "a/b", digest: TWO, size: 3, annotations: { c: "d" } };
      const list = { referrers: [referrer], checkedAtMs: 1000, goneSinceMs: 2000 };
      expect(await repositories.getReferrers(NGINX, ONE, call)).toBeUndefined();
      await repositories.putReferrers(NGINX, ONE, list, call);
      await repositories.putReferrers(NGINX, LONG, { referrers: [], checkedAtMs: 1 }, call);
      expect(await repositories.getReferrers(NGINX, ONE, call)).toEqual(list);
      expect(await repositories.getReferrers(NGINX, LONG, call)).toEqual({ referrers: [], checkedAtMs: 1 });
      expect(await repositories.getReferrers(NGINX, TWO, call)).toBeUndefined();
      expect(await repositories.getReferrers(OTHER, ONE, call)).toBeUndefined();
      expect(await all()).toEqual([]);
      expect(await repositories.deleteReferrers(NGINX, ONE, call)).toBe(true);
      expect(await repositories.deleteReferrers(NGINX, ONE, call)).toBe(false);
      expect(await repositories.getReferrers(NGINX, ONE, call)).toBeUndefined();
    });

    test("a malformed record counts as absent, and the log says which", async () => {
      await repositories.putTag(NGINX, "1.27", { digest: ONE, checkedAtMs: 1000 }, call);
      const keys = [
        layout.tagRecordKey(NGINX, "1.27"),
        layout.manifestRecordKey(ONE),
        layout.blobRecordKey(ONE),
        layout.repoRecordKey(NGINX),
        layout.referrersRecordKey(NGINX, ONE),
      ];
      for (const key of keys) await write(key, '{"digest":');
      expect(await repositories.getTag(NGINX, "1.27", call)).toEqual({ digest: ONE, checkedAtMs: 0 });
      expect(await repositories.getManifestRecord(ONE, call)).toBeUndefined();
      expect(await repositories.getBlobRecord(ONE, call)).toBeUndefined();
      expect(await repositories.getRepoRecord(NGINX, call)).toBeUndefined();
      expect(await repositories.getReferrers(NGINX, ONE, call)).toBeUndefined();
      expect(malformed).toEqual(keys);
    });

    test("all repositories with a manifest come in lexical order, also those inside others", async () => {
      const names = [
        "docker.io/a",
        "docker.io/a/b",
        "docker.io/a/b/c",
        "docker.io/a-b",
        "docker.io/a-b/c",
        "docker.io/a.b/c",
        "docker.io/a0/c",
        "docker.io/a__b",
        "docker.io/deep/er/than/the/others",
        "docker.io:5000/a",
        "docker.io-2/a",
        "localhost:5000/z",
      ];
      for (const name of names) {
        const slash = name.indexOf("/");
        const repo = { upstream: name.slice(0, slash), repository: name.slice(slash + 1) };
        await repositories.linkRevision(repo, ONE, call);
      }
      await repositories.linkLayer({ upstream: "docker.io", repository: "layers/only" }, ONE, call);
      await repositories.putTag(NGINX, "tag-only", { digest: ONE, checkedAtMs: 1 }, call);
      expect(await all()).toEqual([...names].sort());
      await repositories.unlinkRevision({ upstream: "docker.io", repository: "a/b" }, ONE, call);
      expect(await all()).toEqual(names.filter((name) => name !== "docker.io/a/b").sort());
    });

    test("every repository with any link is listed, layers alone included; links and records go one by one", async () => {
      const layersOnly = { upstream: "docker.io", repository: "layers/only" };
      await repositories.linkLayer(layersOnly, ONE, call);
      await repositories.linkLayer(layersOnly, LONG, call);
      await repositories.linkRevision(NGINX, TWO, call);
      await repositories.putReferrers(NGINX, TWO, { referrers: [], checkedAtMs: 1 }, call);
      await repositories.putManifestRecord(TWO, { mediaType: "a/b", size: 1 }, call);
      await repositories.putBlobRecord(TWO, { public: true, upstreams: [] }, call);
      await repositories.putRepoRecord(NGINX, { visibility: "public", visibilityAtMs: 1, provedAtMs: 0 }, call);
      expect((await listed(repositories.linked(call))).map(formatRepo)).toEqual([
        "docker.io/layers/only",
        "docker.io/library/nginx",
      ]);
      expect((await listed(repositories.layers(layersOnly, call))).sort()).toEqual([ONE, LONG].sort());
      expect(await listed(repositories.layers(NGINX, call))).toEqual([]);
      expect(await listed(repositories.referrersSubjects(NGINX, call))).toEqual([TWO]);
      const deletions = [
        () => repositories.unlinkLayer(layersOnly, ONE, call),
        () => repositories.deleteManifestRecord(TWO, call),
        () => repositories.deleteBlobRecord(TWO, call),
        () => repositories.deleteRepoRecord(NGINX, call),
        () => repositories.deleteReferrers(NGINX, TWO, call),
      ];
      for (const remove of deletions) expect([await remove(), await remove()]).toEqual([true, false]);
      expect(await listed(repositories.layers(layersOnly, call))).toEqual([LONG]);
      expect(await repositories.getManifestRecord(TWO, call)).toBeUndefined();
      expect(await repositories.getBlobRecord(TWO, call)).toBeUndefined();
      expect(await repositories.getRepoRecord(NGINX, call)).toBeUndefined();
      expect(await listed(repositories.referrersSubjects(NGINX, call))).toEqual([]);
    });

    test("the names of tags come without their links being read, broken ones among them", async () => {
      await repositories.putTag(NGINX, "1.27", { digest: ONE, checkedAtMs: 1 }, call);
      await write(layout.tagLinkKey(NGINX, "broken"), "");
      const names: string[] = [];
      for await (const name of repositories.tagNames(NGINX, call)) names.push(name);
      expect(names.sort()).toEqual(["1.27", "broken"]);
      for await (const name of repositories.tagNames(OTHER, call)) expect.unreachable(name);
    });

    test("a repository is linked as long as it has a link to anything, and one inside another is not the other", async () => {
      const inner: RepoRef = { ...NGINX, repository: "library/nginx/inner" };
      const isLinked = (repo: RepoRef): Promise<boolean> => repositories.isLinked(repo, call);
      await repositories.linkLayer(inner, ONE, call);
      expect([await isLinked(NGINX), await isLinked(inner), await isLinked(OTHER)]).toEqual([false, true, false]);
      await repositories.linkRevision(OTHER, ONE, call);
      await repositories.putTag(OTHER, "1", { digest: ONE, checkedAtMs: 1 }, call);
      expect(await isLinked(OTHER)).toBe(true);
      await repositories.unlinkLayer(inner, ONE, call);
      expect(await isLinked(inner)).toBe(false);
      await repositories.unlinkRevision(OTHER, ONE, call);
      expect(await isLinked(OTHER)).toBe(true);
      await repositories.deleteTag(OTHER, "1", call);
      expect(await isLinked(OTHER)).toBe(false);
    });

    test("whoever observes hears of what was written or is gone, and of nothing that was so already", async () => {
      const heard = (): string[] => changes.splice(0);
      await repositories.linkLayer(NGINX, ONE, call);
      await repositories.linkRevision(NGINX, TWO, call);
      expect(heard()).toEqual(["came docker.io/library/nginx", "came docker.io/library/nginx"]);
      await repositories.linkLayer(NGINX, ONE, call);
      await repositories.linkRevision(NGINX, TWO, call);
      expect(heard()).toEqual([]);
      await repositories.putTag(NGINX, "1", { digest: TWO, checkedAtMs: 1 }, call);
      expect(heard()).toEqual(["came docker.io/library/nginx"]);
      // Checked again, it means the same.
      await repositories.putTag(NGINX, "1", { digest: TWO, checkedAtMs: 2 }, call);
      expect(heard()).toEqual([]);
      await repositories.putTag(NGINX, "1", { digest: ONE, checkedAtMs: 3 }, call);
      const record = { visibility: "public", visibilityAtMs: 1, provedAtMs: 0 } as const;
      await repositories.putRepoRecord(OTHER, record, call);
      expect(heard()).toEqual(["came docker.io/library/nginx", "came quay.io/library/nginx"]);
      await repositories.deleteTag(NGINX, "1", call);
      await repositories.deleteTag(NGINX, "1", call);
      await repositories.unlinkLayer(NGINX, ONE, call);
      await repositories.unlinkRevision(NGINX, TWO, call);
      expect(heard()).toEqual(Array(3).fill("left docker.io/library/nginx"));
    });

    test("of two processes that move a tag at once, either wins, and the record is never the loser's", async () => {
      const rival = createRepositories(objects, silentLog);
      for (let round = 1; round <= 20; round += 1) {
        await Promise.all([
          repositories.putTag(NGINX, "raced", { digest: ONE, checkedAtMs: round }, call),
          rival.putTag(NGINX, "raced", { digest: TWO, checkedAtMs: 1000 + round }, call),
        ]);
        const tag = await repositories.getTag(NGINX, "raced", call);
        expect([0, tag?.digest === ONE ? round : 1000 + round]).toContain(tag?.checkedAtMs);
      }
    });
  });
}

async function listed<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const item of items) found.push(item);
  return found;
}
