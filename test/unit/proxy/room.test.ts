import { describe, expect, test } from "vitest";
import { compilePin } from "../../../src/config/room.ts";
import { parseDigest } from "../../../src/oci/digest.ts";
import { StorageError } from "../../../src/storage/blob-store.ts";
import { seededBytes } from "../../support/images.ts";
import { createMemoryBlobStore } from "../../support/memory-store.ts";
import { call, marks, RoomBench } from "../../support/room-bench.ts";

const repo = { upstream: "a.example", repository: "app" };
const other = { upstream: "b.example", repository: "copy" };
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

describe("accounting", () => {
  test("counts what is kept and deleted, each once", async () => {
    await using bench = await new RoomBench().started();
    const a = await bench.keep("a", 1000, repo);
    await bench.keep("a", 1000, other);
    await bench.keep("b", 500, other);
    expect(bench.room.usage()).toEqual({
      bytes: 1500,
      blobs: 2,
      limitBytes: undefined,
      perUpstream: new Map([
        ["a.example", 1000],
        ["b.example", 1500],
      ]),
      counting: false,
    });
    await bench.room.blobs.delete(a, call);
    await bench.room.blobs.delete(a, call);
    bench.room.removed(a);
    expect(bench.room.usage()).toMatchObject({ bytes: 500, blobs: 1 });
  });

  test("S8 what lay there before the start is counted, whoever put it there", async () => {
    await using before = new RoomBench();
    const layer = await before.keep("layer", 5000, repo);
    await before.keepImage(repo, "v1", { blobs: [layer] });
    await using bench = new RoomBench({ store: before.store, objects: before.objects, clock: before.clock });
    expect(bench.room.usage()).toMatchObject({ bytes: 0, counting: true });
    await bench.started();
    const { bytes, blobs, counting, perUpstream } = bench.room.usage();
    expect({ blobs, counting }).toEqual({ blobs: 2, counting: false });
    expect(perUpstream).toEqual(new Map([["a.example", bytes]]));
  });

  test("blobs that come and go while the store is looked through are counted right", async () => {
    await using before = new RoomBench();
    const [a, b, c] = [await before.keep("a", 100), await before.keep("b", 200), await before.keep("c", 400)];
    const gate = Promise.withResolvers<void>();
    const listed = Promise.withResolvers<void>();
    const store = {
      ...before.store,
      async *list(o: typeof call) {
        for await (const stat of before.store.list(o)) {
          yield stat;
          listed.resolve();
          await gate.promise;
        }
      },
    };
    await using bench = new RoomBench({ store, objects: before.objects, clock: before.clock });
    bench.room.start();
    await listed.promise;
    await bench.room.blobs.delete(a, call);
    await bench.room.blobs.delete(b, call);
    await bench.put(Buffer.alloc(800), repo, "layer");
    await bench.use(c);
    await bench.room.blobs.delete(c, call);
    await before.store.put(c, seededBytes("c", 400), call);
    gate.resolve();
    await bench.clock.sleeping();
    // What came back without the room's knowledge is counted tomorrow, or when it is used.
    expect(bench.room.usage()).toMatchObject({ bytes: 800, blobs: 1, counting: false });
    await bench.use(c);
    expect(bench.room.usage()).toMatchObject({ bytes: 1200, blobs: 2 });
  });

  test("what went behind Weir's back is found out the next day", async () => {
    await using bench = await new RoomBench().started();
    const a = await bench.keep("a", 100, repo);
    await bench.keep("b", 200, repo);
    await bench.store.delete(a, call);
    expect(bench.room.usage()).toMatchObject({ bytes: 300 });
    bench.clock.advance(DAY_MS);
    await bench.settled();
    await bench.clock.sleeping();
    expect(bench.room.usage()).toMatchObject({ bytes: 200, blobs: 1 });
  });

  test("until everything is counted, as many bytes count as used as there were at the last stop", async () => {
    const first = await new RoomBench().started();
    await first.keep("a", 1000, repo);
    await first.room.stop(call);
    const store = {
      ...first.store,
      async *list() {
        await new Promise<void>(() => {});
      },
    };
    const bench = new RoomBench({ store, objects: first.objects, clock: first.clock });
    bench.room.start();
    await bench.settled();
    expect(bench.room.usage()).toMatchObject({ bytes: 1000, counting: true });
    await bench.put(Buffer.alloc(10), repo, "layer");
    expect(bench.room.usage()).toMatchObject({ bytes: 1010, counting: true });
  });
});

