import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { compileContentRules } from "../../../src/access/content-rules.ts";
import type { Digest } from "../../../src/oci/digest.ts";
import { DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST } from "../../../src/oci/media-types.ts";
import { parseScope } from "../../../src/oci/scope.ts";
import type { Caller, ReadyAnswer } from "../../../src/proxy/answers.ts";
import { StorageError } from "../../../src/storage/blob-store.ts";
import { NOBODY, signedIn } from "../../support/callers.ts";
import { DAY, FRESHNESS, HOUR, MINUTE, ProxyBench } from "../../support/proxy-bench.ts";
import { rulesOf } from "../../support/rules.ts";

const LAYER = Buffer.from("the bytes of a layer");
const REPO = { upstream: "docker.io", repository: "team/app" };
const ALICE = signedIn("alice");

let bench: ProxyBench;

beforeEach(() => {
  bench = new ProxyBench();
});

afterEach(async () => {
  await bench.stop();
  expect(bench.clock.sleepers).toBe(0);
});

interface Image {
  readonly manifest: Digest;
  readonly blob: Digest;
}

function push(tag = "1", content: Uint8Array = LAYER, repository = REPO.repository): Image {
  const blob = bench.hub.pushBlob(repository, content);
  const layers = [{ mediaType: "application/tar", digest: blob, size: content.length }];
  return { blob, manifest: bench.hub.push(repository, OCI_MANIFEST, { schemaVersion: 2, tag, layers }, tag) };
}

interface How {
  readonly by?: Caller;
  readonly accept?: string;
  readonly head?: boolean;
}

function byTag(tag = "1", { by = NOBODY, accept, head = false }: How = {}): ReadyAnswer | undefined {
  const asked = { kind: "manifest", reference: { kind: "tag", tag } } as const;
  return bench.proxy.ready({ repo: REPO, asked, head, accept, identity: by.identity });
}

function byDigest(digest: Digest, { by = NOBODY, accept, head = false }: How = {}): ReadyAnswer | undefined {
  const asked = { kind: "manifest", reference: { kind: "digest", digest } } as const;
  return bench.proxy.ready({ repo: REPO, asked, head, accept, identity: by.identity });
}

function blobOf(digest: Digest, { by = NOBODY, head = false }: How = {}): ReadyAnswer | undefined {
  const asked = { kind: "blob", digest } as const;
  return bench.proxy.ready({ repo: REPO, asked, head, accept: undefined, identity: by.identity });
}

/** The tag, the manifest and the blob by their digests, twice each: the first time fetches, the second is a hit. */
async function pull({ manifest, blob }: Image, caller: Caller = NOBODY): Promise<void> {
  for (let i = 0; i < 2; i += 1) {
    await bench.get("docker.io/team/app:1", { caller });
    await bench.get(`docker.io/team/app@${manifest}`, { caller });
    await bench.pull(`docker.io/team/app@${blob}`, { caller });
  }
}

function whichReady({ manifest, blob }: Image, how: How = {}): readonly boolean[] {
  return [byTag("1", how), byDigest(manifest, how), blobOf(blob, how)].map((ready) => ready !== undefined);
}

const ALL = [true, true, true];
const NONE = [false, false, false];

