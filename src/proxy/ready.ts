import { LRUCache } from "lru-cache";
import type { Clock } from "../base/clock.ts";
import type { FreshnessConfig } from "../config/types.ts";
import type { Digest } from "../oci/digest.ts";
import { formatReference, formatRepo, type RepoRef } from "../oci/reference.ts";
import type { AccessGate } from "./access-gate.ts";
import type { CacheInfo, ReadyAnswer, ReadyCall, Visibility } from "./answers.ts";
import { decideFreshness, type FreshnessFacts } from "./freshness.ts";
import { contentFacts } from "./proofs.ts";
import type { Room } from "./room.ts";
import type { Standing, Standings } from "./standings.ts";

/** Up to this size a blob or manifest is kept in memory: configurations and attestations are far below, layers above. */
export const MAX_READY_BYTES = 256 << 10;

/** Bytes of content kept in memory, whoever has it: manifests and configurations of some thousand images. */
const MAX_CONTENT_BYTES = 48 << 20;

/** Bytes of what is known of the answers themselves: some twelve thousand. */
const MAX_ENTRY_BYTES = 16 << 20;

/** What an answer costs beyond its texts, and content beyond its bytes, about. */
const ENTRY_OVERHEAD = 1200;
const CONTENT_OVERHEAD = 400;

/** Clients of a fleet send a handful of different ones; hostile ones only push each other's out. */
const MAX_ACCEPTS = 8;

/** Longer than any client's that is known. */
const MAX_ACCEPT_LENGTH = 1024;

/** What a hit rested on: enough to decide anew whether it still is one. */
export interface Basis {
  readonly standing: Standing;
  readonly bytes: Uint8Array;
  /** What the decision on a tag's freshness rested on; undefined for content by digest. */
  readonly facts: FreshnessFacts | undefined;
}

/** What of a repository has been written: a tag, the link to a digest, or with neither what is known of it as a whole. */
export interface Change {
  readonly repo: RepoRef;
  readonly tag?: string;
  readonly digest?: Digest;
}

/** A look that has begun. What is written while it lasts may be newer than what it finds. */
export interface Look {
  readonly atMs: number;
  readonly changes: number;
  readonly inForce: object;
}

/** An answer as the long way gave it. */
export interface GivenAnswer {
  readonly digest: Digest;
  readonly visibility: Visibility;
  readonly cache: CacheInfo;
  /** Left out for blobs. */
  readonly mediaType?: string;
}

export interface ReadyAnswersDeps {
  readonly standings: Pick<Standings, "stands">;
  readonly access: Pick<AccessGate, "mayHaveHeld">;
  /** Told of what is answered from memory. */
  readonly room: Pick<Room, "touch">;
  freshnessOf(upstream: string): FreshnessConfig;
  /** What is in force of the configuration; another object after each reload. */
  inForce(): object;
  /** For how long an answer to a tag counts without another look; milliseconds. */
  readonly maxAgeMs: number;
  /** For how long one to a digest does. */
  readonly maxContentAgeMs: number;
  readonly clock: Clock;
}

interface Entry {
  readonly key: string;
  readonly repo: RepoRef;
  readonly answer: ReadyAnswer;
  readonly lookedAtMs: number;
  readonly inForce: object;
  readonly standing: Standing;
  readonly facts: FreshnessFacts | undefined;
  readonly config: FreshnessConfig;
  /** The headers that let the type through, the latest last; undefined where it does not matter. */
  readonly accepts: readonly (string | undefined)[] | undefined;
}

type Asked = ReadyCall["asked"];

/**
 * Answers that need nothing but memory. The long way leaves them here when it ended in a plain hit, with what that rested on; each
 * request decides anew by the same functions, and what cannot be decided without waiting, or not in the caller's favour, is not
 * answered here. What is written of a repository ends what rested on it ({@link changed}), as does the end of the content.
 */
