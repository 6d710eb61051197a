/** Several processes' fill engines in one test: they share a store and a board of leases, and read from each other by HTTP. */
import { randomUUID } from "node:crypto";
import { setImmediate as nextTurn } from "node:timers/promises";
import { silentLog } from "../../src/base/log.ts";
import { Secret } from "../../src/base/secret.ts";
import { systemClock } from "../../src/base/system-clock.ts";
import { createPeerClient } from "../../src/cluster/peer-client.ts";
import { createPeerServer, type PeerResult } from "../../src/cluster/peer-server.ts";
import type { FillSource } from "../../src/proxy/fill-source.ts";
import { FILL_TUNING } from "../../src/proxy/fill-tuning.ts";
import { createFillTurns } from "../../src/proxy/fill-turn.ts";
import { createFills, type Fill, type Fills } from "../../src/proxy/fills.ts";
import { createInFlight } from "../../src/proxy/in-flight.ts";
import type { BlobStore } from "../../src/storage/blob-store.ts";
import { createSpool } from "../../src/storage/spool.ts";
import { DOWNLOAD, PUBLIC } from "./fill-bench.ts";
import type { BlobContent } from "./fill-sources.ts";
import { TestBoard } from "./lease-board.ts";
import { ManualClock } from "./manual-clock.ts";
import { createMemoryBlobStore } from "./memory-store.ts";
import { tempFolder } from "./processes.ts";
import { boundlessRoom } from "./rooms.ts";

export const FLEET_SECRET = new Secret("a secret between the members");

export interface Member {
  readonly address: string;
  readonly fills: Fills;
  /** How its streams with others ended. */
  readonly streams: readonly PeerResult[];
  join(blob: BlobContent, source: FillSource, domain?: string): Fill;
  /** Nobody can read from it any more. */
  stopServing(): Promise<void>;
  /** While it is true the board does not answer this member. */
  cutOff: boolean;
  /** While it is pending the member asks the board nothing. */
  frozen: Promise<void>;
}

export class Fleet implements AsyncDisposable {
  /** Leases and pauses go by it. */
  readonly clock = new ManualClock();
  readonly board = new TestBoard(this.clock);
  readonly store: BlobStore;
  readonly #stack = new AsyncDisposableStack();
  #ticking = true;

  constructor(store: BlobStore = createMemoryBlobStore()) {
    this.store = store;
    this.#stack.defer(() => {
      this.#ticking = false;
    });
  }

  /** Lets time pass by itself from now on: a millisecond in each turn of the event loop. */
  tick(): void {
    void (async () => {
      while (this.#ticking) {
        await nextTurn();
        this.clock.advance(1);
      }
    })();
  }

  async member(): Promise<Member> {
    const { clock, board, store } = this;
    const dir = await tempFolder(this.#stack);
    const spool = createSpool({ dir, log: silentLog });
    this.#stack.defer(() => spool.close());
    const streams: PeerResult[] = [];
    const observer = { peerStream: (result: PeerResult) => void streams.push(result) };
    const signing = { secret: FLEET_SECRET, clock: systemClock, observer };
    const holder: { fills?: Fills } = {};
    const inFlight = createInFlight({ get: (domain, digest) => holder.fills?.get(domain, digest) });
    const server = createPeerServer({ ...signing, listen: { host: "127.0.0.1", port: 0 }, inFlight, log: silentLog });
    const { port } = await server.listen();
    this.#stack.defer(() => server.stop());
    const address = `127.0.0.1:${port}`;
    const peers = createPeerClient({ ...signing, newNonce: randomUUID });
    this.#stack.defer(() => peers.close());
    const member = {
      address,
      streams,
      cutOff: false,
      frozen: Promise.resolve(),
      stopServing: () => server.stop(),
      join: (blob: BlobContent, source: FillSource, domain = PUBLIC): Fill =>
        fills.join(domain, blob.digest, source, {}).fill,
    };
    const leases = board.member(
      address,
      () => member.cutOff,
      () => member.frozen,
    );
    this.#stack.defer(() => leases.close());
    const fills = createFills(
      {
        store,
        spool,
        clock,
        random: () => 0.5,
        log: silentLog,
        // The clock runs on while a test holds bodies back.
        download: { ...DOWNLOAD, minRate: 0 },
        room: boundlessRoom,
        turns: createFillTurns({ leases, address, peers, store, clock, log: silentLog }),
        observer: { fillStarted() {}, fillEnded() {}, resumed() {}, mismatch() {}, readers() {} },
        committed: async () => {},
      },
      FILL_TUNING,
    );
    holder.fills = fills;
    this.#stack.defer(() => fills.stop({ signal: AbortSignal.timeout(20_000) }));
    return Object.assign(member, { fills });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}
