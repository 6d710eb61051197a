import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type Digest, digestOf } from "../../../src/oci/digest.ts";
import { OCI_MANIFEST } from "../../../src/oci/media-types.ts";
import type { BlobStore } from "../../../src/storage/blob-store.ts";
import { eventually } from "../../support/fill-bench.ts";
import { ProxyBench } from "../../support/proxy-bench.ts";

const NGINX = "docker.io/library/nginx";
const SMALL = Buffer.from("a small layer");
const LARGE = Buffer.alloc(20 << 20, "a large layer ");

let bench: ProxyBench;

beforeEach(() => {
  bench = new ProxyBench();
});

afterEach(async () => {
  await bench.stop();
  expect(bench.clock.sleepers).toBe(0);
});

/** A blob in library/nginx, listed by a held manifest if wanted. */
async function push(bytes: Buffer, { listed }: { readonly listed: boolean }): Promise<Digest> {
  const digest = bench.hub.pushBlob("library/nginx", bytes);
  if (listed) {
    const layers = [{ mediaType: "application/tar", digest, size: bytes.length }];
    bench.hub.push("library/nginx", OCI_MANIFEST, { layers }, digest.slice(7, 20));
    await bench.get(`${NGINX}:${digest.slice(7, 20)}`);
  }
  bench.hub.taken();
  return digest;
}

/** Puts other content where the store has the blob. */
async function damage(digest: Digest, bytes: Buffer): Promise<void> {
  const { open, stat } = bench.blobs;
  const other = digestOf(bytes);
  await bench.blobs.put(other, bytes, bench);
  const damaged: Partial<BlobStore> = {
    open: async (asked, o) => await open(asked === digest ? other : asked, o),
    stat: async (asked, o) => await stat(asked === digest ? other : asked, o),
    delete: async () => {
      Object.assign(bench.blobs, { open, stat });
      return true;
    },
  };
  Object.assign(bench.blobs, damaged);
}

/** Resolves when the proxy joins or starts a fill. */
function nextJoin(): Promise<void> {
  return new Promise((resolve) => {
    bench.fills.onJoin = () => resolve();
  });
}