export class ReadyAnswers {
  readonly #deps: ReadyAnswersDeps;
  readonly #content: LRUCache<Digest, Uint8Array>;
  readonly #entries: LRUCache<string, Entry>;
  readonly #byDigest = new Map<Digest, Set<Entry>>();
  readonly #byRepo = new Map<string, Set<Entry>>();
  #changes = 0;

  constructor(deps: ReadyAnswersDeps) {
    this.#deps = deps;
    this.#content = new LRUCache({
      maxSize: MAX_CONTENT_BYTES,
      sizeCalculation: (bytes, digest) => bytes.length + digest.length + CONTENT_OVERHEAD,
      dispose: (_, digest) => this.#drop(this.#byDigest.get(digest)),
    });
    this.#entries = new LRUCache({
      maxSize: MAX_ENTRY_BYTES,
      sizeCalculation: ({ accepts = [] }, key) =>
        accepts.reduce((bytes, accept) => bytes + (accept?.length ?? 0), key.length + ENTRY_OVERHEAD),
      dispose: (entry) => this.#unlist(entry),
    });
  }

  /** As {@link PullThrough.ready}. */
  find(call: ReadyCall): ReadyAnswer | undefined {
    const { asked, repo, accept, identity } = call;
    const entry = this.#entries.get(keyOf(repo, asked));
    if (entry === undefined || (entry.accepts !== undefined && !entry.accepts.includes(accept))) {
      return undefined;
    }
    const { answer, standing } = entry;
    const reference = asked.kind === "manifest" ? asked.reference : undefined;
    const holds =
      this.#isCurrent(entry) && this.#deps.access.mayHaveHeld(identity, repo, reference, standing.visibility);
    if (!holds) {
      return undefined;
    }
    // The content's turn, too, before it goes for room.
    this.#content.get(answer.digest);
    const isCounted = this.#deps.room.touch(answer.digest);
    // A blob that the room does not know of is opened, which makes it known; a manifest may be in memory alone.
    return isCounted || asked.kind === "manifest" ? answer : undefined;
  }

  /** To be called before anything is looked at that {@link keep} is to be told of. */
  look(): Look {
    return { atMs: this.#deps.clock.now(), changes: this.#changes, inForce: this.#deps.inForce() };
  }

  /** Keeps what the long way has answered, if it was a plain hit that any later request can be given as well. */
  keep(
    look: Look,
    call: { readonly repo: RepoRef; readonly asked: Asked; readonly accept: string | undefined },
    given: GivenAnswer,
    basis: Basis | undefined,
  ): void {
    const { clock, freshnessOf } = this.#deps;
    const { repo, asked, accept } = call;
    if (basis === undefined || look.changes !== this.#changes || !isPlain(given.cache)) {
      return;
    }
    const { standing, facts } = basis;
    const config = freshnessOf(repo.upstream);
    const nowMs = clock.now();
    const decision = decideFreshness(factsAt({ standing, facts, config }, nowMs));
    if (decision.do !== "fresh" || basis.bytes.length > MAX_READY_BYTES || (accept?.length ?? 0) > MAX_ACCEPT_LENGTH) {
      return;
    }
    const { digest, visibility, mediaType = "application/octet-stream" } = given;
    const bytes = this.#content.get(digest) ?? basis.bytes;
    const key = keyOf(repo, asked);
    const before = this.#entries.get(key);
    const answer: ReadyAnswer = {
      kind: asked.kind,
      digest,
      mediaType,
      size: bytes.length,
      bytes,
      visibility,
      freshUntilMs: facts && nowMs + decision.ttlMs,
    };
    const isSame = before !== undefined && isEqual(before.answer, answer);
    const others = (isSame ? (before.accepts ?? []) : []).filter((other) => other !== accept);
    const entry: Entry = {
      key,
      repo,
      answer: isSame ? before.answer : answer,
      lookedAtMs: look.atMs,
      inForce: look.inForce,
      standing,
      facts,
      config,
      accepts: facts && [...others.slice(1 - MAX_ACCEPTS), accept],
    };
    this.#content.set(digest, bytes);
    this.#entries.set(key, entry);
    listIn(this.#byDigest, digest, entry);
    listIn(this.#byRepo, formatRepo(repo), entry);
  }

  /** The content of a small blob that was held when it was looked at last, and hashes to its digest. */
  content(digest: Digest): Uint8Array | undefined {
    return this.#content.get(digest);
  }

  /** Something of a repository was written, or may have been; of any where none is named. */
  changed(change: Change | undefined): void {
    this.#changes += 1;
    if (change === undefined) {
      this.#entries.clear();
      return;
    }
    const { repo, tag, digest } = change;
    if (tag !== undefined) {
      this.#entries.delete(keyOf(repo, { kind: "manifest", reference: { kind: "tag", tag } }));
    } else if (digest !== undefined) {
      const place = formatRepo(repo);
      this.#drop([...(this.#byDigest.get(digest) ?? [])].filter((entry) => formatRepo(entry.repo) === place));
    } else {
      this.#drop(this.#byRepo.get(formatRepo(repo)));
    }
  }

  /** The blob or manifest is not held any more. */
  forget(digest: Digest): void {
    this.#changes += 1;
    this.#content.delete(digest);
  }

  #isCurrent(entry: Entry): boolean {
    const { clock, standings, maxAgeMs, maxContentAgeMs, inForce } = this.#deps;
    const nowMs = clock.now();
    const ageMs = nowMs - entry.lookedAtMs;
    return (
      entry.inForce === inForce() &&
      ageMs >= 0 &&
      ageMs < (entry.facts === undefined ? maxContentAgeMs : maxAgeMs) &&
      standings.stands(entry.standing) &&
      decideFreshness(factsAt(entry, nowMs)).do === "fresh"
    );
  }

  #drop(entries: Iterable<Entry> | undefined): void {
    for (const { key } of [...(entries ?? [])]) {
      this.#entries.delete(key);
    }
  }

  #unlist(entry: Entry): void {
    unlistIn(this.#byDigest, entry.answer.digest, entry);
    unlistIn(this.#byRepo, formatRepo(entry.repo), entry);
  }
}

/** Kinds and names cannot run into each other: neither a tag nor a repository holds a space. */
function keyOf({ upstream, repository }: RepoRef, asked: Asked): string {
  return asked.kind === "blob"
    ? `${upstream}/${repository} blob ${asked.digest}`
    : `${upstream}/${repository} ${formatReference(asked.reference)}`;
}

function factsAt(
  { standing, facts, config }: Pick<Entry, "standing" | "facts" | "config">,
  nowMs: number,
): FreshnessFacts {
  return facts === undefined ? contentFacts(standing, "not-yet", config, nowMs) : { ...facts, nowMs };
}

/** Nothing has to be said of it but that it was held, and for how long it is fresh. */
function isPlain({ outcome, ttlS: _, ...unusual }: CacheInfo): boolean {
  return outcome === "hit" && Object.keys(unusual).length === 0;
}

/** Content is what its digest says. */
function isEqual(a: ReadyAnswer, b: ReadyAnswer): boolean {
  return (
    a.digest === b.digest &&
    a.mediaType === b.mediaType &&
    a.visibility === b.visibility &&
    a.freshUntilMs === b.freshUntilMs
  );
}

function listIn<K>(lists: Map<K, Set<Entry>>, key: K, entry: Entry): void {
  const list = lists.get(key);
  if (list === undefined) lists.set(key, new Set([entry]));
  else list.add(entry);
}

function unlistIn<K>(lists: Map<K, Set<Entry>>, key: K, entry: Entry): void {
  const list = lists.get(key);
  list?.delete(entry);
  if (list?.size === 0) lists.delete(key);
}
