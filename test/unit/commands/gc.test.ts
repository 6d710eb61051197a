import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { gc } from "../../../src/commands/gc.ts";
import { digestOf } from "../../../src/oci/digest.ts";
import type { RoomCandidate } from "../../../src/proxy/room.ts";
import { collectGarbage } from "../../../src/proxy/upkeep/gc.ts";
import { fakeUpkeep } from "../../support/fake-upkeep.ts";
import { ManualClock } from "../../support/manual-clock.ts";
import { tempFolder } from "../../support/processes.ts";

const digest = digestOf(Buffer.from("a"));
const MINUTE_MS = 60_000;

/** What the command says of these candidates, on a bucket. */
async function said(candidates: readonly RoomCandidate[], dryRun: boolean): Promise<string> {
  await using stack = new AsyncDisposableStack();
  const folder = await tempFolder(stack);
  await writeFile(join(folder, "weir.yaml"), "storage: { driver: s3, s3: { bucket: mirror } }");
  let stdout = "";
  const write = (text: string): void => {
    stdout += text;
  };
  const terminal = { env: {}, cwd: () => folder, stdout: { write }, stderr: { write } };
  const room = {
    async *collect() {
      yield* candidates;
    },
  };
  const upkeep = fakeUpkeep({
    gc: (o) => collectGarbage({ room, inspector: undefined, clock: new ManualClock() }, o),
  });
  const openHere = async () => ({ upkeep, close: async () => {} });
  expect(await gc({ config: "weir.yaml", dryRun }, terminal, openHere)).toBe(0);
  return stdout;
}

const candidate = { digest, reason: "room", ageMs: 120 * MINUTE_MS, bytes: 2048 } as const;

test("a dry run tells what is marked and since when, and what would be marked", async () => {
  const candidates = [
    { ...candidate, markedMs: 12 * MINUTE_MS },
    { ...candidate, markedMs: 0 },
  ];
  expect(await said(candidates, true)).toBe(
    `${digest}  2.0 KiB, 2 h old: above storage.highWater, and used least recently; marked 12 min ago
${digest}  2.0 KiB, 2 h old: above storage.highWater, and used least recently; to be marked
marked: 2 blobs, 4.0 KiB; they go from the bucket half an hour later, unless they are used
`,
  );
});

test("what goes at once is told apart from what was only marked", async () => {
  const text = await said([candidate, { ...candidate, markedMs: 0 }], false);
  expect(text.split("\n").slice(2)).toEqual([
    "deleted 1 thing, 2.0 KiB",
    "  above storage.highWater, and used least recently: 1, 2.0 KiB",
    "marked: 1 blob, 2.0 KiB; they go from the bucket half an hour later, unless they are used",
    "",
  ]);
});