describe("held and not held", () => {
  test("M1 who looked in the storage just before a download ended looks again, and asks nobody", async () => {
    const digest = await push(SMALL, { listed: true });
    const { open } = bench.blobs;
    const looked = Promise.withResolvers<void>();
    const over = Promise.withResolvers<void>();
    // A busy machine: the answer to the first look comes after everything else.
    Object.assign(bench.blobs, {
      open: async (asked, o) => {
        Object.assign(bench.blobs, { open });
        const nothing = await open(asked, o);
        looked.resolve();
        await over.promise;
        return nothing;
      },
    } satisfies Partial<BlobStore>);
    const late = bench.pull(`${NGINX}@${digest}`);
    await looked.promise;
    expect(await bench.pull(`${NGINX}@${digest}`)).toEqual(SMALL);
    expect(bench.fills.size).toBe(0);
    over.resolve();
    expect(await late).toEqual(SMALL);
    expect(bench.hub.taken()).toHaveLength(1);
  });

  test("a cold blob is one GET for all, the next pull is a hit, also after a restart", async () => {
    const digest = await push(SMALL, { listed: false });
    const answers = await Promise.all(Array.from({ length: 50 }, () => bench.blob(`${NGINX}@${digest}`)));
    expect(answers.map(({ cache }) => cache.outcome).sort()).toEqual([...Array(49).fill("collapsed"), "miss"]);
    expect(answers[0]).toMatchObject({ size: SMALL.length, visibility: "public", cache: { stored: true } });
    expect(await bench.pull(`${NGINX}@${digest}`)).toEqual(SMALL);
    await bench.restart();
    expect((await bench.blob(`${NGINX}@${digest}`)).cache).toEqual({ outcome: "hit" });
    expect(bench.hub.taken()).toEqual([`GET blob library/nginx@${digest}`]);
  });

  test("an absent blob is remembered", async () => {
    const digest = digestOf(Buffer.from("absent"));
    await expect(bench.blob(`${NGINX}@${digest}`)).rejects.toMatchObject({ fault: "absent" });
    await expect(bench.blob(`${NGINX}@${digest}`)).rejects.toMatchObject({ fault: "absent" });
    await expect(bench.blob(`${NGINX}@${digest}`, { head: true })).rejects.toMatchObject({ fault: "absent" });
    expect(bench.hub.taken()).toEqual([`GET blob library/nginx@${digest}`]);
  });

  test("trouble upstream is the client's trouble where nothing is held, and is not remembered", async () => {
    const digest = await push(SMALL, { listed: false });
    bench.hub.fail("status", 500);
    await expect(bench.blob(`${NGINX}@${digest}`)).rejects.toMatchObject({ fault: "status" });
    bench.hub.failing = undefined;
    expect(await bench.pull(`${NGINX}@${digest}`)).toEqual(SMALL);
  });

  test("B12 HEAD of a cold blob: from a held descriptor, else one HEAD upstream; never a download", async () => {
    const listed = await push(SMALL, { listed: true });
    expect(await bench.blob(`${NGINX}@${listed}`, { head: true })).toMatchObject({
      size: SMALL.length,
      body: undefined,
    });
    expect(bench.hub.taken()).toEqual([]);
    const unlisted = await push(LARGE, { listed: false });
    const heads = Array.from({ length: 50 }, () => bench.blob(`${NGINX}@${unlisted}`, { head: true }));
    expect((await Promise.all(heads)).map(({ size }) => size)).toEqual(Array(50).fill(LARGE.length));
    expect(bench.hub.taken()).toEqual([`HEAD blob library/nginx@${unlisted}`]);
    expect(bench.fills.size).toBe(0);
  });

  test("B12 where HEAD tells no size, the first byte does", async () => {
    const digest = await push(SMALL, { listed: false });
    bench.hub.confirmsEverything = true;
    expect((await bench.blob(`${NGINX}@${digest}`, { head: true })).size).toBe(SMALL.length);
    expect(bench.hub.taken()).toEqual([`HEAD blob library/nginx@${digest}`, `SIZE blob library/nginx@${digest}`]);
  });
});

describe("the same blob in another repository", () => {
  test("a held one: listed costs nothing, unlisted one HEAD, absent is refused", async () => {
    const digest = await push(SMALL, { listed: false });
    await bench.pull(`${NGINX}@${digest}`);
    bench.hub.push("listing/repo", OCI_MANIFEST, { layers: [{ mediaType: "a/b", digest, size: SMALL.length }] }, "1");
    await bench.get("docker.io/listing/repo:1");
    bench.hub.pushBlob("having/repo", SMALL);
    bench.hub.taken();
    expect((await bench.blob(`docker.io/listing/repo@${digest}`)).cache.outcome).toBe("hit");
    expect((await bench.blob(`docker.io/having/repo@${digest}`)).cache.outcome).toBe("revalidated");
    expect((await bench.blob(`docker.io/having/repo@${digest}`)).cache.outcome).toBe("hit");
    await expect(bench.blob(`docker.io/evil/repo@${digest}`)).rejects.toMatchObject({ fault: "absent" });
    expect(bench.hub.taken()).toEqual([`HEAD blob having/repo@${digest}`, `HEAD blob evil/repo@${digest}`]);
  });

  test("a registry that redirects HEAD still proves what it has", async () => {
    const digest = await push(SMALL, { listed: false });
    await bench.pull(`${NGINX}@${digest}`);
    bench.hub.taken();
    bench.hub.confirmsEverything = true;
    expect(await bench.pull(`docker.io/redirecting/repo@${digest}`)).toEqual(SMALL);
    expect(bench.hub.taken()).toEqual([`HEAD blob redirecting/repo@${digest}`]);
  });

  test("B7 one that is being downloaded: proved first, or not joined", async () => {
    const digest = await push(SMALL, { listed: false });
    bench.hub.pushBlob("having/repo", SMALL);
    let open = () => {};
    bench.fills.gate = new Promise((resolve) => {
      open = resolve;
    });
    const started = nextJoin();
    const first = bench.pull(`${NGINX}@${digest}`);
    await started;
    await expect(bench.pull(`docker.io/evil/repo@${digest}`)).rejects.toMatchObject({ fault: "absent" });
    const joining = nextJoin();
    const joined = bench.blob(`docker.io/having/repo@${digest}`);
    await joining;
    expect(bench.hub.taken()).toEqual([`HEAD blob evil/repo@${digest}`, `HEAD blob having/repo@${digest}`]);
    open();
    expect(await first).toEqual(SMALL);
    expect((await joined).cache.outcome).toBe("collapsed");
    const repo = (repository: string) => ({ upstream: "docker.io", repository });
    expect(await bench.repositories.hasLayer(repo("having/repo"), digest, bench)).toBe(true);
    expect(await bench.repositories.hasLayer(repo("evil/repo"), digest, bench)).toBe(false);
  });

  test("B7 who started a download without proof does not get what another repository delivers", async () => {
    const digest = digestOf(SMALL);
    bench.hub.push("listing/repo", OCI_MANIFEST, { layers: [{ mediaType: "a/b", digest, size: SMALL.length }] }, "1");
    bench.hub.pushBlob("listing/repo", SMALL);
    await bench.get("docker.io/listing/repo:1");
    let open = () => {};
    bench.fills.gate = new Promise((resolve) => {
      open = resolve;
    });
    const started = nextJoin();
    const evil = bench.pull(`docker.io/evil/repo@${digest}`);
    const refused = expect(evil).rejects.toMatchObject({ fault: "absent" });
    await started;
    const honest = bench.pull(`docker.io/listing/repo@${digest}`);
    open();
    await refused;
    expect(await honest).toEqual(SMALL);
    expect(await bench.repositories.hasLayer({ upstream: "docker.io", repository: "evil/repo" }, digest, bench)).toBe(
      false,
    );
  });
});

