import { describe, expect, test } from "vitest";
import { compilePin } from "../../../../src/config/room.ts";
import type { Digest } from "../../../../src/oci/digest.ts";
import { BucketBench, MINUTE_MS, type Replica } from "../../../support/bucket-bench.ts";
import { seededBytes } from "../../../support/images.ts";
import { call, marks } from "../../../support/room-bench.ts";

const repo = { upstream: "a.example", repository: "app" };
const other = { upstream: "b.example", repository: "copy" };
const HOUR_MS = 60 * MINUTE_MS;
const GRACE_MS = 30 * MINUTE_MS;
const total = marks(10_000);

/** Four blobs, which are more than the high mark allows, and were used last more than a grace ago. */
async function crowded(bench: BucketBench, limits = { total }) {
  const evictor = await bench.evictor({ limits });
  const blobs: Digest[] = [];
  for (const name of ["a", "b", "c", "d"]) blobs.push(await evictor.keep(name, 2500, repo));
  const [a, b, c, d] = blobs as [Digest, Digest, Digest, Digest];
  return { evictor, a, b, c, d };
}

describe("letting go", () => {
  test("S4 what goes is marked first, is served for the whole grace, and is gone after it", async () => {
    await using bench = new BucketBench();
    const { evictor, a, b, c, d } = await crowded(bench);
    await bench.pass(GRACE_MS + MINUTE_MS);
    expect(await bench.marked()).toEqual([a]);
    expect(bench.deleted).toEqual([]);
    await bench.pass(GRACE_MS - 2 * MINUTE_MS);
    expect(await bench.holds(a)).toBe(true);
    await bench.pass(3 * MINUTE_MS);
    expect(bench.deleted.map(({ digest, reason }) => ({ digest, reason }))).toEqual([{ digest: a, reason: "room" }]);
    expect(await Promise.all([a, b, c, d].map((digest) => bench.holds(digest)))).toEqual([false, true, true, true]);
    expect(await bench.marked()).toEqual([]);
    expect(evictor.room.usage()).toMatchObject({ bytes: 7500, blobs: 3, limitBytes: 10_000, counting: false });
  });

  test("a Weir without limits that was first lets one with limits look after the bucket", async () => {
    await using bench = new BucketBench();
    const unbounded = await bench.evictor();
    const a = await unbounded.keep("a", 6000, repo);
    await unbounded.keep("b", 6000, repo);
    await bench.evictor({ limits: { total } });
    await bench.pass(2 * GRACE_MS + 3 * MINUTE_MS);
    expect(bench.deleted.map(({ digest }) => digest)).toEqual([a]);
    expect(unbounded.room.usage()).toMatchObject({ bytes: 6000, blobs: 1 });
  });

  test("limits that come by a reload count at once: also for who looks after the bucket", async () => {
    await using bench = new BucketBench();
    await bench.evictor();
    const late = bench.replica();
    late.room.start();
    await bench.pass(10_000);
    const before = await bench.records.seat(call);
    late.limits = { ...late.limits, total };
    late.room.limitsChanged();
    await bench.pass(5_000);
    expect(before).toMatchObject({ isBounded: false });
    expect(await bench.records.seat(call)).toMatchObject({ isBounded: true });
    expect((await bench.records.seat(call))?.token).not.toBe(before?.token);
  });

  test("one that stops right after its start leaves no seat that the others would wait for", async () => {
    await using bench = new BucketBench();
    const brief = bench.replica({ limits: { total } });
    brief.room.start();
    await bench.pass(1_000);
    expect(await bench.records.seat(call)).toBeDefined();
    await brief.room.stop(call);
    expect(await bench.records.seat(call)).toBeUndefined();
  });

  test("S4 nothing that was used within the grace is marked, however full it is", async () => {
    await using bench = new BucketBench();
    const { evictor, a, b, c, d } = await crowded(bench);
    for (let used = 0; used < 3 * GRACE_MS; used += 10 * MINUTE_MS) {
      for (const digest of [a, b, c, d]) await evictor.serve(digest);
      await bench.pass(10 * MINUTE_MS);
      expect(await bench.marked()).toEqual([]);
    }
    expect(bench.deleted).toEqual([]);
  });

  test("no fill waits: what is too large is passed on, everything else has room at once", async () => {
    await using bench = new BucketBench();
    const { evictor } = await crowded(bench);
    const small = await evictor.room.reserve(9_000);
    expect([small.keep, await small.grow(9_400, call), await small.grow(9_600, call), small.keep]).toEqual([
      true,
      true,
      false,
      false,
    ]);
    expect((await evictor.room.reserve(9_600)).keep).toBe(false);
    expect(await evictor.room.emergency()).toBe(false);
  });

  test("marks go when there is room after all: the limit was raised, or others have deleted", async () => {
    await using bench = new BucketBench();
    const { evictor } = await crowded(bench);
    await bench.pass(GRACE_MS + MINUTE_MS);
    expect(await bench.marked()).toHaveLength(1);
    evictor.limits = { ...evictor.limits, total: marks(100_000) };
    await bench.pass(MINUTE_MS);
    expect(await bench.marked()).toEqual([]);
    await bench.pass(2 * GRACE_MS);
    expect(bench.deleted).toEqual([]);
  });

  test("pins keep what they mean, also when it was marked before", async () => {
    await using bench = new BucketBench();
    const { evictor, a, b } = await crowded(bench);
    await bench.pass(GRACE_MS + MINUTE_MS);
    expect(await bench.marked()).toEqual([a]);
    await evictor.repositories.linkLayer(other, a, call);
    evictor.limits = { ...evictor.limits, pins: [compilePin("b.example/*")] };
    await bench.pass(3 * GRACE_MS);
    expect(bench.deleted.map(({ digest }) => digest)).toEqual([b]);
  });

  test("maxAge takes names with manifests, in the order that leaves no name of nothing", async () => {
    await using bench = new BucketBench();
    const evictor = await bench.evictor({ limits: { maxAgeMs: 24 * HOUR_MS } });
    const layer = await evictor.keep("layer", 1000, repo);
    const manifest = await evictor.keepImage(repo, "v1", [layer]);
    await bench.pass(24 * HOUR_MS);
    expect(await bench.marked()).toEqual([]);
    await bench.pass(HOUR_MS + 5 * MINUTE_MS);
    expect(await bench.marked()).toEqual([layer, manifest]);
    expect(await evictor.repositories.tags(repo, call)).toEqual(["v1"]);
    const left: (readonly string[])[] = [];
    evictor.deleting = async () => void left.push(await evictor.repositories.tags(repo, call));
    await bench.pass(GRACE_MS);
    expect(left).toEqual([[], []]);
    expect(bench.deleted.map(({ reason }) => reason)).toEqual(["age", "age"]);
    expect(await evictor.repositories.hasRevision(repo, manifest, call)).toBe(false);
  });

  test("what no repository has is marked once a day, and stays if it gets one", async () => {
    await using bench = new BucketBench();
    const evictor = await bench.evictor();
    const loose = await evictor.keep("loose", 1000);
    const late = await evictor.keep("late", 1000);
    await bench.pass(26 * HOUR_MS);
    expect(bench.deleted.map(({ digest, reason }) => [digest, reason])).toEqual([
      [loose, "unreferenced"],
      [late, "unreferenced"],
    ]);
    const [again, kept] = [await evictor.keep("loose", 1000), await evictor.keep("late", 1000)];
    await bench.pass(23 * HOUR_MS + 10 * MINUTE_MS);
    expect((await bench.marked()).sort()).toEqual([again, kept].sort());
    await evictor.repositories.linkLayer(repo, kept, call);
    await bench.pass(HOUR_MS);
    expect([await bench.holds(again), await bench.holds(kept)]).toEqual([false, true]);
  });

  test("a dry run tells what is marked and since when, what would be, and changes nothing", async () => {
    await using bench = new BucketBench();
    const { evictor, a, b } = await crowded(bench);
    await bench.pass(GRACE_MS + 12 * MINUTE_MS);
    evictor.limits = { ...evictor.limits, total: marks(7_000) };
    const asked = bench.requests.length;
    const found = await evictor.collect({ dryRun: true });
    expect(found.map(({ digest, reason }) => [digest, reason])).toEqual([
      [a, "room"],
      [b, "room"],
    ]);
    expect(found[0]?.markedMs).toBeGreaterThan(10 * MINUTE_MS);
    expect(found[1]?.markedMs).toBe(0);
    expect(bench.requests.slice(asked).filter((request) => /^(put|delete)/.test(request))).toEqual([]);
    expect(await bench.marked()).toEqual([a]);
    await evictor.collect({ dryRun: false });
    expect((await bench.marked()).sort()).toEqual([a, b].sort());
  });
});

