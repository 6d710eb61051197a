import { setImmediate as nextTurn } from "node:timers/promises";
import { expect, test } from "vitest";
import { type Digest, digestOf } from "../../../src/oci/digest.ts";
import type { RunningRoom } from "../../../src/proxy/create-room.ts";
import { brokerRoom, createRemoteRoom } from "../../../src/proxy/remote-room.ts";
import type { Prospect } from "../../../src/proxy/room.ts";
import type { Redirects } from "../../../src/proxy/room-store.ts";
import type { BlobStore } from "../../../src/storage/blob-store.ts";
import { eventually } from "../../support/fill-bench.ts";
import { ManualClock } from "../../support/manual-clock.ts";
import { createMemoryBlobStore } from "../../support/memory-store.ts";
import { linePair } from "../../support/port-pair.ts";

const o = { signal: new AbortController().signal };
const [A, B] = ["a", "b"].map((name) => digestOf(Buffer.from(name))) as [Digest, Digest];
const PROSPECT = { first: A, usedAtMs: 5 } as Prospect;

/** The parent's room, as far as workers ask it. */
class ParentRoom {
  readonly blobs: BlobStore;
  readonly told: unknown[] = [];
  readonly opened: Digest[] = [];
  readonly known = new Set<Digest>();
  keep = true;
  /** Reservations that have not been given back. */
  reserved = 0;
  waitFor: Promise<void> = Promise.resolve();

  constructor() {
    const store = createMemoryBlobStore();
    this.blobs = {
      ...store,
      open: async (digest, call) => {
        this.opened.push(digest);
        return await store.open(digest, call);
      },
    };
  }

  touch(digest: Digest): boolean {
    this.told.push(["touch", digest]);
    return this.known.has(digest);
  }
  added = (...of: unknown[]): void => void this.told.push(["added", ...of]);
  removed = (...of: unknown[]): void => void this.told.push(["removed", ...of]);
  linked = (...of: unknown[]): void => void this.told.push(["linked", ...of]);
  async reserve(bytes: number | undefined) {
    await this.waitFor;
    this.told.push(["reserve", bytes]);
    this.reserved += 1;
    return {
      keep: this.keep,
      grow: async (to: number) => to <= 1000,
      release: () => {
        this.reserved -= 1;
      },
    };
  }
  emergency = async (bytes: number): Promise<boolean> => bytes <= 1000;
  prospect = async (digests: readonly Digest[]): Promise<Prospect | undefined> =>
    digests.includes(A) ? PROSPECT : undefined;
  collect = (): never => {
    throw new Error("not asked by workers");
  };
  usage = (): never => {
    throw new Error("not asked by workers");
  };
}

interface Bench {
  readonly clock: ManualClock;
  readonly parent: ParentRoom;
  readonly room: RunningRoom;
  readonly forgotten: Digest[];
  /** Tells the worker of a blob that is not held any more. */
  forget(digest: Digest): void;
  die(): void;
}

function bench(blobs: BlobStore = createMemoryBlobStore(), redirects?: Redirects): Bench {
  const clock = new ManualClock();
  const line = linePair();
  const parent = new ParentRoom();
  const forgotten: Digest[] = [];
  const forget = brokerRoom(line.parent, parent);
  const room = createRemoteRoom({
    line: line.worker,
    blobs,
    redirects,
    forget: (digest) => void forgotten.push(digest),
    clock,
  });
  return { clock, parent, room, forgotten, forget, die: line.die };
}

test("what is used many times is told once, and later", async () => {
  const { clock, parent, room } = bench();
  parent.known.add(A).add(B);
  for (let i = 0; i < 100; i += 1) {
    expect(room.touch(A)).toBe(true);
    room.touch(B);
  }
  await nextTurn();
  expect(parent.told).toEqual([]);
  clock.advance(500);
  await eventually("the parent to hear of it", () => parent.told.length === 2);
  expect(parent.told).toEqual([
    ["touch", A],
    ["touch", B],
  ]);
  expect(parent.opened).toEqual([]);
  room.touch(A);
  await room.stop(o);
  await eventually("the rest to be told at the end", () => parent.told.length === 3);
});