describe("ranges", () => {
  const from = (start: number, end?: number) =>
    ({ kind: "from", start, ...(end === undefined ? {} : { end }) }) as const;

  test("of a held blob: closed, open and suffix; 416 beyond the end", async () => {
    const digest = await push(SMALL, { listed: false });
    await bench.pull(`${NGINX}@${digest}`);
    const answer = await bench.blob(`${NGINX}@${digest}`, { range: from(2, 4) });
    expect(answer).toMatchObject({ part: { start: 2, end: 4 }, size: SMALL.length });
    await answer.release();
    expect(await bench.pull(`${NGINX}@${digest}`, { range: from(2, 4) })).toEqual(SMALL.subarray(2, 5));
    expect(await bench.pull(`${NGINX}@${digest}`, { range: from(8) })).toEqual(SMALL.subarray(8));
    expect(await bench.pull(`${NGINX}@${digest}`, { range: { kind: "suffix", length: 5 } })).toEqual(
      SMALL.subarray(-5),
    );
    await expect(bench.blob(`${NGINX}@${digest}`, { range: from(13) })).rejects.toMatchObject({
      code: "RANGE_INVALID",
      status: 416,
      headers: { "content-range": "bytes */13" },
    });
  });

  test("B11 of a cold blob that the fill will reach: from the fill", async () => {
    const digest = await push(LARGE, { listed: true });
    const part = await bench.pull(`${NGINX}@${digest}`, { range: from(10 << 20, (10 << 20) + 9) });
    expect(part).toEqual(LARGE.subarray(10 << 20, (10 << 20) + 10));
    expect(bench.hub.taken()).toEqual([`GET blob library/nginx@${digest}`]);
  });

  test("B11 far away in a cold blob: a closed range is passed through while the whole blob is filled behind it", async () => {
    const digest = await push(LARGE, { listed: true });
    bench.fills.reaches = false;
    const answer = await bench.blob(`${NGINX}@${digest}`, { range: from(10 << 20, (10 << 20) + 9) });
    expect(answer).toMatchObject({ cache: { outcome: "bypass" }, size: LARGE.length, part: { start: 10 << 20 } });
    await answer.release();
    expect(await bench.pull(`${NGINX}@${digest}`, { range: from(11 << 20, (11 << 20) + 9) })).toEqual(
      LARGE.subarray(11 << 20, (11 << 20) + 10),
    );
    expect(bench.hub.taken()[0]).toBe(`GET blob library/nginx@${digest}`);
    await bench.fills.stop();
    expect((await bench.blob(`${NGINX}@${digest}`, { head: true })).cache.outcome).toBe("hit");
  });

  test("B11 far away and open, or longer than 16 MiB: from the fill, however long it takes", async () => {
    const digest = await push(LARGE, { listed: true });
    bench.fills.reaches = false;
    for (const range of [from(10), from(10, (16 << 20) + 10)]) {
      await bench.blobs.delete(digest, bench);
      const answer = await bench.blob(`${NGINX}@${digest}`, { range });
      expect(answer.cache.outcome).toBe("miss");
      await bench.fills.stop();
    }
    expect(bench.hub.taken()).toEqual([`GET blob library/nginx@${digest}`, `GET blob library/nginx@${digest}`]);
  });

  test("B11 beyond the end of a cold blob: 416 without a download where the size is known", async () => {
    const listed = await push(SMALL, { listed: true });
    await expect(bench.blob(`${NGINX}@${listed}`, { range: from(13) })).rejects.toMatchObject({ status: 416 });
    expect(bench.hub.taken()).toEqual([]);
    const unlisted = await push(Buffer.from("another"), { listed: false });
    await expect(bench.blob(`${NGINX}@${unlisted}`, { range: from(7) })).rejects.toMatchObject({ status: 416 });
  });
});

