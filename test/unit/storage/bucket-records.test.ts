import { describe, expect, test } from "vitest";
import { type Digest, digestOf } from "../../../src/oci/digest.ts";
import { createBucketRecords } from "../../../src/storage/bucket-records.ts";
import { MAX_OBJECT_BYTES } from "../../../src/storage/small-objects.ts";
import { createMemorySmallObjects } from "../../support/memory-store.ts";

const call = { signal: new AbortController().signal };
const digest = digestOf(Buffer.from("a"));

describe("what Weirs on one bucket tell each other", () => {
  test("comes back as it was written", async () => {
    const records = createBucketRecords(createMemorySmallObjects(() => 5_000));
    const kept = { bytes: 7, isManifest: true, upstreams: ["a.example"] };
    const uses = { writtenAtMs: 9, blobs: [{ digest, usedAtMs: 8, kept }] };
    await records.uses.put("one", uses, call);
    expect((await records.uses.get("one", call))?.value).toEqual(uses);
    expect(await records.uses.writtenAtMs("one", call)).toBe(5_000);
    const batch = { markedAtMs: 3, marks: [{ digest, reason: "age" as const, bytes: 4 }] };
    await records.marks.put("two", batch, call);
    expect((await records.marks.get("two", call))?.value).toEqual(batch);
    const seat = { token: "t", beat: 1, isBounded: false };
    await records.putSeat(seat, call);
    expect(await records.seat(call)).toEqual(seat);
    // As Weirs wrote it that knew of none without limits.
    await records.putSeat({ token: "t", beat: 2 }, call);
    expect(await records.seat(call)).toEqual({ token: "t", beat: 2, isBounded: true });
    const usage = { bytes: 1, blobs: 2, perUpstream: { "a.example": 1 } };
    await records.putUsage(usage, call);
    expect(await records.usage(call)).toEqual(usage);
    expect(await records.serverNowMs(call)).toBe(5_000);
    await records.uses.delete("one", call);
    await records.deleteSeat(call);
    expect([await records.uses.get("one", call), await records.seat(call)]).toEqual([undefined, undefined]);
  });

  test.each([
    "",
    "{",
    "[]",
    "null",
    '{"marks":{}}',
    '{"marks":[{"digest":"sha256:00","reason":"room","bytes":1}]}',
    `{"marks":[{"digest":"${digest}","reason":"whim","bytes":1}]}`,
    `{"marks":[{"digest":"${digest}","reason":"room","bytes":-1}]}`,
  ])("marks that make no sense are none: %s", async (text) => {
    const objects = createMemorySmallObjects();
    await objects.put("weir/v1/room/marks/x.json", Buffer.from(text), call);
    expect(await createBucketRecords(objects).marks.get("x", call)).toEqual({ value: undefined });
  });

  test("of what was used more than an object may hold, the last ones are told", async () => {
    const records = createBucketRecords(createMemorySmallObjects());
    const kept = { bytes: 123_456_789, isManifest: false, upstreams: ["a-rather-long-upstream.example:5000"] };
    const blobs = Array.from({ length: 10_000 }, (_, n) => ({
      digest: digestOf(Buffer.from(String(n)), "sha512") as Digest,
      usedAtMs: 1_700_000_000_000 - n,
      kept,
    }));
    const objects = createMemorySmallObjects();
    await createBucketRecords(objects).uses.put("full", { writtenAtMs: 1_700_000_000_000, blobs }, call);
    const bytes = await objects.get("weir/v1/room/uses/full.json", call);
    expect(bytes?.length).toBeLessThanOrEqual(MAX_OBJECT_BYTES);
    expect(bytes?.length).toBeGreaterThan(0.99 * MAX_OBJECT_BYTES);
    const read = (await createBucketRecords(objects).uses.get("full", call))?.value?.blobs ?? [];
    expect(read).toEqual(blobs.slice(0, read.length));
    expect(await records.uses.get("full", call)).toBeUndefined();
  });
});