describe("what a pull has found is at hand for the next", () => {
  test("M1 a tag, a manifest and a small blob, by GET and by HEAD, without a question", async () => {
    const image = push();
    expect(whichReady(image)).toEqual(NONE);
    await bench.get("docker.io/team/app:1");
    expect(whichReady(image)).toEqual(NONE);
    await pull(image);
    bench.hub.taken();
    const tagged = byTag();
    expect(tagged).toMatchObject({ kind: "manifest", digest: image.manifest, mediaType: OCI_MANIFEST });
    expect(tagged).toMatchObject({ visibility: "public", freshUntilMs: bench.clock.now() + FRESHNESS.defaultMs });
    const named = byDigest(image.manifest);
    expect(named).toMatchObject({ digest: image.manifest, freshUntilMs: undefined });
    expect(named?.bytes).toBe(tagged?.bytes);
    const blob = blobOf(image.blob);
    expect(blob).toMatchObject({ kind: "blob", mediaType: "application/octet-stream", size: LAYER.length });
    expect(Buffer.from(blob?.bytes ?? [])).toEqual(LAYER);
    expect(whichReady(image, { head: true })).toEqual(ALL);
    // One object for as long as it holds.
    expect([byTag(), byDigest(image.manifest), blobOf(image.blob)]).toEqual([tagged, named, blob]);
    expect(byTag()).toBe(tagged);
    expect(bench.hub.taken()).toEqual([]);
  });

  test("the object stays the same when the long way finds the same again", async () => {
    const image = push();
    await pull(image);
    const before = [byTag(), byDigest(image.manifest), blobOf(image.blob)];
    bench.clock.advance(MINUTE);
    expect(whichReady(image)).toEqual(NONE);
    await pull(image);
    [byTag(), byDigest(image.manifest), blobOf(image.blob)].forEach((after, i) => {
      expect(after).toBe(before[i]);
    });
  });

  test("content that several repositories have is in memory once", async () => {
    await pull(push());
    const { blob } = push("1", LAYER, "team/other");
    for (let i = 0; i < 2; i += 1) await bench.pull(`docker.io/team/other@${blob}`);
    const asked = { kind: "blob", digest: blob } as const;
    const repo = { ...REPO, repository: "team/other" };
    const other = bench.proxy.ready({ repo, asked, head: false, accept: undefined, identity: NOBODY.identity });
    expect(other?.bytes).toBe(blobOf(blob)?.bytes);
    expect(other).toBeDefined();
  });

  test("a blob of 256 KiB is at hand, a larger one takes the long way", async () => {
    const [small, large] = [push("1", Buffer.alloc(256 << 10)), push("2", Buffer.alloc((256 << 10) + 1))];
    for (const { blob } of [small, large, small, large]) await bench.pull(`docker.io/team/app@${blob}`);
    expect([small, large].map(({ blob }) => blobOf(blob) !== undefined)).toEqual([true, false]);
  });

  test("what is not a plain hit is not kept: stale, gone, a HEAD's word, a child in place of its index", async () => {
    const { manifest } = push();
    await bench.head("docker.io/team/app:1");
    await bench.head("docker.io/team/app:1");
    expect(byTag("1", { head: true })).toBeUndefined();
    await pull(push());
    bench.clock.advance(FRESHNESS.defaultMs);
    bench.hub.fail("connect");
    expect((await bench.get("docker.io/team/app:1")).cache.outcome).toBe("stale");
    expect(byTag()).toBeUndefined();
    bench.hub.failing = undefined;
    const platform = { os: "linux", architecture: "amd64" };
    const manifests = [{ mediaType: OCI_MANIFEST, digest: manifest, size: 1, platform }];
    const index = bench.hub.push(REPO.repository, OCI_INDEX, { schemaVersion: 2, manifests }, "both");
    for (let i = 0; i < 3; i += 1) {
      expect((await bench.get("docker.io/team/app:both")).digest).toBe(index);
      expect((await bench.get("docker.io/team/app:both", { accept: OCI_MANIFEST })).digest).toBe(manifest);
      expect(byTag("both", { accept: OCI_MANIFEST })).toBeUndefined();
    }
    expect(byTag("both")).toMatchObject({ digest: index });
  });

  test("B14 what could not be kept is fetched again", async () => {
    const image = push();
    bench.blobs.put = async () => {
      throw new StorageError("no-space", "the disk is full");
    };
    for (let i = 0; i < 2; i += 1) {
      expect((await bench.get(`docker.io/team/app@${image.manifest}`)).cache).toEqual({
        outcome: "miss",
        stored: false,
      });
    }
    expect(byDigest(image.manifest)).toBeUndefined();
  });

  test("M7 an Accept is judged by the long way first; by digest none counts", async () => {
    const image = push();
    await pull(image);
    expect(byTag("1", { accept: OCI_MANIFEST })).toBeUndefined();
    await bench.get("docker.io/team/app:1", { accept: OCI_MANIFEST });
    expect(byTag("1", { accept: OCI_MANIFEST })).toBe(byTag());
    await expect(bench.get("docker.io/team/app:1", { accept: DOCKER_MANIFEST })).rejects.toThrow(/Accept/);
    expect(byTag("1", { accept: DOCKER_MANIFEST })).toBeUndefined();
    expect(byDigest(image.manifest, { accept: DOCKER_MANIFEST })).toBeDefined();
  });
});