describe("B15 damage under a link", () => {
  test("gone: fetched again", async () => {
    const digest = await push(SMALL, { listed: true });
    await bench.pull(`${NGINX}@${digest}`);
    await bench.blobs.delete(digest, bench);
    expect(await bench.pull(`${NGINX}@${digest}`)).toEqual(SMALL);
    expect(bench.hub.taken()).toHaveLength(2);
  });

  test.each([
    ["truncated", SMALL.subarray(0, 5), false],
    ["altered", Buffer.from("A SMALL LAYER"), false],
    ["empty", Buffer.alloc(0), true],
  ] as const)("small and %s: fetched again, unseen", async (_, bytes, listed) => {
    const digest = await push(SMALL, { listed });
    await bench.pull(`${NGINX}@${digest}`);
    await bench.restart();
    await damage(digest, bytes);
    expect(await bench.pull(`${NGINX}@${digest}`)).toEqual(SMALL);
    expect(bench.hub.taken()).toHaveLength(2);
  });

  test.each([
    ["small", SMALL],
    ["large", LARGE],
  ])("%s, whole, and listed with a wrong size: the manifest is wrong, and the blob stays", async (name, bytes) => {
    const digest = bench.hub.pushBlob("library/nginx", bytes);
    const layers = [{ mediaType: "application/tar", digest, size: bytes.length + 1 }];
    bench.hub.push("library/nginx", OCI_MANIFEST, { layers }, `lying-${name}`);
    await bench.pull(`${NGINX}@${digest}`);
    await bench.get(`${NGINX}:lying-${name}`);
    await bench.restart();
    bench.hub.taken();
    expect((await bench.pull(`${NGINX}@${digest}`)).equals(bytes)).toBe(true);
    expect(bench.hub.taken()).toEqual([]);
    expect(await bench.blobs.stat(digest, bench)).toMatchObject({ size: bytes.length });
  });

  test("large, truncated and listed: fetched again, unseen", async () => {
    const digest = await push(LARGE, { listed: true });
    await bench.pull(`${NGINX}@${digest}`);
    await bench.restart();
    await damage(digest, LARGE.subarray(0, 1 << 20));
    expect((await bench.pull(`${NGINX}@${digest}`)).equals(LARGE)).toBe(true);
  });

  test("large and altered: no client completes it, and the next pull fetches it again", async () => {
    const digest = await push(LARGE, { listed: true });
    await bench.pull(`${NGINX}@${digest}`);
    await bench.restart();
    const altered = Buffer.from(LARGE);
    altered[5] = 0;
    await damage(digest, altered);
    const { body } = await bench.blob(`${NGINX}@${digest}`);
    let received = 0;
    await expect(
      (async () => {
        for await (const chunk of body ?? []) received += chunk.length;
      })(),
    ).rejects.toMatchObject({ fault: "corrupt" });
    expect(received).toBeLessThan(LARGE.length);
    expect((await bench.pull(`${NGINX}@${digest}`)).equals(LARGE)).toBe(true);
  });

  test("large, altered, and left before its end: found beside, and the next pull fetches it again", async () => {
    const digest = await push(LARGE, { listed: true });
    await bench.pull(`${NGINX}@${digest}`);
    await bench.restart();
    const altered = Buffer.from(LARGE);
    altered[LARGE.length - 1] = 0;
    await damage(digest, altered);
    const { delete: deleteNow } = bench.blobs;
    let deleted = false;
    Object.assign(bench.blobs, {
      delete: async (asked, o) => {
        deleted = true;
        return await deleteNow(asked, o);
      },
    } satisfies Partial<BlobStore>);
    const { body } = await bench.blob(`${NGINX}@${digest}`);
    for await (const chunk of body ?? []) {
      expect(chunk.length).toBeLessThan(LARGE.length);
      break;
    }
    await eventually("the damage to be found", () => deleted);
    expect((await bench.pull(`${NGINX}@${digest}`)).equals(LARGE)).toBe(true);
  });
});

