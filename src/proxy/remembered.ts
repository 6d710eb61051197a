import type { Digest, DigestAlgorithm } from "../oci/digest.ts";
import { formatRepo, type RepoRef } from "../oci/reference.ts";
import type { StateLook, StateStore } from "../state/state-store.ts";
import { UpstreamError } from "../upstream/upstream.ts";

/** What the state store holds for the proxy; losing any of it costs one more question upstream. */
export type Remembered =
  | RememberedNo
  | RememberedHead
  | { readonly kind: "named"; readonly tags: readonly NamedTag[] }
  | { readonly kind: "private"; readonly atMs: number }
  | { readonly kind: "public" }
  | { readonly kind: "no-referrers"; readonly checkedAtMs: number }
  | { readonly kind: "unanswered" };

/** The upstream's "there is no such thing". */
interface RememberedNo {
  readonly kind: "no";
  readonly fault: "absent" | "denied";
  readonly message: string;
  readonly status: number | undefined;
  readonly absent: "repository" | "manifest" | "blob" | undefined;
}

/** What a tag's HEAD said, while the manifest that it named is not held: a tag link without content must not exist. */
export interface RememberedHead {
  readonly kind: "head";
  readonly digest: Digest;
  readonly mediaType: string | undefined;
  /** Bytes. */
  readonly size: number | undefined;
  readonly etag: string | undefined;
  /** Milliseconds since the epoch. */
  readonly checkedAtMs: number;
}

/** A tag that a HEAD has found to mean a manifest which was not held, and when; milliseconds since the epoch. */
export interface NamedTag {
  readonly tag: string;
  readonly etag: string | undefined;
  readonly checkedAtMs: number;
}

/** Clients that ask what a tag is fetch it at once, by its digest; a Weir in front of us, when its own client does. */
const NAMED_MS = 60_000;

/** More tags of one manifest than anybody asks about before it is fetched. */
const MAX_NAMED_TAGS = 32;

/** An absence that the upstream stated a moment ago, given again without asking. */
export class RememberedAbsenceError extends UpstreamError {}

/** True for the two answers that mean "no such thing", as far as an upstream tells. */
export function saysNo(error: unknown): error is UpstreamError & { readonly fault: "absent" | "denied" } {
  return error instanceof UpstreamError && (error.fault === "absent" || error.fault === "denied");
}

export type Asked = "tag" | "manifest" | "blob" | "tags" | "referrers";

/** What upstreams said in passing, in the bounded state store. */
export class Memory {
  readonly #state: StateStore<Remembered>;
  readonly #named: (repo: RepoRef, tag: string) => void;

  /** @param named told when a HEAD is remembered, or forgotten, that may say more of a tag than its record */
  constructor(state: StateStore<Remembered>, named: (repo: RepoRef, tag: string) => void) {
    this.#state = state;
    this.#named = named;
  }

  /** The remembered "no" to this question, as the error to throw. */
  async absence(asked: Asked, repo: RepoRef, name: string, o?: StateLook): Promise<RememberedAbsenceError | undefined> {
    const found = await this.#state.get(key(`no-${asked}`, repo, name), o);
    if (found?.kind !== "no") {
      return undefined;
    }
    return new RememberedAbsenceError(repo.upstream, found.fault, found.message, {
      ...(found.status === undefined ? {} : { status: found.status }),
      ...(found.absent === undefined ? {} : { absent: found.absent }),
    });
  }

  /** Remembers the error if it is a "no"; any other is left alone. */
  async rememberAbsence(asked: Asked, repo: RepoRef, name: string, error: unknown, ttlMs: number): Promise<void> {
    if (saysNo(error) && !(error instanceof RememberedAbsenceError)) {
      const { fault, message, status, absent } = error;
      await this.#set(key(`no-${asked}`, repo, name), { kind: "no", fault, message, status, absent }, ttlMs);
    }
  }

  async head(repo: RepoRef, tag: string, o?: StateLook): Promise<RememberedHead | undefined> {
    const found = await this.#state.get(key("head", repo, tag), o);
    return found?.kind === "head" ? found : undefined;
  }

  async rememberHead(repo: RepoRef, tag: string, head: RememberedHead, ttlMs: number): Promise<void> {
    await this.#set(key("head", repo, tag), head, ttlMs);
    this.#named(repo, tag);
    const { digest, etag, checkedAtMs } = head;
    const others = (await this.named(repo, digest, { latest: true })).filter((other) => other.tag !== tag);
    const tags = [...others.slice(1 - MAX_NAMED_TAGS), { tag, etag, checkedAtMs }];
    await this.#set(key("named", repo, digest), { kind: "named", tags }, Math.max(ttlMs, NAMED_MS));
  }

