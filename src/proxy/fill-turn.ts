import { Readable } from "node:stream";
import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import type { Log } from "../base/log.ts";
import type { Lease, Leases } from "../cluster/leases.ts";
import type { PeerBody } from "../cluster/peer-client.ts";
import type { FillRequest } from "../cluster/peer-server.ts";
import type { Digest } from "../oci/digest.ts";
import type { BlobStore } from "../storage/blob-store.ts";
import type { BlobBody } from "../upstream/upstream.ts";
import { PeerStreamError } from "./fill-errors.ts";
import type { FillSource } from "./fill-source.ts";

/** Between two looks at a process that has the lease and cannot be read from: it is starting, ending, or gone. */
const LOOK_MS = 200;

/** Longer than a lease lasts without its holder: then the blob is fetched beside whoever has it. */
const PATIENCE_MS = 12_000;

/** How long who has received a blob from another process waits for that one to store it. */
const STORING_MS = 60_000;

export interface FillTurnsDeps {
  readonly leases: Leases;
  /** Where this process itself can be asked; a lease with this address is what an earlier life of it has left. */
  readonly address: string | undefined;
  readonly peers: {
    open(address: string, request: FillRequest, o: CallOptions): Promise<PeerBody | "starting" | undefined>;
  };
  readonly store: BlobStore;
  readonly clock: Clock;
  readonly log: Log;
}

/** Makes one process download each blob for all of them. */
export interface FillTurns {
  begin(domain: string, digest: Digest): FillTurn;
}

/** One fill's part in that. */
export interface FillTurn {
  /**
   * As `source.open`, where it is this process's turn; otherwise the bytes as they arrive at the process whose turn it is, or
   * from the store when they have arrived there. The body ends early when the turn passes to somebody else: whoever reads it
   * asks again from where it stopped.
   */
  open(source: FillSource, start: number, o: CallOptions): Promise<BlobBody>;
  /** To be waited for before more of the body is read: it may have become somebody else's turn. As {@link Lease.doubt}. */
  doubt(): Promise<void> | undefined;
  /** The body that was opened last comes from another process, which is to store the blob, or from the store. */
  readonly follows: boolean;
  /** Resolves with whether the process whose turn it was has stored the blob, as far as that is worth waiting for. */
  storedElsewhere(o: CallOptions): Promise<boolean>;
  /** The fill is over: others may begin. Repeatable; never rejects. */
  end(): Promise<void>;
}

/** Of a process that shares nothing. */
export const aloneTurn: FillTurn = {
  open: (source, start, o) => source.open(start, o),
  doubt: () => undefined,
  follows: false,
  storedElsewhere: async () => false,
  end: async () => {},
};

export const aloneTurns: FillTurns = { begin: () => aloneTurn };

export function createFillTurns(deps: FillTurnsDeps): FillTurns {
  return { begin: (domain, digest) => new LeasedTurn(deps, domain, digest) };
}

class LeasedTurn implements FillTurn {
  readonly #deps: FillTurnsDeps;
  readonly #domain: string;
  readonly #digest: Digest;
  #lease: Lease | undefined;
  #follows = false;

  constructor(deps: FillTurnsDeps, domain: string, digest: Digest) {
    this.#deps = deps;
    this.#domain = domain;
    this.#digest = digest;
  }

