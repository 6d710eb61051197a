import { expect, test } from "vitest";
import { withUploadAhead } from "../../support/ahead-store.ts";
import { eventually, readAll, SteppedReader } from "../../support/fill-bench.ts";
import { type BlobContent, ScriptedSource, stampedBlob } from "../../support/fill-sources.ts";
import { Fleet, type Member } from "../../support/fleet.ts";
import { createMemoryBlobStore } from "../../support/memory-store.ts";

const MIB = 1024 * 1024;

async function members(fleet: Fleet, count: number): Promise<[Member, Member, ...Member[]]> {
  const made = await Promise.all(Array.from({ length: count }, () => fleet.member()));
  const [first, second, ...others] = made;
  if (first === undefined || second === undefined) throw new Error("a fleet has at least two");
  fleet.tick();
  return [first, second, ...others];
}

function bytesOf(blob: BlobContent): Buffer {
  return blob.read(0, blob.size);
}

test("C1 three processes want one cold blob: the upstream is asked once, and everybody gets it", async () => {
  await using fleet = new Fleet();
  const all = await members(fleet, 3);
  const blob = stampedBlob("c1", 20 * MIB);
  const source = new ScriptedSource({ blob, chunkBytes: 256 * 1024 });
  const reads = all.map((member) => readAll(member.join(blob, source)));
  for (const bytes of await Promise.all(reads)) expect(bytes.equals(bytesOf(blob))).toBe(true);
  expect(source.ledger).toEqual([{ start: 0, sent: blob.size }]);
  await eventually("the blob to be kept", () => all.every(({ fills }) => fills.size === 0));
  expect((await fleet.store.stat(blob.digest, { signal: AbortSignal.timeout(1_000) }))?.size).toBe(blob.size);
});

test("C1 who joins another process's download gets byte 0 at once, long before the end", async () => {
  await using fleet = new Fleet();
  const [a, b] = await members(fleet, 2);
  const blob = stampedBlob("c1-late", 8 * MIB);
  const source = new ScriptedSource({ blob });
  source.sendUpTo(5 * MIB);
  const first = new SteppedReader(a.join(blob, source));
  await eventually("the first to read", () => source.sent >= 5 * MIB);
  const fill = b.join(blob, source);
  const second = new SteppedReader(fill);
  const step = second.readTo(4 * MIB);
  await eventually("the second to have read", () => second.bytes >= 4 * MIB);
  await step;
  source.sendUpTo(blob.size);
  expect((await second.rest()).equals(bytesOf(blob))).toBe(true);
  expect((await first.rest()).equals(bytesOf(blob))).toBe(true);
  expect(source.ledger).toHaveLength(1);
});

test("C1 the downloading process is gone: another goes on from the byte that it has itself", async () => {
  await using fleet = new Fleet();
  const [a, b] = await members(fleet, 2);
  const blob = stampedBlob("c1-gone", 8 * MIB);
  const dying = new ScriptedSource({ blob });
  dying.sendUpTo(3 * MIB);
  const lost = readAll(a.join(blob, dying));
  lost.catch(() => {});
  await eventually("the first to have begun", () => dying.sent >= 3 * MIB);
  const living = new ScriptedSource({ blob });
  const fill = b.join(blob, living);
  const reading = readAll(fill);
  await eventually("the second to have followed", () => fill.position >= 3 * MIB - 16 * 1024);
  // Nothing of it answers any more, and it renews nothing.
  a.cutOff = true;
  await a.stopServing();
  await eventually("the second to have taken over", () => living.ledger.length > 0);
  expect((await reading).equals(bytesOf(blob))).toBe(true);
  expect(living.ledger).toHaveLength(1);
  expect(living.ledger[0]?.start).toBeGreaterThanOrEqual(3 * MIB - 16 * 1024);
});

test("C1 a frozen process that goes on finds its turn taken, and follows the other", async () => {
  await using fleet = new Fleet();
  const [a, b] = await members(fleet, 2);
  const blob = stampedBlob("c1-frozen", 8 * MIB);
  const frozen = new ScriptedSource({ blob });
  frozen.sendUpTo(2 * MIB);
  const first = readAll(a.join(blob, frozen));
  await eventually("the first to have begun", () => frozen.sent >= 2 * MIB);
  const thaw = Promise.withResolvers<void>();
  a.frozen = thaw.promise;
  // Past its lease in one step: it has not renewed meanwhile.
  fleet.clock.advance(10_001);
  frozen.sendUpTo(blob.size);
  const living = new ScriptedSource({ blob });
  living.sendUpTo(4 * MIB);
  const second = readAll(b.join(blob, living));
  await eventually("the second to have begun", () => living.sent >= 4 * MIB);
  // Not knowing whether it is still its turn, it has read what was on its way, and no more.
  expect(frozen.sent).toBeLessThanOrEqual(3 * MIB);
  thaw.resolve();
  await eventually("the first to follow", () => frozen.openBodies === 0);
  living.sendUpTo(blob.size);
  expect((await first).equals(bytesOf(blob))).toBe(true);
  expect((await second).equals(bytesOf(blob))).toBe(true);
  expect(frozen.ledger).toHaveLength(1);
  expect(living.ledger).toEqual([{ start: 0, sent: blob.size }]);
});