describe("several Weirs", () => {
  test("S4 a use of another Weir takes the mark away, and something else goes in its place", async () => {
    await using bench = new BucketBench();
    const { a, b } = await crowded(bench);
    const reader = bench.replica();
    await bench.pass(GRACE_MS + 2 * MINUTE_MS);
    expect(await bench.marked()).toEqual([a]);
    expect(await reader.serve(a)).toBe("streamed");
    await bench.pass(2 * MINUTE_MS);
    expect(await bench.marked()).toEqual([b]);
    // It finds out behind this client's back.
    await reader.serve(a);
    await bench.pass(0);
    expect(await reader.serve(a)).toBe("redirected");
    await bench.pass(GRACE_MS + 2 * MINUTE_MS);
    expect(bench.deleted.map(({ digest }) => digest)).toEqual([b]);
  });

  test("S4 a marked blob that is used in the last seconds of its grace stays", async () => {
    await using bench = new BucketBench();
    const { a } = await crowded(bench);
    const reader = bench.replica();
    while ((await bench.marked()).length === 0) await bench.pass(5_000);
    expect(await bench.marked()).toEqual([a]);
    await bench.pass(GRACE_MS - 10_000);
    expect(await bench.marked()).toEqual([a]);
    await reader.serve(a);
    await bench.pass(2 * MINUTE_MS);
    expect(await bench.holds(a)).toBe(true);
    expect(await bench.marked()).not.toContain(a);
  });

  test("S4 a fill that finds a marked blob in the bucket has used it", async () => {
    await using bench = new BucketBench();
    const { a } = await crowded(bench);
    const filler = bench.replica();
    await bench.pass(GRACE_MS + 2 * MINUTE_MS);
    expect(await bench.marked()).toEqual([a]);
    expect(await filler.keep("a", 2500, other)).toBe(a);
    await bench.pass(GRACE_MS + 2 * MINUTE_MS);
    expect(await bench.holds(a)).toBe(true);
  });

  test("S4 a blob that went and was fetched anew, unknown to whoever lets go, stays", async () => {
    await using bench = new BucketBench();
    const { a } = await crowded(bench);
    await bench.pass(GRACE_MS + 2 * MINUTE_MS);
    expect(await bench.marked()).toEqual([a]);
    await bench.store.delete(a, call);
    await bench.pass(2_000);
    await bench.store.put(a, seededBytes("a", 2500), call);
    await bench.pass(GRACE_MS);
    expect(await bench.holds(a)).toBe(true);
  });

  test("what another Weir keeps is counted within two minutes, its manifests and owners too, and goes last", async () => {
    await using bench = new BucketBench();
    const evictor = await bench.evictor({ limits: { total } });
    const writer = bench.replica();
    const layer = await writer.keep("layer", 9_000, repo);
    const manifest = await writer.keepImage(repo, "v1", [layer]);
    await bench.pass(2 * MINUTE_MS);
    const { bytes, blobs, perUpstream } = evictor.room.usage();
    expect({ blobs, perUpstream }).toEqual({ blobs: 2, perUpstream: new Map([["a.example", bytes]]) });
    evictor.limits = { ...evictor.limits, total: marks(5_000) };
    await bench.pass(2 * GRACE_MS + 5 * MINUTE_MS);
    expect([await bench.holds(layer), await bench.holds(manifest)]).toEqual([false, true]);
  });

  test("all of them tell what one of them has counted", async () => {
    await using bench = new BucketBench();
    const { evictor } = await crowded(bench);
    const second = bench.replica({ limits: { total } });
    expect(second.room.usage()).toMatchObject({ bytes: 0, counting: true });
    second.room.start();
    await bench.pass(2 * MINUTE_MS);
    expect(evictor.room.usage()).toMatchObject({ bytes: 10_000, blobs: 4 });
    expect(second.room.usage()).toEqual(evictor.room.usage());
  });

  test("S4 two that let go at once do no harm: what is used stays, and no more goes than one would have let go", async () => {
    await using bench = new BucketBench();
    const first = await bench.evictor({ limits: { total }, alwaysSeated: true });
    const second = await bench.evictor({ limits: { total }, alwaysSeated: true });
    const blobs: Digest[] = [];
    for (let n = 0; n < 20; n += 1) blobs.push(await (n % 2 === 0 ? first : second).keep(`blob ${n}`, 1000, repo));
    await bench.pass(GRACE_MS + 3 * MINUTE_MS);
    expect(new Set(await bench.marked())).toEqual(new Set(blobs.slice(0, 12)));
    const used = blobs[3] as Digest;
    await second.serve(used);
    await bench.pass(2 * GRACE_MS + 10 * MINUTE_MS);
    const held = await Promise.all(blobs.map((digest) => bench.holds(digest)));
    expect(held[3]).toBe(true);
    expect(held.filter((is) => is)).toHaveLength(8);
    expect(new Set(bench.deleted.map(({ digest }) => digest)).size).toBe(bench.deleted.length);
    // One of them may not know what the other has deleted. It lets go of nothing else for that.
    await bench.pass(2 * GRACE_MS);
    expect(bench.deleted).toHaveLength(12);
  });

  test.each([
    ["two hours behind", -2 * HOUR_MS],
    ["two hours ahead", 2 * HOUR_MS],
  ])("S4 a Weir whose clock is %s keeps what it uses, and lets go of nothing too soon", async (_what, aheadMs) => {
    await using bench = new BucketBench();
    const reader = bench.replica({ aheadMs });
    const { a, b } = await crowded(bench);
    await bench.pass(GRACE_MS + 2 * MINUTE_MS);
    expect(await bench.marked()).toEqual([a]);
    await reader.serve(a);
    await bench.pass(2 * MINUTE_MS);
    expect(await bench.marked()).toEqual([b]);
    bench.replicas[1]?.kill();
    const wrong = bench.replica({ aheadMs, limits: { total } });
    wrong.room.start();
    await bench.pass(GRACE_MS - 5 * MINUTE_MS);
    expect(bench.deleted).toEqual([]);
    await bench.pass(10 * MINUTE_MS);
    expect(bench.deleted.map(({ digest }) => digest)).toEqual([b]);
  });

  test("S5 what a Weir has used is one small object, which goes when its writer has been silent for long", async () => {
    await using bench = new BucketBench();
    const { a } = await crowded(bench);
    const reader = bench.replica();
    await reader.serve(a);
    await bench.pass(2 * MINUTE_MS);
    const used = (): Promise<string[]> => listed(bench.records.uses.ids(call));
    expect(await used()).toHaveLength(2);
    reader.kill();
    await bench.pass(3 * HOUR_MS);
    expect(await used()).toEqual([]);
  });
});