  async open(source: FillSource, start: number, o: CallOptions): Promise<BlobBody> {
    const { clock } = this.#deps;
    const step = o.trail?.begin("lease", { name: this.#name });
    try {
      let untilMs = clock.now() + PATIENCE_MS;
      for (;;) {
        const holder = await this.#holder(o);
        if (holder === "us" || clock.now() >= untilMs) {
          step?.end({ outcome: holder === "us" ? "ours" : "waited in vain" });
          return await this.#fromSource(source, start, o);
        }
        const body = (await this.#fromPeer(holder, start, o)) ?? (await this.#fromStore(start, o));
        if (body === "starting") {
          untilMs = clock.now() + PATIENCE_MS;
        } else if (body !== undefined) {
          step?.end({ outcome: "another's" });
          o.trail?.note("peer", { name: this.#name, peer: holder, start });
          return body;
        }
        await clock.sleep(LOOK_MS, o.signal);
      }
    } finally {
      step?.end({ outcome: "given up" });
    }
  }

  doubt(): Promise<void> | undefined {
    return this.#follows ? undefined : this.#lease?.doubt();
  }

  get follows(): boolean {
    return this.#follows;
  }

  async storedElsewhere(o: CallOptions): Promise<boolean> {
    const { store, clock, leases } = this.#deps;
    if (!this.#follows) {
      return false;
    }
    for (const untilMs = clock.now() + STORING_MS; clock.now() < untilMs; await clock.sleep(LOOK_MS, o.signal)) {
      if ((await store.stat(this.#digest, o)) !== undefined) {
        return true;
      }
      const acquired = await leases.acquire(this.#name, o);
      if ("lease" in acquired) {
        // It has ended; what it stored just now is there already.
        this.#lease = acquired.lease;
        return (await store.stat(this.#digest, o)) !== undefined;
      }
    }
    return false;
  }

  async end(): Promise<void> {
    const lease = this.#lease;
    this.#lease = undefined;
    await lease?.release();
  }

  get #name(): string {
    return `fill ${this.#domain} ${this.#digest}`;
  }

  /** Takes the turn unless somebody else has it; undefined where they have not said where they are. */
  async #holder(o: CallOptions): Promise<"us" | string | undefined> {
    if (this.#lease?.lost.aborted === false) {
      return "us";
    }
    this.#lease = undefined;
    const acquired = await this.#deps.leases.acquire(this.#name, o);
    if ("lease" in acquired) {
      this.#lease = acquired.lease;
      return "us";
    }
    const { holder } = acquired;
    return holder !== undefined && holder === this.#deps.address ? "us" : holder;
  }

  async #fromSource(source: FillSource, start: number, o: CallOptions): Promise<BlobBody> {
    const answer = await source.open(start, o);
    this.#follows = false;
    const lost = this.#lease?.lost;
    if (lost !== undefined) {
      // Somebody else downloads the rest: two who do cost bytes.
      const onLost = (): void =>
        void answer.body.destroy(new PeerStreamError("another process goes on with the download"));
      lost.addEventListener("abort", onLost, { once: true });
      answer.body.once("close", () => lost.removeEventListener("abort", onLost));
    }
    return answer;
  }

  async #fromPeer(
    holder: string | undefined,
    start: number,
    o: CallOptions,
  ): Promise<BlobBody | "starting" | undefined> {
    if (holder === undefined) {
      return undefined;
    }
    const { peers, log } = this.#deps;
    const request = { domain: this.#domain, digest: this.#digest, start };
    let found: PeerBody | "starting" | undefined;
    try {
      found = await peers.open(holder, request, o);
    } catch (error) {
      o.signal.throwIfAborted();
      log.debug({ err: error, digest: this.#digest }, "a process that is downloading a blob cannot be read from");
      return undefined;
    }
    if (found === undefined || found === "starting") {
      return found;
    }
    this.#follows = true;
    const { body, total } = found;
    return { start, total, body: Readable.from(asPeer(body), { objectMode: false }) };
  }

  /** It may have arrived since somebody else began. */
  async #fromStore(start: number, o: CallOptions): Promise<BlobBody | undefined> {
    const held = await this.#deps.store.open(this.#digest, o);
    if (held === undefined || held.size < start) {
      await held?.close();
      return undefined;
    }
    this.#follows = true;
    const bytes = async function* (): AsyncGenerator<Uint8Array, void, undefined> {
      try {
        // The chunk's memory is used again for the next one, and the stream reads ahead.
        for await (const chunk of held.read(start, held.size, o)) yield Buffer.from(chunk);
      } finally {
        await held.close();
      }
    };
    return { start, total: held.size, body: Readable.from(bytes(), { objectMode: false }) };
  }
}

/** What breaks here is the peer, and says nothing about the upstream or the blob. */
async function* asPeer(body: Readable): AsyncGenerator<Uint8Array, void, undefined> {
  try {
    yield* body as AsyncIterable<Uint8Array>;
  } catch (error) {
    throw new PeerStreamError("the process that is downloading the blob broke off", { cause: error });
  }
}