describe("eviction", () => {
  test("what was used least recently goes, down to the low mark", async () => {
    await using bench = await new RoomBench({ limits: { total: marks(10_000) } }).started();
    const [a, b, c] = [
      await bench.keep("a", 3000, repo),
      await bench.keep("b", 3000, repo),
      await bench.keep("c", 3000, repo),
    ];
    await bench.use(a);
    const d = await bench.keep("d", 3000, repo);
    await bench.settled();
    expect(bench.evicted).toEqual([
      { digest: b, reason: "room" },
      { digest: c, reason: "room" },
    ]);
    expect(bench.room.usage().bytes).toBe(6000);
    expect([await bench.holds(a), await bench.holds(d)]).toEqual([true, true]);
  });

  test("S3 a layer that two repositories have is counted once, and goes once", async () => {
    await using bench = await new RoomBench({ limits: { total: marks(10_000) } }).started();
    const layer = await bench.keep("layer", 5000, repo);
    await bench.keep("layer", 5000, other);
    await bench.keep("more", 4000, repo);
    await bench.settled();
    expect(bench.room.usage().bytes).toBe(9000);
    await bench.use(layer);
    await bench.keep("most", 1000, repo);
    await bench.settled();
    expect(await bench.holds(layer)).toBe(true);
    expect(bench.evicted).toHaveLength(1);
  });

  test("S3 tags whose blobs are gone keep their manifests, until there is nothing else left", async () => {
    await using bench = await new RoomBench({ limits: { total: marks(20_000) } }).started();
    const layer = await bench.keep("layer", 9000, repo);
    const manifest = await bench.keepImage(repo, "v1", { blobs: [layer] });
    await bench.keep("newer", 9000, repo);
    await bench.keep("newest", 9000, repo);
    await bench.settled();
    expect([await bench.holds(layer), await bench.holds(manifest)]).toEqual([false, true]);
    expect((await bench.repositories.getTag(repo, "v1", call))?.digest).toBe(manifest);
    bench.limits = { ...bench.limits, total: marks(100) };
    bench.room.limitsChanged();
    await bench.settled();
    expect(await bench.holds(manifest)).toBe(false);
    expect((await bench.repositories.getTag(repo, "v1", call))?.digest).toBe(manifest);
  });

  test("pins hold tags with all that they need, and whole repositories", async () => {
    const pins = ["a.example/app:v1", "b.example/*"].map(compilePin);
    await using bench = await new RoomBench({ limits: { total: marks(40_000), pins } }).started();
    const layer = await bench.keep("layer", 8000, repo);
    const child = await bench.keepImage(repo, undefined, { blobs: [layer], salt: "child" });
    const index = await bench.keepImage(repo, "v1", { children: [child] });
    const whole = await bench.keep("whole", 8000, other);
    const loose = await bench.keep("loose", 8000, repo);
    await bench.keepImage(repo, "v2", { blobs: [loose] });
    await bench.keep("newer", 8000, repo);
    await bench.keep("newest", 8000, repo);
    await bench.settled();
    expect(await Promise.all([layer, child, index, whole, loose].map((digest) => bench.holds(digest)))).toEqual([
      true,
      true,
      true,
      true,
      false,
    ]);
  });

  test("an operator's pins hold beside those of the configuration: tags, repositories, manifests and blobs by digest", async () => {
    const pins = [compilePin("a.example/configured")];
    await using bench = await new RoomBench({ limits: { total: marks(40_000), pins } }).started();
    const named = (name: string) => ({ repository: ({ repository }: typeof repo) => repository === name });
    const configured = await bench.keep("configured", 6000, { ...repo, repository: "configured" });
    const [layer, tagged] = [await bench.keep("layer", 6000, repo), await bench.keep("tagged", 6000, repo)];
    const image = await bench.keepImage(repo, undefined, { blobs: [layer] });
    await bench.keepImage(repo, "v1", { blobs: [tagged] });
    const blob = await bench.keep("blob", 6000, repo);
    const loose = await bench.keep("loose", 6000, repo);
    bench.operatorPins = [
      { ...named("app"), tag: (tag) => tag === "v1" },
      { ...named("app"), tag: undefined, digest: image },
      { ...named("app"), tag: undefined, digest: blob },
    ];
    await bench.keep("newest", 9000, repo);
    await bench.settled();
    expect(bench.evicted.map(({ digest }) => digest)).toEqual([loose]);
    // Taken back, the oldest goes first.
    bench.operatorPins = [];
    await bench.keep("newer still", 10_000, repo);
    await bench.settled();
    expect(await bench.holds(configured)).toBe(true);
    expect(await bench.holds(layer)).toBe(false);
  });

  test("what an operator has pinned does not go for its age either", async () => {
    await using bench = await new RoomBench({ limits: { maxAgeMs: DAY_MS } }).started();
    const [kept, old] = [await bench.keep("kept", 1000, repo), await bench.keep("old", 1000, other)];
    bench.operatorPins = [{ repository: ({ upstream }) => upstream === repo.upstream, tag: undefined }];
    bench.clock.advance(2 * DAY_MS);
    await bench.collect({ dryRun: false });
    expect([await bench.holds(kept), await bench.holds(old)]).toEqual([true, false]);
  });

  test("an upstream's cap costs only what it alone has", async () => {
    await using bench = await new RoomBench({
      limits: { upstreams: new Map([["a.example", marks(10_000)]]) },
    }).started();
    const shared = await bench.keep("shared", 4000, repo);
    await bench.repositories.linkLayer(other, shared, call);
    const own = await bench.keep("own", 4000, repo);
    await bench.keep("theirs", 50_000, other);
    await bench.keep("newer", 4000, repo);
    await bench.settled();
    expect(bench.evicted).toEqual([{ digest: own, reason: "upstream-cap" }]);
    expect(bench.room.usage().perUpstream.get("a.example")).toBe(8000);
  });

  test("what is used again between choice and deletion stays", async () => {
    const store = createMemoryBlobStore();
    const deleting = Promise.withResolvers<void>();
    const going = Promise.withResolvers<void>();
    const slow: typeof store = {
      ...store,
      async delete(digest, o) {
        deleting.resolve();
        await going.promise;
        return await store.delete(digest, o);
      },
    };
    await using bench = await new RoomBench({ store: slow, limits: { total: marks(10_000) } }).started();
    const [a, b] = [await bench.keep("a", 3000, repo), await bench.keep("b", 3000, repo)];
    await bench.keep("c", 3000, repo);
    await bench.keep("d", 3000, repo);
    await deleting.promise;
    await bench.use(b);
    going.resolve();
    await bench.settled();
    expect([await bench.holds(a), await bench.holds(b)]).toEqual([false, true]);
  });

  test("a lower limit counts at once, and one that nothing can keep to is told once", async () => {
    const pins = ["**"].map(compilePin);
    await using bench = await new RoomBench({ limits: { pins } }).started();
    await bench.keep("a", 3000, repo);
    bench.limits = { ...bench.limits, total: marks(1000) };
    bench.room.limitsChanged();
    await bench.settled();
    bench.clock.advance(10_000);
    bench.room.limitsChanged();
    await bench.settled();
    expect(bench.evicted).toEqual([]);
    expect(bench.warnings.filter((warning) => warning.includes("nothing of it may go"))).toHaveLength(1);
  });
});