describe("crashes and restarts", () => {
  test("S5 after a restart what was used when is known, marks go on where they were, and nothing is counted twice", async () => {
    await using bench = new BucketBench();
    const { evictor, a, b } = await crowded(bench);
    await evictor.serve(a);
    await bench.pass(GRACE_MS + 2 * MINUTE_MS);
    expect(await bench.marked()).toEqual([b]);
    await evictor.room.stop(call);
    evictor.kill();
    const next = bench.replica({ limits: { total } });
    next.room.start();
    await bench.pass(0);
    expect(next.room.usage()).toMatchObject({ bytes: 10_000, blobs: 4 });
    await bench.pass(GRACE_MS);
    expect(bench.deleted.map(({ digest, by }) => [digest, by])).toEqual([[b, next]]);
    expect(next.room.usage()).toMatchObject({ bytes: 7_500, blobs: 3, counting: false });
  });

  test.each([0, 1, 2])(
    "S2 killed after %i deletions: another one goes on, and every mark is settled",
    async (deletions) => {
      await using bench = new BucketBench();
      const limits = { total: marks(20_000) };
      const evictor = await bench.evictor({ limits });
      const blobs: Digest[] = [];
      for (let n = 0; n < 20; n += 1) blobs.push(await evictor.keep(`blob ${n}`, 1000, repo));
      const second = bench.replica({ limits });
      second.room.start();
      let left = deletions;
      evictor.deleting = async () => {
        left -= 1;
        if (left < 0) await new Promise(() => {});
      };
      await bench.pass(2 * GRACE_MS + 2 * MINUTE_MS);
      expect(bench.deleted).toHaveLength(deletions);
      evictor.kill();
      await bench.pass(10 * MINUTE_MS);
      expect(await Promise.all(blobs.map((digest) => bench.holds(digest)))).toEqual(blobs.map((_, n) => n >= 3));
      expect(await bench.marked()).toEqual([]);
      expect(second.room.usage()).toMatchObject({ bytes: 17_000, blobs: 17, counting: false });
    },
  );

  test("marks of what is not held any more, and marks that make no sense, go away", async () => {
    await using bench = new BucketBench();
    const { a } = await crowded(bench, { total: marks(1_000_000) });
    await bench.records.marks.put(
      "absent",
      { marks: [{ digest: `sha256:${"0".repeat(64)}` as Digest, reason: "room", bytes: 1 }] },
      call,
    );
    await bench.objects.put("weir/v1/room/marks/torn.json", Buffer.from('{"marks":[{'), call);
    await bench.pass(GRACE_MS + 2 * MINUTE_MS);
    expect(await listed(bench.records.marks.ids(call))).toEqual([]);
    expect(await bench.holds(a)).toBe(true);
  });

  test("a bucket that is gone for an hour costs nothing but the hour", async () => {
    await using bench = new BucketBench();
    const { a } = await crowded(bench);
    bench.isDown = true;
    await bench.pass(HOUR_MS);
    bench.isDown = false;
    await bench.pass(GRACE_MS + 10 * MINUTE_MS);
    expect(bench.deleted.map(({ digest }) => digest)).toEqual([a]);
  });
});

