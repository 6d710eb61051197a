import type { CallOptions } from "../base/call.ts";
import { KeyedLock } from "../base/keyed-lock.ts";
import type { Digest } from "../oci/digest.ts";
import type { BlobRecord, Repositories } from "../storage/repositories.ts";
import type { Visibility } from "./answers.ts";
import type { CommittedFill } from "./fills.ts";
import { RepositorySource } from "./repository-source.ts";

/** More upstreams than share one private blob in practice; those beyond it prove possession by a download of their own. */
const MAX_UPSTREAMS = 64;

const PUBLIC_DOMAIN = "public";

/** The fills of private repositories are kept apart by upstream: their bytes say something about this upstream's repositories only. */
export function fillDomain(visibility: Visibility, upstream: string): string {
  return visibility === "public" ? PUBLIC_DOMAIN : `private:${upstream}`;
}

/** Keeps, for each digest, where its bytes were received from: what a later proof rests on. */
export class Provenance {
  readonly #repositories: Repositories;
  /** Updates of one record follow each other, so that none is lost. */
  readonly #writing = new KeyedLock<Digest>();

  constructor(repositories: Repositories) {
    this.#repositories = repositories;
  }

  /** A repository of `upstream` has delivered the bytes. Resolves when that is durable. */
  async received(digest: Digest, from: { visibility: Visibility; upstream: string }, o: CallOptions): Promise<void> {
    await this.#writing.run(digest, () => this.#add(digest, from, o));
  }

  /**
   * To be called by the fills for each blob that they keep: records where it came from, and links it to every repository
   * that waited for it and is proved to have it.
   */
  readonly committed = async (fill: CommittedFill): Promise<void> => {
    // A fill's end is nobody's request: it is finished whoever has left, and takes a few small writes.
    const o: CallOptions = { signal: new AbortController().signal };
    for (const source of fill.sources) {
      if (source instanceof RepositorySource && source.proven) {
        await this.#repositories.linkLayer(source.repo, fill.digest, o);
        const visibility = fill.domain === PUBLIC_DOMAIN ? "public" : "private";
        await this.received(fill.digest, { visibility, upstream: source.upstream }, o);
      }
    }
  };

  async #add(digest: Digest, from: { visibility: Visibility; upstream: string }, o: CallOptions): Promise<void> {
    const known = await this.#repositories.getBlobRecord(digest, o);
    const next = extended(known ?? { public: false, upstreams: [] }, from);
    if (next !== known) {
      await this.#repositories.putBlobRecord(digest, next, o);
    }
  }
}

/** The same object where there is nothing to add. */
function extended(record: BlobRecord, from: { visibility: Visibility; upstream: string }): BlobRecord {
  if (from.visibility === "public") {
    return record.public ? record : { ...record, public: true };
  }
  if (record.upstreams.includes(from.upstream) || record.upstreams.length >= MAX_UPSTREAMS) {
    return record;
  }
  return { ...record, upstreams: [...record.upstreams, from.upstream] };
}