describe("a fill", () => {
  test("finds room made for all of it before it starts", async () => {
    await using bench = await new RoomBench({ limits: { total: marks(10_000) } }).started();
    const a = await bench.keep("a", 9000, repo);
    const reservation = await bench.room.reserve(5000, call);
    expect(reservation.keep).toBe(true);
    expect(await bench.holds(a)).toBe(false);
    reservation.release();
    reservation.release();
  });

  test("counts as used while it lasts, and with the bytes that are left to be resumed", async () => {
    await using bench = await new RoomBench({ limits: { total: marks(10_000) } }).started();
    const first = await bench.room.reserve(4000, call);
    bench.spooledBytes = 3000;
    const a = await bench.keep("a", 2000, repo);
    await bench.settled();
    expect(await bench.holds(a)).toBe(true);
    await (await bench.room.reserve(600, call)).grow(700, call);
    expect(await bench.holds(a)).toBe(false);
    first.release();
  });

  test("that is given up while room is made for it counts no more", async () => {
    await using bench = await new RoomBench({ limits: { total: marks(10_000) } }).started();
    const leaving = new AbortController();
    leaving.abort(new Error("left"));
    await expect(bench.room.reserve(9000, { signal: leaving.signal })).rejects.toThrow("left");
    const a = await bench.keep("a", 9000, repo);
    await bench.settled();
    expect(await bench.holds(a)).toBe(true);
  });

  test("goes on without waiting for what cannot be had", async () => {
    await using bench = await new RoomBench({ limits: { total: marks(10_000) } }).started();
    const reservations = await Promise.all([1, 2, 3, 4].map(() => bench.room.reserve(9000, call)));
    expect(reservations.map(({ keep }) => keep)).toEqual([true, true, true, true]);
  });

  test("of a blob that is larger than everything that may be held is not kept, and evicts nothing", async () => {
    await using bench = await new RoomBench({ limits: { total: marks(10_000) } }).started();
    const a = await bench.keep("a", 9000, repo);
    const reservation = await bench.room.reserve(undefined, call);
    expect(reservation.keep).toBe(true);
    expect(await reservation.grow(9501, call)).toBe(false);
    expect(reservation.keep).toBe(false);
    expect(await bench.holds(a)).toBe(true);
  });

  test("B14 a full disk makes what was used least recently go, though the limit is not reached", async () => {
    await using bench = await new RoomBench({ limits: { total: marks(1_000_000) } }).started();
    const [a, b] = [await bench.keep("a", 3000, repo), await bench.keep("b", 3000, repo)];
    expect(await Promise.all([bench.room.emergency(2000, call), bench.room.emergency(2000, call)])).toEqual([
      true,
      true,
    ]);
    expect(bench.evicted).toEqual([{ digest: a, reason: "emergency" }]);
    expect(await bench.room.emergency(1, call)).toBe(true);
    expect(await bench.holds(b)).toBe(false);
    expect(await bench.room.emergency(1, call)).toBe(false);
  });

  test("B14 a manifest or a link that finds the disk full is written after room was made", async () => {
    const store = createMemoryBlobStore();
    let full = false;
    const filling: typeof store = {
      ...store,
      async put(digest, bytes, o) {
        if (full) throw new StorageError("no-space", "the disk is full");
        await store.put(digest, bytes, o);
      },
      async delete(digest, o) {
        full = false;
        return await store.delete(digest, o);
      },
    };
    await using bench = await new RoomBench({ store: filling }).started();
    const a = await bench.keep("a", 3000, repo);
    full = true;
    const b = await bench.keep("b", 300, repo);
    expect([await bench.holds(a), await bench.holds(b)]).toEqual([false, true]);
    expect(bench.room.usage().bytes).toBe(300);
  });
});