describe("it holds no longer than the long way would find it", () => {
  test("M1 a tag is at hand until the millisecond at which it is not fresh any more", async () => {
    bench = new ProxyBench({ maxAgeMs: DAY });
    const image = push();
    await pull(image);
    bench.clock.advance(FRESHNESS.defaultMs - 1);
    expect(whichReady(image)).toEqual(ALL);
    bench.clock.advance(1);
    expect(whichReady(image)).toEqual([false, true, true]);
  });

  test("a clock that was set back ends everything", async () => {
    const image = push();
    await pull(image);
    bench.clock.advance(-1);
    expect(whichReady(image)).toEqual(NONE);
  });

  test("C4 where others write, it counts for 5 s from when the long way began to look", async () => {
    bench = new ProxyBench({ maxAgeMs: 5_000 });
    const image = push();
    await pull(image);
    bench.clock.advance(4_999);
    expect(whichReady(image)).toEqual(ALL);
    bench.clock.advance(1);
    expect(whichReady(image)).toEqual(NONE);
    const { get } = bench.objects;
    bench.objects.get = (key, o) => {
      bench.objects.get = get;
      bench.clock.advance(1_000);
      return get.call(bench.objects, key, o);
    };
    await bench.get("docker.io/team/app:1");
    bench.clock.advance(3_999);
    expect(byTag()).toBeDefined();
    bench.clock.advance(1);
    expect(byTag()).toBeUndefined();
  });

  test("C4 where those who write tell of it, a digest counts for longer than a tag, which a HEAD may know better of", async () => {
    bench = new ProxyBench({ maxAgeMs: 5_000, maxContentAgeMs: MINUTE });
    const image = push();
    await pull(image);
    bench.clock.advance(5_000);
    expect(whichReady(image)).toEqual([false, true, true]);
    bench.clock.advance(MINUTE - 5_001);
    expect(whichReady(image)).toEqual([false, true, true]);
    bench.clock.advance(1);
    expect(whichReady(image)).toEqual(NONE);
  });

  test("where anything may have been written, everything ends, also what was being looked at meanwhile", async () => {
    const image = push();
    await pull(image);
    bench.proxy.changed(undefined);
    expect(whichReady(image)).toEqual(NONE);
    const pulling = bench.get("docker.io/team/app:1");
    bench.proxy.changed(undefined);
    await pulling;
    expect(byTag()).toBeUndefined();
    await pull(image);
    expect(whichReady(image)).toEqual(ALL);
  });

  test("O3 a reload ends everything, also what was being looked at meanwhile", async () => {
    const image = push();
    await pull(image);
    bench.freshness = { ...FRESHNESS };
    expect(whichReady(image)).toEqual(NONE);
    await pull(image);
    expect(whichReady(image)).toEqual(ALL);
    const pulling = bench.get("docker.io/team/app:1");
    bench.freshness = { ...FRESHNESS };
    await pulling;
    expect(byTag()).toBeUndefined();
  });

  test("a tag that a refresh has found to have moved is asked for anew", async () => {
    const image = push();
    await pull(image);
    const moved = push("1", Buffer.from("new"));
    await bench.proxy.refreshTag(REPO, "1", bench);
    expect(whichReady(image)).toEqual([false, true, true]);
    expect((await bench.get("docker.io/team/app:1")).digest).toBe(moved.manifest);
    expect(byTag()).toMatchObject({ digest: moved.manifest });
  });

  test("M3 a tag of which a HEAD has said since that it moved is not at hand, though its record is fresh", async () => {
    bench = new ProxyBench({ maxAgeMs: DAY });
    const image = push();
    await pull(image);
    push("1", Buffer.from("new"));
    // The refresh learns of the move, and little quota is left for the GET.
    bench.hub.lowOnBudget = ["GET"];
    await expect(bench.proxy.refreshTag(REPO, "1", bench)).rejects.toThrow(/moved/);
    expect((await bench.repositories.getTag(REPO, "1", bench))?.digest).toBe(image.manifest);
    expect(byTag()).toBeUndefined();
    expect(byDigest(image.manifest)).toBeDefined();
  });

  test("what is written of the repository ends what rested on it, and no more", async () => {
    const image = push();
    const { repositories } = bench;
    const writes: readonly (readonly [string, readonly boolean[], () => Promise<unknown>])[] = [
      ["deleteTag", [false, true, true], () => repositories.deleteTag(REPO, "1", bench)],
      ["another tag", ALL, () => repositories.putTag(REPO, "2", { digest: image.manifest, checkedAtMs: 1 }, bench)],
      ["unlinkLayer", [true, true, false], () => repositories.unlinkLayer(REPO, image.blob, bench)],
      ["unlinkRevision", [false, false, true], () => repositories.unlinkRevision(REPO, image.manifest, bench)],
      ["deleteRepoRecord", NONE, () => repositories.deleteRepoRecord(REPO, bench)],
      ["another repository", ALL, () => repositories.linkLayer({ ...REPO, repository: "x" }, image.blob, bench)],
    ];
    for (const [what, left, write] of writes) {
      await pull(image);
      expect(whichReady(image), what).toEqual(ALL);
      await write();
      expect(whichReady(image), what).toEqual(left);
    }
  });

  test("what was looked at while something was written is not kept", async () => {
    const image = push();
    await pull(image);
    bench.clock.advance(MINUTE);
    const pulling = bench.get("docker.io/team/app:1");
    bench.proxy.changed({ repo: { ...REPO, repository: "x" }, tag: "1" });
    await pulling;
    expect(byTag()).toBeUndefined();
    const reading = bench.pull(`docker.io/team/app@${image.blob}`);
    bench.proxy.forget(image.manifest);
    await reading;
    expect(blobOf(image.blob)).toBeUndefined();
  });

  test("S4 what is evicted is gone from memory at once, in every repository", async () => {
    const image = push();
    await pull(image);
    for (const digest of [image.blob, image.manifest]) {
      await bench.blobs.delete(digest, bench);
      bench.proxy.forget(digest);
    }
    expect(whichReady(image)).toEqual(NONE);
    bench.hub.taken();
    await bench.pull(`docker.io/team/app@${image.blob}`);
    expect(bench.hub.taken()).toEqual([`GET blob team/app@${image.blob}`]);
  });

  test("B15 a blob that another repository's client finds to be damaged is gone from memory, too", async () => {
    const image = push();
    await pull(image);
    push("1", LAYER, "team/other");
    const { open } = bench.blobs;
    bench.blobs.open = async (digest, o) => {
      const blob = await open(digest, o);
      if (blob === undefined || digest !== image.blob) return blob;
      bench.blobs.open = open;
      return { ...blob, version: "changed", read: async function* () {} };
    };
    expect(whichReady(image)).toEqual(ALL);
    expect(await bench.pull(`docker.io/team/other@${image.blob}`)).toEqual(LAYER);
    expect(whichReady(image)).toEqual([true, true, false]);
  });

  test("B15 and so is one that is found to be damaged when it is read as a manifest", async () => {
    const document = Buffer.from(JSON.stringify({ schemaVersion: 2 }));
    const { blob } = push("1", document);
    for (let i = 0; i < 2; i += 1) await bench.pull(`docker.io/team/app@${blob}`);
    expect(blobOf(blob)).toBeDefined();
    bench.hub.push("team/other", OCI_MANIFEST, document);
    const { open } = bench.blobs;
    bench.blobs.open = async (digest, o) => {
      const held = await open(digest, o);
      return held && { ...held, read: async function* () {} };
    };
    expect((await bench.get(`docker.io/team/other@${blob}`)).cache.outcome).toBe("miss");
    expect(blobOf(blob)).toBeUndefined();
  });
});