  /** The tags by which {@link rememberHead} was told of the manifest. */
  async named(repo: RepoRef, digest: Digest, o?: StateLook): Promise<readonly NamedTag[]> {
    const found = await this.#state.get(key("named", repo, digest), o);
    return found?.kind === "named" ? found.tags : [];
  }

  /** When the repository was found not to be public; for those that storage has no record of. */
  async privateAt(repo: RepoRef): Promise<number | undefined> {
    const found = await this.#state.get(key("private", repo, ""));
    return found?.kind === "private" ? found.atMs : undefined;
  }

  async rememberPrivate(repo: RepoRef, atMs: number, ttlMs: number): Promise<void> {
    await this.#set(key("private", repo, ""), { kind: "private", atMs }, ttlMs);
  }

  /** Whether the repository was found to be public while storage could not tell. */
  async isPublic(repo: RepoRef): Promise<boolean> {
    return (await this.#state.get(key("public", repo, "")))?.kind === "public";
  }

  async rememberPublic(repo: RepoRef, ttlMs: number): Promise<void> {
    await this.#set(key("public", repo, ""), { kind: "public" }, ttlMs);
  }

  /** When the upstream last listed nothing that refers to the manifest; for those that storage has no record of. */
  async noReferrersAt(repo: RepoRef, subject: Digest): Promise<number | undefined> {
    return await this.#noReferrersAt(key("no-referrers-of", repo, subject));
  }

  async rememberNoReferrers(repo: RepoRef, subject: Digest, checkedAtMs: number, ttlMs: number): Promise<void> {
    await this.#set(key("no-referrers-of", repo, subject), { kind: "no-referrers", checkedAtMs }, ttlMs);
  }

  /** When the upstream last turned out to offer no referrers API for digests of that algorithm. */
  async noReferrersApiAt(repo: RepoRef, algorithm: DigestAlgorithm): Promise<number | undefined> {
    return await this.#noReferrersAt(key("no-referrers-api", repo, algorithm));
  }

  async rememberNoReferrersApi(
    repo: RepoRef,
    algorithm: DigestAlgorithm,
    checkedAtMs: number,
    ttlMs: number,
  ): Promise<void> {
    await this.#set(key("no-referrers-api", repo, algorithm), { kind: "no-referrers", checkedAtMs }, ttlMs);
  }

  /** Whether the question if the repository is public got no answer a moment ago. */
  async visibilityUnanswered(repo: RepoRef, reference: string): Promise<boolean> {
    return (await this.#state.get(key("unanswered", repo, reference))) !== undefined;
  }

  async rememberVisibilityUnanswered(repo: RepoRef, reference: string, ttlMs: number): Promise<void> {
    await this.#set(key("unanswered", repo, reference), { kind: "unanswered" }, ttlMs);
  }

  /** Forgets what was said of a tag. */
  async forgetTag(repo: RepoRef, tag: string): Promise<void> {
    await this.#forget(["no-tag", "head"], repo, tag);
    this.#named(repo, tag);
  }

  /** Forgets what was said of a manifest or blob. */
  async forgetDigest(repo: RepoRef, digest: Digest): Promise<void> {
    await this.#forget(["no-manifest", "no-blob", "no-referrers", "no-referrers-of", "named"], repo, digest);
  }

  /** Forgets what was said of the repository as a whole, its visibility included. */
  async forgetRepository(repo: RepoRef): Promise<void> {
    await this.#forget(["no-tags", "private", "public"], repo, "");
    await this.#forget(["no-referrers-api"], repo, "sha256");
    await this.#forget(["no-referrers-api"], repo, "sha512");
  }

  async #forget(kinds: readonly string[], repo: RepoRef, name: string): Promise<void> {
    await Promise.all(kinds.map((kind) => this.#state.delete(key(kind, repo, name))));
  }

  async #noReferrersAt(at: string): Promise<number | undefined> {
    const found = await this.#state.get(at);
    return found?.kind === "no-referrers" ? found.checkedAtMs : undefined;
  }

  async #set(at: string, value: Remembered, ttlMs: number): Promise<void> {
    if (ttlMs > 0) {
      await this.#state.set(at, value, ttlMs);
    }
  }
}

/** No part can hold a space, and an upstream's name no slash: two things never share a key. */
function key(kind: string, repo: RepoRef, name: string): string {
  return `${kind} ${formatRepo(repo)} ${name}`;
}
