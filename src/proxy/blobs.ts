import type { ByteStream } from "../base/byte-stream.ts";
import { type CallOptions, onBehalfOf } from "../base/call.ts";
import type { Log } from "../base/log.ts";
import { SingleFlight } from "../base/single-flight.ts";
import { waitFor } from "../base/wait-for.ts";
import type { DownloadConfig, FreshnessConfig } from "../config/types.ts";
import { type Digest, digestAlgorithm, digestOf } from "../oci/digest.ts";
import { OciError } from "../oci/errors.ts";
import { type ByteSpan, formatContentRange, resolveRange } from "../oci/range.ts";
import { formatRepo } from "../oci/reference.ts";
import { type BlobStore, type OpenBlob, StorageError } from "../storage/blob-store.ts";
import type { Repositories } from "../storage/repositories.ts";
import { type BlobBody, type Upstream, UpstreamError } from "../upstream/upstream.ts";
import type { Admitted } from "./access-gate.ts";
import type { BlobAnswer, CacheInfo, BlobCall as ClientsBlobCall } from "./answers.ts";
import { anythingHeld } from "./anything-held.ts";
import type { Background } from "./background.ts";
import {
  type Elsewhere,
  exactly,
  hashesTo,
  heldPart,
  inMemory,
  type Verification,
  verifiedWhole,
} from "./blob-bodies.ts";
import type { Fill, Fills } from "./fills.ts";
import type { Listings } from "./listings.ts";
import type { Target } from "./manifests-by-digest.ts";
import { decideProof } from "./proof.ts";
import { proofFacts } from "./proof-facts.ts";
import type { Proofs } from "./proofs.ts";
import { fillDomain } from "./provenance.ts";
import { type Basis, MAX_READY_BYTES, type ReadyAnswers } from "./ready.ts";
import { recorded } from "./recorded.ts";
import type { Memory, RememberedAbsenceError } from "./remembered.ts";
import { RepositorySource } from "./repository-source.ts";
import type { Standings } from "./standings.ts";
import { type Verified, VerifiedBlobs, type VerifiedBlobsDeps } from "./verified-blobs.ts";

export interface BlobsDeps {
  readonly blobs: BlobStore;
  readonly repositories: Repositories;
  readonly fills: Fills;
  readonly listings: Listings;
  readonly standings: Standings;
  readonly proofs: Proofs;
  readonly memory: Memory;
  readonly background: Background;
  readonly ready: Pick<ReadyAnswers, "content" | "forget">;
  readonly tellVerified?: VerifiedBlobsDeps["tellVerified"];
  freshnessOf(upstream: string): FreshnessConfig;
  readonly download: Pick<DownloadConfig, "rangeWaitMs">;
  readonly log: Log;
}

type BlobCall = ClientsBlobCall & Admitted;

/** The longest range that is asked upstream beside the fill: containerd's and the snapshotters' pieces fit, a whole layer does not. */
const MAX_PASSED_THROUGH = 16 << 20;

/** A blob's answer, and what it rested on where it is to be answered again without another look. */
export interface AnsweredBlob {
  readonly answer: BlobAnswer;
  readonly basis?: Basis;
}

/** What is looked for beside a blob, each once. */
interface Beside {
  /** The size that a held manifest of the repository gives it. */
  listed(): Promise<number | undefined>;
  /** The remembered "no" of its upstream. */
  absence(): Promise<RememberedAbsenceError | undefined>;
}

/** The blob requests of clients: from the store where that is proved, else from a fill that everybody shares. */
export class Blobs {
  readonly #deps: BlobsDeps;
  readonly #asking = new SingleFlight<number | undefined>();
  /** Which repositories each running fill serves. */
  readonly #sources = new WeakMap<Fill, Map<string, RepositorySource>>();
  readonly #verified: VerifiedBlobs;

  constructor(deps: BlobsDeps) {
    this.#deps = deps;
    this.#verified = new VerifiedBlobs(deps);
  }