describe("A1 each caller gets what it may have", () => {
  test("of a private repository, nobody gets what another's pull has left", async () => {
    bench.hub.private.add(REPO.repository);
    bench.hub.credentialed.add(REPO.repository);
    const image = push();
    await pull(image, ALICE);
    expect(whichReady(image, { by: ALICE })).toEqual(ALL);
    expect(byTag("1", { by: ALICE })?.visibility).toBe("private");
    expect(whichReady(image)).toEqual(NONE);
    bench.privateToAnonymous = true;
    await pull(image);
    expect(whichReady(image)).toEqual(ALL);
  });

  test("M5 nor anybody, once the proof is older than proofTtl", async () => {
    bench = new ProxyBench({ maxAgeMs: DAY });
    bench.freshness = { ...FRESHNESS, defaultMs: DAY };
    bench.hub.private.add(REPO.repository);
    bench.hub.credentialed.add(REPO.repository);
    const image = push();
    await pull(image, ALICE);
    bench.clock.advance(HOUR - 1);
    expect(whichReady(image, { by: ALICE })).toEqual(ALL);
    bench.clock.advance(1);
    expect(whichReady(image, { by: ALICE })).toEqual(NONE);
  });

  test("whether it is public is asked again after a day", async () => {
    bench = new ProxyBench({ maxAgeMs: 3 * DAY });
    bench.freshness = { ...FRESHNESS, defaultMs: 3 * DAY, proofTtlMs: 3 * DAY };
    bench.hub.credentialed.add(REPO.repository);
    const image = push();
    await pull(image);
    expect(byTag()?.visibility).toBe("public");
    bench.clock.advance(DAY - 1);
    expect(whichReady(image)).toEqual(ALL);
    bench.clock.advance(1);
    expect(whichReady(image)).toEqual(NONE);
  });

  test("nor once its upstream has refused it", async () => {
    bench.hub.private.add(REPO.repository);
    bench.hub.credentialed.add(REPO.repository);
    const image = push();
    await pull(image, ALICE);
    bench.hub.denied.add(REPO.repository);
    await expect(bench.proxy.refreshTag(REPO, "1", bench)).rejects.toThrow(/denies/);
    expect(whichReady(image, { by: ALICE })).toEqual(NONE);
  });

  test("by the rules, for each identity anew, by what it asks for", async () => {
    bench.accessRules = rulesOf({ effect: "deny", accounts: ["bob"], what: ["docker.io/team/app:1"] }, {});
    const image = push();
    await pull(image);
    expect(whichReady(image, { by: ALICE })).toEqual(ALL);
    expect(whichReady(image, { by: signedIn("bob") })).toEqual([false, true, true]);
    const narrow = (name: string): Caller =>
      signedIn("carol", { grants: [parseScope(`repository:docker.io/${name}:pull`)].flatMap((scope) => scope ?? []) });
    expect(whichReady(image, { by: narrow("team/app") })).toEqual(ALL);
    expect(whichReady(image, { by: narrow("team/other") })).toEqual(NONE);
  });

  test("those for whom nothing is fetched get what is held, frozen or not; and it stays private where not all may have it", async () => {
    const image = push();
    await pull(image);
    bench.accessRules = rulesOf({ accounts: ["alice"], actions: ["pull"] });
    await pull(image, ALICE);
    expect(whichReady(image, { by: ALICE })).toEqual(ALL);
    expect(byTag("1", { by: ALICE })?.visibility).toBe("private");
    const section = { name: "docker.io", allow: [], deny: [], platforms: [], frozen: true };
    bench.rules.set(
      "docker.io",
      compileContentRules(section, (repository) => repository),
    );
    await pull(image, ALICE);
    expect(whichReady(image, { by: ALICE })).toEqual(ALL);
  });

  test("what one who may not fetch gets while its upstream is down is no proof for others", async () => {
    bench.hub.private.add(REPO.repository);
    bench.hub.credentialed.add(REPO.repository);
    bench.accessRules = rulesOf(
      { accounts: ["alice"], private: true },
      { accounts: ["bob"], actions: ["pull"], private: true },
    );
    const image = push();
    await pull(image, ALICE);
    bench.clock.advance(HOUR);
    bench.hub.fail("connect");
    const outcomeFor = async (caller: Caller): Promise<string> =>
      (await bench.get(`docker.io/team/app@${image.manifest}`, { caller })).cache.outcome;
    expect(await outcomeFor(signedIn("bob"))).toBe("hit");
    expect(whichReady(image, { by: ALICE })).toEqual(NONE);
    expect(await outcomeFor(ALICE)).toBe("stale");
  });

  test("where platforms are kept back, everything takes the long way", async () => {
    const section = { name: "docker.io", allow: [], deny: [], platforms: ["linux/amd64"], frozen: false };
    bench.rules.set(
      "docker.io",
      compileContentRules(section, (repository) => repository),
    );
    const image = push();
    await pull(image);
    expect(whichReady(image)).toEqual(NONE);
  });

  test("what counts as public while storage cannot tell is decided each time", async () => {
    const image = push();
    await pull(image);
    const { get } = bench.objects;
    bench.objects.get = async (key, o) => {
      if (key.endsWith("_repository.json")) throw new StorageError("unavailable", "the disk is gone");
      return await get.call(bench.objects, key, o);
    };
    bench.clock.advance(MINUTE);
    for (let i = 0; i < 2; i += 1) expect((await bench.get("docker.io/team/app:1")).cache.outcome).toBe("hit");
    expect(byTag()).toBeUndefined();
  });
});