describe("S5 recency", () => {
  test("the order survives a restart, and hits write nothing", async () => {
    const puts: string[] = [];
    const first = new RoomBench();
    const put = first.objects.put.bind(first.objects);
    Object.assign(first.objects, {
      put(...args: Parameters<typeof put>) {
        puts.push(args[0]);
        return put(...args);
      },
    });
    await first.started();
    const digests = [];
    for (const name of ["a", "b", "c", "d"]) digests.push(await first.keep(name, 1000, repo));
    const [a, b, c, d] = digests;
    const before = puts.length;
    for (const digest of [b, d, a, c]) await first.use(digest ?? parseDigest(""));
    expect(puts.length).toBe(before);
    await first.room.stop(call);
    expect(puts.slice(before).every((key) => key.startsWith("weir/v1/recency/"))).toBe(true);

    await using second = await new RoomBench({
      store: first.store,
      objects: first.objects,
      clock: first.clock,
    }).started();
    second.limits = { ...second.limits, total: { limit: 2000, high: 1999, low: 1000 } };
    second.room.limitsChanged();
    await second.settled();
    expect(second.evicted.map(({ digest }) => digest)).toEqual([b, d, a]);
  });

  test("is written down once a minute where something was used, so that a crash costs no more", async () => {
    const first = await new RoomBench().started();
    const [a, b] = [await first.keep("a", 1000, repo), await first.keep("b", 1000, repo)];
    await first.use(a);
    first.clock.advance(60_000);
    await first.settled();
    await first.clock.sleeping();
    // No stop: the process was killed.
    await using second = await new RoomBench({
      store: first.store,
      objects: first.objects,
      clock: first.clock,
    }).started();
    second.limits = { ...second.limits, total: { limit: 2000, high: 1999, low: 1000 } };
    second.room.limitsChanged();
    await second.settled();
    expect(second.evicted.map(({ digest }) => digest)).toEqual([b]);
  });

  test("lost, it counts as use when a blob was stored, and what is used from then on stays", async () => {
    const first = await new RoomBench().started();
    const [a, b, c] = [
      await first.keep("a", 1000, repo),
      await first.keep("b", 1000, repo),
      await first.keep("c", 1000, repo),
    ];
    await first.room.stop(call);
    for (let part = 0; part < 16; part += 1) {
      await first.objects.put(`weir/v1/recency/${part.toString(16)}`, Buffer.from("torn"), call);
    }
    await using second = await new RoomBench({
      store: first.store,
      objects: first.objects,
      clock: first.clock,
    }).started();
    await second.use(a);
    second.limits = { ...second.limits, total: { limit: 3000, high: 2999, low: 1000 } };
    second.room.limitsChanged();
    await second.settled();
    expect(second.evicted.map(({ digest }) => digest)).toEqual([b, c]);
  });
});