  async answer(upstream: Upstream, call: BlobCall): Promise<AnsweredBlob> {
    const { repo, digest } = call;
    const { repositories, standings } = this.#deps;
    const standing = await standings.admit(repo, upstream, () => anythingHeld(repositories, repo, call), call);
    const target: Target = { repo, upstream, standing };
    for (;;) {
      const ended = this.#ended(target, digest);
      const beside = this.#lookBeside(target, call);
      const answer = await this.#look(target, call, beside);
      if (answer !== undefined) {
        return answer;
      }
      const filled = call.head
        ? await this.#describe(target, call, beside)
        : await this.#fill(target, call, { ...beside, ended });
      if (filled !== undefined) {
        return { answer: filled };
      }
    }
  }

  /** Looks for what is wanted of a blob that is not held, or not known to be sound, beside the look for the blob itself. */
  #lookBeside({ repo }: Target, call: BlobCall): Beside {
    const { listings, memory } = this.#deps;
    const { digest } = call;
    const listed = once(() => listings.sizeOf(repo, digest, call));
    const absence = once(() => memory.absence("blob", repo, digest));
    if (this.#verified.get(digest) === undefined) {
      for (const begun of [listed(), absence()]) {
        begun.catch(() => {});
      }
    }
    return { listed, absence };
  }

  /** What is held. Undefined where the upstream is to be asked; rejects where it is known what that would come to. */
  async #look(target: Target, call: BlobCall, beside: Beside): Promise<AnsweredBlob | undefined> {
    const { digest } = call;
    const held = await this.#open(digest, call);
    if (held !== undefined) {
      const answer = await this.#fromStore(target, held, call, beside);
      if (answer !== undefined) {
        return answer;
      }
    }
    const { withheld } = call.access;
    if (withheld !== undefined) {
      throw withheld.error();
    }
    const absence = await beside.absence();
    if (absence !== undefined) {
      throw absence;
    }
    return undefined;
  }

  /** The blob was deleted: one that comes in its place is looked at anew. */
  forget(digest: Digest): void {
    this.#verified.forget(digest);
  }

  /** Another process that serves from the same files has seen a blob to be whole. */
  heardVerified(digest: Digest, verified: Verified): void {
    this.#verified.hear(digest, verified);
  }

  /** Undefined also where storage fails: then the blob comes from its upstream once more. */
  async #open(digest: Digest, o: CallOptions): Promise<OpenBlob | undefined> {
    try {
      return await this.#deps.blobs.open(digest, o);
    } catch (error) {
      if (!(error instanceof StorageError)) {
        throw error;
      }
      this.#deps.log.warn({ err: error, digest }, "a held blob could not be opened");
      return undefined;
    }
  }

  /** Undefined where the held bytes prove nothing for this repository, or are damaged. Takes over the open blob. */
  async #fromStore(target: Target, held: OpenBlob, call: BlobCall, beside: Beside): Promise<AnsweredBlob | undefined> {
    let answered: AnsweredBlob | undefined;
    try {
      const cache = await this.#entitled(target, call.digest, call);
      answered = cache && (await this.#hit(target, held, { ...beside, cache }, call));
      return answered;
    } catch (error) {
      if (!(error instanceof StorageError)) {
        throw error;
      }
      this.#deps.log.warn({ err: error, digest: call.digest }, "a held blob could not be read");
      return undefined;
    } finally {
      if (answered?.answer.body === undefined) {
        await held.close();
      }
    }
  }

  async #entitled(target: Target, digest: Digest, o: CallOptions & Admitted): Promise<CacheInfo | undefined> {
    const { repositories, proofs, memory, log } = this.#deps;
    const { repo } = target;
    const facts = await proofFacts(this.#deps, target, { digest, as: "layer", held: true, confirmed: false }, o);
    const decision = decideProof(facts);
    o.trail?.detail?.note("decision", { about: `${formatRepo(repo)}@${digest}`, does: decision.do });
    let cache: CacheInfo;
    switch (decision.do) {
      case "serve":
        cache = await proofs.current(
          target,
          { asked: "blob", digest },
          (asking) => this.#confirm(target, digest, asking),
          o,
        );
        break;
      case "confirm": {
        if (o.access.withheld !== undefined) {
          return undefined;
        }
        const absence = await memory.absence("blob", repo, digest);
        if (absence !== undefined) {
          throw absence;
        }
        await this.#ask(target, digest, "proof", o);
        cache = { outcome: "revalidated" };
        break;
      }
      case "possess":
      case "deny":
        return undefined;
    }
    if (!facts.linked) {
      await recorded(log, `${formatRepo(repo)}@${digest}`, () => repositories.linkLayer(repo, digest, o));
    }
    return cache;
  }

  async #hit(
    target: Target,
    held: OpenBlob,
    { cache, listed: sizeOf }: Beside & { readonly cache: CacheInfo },
    call: BlobCall,
  ): Promise<AnsweredBlob | undefined> {
    const { standing } = target;
    const { digest } = call;
    const known = this.#verified.get(digest);
    if (known !== undefined && known.size !== held.size) {
      await this.#verified.discard(digest, call);
      return undefined;
    }
    let verified = this.#verified.isWhole(digest, held);
    const listed = verified ? held.size : await sizeOf();
    if (listed !== undefined && listed !== held.size) {
      // The file may be short, or the manifest wrong; anybody's manifest must not cost the others a good blob.
      verified = await hashesTo(held, digest, call);
      await this.#verified.settle(digest, held, verified, call);
      if (!verified) {
        return undefined;
      }
    }
    const { size } = held;
    const part = call.head || call.range === undefined ? undefined : satisfiable(call, size);
    const answer = { digest, size, visibility: standing.visibility, cache, part };
    if (call.head) {
      return { answer: { ...answer, body: undefined, release: async () => {} } };
    }
    const location = call.mayRedirect ? await held.presign?.() : undefined;
    if (location !== undefined) {
      // What it gets there, the client verifies, as it does everything.
      return { answer: { ...answer, part: undefined, body: undefined, location, release: async () => {} } };
    }
    if (call.mayHandOver && verified && held.local !== undefined) {
      return { answer: { ...answer, body: undefined, local: held.local, release: async () => {} } };
    }
    if (size <= MAX_READY_BYTES) {
      // Verified before the headers go out, so that damage heals unseen.
      const inMind = verified ? this.#deps.ready.content(digest) : undefined;
      const bytes = inMind ?? (await this.#readVerified(held, digest, call));
      if (bytes === undefined) {
        return undefined;
      }
      await held.close();
      const wanted = part === undefined ? bytes : bytes.subarray(part.start, part.end + 1);
      return {
        answer: { ...answer, body: inMemory(wanted), release: async () => {} },
        // Who could be sent to where the bytes are is to be sent there.
        ...(held.presign === undefined ? { basis: { standing, bytes, facts: undefined } } : {}),
      };
    }
    const { start, end } = part ?? { start: 0, end: size - 1 };
    const elsewhere: Elsewhere = (from, error) => this.#goOn(target, { from, end: end + 1, size, error }, call);
    const whole = start === 0 && end === size - 1;
    if (!verified && !whole) {
      this.#verified.verifyBeside(digest);
    }
    const verification: Verification = {
      isDone: () => this.#verified.isWhole(digest, held),
      settle: (agrees) => this.#verified.settle(digest, held, agrees, call),
      giveUp: () => this.#verified.verifyBeside(digest),
    };
    const body =
      verified || !whole
        ? heldPart(held, start, end + 1, elsewhere, call)
        : verifiedWhole(held, digest, verification, elsewhere, call);
    return { answer: { ...answer, body, release: () => held.close() } };
  }

  /** All of a small blob; undefined where it is damaged, and now deleted. */
  async #readVerified(held: OpenBlob, digest: Digest, o: CallOptions): Promise<Uint8Array | undefined> {
    const bytes = await readAll(held, o);
    const agrees = bytes !== undefined && digestOf(bytes, digestAlgorithm(digest)) === digest;
    await this.#verified.settle(digest, held, agrees, o);
    return agrees ? bytes : undefined;
  }

  /**
   * The store has lost a blob that a client is reading. The rest comes from a fill, shared by all to whom that happens: it
   * verifies the whole, which a range of the blob by itself could not be, and keeps it again.
   */
  async *#goOn(
    target: Target,
    o: { readonly from: number; readonly end: number; readonly size: number; readonly error: StorageError },
    call: BlobCall,
  ): ByteStream {
    const { digest } = call;
    this.#deps.log.warn(
      { err: o.error, digest, at: o.from },
      "a held blob was lost while it was read: it goes on from upstream",
    );
    this.#verified.forget(digest);
    if (call.access.withheld !== undefined) {
      throw o.error;
    }
    const fill = (await this.#join(target, digest, o.size, call, undefined))?.fill;
    if (fill === undefined || (fill.size !== undefined && fill.size !== o.size)) {
      throw o.error;
    }
    yield* fill.read(o.from, o.end, { ...call, client: call.caller.client });
  }

  /** HEAD of what is not held: never a reason to download it. */
  async #describe(target: Target, call: BlobCall, beside: Beside): Promise<BlobAnswer> {
    const { standing } = target;
    const { digest } = call;
    const listed = await beside.listed();
    let cache: CacheInfo = { outcome: "miss", stored: false };
    let size = listed;
    if (listed === undefined) {
      size = await this.#ask(target, digest, "size", call);
    } else {
      const confirm = (o: CallOptions): Promise<void> => this.#confirm(target, digest, o);
      cache = await this.#deps.proofs.current(target, { asked: "blob", digest }, confirm, call);
    }
    return {
      digest,
      size,
      visibility: standing.visibility,
      cache,
      part: undefined,
      body: undefined,
      release: async () => {},
    };
  }

  /** Asks the upstream whether the repository has the blob, once for all who want to know the same. */
  async #ask(target: Target, digest: Digest, wanted: "proof" | "size", call: CallOptions): Promise<number | undefined> {
    const { background, memory, freshnessOf } = this.#deps;
    const { repo } = target;
    const asking = background.own((signal) =>
      this.#asking.run(`${wanted} ${formatRepo(repo)} ${digest}`, { signal }, async (shared) => {
        try {
          return await this.#askNow(target, digest, wanted, { ...call, signal: shared });
        } catch (error) {
          await memory.rememberAbsence("blob", repo, digest, error, freshnessOf(repo.upstream).negativeMs);
          throw error;
        }
      }),
    );
    return (await waitFor(asking, call.signal)).value;
  }

  async #askNow(
    { repo, upstream, standing }: Target,
    digest: Digest,
    wanted: "proof" | "size",
    o: CallOptions,
  ): Promise<number | undefined> {
    return await this.#deps.standings.watch(repo, standing, o, async () => {
      const { size } = await upstream.headBlob(repo.repository, digest, o);
      // A registry that redirects has proved what it has, though not told how large it is.
      return wanted === "size" ? (size ?? (await upstream.blobSize(repo.repository, digest, o))) : size;
    });
  }

  async #confirm(target: Target, digest: Digest, o: CallOptions): Promise<void> {
    await this.#askNow(target, digest, "proof", o);
  }

  /** Undefined where a fill has ended since {@link Fills.ended} gave `ended`: the blob may be held by now. */
  async #fill(
    target: Target,
    call: BlobCall,
    { ended, listed: sizeOf }: Beside & { readonly ended: number },
  ): Promise<BlobAnswer | undefined> {
    const { standing } = target;
    const { digest } = call;
    const listed = await sizeOf();
    if (call.range !== undefined && listed !== undefined) {
      satisfiable(call, listed);
    }
    const joined = await this.#join(target, digest, listed, call, ended);
    if (joined === undefined) {
      return undefined;
    }
    const { fill, started } = joined;
    if (call.needsLength && fill.size === undefined) {
      await waitFor(fill.outcome, call.signal);
      // Rejects with what made it fail.
      await fill.ready(call);
    }
    const { size } = fill;
    // Where the size is not known there is no Content-Range to give: the whole is a right answer to any range (RFC 9110 14.2).
    const part = call.range === undefined || size === undefined ? undefined : satisfiable(call, size);
    const answer = { digest, size, visibility: standing.visibility, part };
    const passed = part === undefined ? undefined : await this.#passThrough(target, fill, part, call);
    if (passed !== undefined) {
      return { ...answer, cache: { outcome: "bypass" }, ...passed };
    }
    const end = part === undefined ? undefined : part.end + 1;
    return {
      ...answer,
      cache: { outcome: started ? "miss" : "collapsed", stored: true },
      body: fill.read(part?.start ?? 0, end, { ...call, client: call.caller.client }),
      release: async () => {},
    };
  }

  #ended({ repo, standing }: Target, digest: Digest): number {
    return this.#deps.fills.ended(fillDomain(standing.visibility, repo.upstream), digest);
  }

  /**
   * The fill of the blob, ready to be read by this repository's clients. Undefined as {@link #fill} is, which a caller who has to
   * have a fill, whatever is held, leaves out `ended` for.
   */
  async #join(
    target: Target,
    digest: Digest,
    listed: number | undefined,
    call: BlobCall,
    ended: number | undefined,
  ): Promise<{ readonly fill: Fill; readonly started: boolean } | undefined> {
    const { fills } = this.#deps;
    const { repo, standing } = target;
    const domain = fillDomain(standing.visibility, repo.upstream);
    const running = fills.get(domain, digest);
    const known = running && this.#sources.get(running)?.get(formatRepo(repo));
    if (running !== undefined && known === undefined) {
      await this.#proveForFill(target, digest, listed, call);
    }
    if (ended !== undefined && fills.get(domain, digest) === undefined && fills.ended(domain, digest) !== ended) {
      return undefined;
    }
    const source = known ?? this.#sourceOf(target, digest, running !== undefined || listed !== undefined);
    const joined = fills.join(domain, digest, source, {
      ...(listed === undefined ? {} : { expectedSize: listed }),
      behalf: onBehalfOf(call),
    });
    this.#note(joined.fill, source);
    const { fill, started } = joined;
    if (!started) {
      const step = call.trail?.begin("fill", { digest, started, position: fill.position, size: fill.size });
      step?.joins(fill.place);
      void fill.outcome.then((outcome) => step?.end({ outcome }));
    } else {
      void this.#deps.background.own((signal) => this.#noteKept(fill, { signal }));
    }
    const told = started ? countFetched(fill, listed, call) : undefined;
    await fill.ready({ ...call, source: source.key });
    told?.();
    await this.#proveAfterwards(target, digest, source, call);
    return joined;
  }

  /** What a fill has kept was verified on its way. */
  async #noteKept(fill: Fill, o: CallOptions): Promise<void> {
    const outcome = await waitFor(fill.outcome, o.signal).catch(() => undefined);
    const held = outcome === "committed" ? await this.#open(fill.digest, o) : undefined;
    if (held !== undefined) {
      await this.#verified.settle(fill.digest, held, true, o);
      await held.close();
    }
  }

  /** A fill that others have started is bytes that are being received: this repository proves its right to them first. */
  async #proveForFill(target: Target, digest: Digest, listed: number | undefined, o: CallOptions): Promise<void> {
    const { repo, standing } = target;
    const linked = await this.#deps.repositories.hasLayer(repo, digest, o);
    const decision = decideProof({
      visibility: standing.visibility,
      mayReadPrivate: true,
      held: true,
      linked,
      listed: listed !== undefined,
      confirmed: false,
      // Fills of other upstreams' private repositories are in other domains.
      provenance: { public: standing.visibility === "public", upstreams: [repo.upstream] },
      upstream: repo.upstream,
    });
    if (decision.do === "serve") {
      const confirm = (asking: CallOptions): Promise<void> => this.#confirm(target, digest, asking);
      await this.#deps.proofs.current(target, { asked: "blob", digest }, confirm, o);
    } else {
      await this.#ask(target, digest, "proof", o);
    }
  }

  /** For a fill whose bytes came another way than by this repository's own download: from another's, or from before a restart. */
  async #proveAfterwards(target: Target, digest: Digest, source: RepositorySource, o: CallOptions): Promise<void> {
    if (!source.proven) {
      await this.#ask(target, digest, "proof", o);
      source.prove();
    } else if (!source.opened) {
      const confirm = (asking: CallOptions): Promise<void> => this.#confirm(target, digest, asking);
      await this.#deps.proofs.current(target, { asked: "blob", digest }, confirm, o);
    }
  }

  #sourceOf({ repo, upstream, standing }: Target, digest: Digest, proven: boolean): RepositorySource {
    const { standings, memory, freshnessOf } = this.#deps;
    const open = async (start: number, o: CallOptions): Promise<BlobBody> => {
      try {
        return await standings.watch(repo, standing, o, () =>
          upstream.getBlob(repo.repository, digest, { ...o, start }),
        );
      } catch (error) {
        // Later in a download a "no" may come from a signed address that has expired.
        if (start === 0) {
          await memory.rememberAbsence("blob", repo, digest, error, freshnessOf(repo.upstream).negativeMs);
        }
        throw error;
      }
    };
    return new RepositorySource(repo, open, proven);
  }

  #note(fill: Fill, source: RepositorySource): void {
    const sources = this.#sources.get(fill) ?? new Map<string, RepositorySource>();
    sources.set(source.key, source);
    this.#sources.set(fill, sources);
  }

  /** A range that the fill will not reach soon, asked for by itself and not kept. Undefined where the fill is to be followed. */
  async #passThrough(
    { repo, upstream }: Target,
    fill: Fill,
    part: ByteSpan,
    call: BlobCall,
  ): Promise<Pick<BlobAnswer, "body" | "release"> | undefined> {
    const { start, end } = part;
    const closed = call.range?.kind === "suffix" || call.range?.end !== undefined;
    const length = end - start + 1;
    const follows =
      start <= fill.position ||
      fill.willReach(start, this.#deps.download.rangeWaitMs) ||
      fill.readsFromStart(call.caller.client);
    if (follows || !closed || length > MAX_PASSED_THROUGH) {
      return undefined;
    }
    try {
      const { body, start: at, total } = await upstream.getBlob(repo.repository, call.digest, { ...call, start, end });
      // Whoever destroys it may be nobody's iterator; its error is then nobody's either.
      body.on("error", () => {});
      if (at !== start || (total !== undefined && total !== fill.size)) {
        body.destroy();
        return undefined;
      }
      call.access.fetched?.(length);
      const stream: ByteStream = exactly(body, length, upstream.name);
      return { body: stream, release: async () => void body.destroy() };
    } catch (error) {
      if (!(error instanceof UpstreamError)) {
        throw error;
      }
      return undefined;
    }
  }
}

