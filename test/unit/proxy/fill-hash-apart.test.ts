import { describe, expect, test } from "vitest";
import { silentLog } from "../../../src/base/log.ts";
import { systemClock } from "../../../src/base/system-clock.ts";
import { WrongContentError } from "../../../src/proxy/fill-errors.ts";
import { FILL_TUNING } from "../../../src/proxy/fill-tuning.ts";
import type { FillsDeps } from "../../../src/proxy/fills.ts";
import { createFileHashes } from "../../../src/storage/file-hashes.ts";
import { eventually, FillBench, type FillBenchOptions, readAll, SteppedReader } from "../../support/fill-bench.ts";
import { ScriptedSource, seededBlob } from "../../support/fill-sources.ts";
import { spoolWithRoom } from "../../support/full-disk.ts";

const KiB = 1024;
const MiB = 1024 * KiB;
const signal = new AbortController().signal;
const tuning = {
  blockBytes: 64 * KiB,
  windowBytes: 512 * KiB,
  streamWindowBytes: MiB,
  writeBytes: 128 * KiB,
  unwrittenBytes: 512 * KiB,
  hashApartBytes: 2 * MiB,
};

type Hashes = NonNullable<FillsDeps["hashes"]>;

/** A bench with a thread, and the paths that the thread was given. */
async function open(
  stack: AsyncDisposableStack,
  o: FillBenchOptions = {},
  around: (real: Hashes) => Hashes = (real) => real,
): Promise<{ bench: FillBench; begun: string[] }> {
  const hashes = createFileHashes({ clock: systemClock, log: silentLog });
  stack.defer(() => hashes.close());
  const begun: string[] = [];
  const noted: Hashes = {
    begin: (path, algorithm) => {
      begun.push(path);
      return hashes.begin(path, algorithm);
    },
  };
  const bench = stack.use(await FillBench.create({ tuning, ...o, hashes: around(noted) }));
  bench.tick();
  return { bench, begun };
}

/** Begins, and has nothing to say in the end. */
const failing = (real: Hashes): Hashes => ({
  begin: (path, algorithm) => {
    const begun = real.begin(path, algorithm);
    return begun && { ...begun, digest: () => Promise.reject(new Error("the thread has failed")) };
  },
});