test("C1 cut off from the others' ports, a process downloads for itself", async () => {
  await using fleet = new Fleet();
  const [a, b] = await members(fleet, 2);
  const blob = stampedBlob("c1-partition", 2 * MIB);
  const source = new ScriptedSource({ blob });
  source.sendUpTo(MIB);
  const first = readAll(a.join(blob, source));
  await eventually("the first to have begun", () => source.sent >= MIB);
  await a.stopServing();
  const own = new ScriptedSource({ blob });
  const second = readAll(b.join(blob, own));
  await eventually("the second to help itself", () => own.ledger.length === 1);
  expect((await second).equals(bytesOf(blob))).toBe(true);
  source.sendUpTo(blob.size);
  expect((await first).equals(bytesOf(blob))).toBe(true);
});

test("C2 without a board every process downloads for itself, and every byte is right", async () => {
  await using fleet = new Fleet();
  fleet.board.down = true;
  const all = await members(fleet, 3);
  const blob = stampedBlob("c2", 4 * MIB);
  const source = new ScriptedSource({ blob });
  const reads = all.map((member) => readAll(member.join(blob, source)));
  for (const bytes of await Promise.all(reads)) expect(bytes.equals(bytesOf(blob))).toBe(true);
  expect(source.ledger).toHaveLength(3);
});

test("C3 wrong bytes that a peer passes on complete nobody's blob, and the next pull starts clean", async () => {
  await using fleet = new Fleet();
  const [a, b] = await members(fleet, 2);
  const blob = stampedBlob("c3", 4 * MIB);
  const wrong = new ScriptedSource({ blob, script: [{ wrongByteAt: MIB }] });
  wrong.sendUpTo(2 * MIB);
  const first = expect(readAll(a.join(blob, wrong))).rejects.toThrow("do not hash");
  await eventually("the first to have begun", () => wrong.sent >= 2 * MIB);
  const right = new ScriptedSource({ blob });
  const second = expect(readAll(b.join(blob, right))).rejects.toThrow();
  await eventually("the second to follow", () => (b.fills.get("public", blob.digest)?.position ?? 0) > MIB);
  wrong.sendUpTo(blob.size);
  await first;
  await second;
  await eventually("the end", () => a.fills.size + b.fills.size === 0);
  const again = new ScriptedSource({ blob });
  expect((await readAll(b.join(blob, again))).equals(bytesOf(blob))).toBe(true);
  expect(again.ledger).toEqual([{ start: 0, sent: blob.size }]);
});

test("B7 a fill of another upstream's private repository is not followed", async () => {
  await using fleet = new Fleet();
  const [a, b] = await members(fleet, 2);
  const blob = stampedBlob("b7", 2 * MIB);
  const one = new ScriptedSource({ blob, key: "one.example/app" });
  const other = new ScriptedSource({ blob, key: "other.example/app" });
  const reads = [
    readAll(a.join(blob, one, "private:one.example")),
    readAll(b.join(blob, other, "private:other.example")),
  ];
  for (const bytes of await Promise.all(reads)) expect(bytes.equals(bytesOf(blob))).toBe(true);
  expect([one.ledger.length, other.ledger.length]).toEqual([1, 1]);
});

test("C1 B8 only the process that downloads sends to a bucket what is arriving", async () => {
  const bucket = withUploadAhead(createMemoryBlobStore(), MIB);
  await using fleet = new Fleet(bucket.store);
  const all = await members(fleet, 3);
  const blob = stampedBlob("c1-ahead", 20 * MIB);
  const source = new ScriptedSource({ blob, chunkBytes: 256 * 1024 });
  source.sendUpTo(10 * MIB);
  const reads = all.map((member) => readAll(member.join(blob, source)));
  await eventually("half of it to be sent ahead", () => bucket.sentAhead >= 8 * MIB);
  expect(bucket.pending).toBe(1);
  source.sendUpTo(blob.size);
  for (const bytes of await Promise.all(reads)) expect(bytes.equals(bytesOf(blob))).toBe(true);
  await eventually("the blob to be kept", () => all.every(({ fills }) => fills.size === 0));
  expect(bucket.sentAhead).toBeLessThanOrEqual(blob.size);
  expect([bucket.pending, bucket.complaints]).toEqual([0, []]);
});
