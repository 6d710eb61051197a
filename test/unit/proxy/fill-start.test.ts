import { expect, test } from "vitest";
import type { Reservation } from "../../../src/proxy/room.ts";
import type { Spool } from "../../../src/storage/spool.ts";
import { eventually, FillBench, readAll, SteppedReader } from "../../support/fill-bench.ts";
import { ScriptedSource, seededBlob, upstreamError } from "../../support/fill-sources.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
const signal = new AbortController().signal;

/** A spool that makes no file, and a room that gives none, before they are let. */
class Gates {
  readonly file = Promise.withResolvers<void>();
  readonly room = Promise.withResolvers<Reservation>();
  reserved: (number | undefined)[] = [];
  released = 0;

  readonly spool = (real: Spool): Spool => ({
    dir: real.dir,
    leftovers: () => real.leftovers(),
    close: () => real.close(),
    create: async () => {
      await this.file.promise;
      return await real.create();
    },
  });

  bench(): Promise<FillBench> {
    const reserve = (bytes: number | undefined): Promise<Reservation> => {
      this.reserved.push(bytes);
      return this.room.promise;
    };
    return FillBench.create({ spool: this.spool, room: { reserve, emergency: async () => false } });
  }

  give({ keep }: { readonly keep: boolean }): void {
    const release = (): void => {
      this.released += 1;
    };
    this.room.resolve({ keep, grow: async () => keep, release });
  }
}

test("the first bytes wait neither for the spool file nor for room, and nothing is written before both are there", async () => {
  const gates = new Gates();
  await using bench = await gates.bench();
  bench.tick();
  const blob = seededBlob("first bytes", 3 * MiB);
  const source = new ScriptedSource({ blob });
  const fill = bench.join(blob, source);
  await fill.ready({ signal });
  const reader = new SteppedReader(fill);
  await reader.readTo(512 * KiB);
  // One chunk at most is on its way beyond what needs no file.
  await eventually("the download to wait", () => fill.position >= MiB - 128 * KiB);
  expect(fill.position).toBeLessThan(MiB);
  expect(await bench.spooled()).toEqual([]);
  gates.file.resolve();
  await eventually("the file", async () => (await bench.spooled()).length === 1);
  expect(fill.position).toBeLessThan(MiB);
  gates.give({ keep: true });
  expect((await reader.rest()).equals(blob.read(0, blob.size))).toBe(true);
  expect(await fill.outcome).toBe("committed");
  expect(gates.reserved).toEqual([blob.size]);
  expect(gates.released).toBeGreaterThan(0);
  expect(source.ledger).toHaveLength(1);
  expect(await bench.spooled()).toEqual([]);
});

test("a small blob is answered before it has a file, and is kept when there is one", async () => {
  const gates = new Gates();
  await using bench = await gates.bench();
  const blob = seededBlob("small", 64 * KiB);
  const fill = bench.join(blob, new ScriptedSource({ blob }));
  expect((await readAll(fill)).equals(blob.read(0, blob.size))).toBe(true);
  expect(await bench.store.stat(blob.digest, { signal })).toBeUndefined();
  gates.give({ keep: true });
  gates.file.resolve();
  expect(await fill.outcome).toBe("committed");
  expect(await bench.store.stat(blob.digest, { signal })).toMatchObject({ size: blob.size });
});

test("B14 what gets no file after it has begun is passed on", async () => {
  const gates = new Gates();
  await using bench = await gates.bench();
  bench.tick();
  const blob = seededBlob("no file", 3 * MiB);
  const source = new ScriptedSource({ blob });
  const fill = bench.join(blob, source);
  const reader = new SteppedReader(fill);
  await reader.readTo(512 * KiB);
  gates.file.reject(Object.assign(new Error("ENOSPC: no space left on device, open"), { code: "ENOSPC" }));
  gates.give({ keep: true });
  expect((await reader.rest()).equals(blob.read(0, blob.size))).toBe(true);
  expect(await fill.outcome).toBe("streamed");
  expect(gates.released).toBeGreaterThan(0);
  expect(source.ledger).toHaveLength(1);
});

test("what turns out to be too large to be kept leaves no file, also where that comes last", async () => {
  const gates = new Gates();
  await using bench = await gates.bench();
  bench.tick();
  const blob = seededBlob("too large", 3 * MiB);
  const fill = bench.join(blob, new ScriptedSource({ blob }));
  const reader = new SteppedReader(fill);
  await reader.readTo(512 * KiB);
  gates.give({ keep: false });
  await eventually("the answer to be heard", () => gates.released > 0);
  gates.file.resolve();
  expect((await reader.rest()).equals(blob.read(0, blob.size))).toBe(true);
  expect(await fill.outcome).toBe("streamed");
  expect(await bench.spooled()).toEqual([]);
  expect(await bench.openFiles()).toEqual([]);
});

test("what fails before its file is there leaves none, and gives back the room that comes too late", async () => {
  const gates = new Gates();
  await using bench = await gates.bench();
  bench.tick();
  const blob = seededBlob("fails", 3 * MiB);
  const source = new ScriptedSource({ blob, script: [{ cutAt: 128 * KiB }, { error: upstreamError("absent") }] });
  const fill = bench.join(blob, source);
  await expect(readAll(fill)).rejects.toMatchObject({ fault: "absent" });
  gates.file.resolve();
  expect(await fill.outcome).toBe("failed");
  expect(await bench.spooled()).toEqual([]);
  expect(await bench.openFiles()).toEqual([]);
  gates.give({ keep: true });
  await eventually("the room to be given back", () => gates.released > 0);
});
