import type { ByteStream } from "../../src/base/byte-stream.ts";
import type { CallOptions } from "../../src/base/call.ts";
import { waitFor } from "../../src/base/wait-for.ts";
import { type Digest, digestOf } from "../../src/oci/digest.ts";
import type { FillSource } from "../../src/proxy/fill-source.ts";
import type { CommittedFill, Fill, FillOutcome, Fills, JoinOptions } from "../../src/proxy/fills.ts";
import type { BlobStore } from "../../src/storage/blob-store.ts";
import { UpstreamError } from "../../src/upstream/upstream.ts";

/** Fills that hold everything in memory and try each source once: enough to see what the proxy asks of them. */
export class FakeFills implements Fills {
  /** Whether fills pretend to reach every range soon. */
  reaches = true;
  /** Downloads wait for this before they begin. */
  gate: Promise<void> = Promise.resolve();
  /** Called for each join. */
  onJoin: (source: FillSource) => void = () => {};
  readonly leftoverBytes = 0;
  readonly #store: BlobStore;
  readonly #committed: (fill: CommittedFill) => Promise<void>;
  readonly #running = new Map<string, FakeFill>();
  readonly #ended = new Map<string, number>();

  constructor(store: BlobStore, committed: (fill: CommittedFill) => Promise<void>) {
    this.#store = store;
    this.#committed = committed;
  }

  get size(): number {
    return this.#running.size;
  }

  get(domain: string, digest: Digest): Fill | undefined {
    return this.#running.get(`${domain} ${digest}`);
  }

  ended(domain: string, digest: Digest): number {
    return this.#ended.get(`${domain} ${digest}`) ?? 0;
  }

  all(): Iterable<Fill> {
    return this.#running.values();
  }

  join(
    domain: string,
    digest: Digest,
    source: FillSource,
    _: JoinOptions,
  ): { readonly fill: Fill; readonly started: boolean } {
    this.onJoin(source);
    const key = `${domain} ${digest}`;
    const running = this.#running.get(key);
    if (running !== undefined) {
      running.addSource(source);
      return { fill: running, started: false };
    }
    const fill = new FakeFill(domain, digest, source, () => this.reaches);
    this.#running.set(key, fill);
    fill.start(this.gate, async (bytes) => {
      await this.#store.put(digest, bytes, { signal: new AbortController().signal });
      await this.#committed({ domain, digest, size: bytes.length, sources: fill.sources });
    });
    void fill.outcome.then(() => {
      this.#running.delete(key);
      this.#ended.set(key, this.ended(domain, digest) + 1);
    });
    return { fill, started: true };
  }

  async open(): Promise<void> {}

  async stop(): Promise<void> {
    await Promise.all([...this.#running.values()].map((fill) => fill.outcome));
  }
}

class FakeFill implements Fill {
  readonly digest: Digest;
  readonly domain: string;
  readonly sources: FillSource[];
  readonly startedAtMs = 0;
  readonly readers = 0;
  outcome: Promise<FillOutcome> = Promise.resolve("failed");
  readonly #reaches: () => boolean;
  #bytes: Promise<Uint8Array> = Promise.resolve(new Uint8Array());
  #content: Uint8Array | undefined;

  constructor(domain: string, digest: Digest, source: FillSource, reaches: () => boolean) {
    this.domain = domain;
    this.digest = digest;
    this.sources = [source];
    this.#reaches = reaches;
  }

  get size(): number | undefined {
    return this.#content?.length;
  }

  get position(): number {
    return 0;
  }

  get source(): FillSource | undefined {
    return this.sources[0];
  }

  start(gate: Promise<void>, keep: (bytes: Uint8Array) => Promise<void>): void {
    this.#bytes = gate.then(() => this.#download());
    const kept = this.#bytes.then(async (bytes) => {
      this.#content = bytes;
      await keep(bytes);
    });
    this.outcome = kept.then(
      () => "committed",
      () => "failed",
    );
  }

  async ready({ signal }: CallOptions): Promise<void> {
    await waitFor(this.#bytes, signal);
    await this.outcome;
  }

  async *read(start: number, end: number | undefined): ByteStream {
    yield (await this.#bytes).subarray(start, end);
  }

  addSource(source: FillSource): void {
    if (!this.sources.some(({ key }) => key === source.key)) {
      this.sources.push(source);
    }
  }

  willReach(): boolean {
    return this.#reaches();
  }

  readsFromStart(): boolean {
    return false;
  }

  async #download(): Promise<Uint8Array> {
    let failure: unknown = new Error("no source");
    // By index: sources are added while this runs.
    for (let i = 0; i < this.sources.length; i += 1) {
      try {
        return await this.#from(this.sources[i] as FillSource);
      } catch (error) {
        failure = error;
      }
    }
    throw failure;
  }

  async #from(source: FillSource): Promise<Uint8Array> {
    const { body } = await source.open(0, { signal: new AbortController().signal });
    const bytes = Buffer.concat(await body.toArray());
    if (digestOf(bytes) !== this.digest) {
      throw new UpstreamError(source.upstream, "bad-answer", "wrong bytes");
    }
    return bytes;
  }
}