describe("sending clients to the bucket", () => {
  test("nobody is sent to a marked blob, nor to any while it cannot be told what is marked", async () => {
    await using bench = new BucketBench();
    const { a, b } = await crowded(bench);
    const reader = bench.replica();
    await bench.pass(GRACE_MS + 2 * MINUTE_MS);
    expect(await reader.serve(b)).toBe("redirected");
    expect(await reader.serve(a)).toBe("streamed");
    bench.isDown = true;
    await bench.pass(4 * MINUTE_MS);
    expect(await reader.serve(b)).toBe("redirected");
    await bench.pass(2 * MINUTE_MS);
    expect(await reader.serve(b)).toBe("streamed");
    bench.isDown = false;
    expect(await reader.serve(b)).toBe("redirected");
  });

  test.each([
    ["tells the others what it uses", false],
    ["tells nobody what it uses", true],
  ])(
    "S4 no address is good when its blob goes, whoever gave it out, his clock wrong, and he %s",
    async (_what, isMute) => {
      const seed = Number(process.env.TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
      const random = randomOf(seed);
      await using bench = new BucketBench();
      const evictor = await bench.evictor({ limits: { total }, aheadMs: 20 * MINUTE_MS });
      const readers = [-40, 0, 40].map((ahead) => bench.replica({ aheadMs: ahead * MINUTE_MS, isMute }));
      const sentAtMs = new Map<Digest, number>();
      const blobs: Digest[] = [];
      for (let n = 0; n < 30; n += 1) blobs.push(await evictor.keep(`blob ${n}`, 800, repo));
      for (let turn = 0; turn < 400; turn += 1) {
        const seen = bench.deleted.length;
        await bench.pass(Math.ceil(random() * 12) * 10_000);
        for (const { digest, atMs } of bench.deleted.slice(seen)) {
          expect(atMs - (sentAtMs.get(digest) ?? 0), `TEST_SEED=${seed}`).toBeGreaterThan(10 * MINUTE_MS);
        }
        const n = Math.floor(random() ** 2 * blobs.length);
        const digest = blobs[n] as Digest;
        const reader = readers[Math.floor(random() * 3)] as Replica;
        const served = await reader.serve(digest);
        if (served === "redirected") sentAtMs.set(digest, bench.nowMs);
        if (served === false && random() < 0.5) await evictor.keep(`blob ${n}`, 800, repo);
      }
      expect(bench.deleted.length, `TEST_SEED=${seed}`).toBeGreaterThan(10);
      expect(sentAtMs.size, `TEST_SEED=${seed}`).toBeGreaterThan(5);
    },
  );

  test("S5 hits cost no request: a thousand of them as many as none, and two a minute at most with the marks", async () => {
    await using bench = new BucketBench();
    const { a, b, c } = await crowded(bench, { total: marks(1_000_000) });
    const reader = bench.replica();
    await reader.serve(a);
    await bench.pass(0);
    bench.requests = [];
    for (let n = 0; n < 1000; n += 1) await reader.serve([a, b, c][n % 3] as Digest);
    expect(bench.requests).toEqual([]);
    bench.replicas[0]?.kill();
    for (let minutes = 0; minutes < 10; minutes += 1) {
      await bench.pass(MINUTE_MS);
      for (let n = 0; n < 100; n += 1) await reader.serve(a);
    }
    expect(bench.requests.length).toBeLessThanOrEqual(22);
  });
});

function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

async function listed<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}