describe("the room and the store", () => {
  test("S5 what is answered from memory counts as used", async () => {
    const image = push();
    await pull(image);
    const touched: Digest[] = [];
    bench.room = { touch: (digest) => touched.push(digest) > 0 };
    expect(whichReady(image)).toEqual(ALL);
    expect(touched).toEqual([image.manifest, image.manifest, image.blob]);
  });

  test("a blob that the room does not know of takes the long way, which makes it known", async () => {
    const image = push();
    await pull(image);
    bench.room = { touch: () => false };
    expect(whichReady(image)).toEqual([true, true, false]);
  });

  test("where clients may be sent to the bytes, blobs take the long way", async () => {
    const { open } = bench.blobs;
    bench.blobs.open = async (digest, o) => {
      const blob = await open(digest, o);
      return blob && { ...blob, presign: async () => "https://bucket.example/blob" };
    };
    const image = push();
    await pull(image);
    expect(whichReady(image)).toEqual([true, true, false]);
  });

  test("a small blob is read and hashed once for as long as it is in memory", async () => {
    const image = push();
    await pull(image);
    let reads = 0;
    const { open } = bench.blobs;
    bench.blobs.open = async (digest, o) => {
      const blob = await open(digest, o);
      if (blob === undefined) return undefined;
      return {
        ...blob,
        read(start, end, call) {
          reads += 1;
          return blob.read(start, end, call);
        },
      };
    };
    bench.clock.advance(MINUTE);
    expect(await bench.pull(`docker.io/team/app@${image.blob}`)).toEqual(LAYER);
    expect(whichReady(image)).toEqual([false, false, true]);
    expect(reads).toBe(0);
  });
});