describe("a large blob, hashed by a thread", () => {
  test.for([
    ["", undefined],
    [", which fails", failing],
  ] as const)("is verified and kept%s", async ([, around]) => {
    await using stack = new AsyncDisposableStack();
    const { bench, begun } = await open(stack, {}, around);
    const blob = seededBlob("apart", 5 * MiB + 17);
    const source = new ScriptedSource({ blob, script: [{ cutAt: 2 * MiB }, {}] });
    const fill = bench.join(blob, source);
    expect((await readAll(fill)).equals(blob.read(0, blob.size))).toBe(true);
    expect(await fill.outcome).toBe("committed");
    expect(begun).toHaveLength(1);
    // The thread lets go of its own in its own time.
    await eventually("no file to be open", async () => (await bench.openFiles()).length === 0);
  });

  test.for([
    ["", undefined],
    [" of a thread that fails", failing],
  ] as const)("with a wrong byte completes nowhere, by the word%s", async ([, around]) => {
    await using stack = new AsyncDisposableStack();
    const { bench, begun } = await open(stack, {}, around);
    const blob = seededBlob("wrong", 5 * MiB);
    const fill = bench.join(blob, new ScriptedSource({ blob, script: [{ wrongByteAt: blob.size - 1 }] }));
    const reader = new SteppedReader(fill);
    await expect(reader.rest()).rejects.toThrow(WrongContentError);
    expect(reader.bytes).toBeLessThan(blob.size);
    expect(await fill.outcome).toBe("failed");
    expect(bench.mismatches).toEqual(["upstream.example"]);
    expect(begun).toHaveLength(1);
  });

  test.for([
    ["at its start", 0],
    ["in its middle", 3 * MiB],
    ["at its end", 8 * MiB - 1],
  ] as const)("B14 is hashed here where the disk is full %s", async ([, room]) => {
    await using stack = new AsyncDisposableStack();
    const { bench, begun } = await open(stack, { spool: (real) => spoolWithRoom(real, () => room) });
    const blob = seededBlob("full", 8 * MiB);
    const source = new ScriptedSource({ blob });
    const fill = bench.join(blob, source);
    const bodies = await Promise.all(Array.from({ length: 5 }, () => readAll(fill)));
    for (const body of bodies) expect(body.equals(blob.read(0, blob.size))).toBe(true);
    expect(await fill.outcome).toBe("streamed");
    expect(source.ledger).toEqual([{ start: 0, sent: blob.size }]);
    expect(begun).toHaveLength(1);
    // The thread lets go of its own in its own time.
    await eventually("no file to be open", async () => (await bench.openFiles()).length === 0);
  });

  test("B14 a reader that is left behind on a full disk goes on by a request of its own, and is not given a wrong tail", async () => {
    await using stack = new AsyncDisposableStack();
    const { bench } = await open(stack, { spool: (real) => spoolWithRoom(real, () => 3 * MiB) });
    const blob = seededBlob("left", 8 * MiB);
    const source = new ScriptedSource({ blob, script: [{}, { wrongByteAt: blob.size - 1 }] });
    const fill = bench.join(blob, source);
    await fill.ready({ signal });
    const slow = new SteppedReader(fill);
    await slow.readTo(MiB);
    expect((await readAll(fill)).equals(blob.read(0, blob.size))).toBe(true);
    await expect(slow.rest()).rejects.toThrow(WrongContentError);
    expect(slow.bytes).toBeLessThan(blob.size);
  });

  test("with a thread that is lost on the way is hashed here", async () => {
    await using stack = new AsyncDisposableStack();
    const hashes = createFileHashes({ clock: systemClock, log: silentLog });
    stack.defer(() => hashes.close());
    const bench = stack.use(await FillBench.create({ tuning, hashes }));
    bench.tick();
    const blob = seededBlob("lost", 5 * MiB);
    const source = new ScriptedSource({ blob });
    source.sendUpTo(3 * MiB);
    const fill = bench.join(blob, source);
    await eventually("bytes to be received", () => fill.position >= 2 * MiB);
    await hashes.close();
    source.sendUpTo(blob.size);
    expect((await readAll(fill)).equals(blob.read(0, blob.size))).toBe(true);
    expect(await fill.outcome).toBe("committed");
  });

  test("is joined until its digest is known, and until then nobody gets its last bytes", async () => {
    await using stack = new AsyncDisposableStack();
    const asked = Promise.withResolvers<void>();
    const told = Promise.withResolvers<void>();
    const { bench } = await open(stack, {}, (real) => ({
      begin: (path, algorithm) => {
        const begun = real.begin(path, algorithm);
        return (
          begun && {
            ...begun,
            digest: async (to) => {
              asked.resolve();
              await told.promise;
              return await begun.digest(to);
            },
          }
        );
      },
    }));
    const blob = seededBlob("waits", 4 * MiB);
    const source = new ScriptedSource({ blob });
    const first = bench.join(blob, source);
    await asked.promise;
    const readers = Array.from({ length: 10 }, () => new SteppedReader(bench.join(blob, source)));
    await Promise.all(readers.map((reader) => reader.readTo(blob.size - FILL_TUNING.tailBytes)));
    const rests = readers.map((reader) => reader.rest());
    for (let turn = 0; turn < 50; turn += 1) await eventually("a turn", () => true);
    for (const reader of readers) expect(reader.bytes).toBe(blob.size - FILL_TUNING.tailBytes);
    expect(bench.fills.size).toBe(1);
    told.resolve();
    for (const body of await Promise.all(rests)) expect(body.equals(blob.read(0, blob.size))).toBe(true);
    expect(await first.outcome).toBe("committed");
    expect(source.ledger).toEqual([{ start: 0, sent: blob.size }]);
  });

  test("a small one and one of unknown length are hashed here", async () => {
    await using stack = new AsyncDisposableStack();
    const { bench, begun } = await open(stack);
    const small = seededBlob("small", 2 * MiB - 1);
    await readAll(bench.join(small, new ScriptedSource({ blob: small })));
    const untold = seededBlob("untold", 3 * MiB);
    await readAll(bench.join(untold, new ScriptedSource({ blob: untold, script: [{ total: "untold" }] })));
    expect(begun).toEqual([]);
  });
});