test("a blob that the parent does not know of is opened there, and so counted", async () => {
  const { clock, parent, room } = bench();
  parent.known.add(B);
  room.touch(A);
  room.touch(B);
  clock.advance(500);
  await eventually("the parent to look", () => parent.opened.length > 0);
  expect(parent.opened).toEqual([A]);
});

test("what a worker keeps and deletes is counted by the parent", async () => {
  const { parent, room } = bench();
  room.added(A, 4096);
  room.removed(B);
  const repo = { upstream: "docker.io", repository: "library/app" };
  room.linked(repo, { kind: "layer", digest: A } as never);
  await eventually("the parent to hear of it", () => parent.told.length === 3);
  expect(parent.told).toEqual([
    ["added", A, 4096],
    ["removed", B],
    ["linked", repo, { kind: "layer", digest: A }],
  ]);
});

test("the parent makes room, and takes it back when the worker gives it back", async () => {
  const { parent, room } = bench();
  const reservation = await room.reserve(100, o);
  expect([reservation.keep, parent.reserved]).toEqual([true, 1]);
  expect(await reservation.grow(900, o)).toBe(true);
  expect(await reservation.grow(2000, o)).toBe(false);
  parent.keep = false;
  expect((await room.reserve(undefined, o)).keep).toBe(false);
  expect(parent.told).toEqual([
    ["reserve", 100],
    ["reserve", undefined],
  ]);
  reservation.release();
  await eventually("it to be given back", () => parent.reserved === 1);
  expect(await room.emergency(1000, o)).toBe(true);
  expect(await room.emergency(1001, o)).toBe(false);
  expect(await room.prospect([A, B], o)).toEqual(PROSPECT);
  expect(await room.prospect([B], o)).toBeUndefined();
});

test("what a worker has reserved is given back when it is gone, also what it was still waiting for", async () => {
  const { parent, room, die } = bench();
  await room.reserve(100, o);
  await room.reserve(200, o);
  const gate = Promise.withResolvers<void>();
  parent.waitFor = gate.promise;
  const waiting = room.reserve(300, o);
  await nextTurn();
  die();
  expect((await waiting).keep).toBe(true);
  expect(parent.reserved).toBe(0);
  gate.resolve();
  await eventually("the last one to be made and given back", () => parent.told.length === 3);
  await nextTurn();
  expect(parent.reserved).toBe(0);
});

test("who gives up waiting for room holds none", async () => {
  const { parent, room } = bench();
  const gate = Promise.withResolvers<void>();
  parent.waitFor = gate.promise;
  const leaving = new AbortController();
  const waiting = room.reserve(100, { signal: leaving.signal });
  await nextTurn();
  leaving.abort(new Error("the client has left"));
  await expect(waiting).rejects.toThrow("the client has left");
  await nextTurn();
  gate.resolve();
  await eventually("the parent to have made room", () => parent.told.length === 1);
  await nextTurn();
  expect(parent.reserved).toBe(0);
});

test("without the parent downloads go on, and nothing is said to have been freed", async () => {
  const { room, die } = bench();
  die();
  const reservation = await room.reserve(100, o);
  expect([reservation.keep, await reservation.grow(1e12, o)]).toEqual([true, true]);
  expect(await room.emergency(1, o)).toBe(false);
  expect(await room.prospect([A], o)).toBeUndefined();
});

test("a worker forgets what is not held any more, and believes digests only", async () => {
  const { forgotten, forget } = bench();
  forget("sha256:rubbish" as Digest);
  forget(A);
  await eventually("the worker to forget", () => forgotten.length > 0);
  expect(forgotten).toEqual([A]);
});

test("a worker sends no client to a blob that may go", async () => {
  const store = createMemoryBlobStore();
  for (const name of ["a", "b"]) await store.put(digestOf(Buffer.from(name)), Buffer.from(name), o);
  const signed: BlobStore = {
    ...store,
    async open(digest, call) {
      const blob = await store.open(digest, call);
      return blob && { ...blob, presign: async () => "https://bucket.example" };
    },
  };
  const { room } = bench(signed, { mayRedirect: async (digest) => digest === A });
  const [a, b] = [await room.blobs.open(A, o), await room.blobs.open(B, o)];
  expect([await a?.presign?.(), await b?.presign?.()]).toEqual(["https://bucket.example", undefined]);
});
