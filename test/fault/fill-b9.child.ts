/**
 * A process that is killed in mid-fill, run by fill-b9.test.ts. Arguments: the spool folder, the blob's size, and after how
 * many bytes nothing more comes.
 */
import { silentLog } from "../../src/base/log.ts";
import { systemClock } from "../../src/base/system-clock.ts";
import { aloneTurns } from "../../src/proxy/fill-turn.ts";
import { createFills } from "../../src/proxy/fills.ts";
import { createSpool } from "../../src/storage/spool.ts";
import { ScriptedSource, stampedBlob } from "../support/fill-sources.ts";
import { createMemoryBlobStore } from "../support/memory-store.ts";
import { boundlessRoom } from "../support/rooms.ts";

const [dir = "", size, limit] = process.argv.slice(2);
const blob = stampedBlob("b9", Number(size));
const source = new ScriptedSource({ blob, chunkBytes: 256 * 1024 });
source.sendUpTo(Number(limit));
const fills = createFills({
  store: createMemoryBlobStore(),
  spool: createSpool({ dir, log: silentLog }),
  clock: systemClock,
  random: Math.random,
  log: silentLog,
  room: boundlessRoom,
  turns: aloneTurns,
  download: { rangeWaitMs: 0, minRate: 0, stalledAttempts: 1, abandon: "never" },
  observer: { fillStarted() {}, fillEnded() {}, resumed() {}, mismatch() {}, readers() {} },
  committed: async () => {},
});
await fills.open();
const { fill } = fills.join("public", blob.digest, source, {});
// Keeps the process and the engine alive until it is killed.
setInterval(() => fill.position, 60_000);