/**
 * A download is on the account of whoever began it, also of one who leaves before it has said anything: all of it at once, as far
 * as it is known, and in the end what has come.
 *
 * @returns to be called when the size has been told
 */
function countFetched(fill: Fill, listed: number | undefined, { access: { fetched } }: Admitted): () => void {
  let counted = 0;
  let over = false;
  const count = (bytes: number): void => {
    if (fetched !== undefined && !over && bytes !== counted) {
      fetched(bytes - counted);
      counted = bytes;
    }
  };
  count(listed ?? 0);
  void fill.outcome.then((outcome) => {
    count(outcome === "failed" ? fill.position : (fill.size ?? fill.position));
    over = true;
  });
  return () => count(fill.size ?? counted);
}

function once<T>(look: () => Promise<T>): () => Promise<T> {
  let found: Promise<T> | undefined;
  return () => {
    found ??= look();
    return found;
  };
}

/** @throws OciError RANGE_INVALID (416) where no byte of the blob is in the range */
function satisfiable(call: BlobCall, size: number): ByteSpan | undefined {
  const span = call.range && resolveRange(call.range, size);
  if (span === "unsatisfiable") {
    throw new OciError("RANGE_INVALID", `${call.digest} has ${size} bytes, none of them in the range`, {
      headers: { "content-range": formatContentRange("unsatisfiable", size) },
    });
  }
  return span;
}

/** Undefined where the content is shorter than the store said. */
async function readAll(blob: OpenBlob, o: CallOptions): Promise<Uint8Array | undefined> {
  const bytes = Buffer.alloc(blob.size);
  let position = 0;
  try {
    for await (const chunk of blob.read(0, blob.size, o)) {
      bytes.set(chunk, position);
      position += chunk.length;
    }
  } catch (error) {
    if (error instanceof StorageError && error.fault === "corrupt") {
      return undefined;
    }
    throw error;
  }
  return bytes;
}