describe("collecting", () => {
  test("tells what would go, why, how old and how large it is, and touches nothing in a dry run", async () => {
    await using bench = new RoomBench({ limits: { maxAgeMs: 10 * HOUR_MS } });
    const layer = await bench.keep("layer", 1000, repo);
    const manifest = await bench.keepImage(repo, "v1", { blobs: [layer] });
    const unlinked = await bench.keep("unlinked", 500);
    bench.clock.advance(8 * HOUR_MS);
    const gone = await bench.keep("gone", 100, repo);
    await bench.store.delete(gone, call);
    bench.room.removed(gone);
    const fresh = await bench.keep("fresh", 100);
    bench.clock.advance(2.5 * HOUR_MS);
    await bench.use(fresh);
    const dry = await bench.collect({ dryRun: true });
    expect(dry.map(({ digest, key, reason }) => ({ digest, reason, what: key?.split("/").at(-4) ?? "blob" }))).toEqual([
      { digest: layer, reason: "age", what: "blob" },
      { digest: unlinked, reason: "age", what: "blob" },
      { digest: manifest, reason: "age", what: "revisions" },
      { digest: manifest, reason: "age", what: "blob" },
      { digest: gone, reason: "dangling-link", what: "_layers" },
    ]);
    expect(dry[0]).toMatchObject({ bytes: 1000 });
    expect(dry[0]?.ageMs).toBeGreaterThan(10 * HOUR_MS);
    expect(dry[2]).toMatchObject({ repository: "a.example/app" });
    expect(bench.room.usage().blobs).toBe(4);
    expect(bench.evicted).toEqual([]);

    const done = await bench.collect({ dryRun: false });
    expect(done.map(({ digest, reason }) => ({ digest, reason }))).toEqual(
      expect.arrayContaining([
        { digest: layer, reason: "age" },
        { digest: manifest, reason: "age" },
        { digest: gone, reason: "dangling-link" },
      ]),
    );
    expect(await bench.repositories.tags(repo, call)).toEqual([]);
    expect(await bench.repositories.hasRevision(repo, manifest, call)).toBe(false);
    expect(await bench.repositories.hasLayer(repo, gone, call)).toBe(false);
    expect(await bench.holds(fresh)).toBe(true);
    expect(await bench.collect({ dryRun: true })).toEqual([]);
  });

  test("links to what was evicted stay for as long as a held manifest lists it, or a tag means it", async () => {
    await using bench = await new RoomBench().started();
    const layer = await bench.keep("layer", 1000, repo);
    const manifest = await bench.keepImage(repo, "v1", { blobs: [layer] });
    await bench.room.blobs.delete(layer, call);
    bench.clock.advance(2 * HOUR_MS);
    expect(await bench.collect({ dryRun: false })).toEqual([]);
    await bench.room.blobs.delete(manifest, call);
    const found = await bench.collect({ dryRun: false });
    expect(found.map(({ digest, reason }) => ({ digest, reason }))).toEqual([
      { digest: layer, reason: "dangling-link" },
    ]);
    expect(await bench.repositories.hasRevision(repo, manifest, call)).toBe(true);
    expect((await bench.repositories.getTag(repo, "v1", call))?.digest).toBe(manifest);
  });

  test("S3 when one of two repositories has let go of a layer, the other keeps it", async () => {
    await using bench = await new RoomBench().started();
    const layer = await bench.keep("layer", 1000, repo);
    await bench.keep("layer", 1000, other);
    bench.clock.advance(2 * HOUR_MS);
    await bench.repositories.unlinkLayer(repo, layer, call);
    expect(await bench.collect({ dryRun: false })).toEqual([]);
    await bench.repositories.unlinkLayer(other, layer, call);
    expect((await bench.collect({ dryRun: false })).map(({ reason }) => reason)).toEqual(["unreferenced"]);
    expect(bench.room.usage()).toMatchObject({ bytes: 0, blobs: 0 });
  });

  test("a blob that gets a link while links are looked at stays", async () => {
    await using bench = await new RoomBench().started();
    const blob = await bench.keep("blob", 1000);
    await bench.keep("first", 10);
    bench.clock.advance(2 * HOUR_MS);
    const reasons: string[] = [];
    for await (const { digest, reason } of bench.room.collect({ ...call, dryRun: false })) {
      reasons.push(reason);
      if (digest !== blob) await bench.repositories.linkLayer(repo, blob, call);
    }
    expect(reasons.length).toBeGreaterThan(0);
    expect(await bench.holds(blob)).toBe(reasons.length === 1);
  });

  test("a command counts the store itself, and a dry run of it evicts nothing", async () => {
    await using before = new RoomBench();
    await before.keep("a", 9000, repo);
    await using bench = new RoomBench({
      store: before.store,
      objects: before.objects,
      clock: before.clock,
      limits: { total: marks(1000) },
    });
    const dry = await bench.collect({ dryRun: true });
    await bench.settled();
    expect(dry.map(({ reason, bytes }) => ({ reason, bytes }))).toEqual([{ reason: "room", bytes: 9000 }]);
    expect(bench.evicted).toEqual([]);
    await bench.collect({ dryRun: false });
    expect(bench.evicted).toHaveLength(1);
  });

  test("what is too old goes by itself within the hour", async () => {
    await using bench = await new RoomBench({ limits: { maxAgeMs: 2 * DAY_MS } }).started();
    const layer = await bench.keep("layer", 1000, repo);
    bench.clock.advance(1.5 * DAY_MS);
    await bench.settled();
    expect(await bench.holds(layer)).toBe(true);
    bench.clock.advance(0.6 * DAY_MS);
    await bench.settled();
    await bench.clock.sleeping();
    expect(await bench.holds(layer)).toBe(false);
  });
});
