import type { CallOptions } from "../base/call.ts";
import { formatRepo, type RepoRef } from "../oci/reference.ts";
import type { BlobBody } from "../upstream/upstream.ts";
import type { FillSource } from "./fill-source.ts";

/** A repository's own way to a blob, which remembers whether the repository has been proved to have it. */
export class RepositorySource implements FillSource {
  readonly key: string;
  readonly upstream: string;
  readonly repo: RepoRef;
  readonly #open: FillSource["open"];
  #proven: boolean;
  #opened = false;

  /** @param proven whether a held manifest of the repository lists the blob, or its upstream has confirmed it */
  constructor(repo: RepoRef, open: FillSource["open"], proven: boolean) {
    this.key = formatRepo(repo);
    this.upstream = repo.upstream;
    this.repo = repo;
    this.#open = open;
    this.#proven = proven;
  }

  /** The repository has the blob, by its own upstream's word. */
  get proven(): boolean {
    return this.#proven;
  }

  /** The upstream has begun to deliver, to the credential that Weir uses now. */
  get opened(): boolean {
    return this.#opened;
  }

  prove(): void {
    this.#proven = true;
  }

  async open(start: number, o: CallOptions): Promise<BlobBody> {
    const body = await this.#open(start, o);
    this.#proven = true;
    this.#opened = true;
    return body;
  }
}