describe("what is seen to be whole", () => {
  async function heldSince(restart: boolean, bytes: Buffer): Promise<Digest> {
    const digest = await push(bytes, { listed: false });
    await bench.pull(`${NGINX}@${digest}`);
    await eventually("the download to be over", () => bench.fills.size === 0);
    if (restart) await bench.restart();
    return digest;
  }

  /** Times that the store was asked for the blob, by an answer to one client and whatever that leads to. */
  async function looks(digest: Digest, answer: () => Promise<unknown>): Promise<number> {
    const { open } = bench.blobs;
    let count = 0;
    Object.assign(bench.blobs, {
      open: async (asked, o) => {
        count += asked === digest ? 1 : 0;
        return await open(asked, o);
      },
    } satisfies Partial<BlobStore>);
    await answer();
    await bench.proxy.stop();
    Object.assign(bench.blobs, { open });
    return count;
  }

  const aPart = async (digest: Digest): Promise<void> => {
    await bench.pull(`${NGINX}@${digest}`, { range: { kind: "from", start: 5, end: 9 } });
  };

  test("the other processes are told of once: when it was downloaded, or read for the first time", async () => {
    const [downloaded, small] = [await heldSince(false, LARGE), await heldSince(false, SMALL)];
    await eventually("it to be told", () => bench.toldVerified.length > 0);
    await bench.restart();
    await bench.pull(`${NGINX}@${downloaded}`);
    await bench.pull(`${NGINX}@${downloaded}`);
    await bench.pull(`${NGINX}@${small}`);
    expect(bench.toldVerified).toEqual(Array(2).fill([downloaded, LARGE.length]));
  });

  test("of readers at once, those that are behind the first need not find it out for themselves", async () => {
    const digest = await heldSince(true, LARGE);
    bench.toldVerified.length = 0;
    const { body } = await bench.blob(`${NGINX}@${digest}`);
    const behind: Buffer[] = [];
    for await (const chunk of body ?? []) {
      behind.push(Buffer.from(chunk));
      if (behind.length === 1) expect((await bench.pull(`${NGINX}@${digest}`)).equals(LARGE)).toBe(true);
    }
    expect(Buffer.concat(behind).equals(LARGE)).toBe(true);
    expect(bench.toldVerified).toHaveLength(1);
  });

  test("what another process has read is not read again, unless it has been changed since", async () => {
    const digest = await heldSince(true, LARGE);
    const held = await bench.blobs.open(digest, bench);
    const { version = "", size = 0 } = held ?? {};
    await held?.close();
    bench.proxy.heardVerified(digest, { version, size });
    expect(await looks(digest, () => aPart(digest))).toBe(1);
    await bench.restart();
    bench.proxy.heardVerified(digest, { version: `${version} and another`, size });
    // Once more, to read it beside.
    expect(await looks(digest, () => aPart(digest))).toBe(2);
  });
});
