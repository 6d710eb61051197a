import type { CallOptions } from "../base/call.ts";
import type { Clock } from "../base/clock.ts";
import type { KeyedLock } from "../base/keyed-lock.ts";
import type { Digest } from "../oci/digest.ts";
import { formatRepo, type RepoRef } from "../oci/reference.ts";
import type { BlobStore } from "../storage/blob-store.ts";
import type { LinkName, Repositories } from "../storage/repositories.ts";
import type { RoomRecords, StoredObject } from "../storage/room-records.ts";
import type { RoomCandidate } from "./room.ts";
import type { Account } from "./room-account.ts";
import { HELD } from "./room-index.ts";
import { namedBy } from "./room-pins.ts";

export interface RemainsDeps {
  readonly account: Account;
  /** Whoever writes or deletes a blob has its digest. */
  readonly locks: KeyedLock<Digest>;
  readonly store: BlobStore;
  readonly repositories: Repositories;
  readonly records: RoomRecords;
  readonly clock: Clock;
}

export type CollectCall = CallOptions & { readonly dryRun: boolean };

/** What is younger may be half of something that is being written: data before their link, a file before its name. */
export const GRACE_MS = 60 * 60 * 1000;

/** Manifests of one repository that are read to find out what they need. Beyond it, all that it links to counts as needed. */
const MAX_MANIFESTS = 10_000;

/** Finds, and unless it is a dry run removes, what is left beside blobs that are not held any more, or never became any. */
export class Remains {
  readonly #deps: RemainsDeps;

  constructor(deps: RemainsDeps) {
    this.#deps = deps;
  }

  /** Tags first, then what they mean, then the content: the other way round, a crash would leave names of nothing. */
  async *expiredNames(
    expired: (digest: Digest) => boolean,
    o: CollectCall,
  ): AsyncGenerator<RoomCandidate, void, undefined> {
    const { repositories, account, clock } = this.#deps;
    for await (const repo of repositories.linked(o)) {
      const revisions: Digest[] = [];
      for await (const { kind, digest } of repositories.linkNames(repo, o)) {
        if (kind === "revision" && expired(digest)) revisions.push(digest);
      }
      if (revisions.length === 0) continue;
      for (const tag of await repositories.tags(repo, o)) {
        const entry = await repositories.getTag(repo, tag, o);
        if (entry === undefined || !revisions.includes(entry.digest) || !expired(entry.digest)) continue;
        if (!o.dryRun) await repositories.deleteTag(repo, tag, o);
      }
      for (const digest of revisions) {
        const { index } = account;
        const entry = index.find(digest);
        if (entry === undefined || !expired(digest)) continue;
        const link = await this.#deps.records.link(repo, { kind: "revision", digest }, o);
        if (link === undefined) continue;
        if (!o.dryRun) {
          await repositories.unlinkRevision(repo, digest, o);
          await repositories.deleteReferrers(repo, digest, o);
        }
        const ageMs = clock.now() - index.usedAtMs(entry);
        yield { digest, key: link.key, repository: formatRepo(repo), reason: "age", ageMs, bytes: link.occupied };
      }
    }
  }

  /** Links of repositories to what is not held, and which nothing that is held needs: it would be fetched anew all the same. */
  async *dangling(o: CollectCall): AsyncGenerator<RoomCandidate, void, undefined> {
    const { repositories, records } = this.#deps;
    for await (const repo of repositories.linked(o)) {
      const manifests: Digest[] = [];
      const absent: LinkName[] = [];
      for await (const link of repositories.linkNames(repo, o)) {
        if (!this.#isHeld(link.digest)) absent.push(link);
        else if (link.kind === "revision") manifests.push(link.digest);
      }
      if (absent.length === 0 || manifests.length > MAX_MANIFESTS) continue;
      const needed = await this.#needed(repo, manifests, o);
      for (const link of absent) {
        const { kind, digest } = link;
        if (needed.has(digest)) continue;
        const unlink = (): Promise<boolean> =>
          kind === "layer" ? repositories.unlinkLayer(repo, digest, o) : repositories.unlinkRevision(repo, digest, o);
        yield* this.#object(await records.link(repo, link, o), { digest, repository: formatRepo(repo) }, unlink, o);
      }
    }
  }

  /** What the repository's tags mean, and what its held manifests list. */
  async #needed(repo: RepoRef, manifests: readonly Digest[], o: CallOptions): Promise<ReadonlySet<Digest>> {
    const { repositories, records } = this.#deps;
    const needed = new Set<Digest>();
    for (const tag of await repositories.tags(repo, o)) {
      const entry = await repositories.getTag(repo, tag, o);
      if (entry !== undefined) needed.add(entry.digest);
    }
    for (const manifest of manifests) {
      const { children, blobs } = await namedBy(records, manifest, o);
      for (const digest of [...children, ...blobs]) needed.add(digest);
    }
    return needed;
  }

  /** Records of what is not held, and no repository has. */
  async *unneededRecords(o: CollectCall): AsyncGenerator<RoomCandidate, void, undefined> {
    const { repositories, records } = this.#deps;
    for await (const record of records.records(o)) {
      const { kind, digest } = record;
      if (this.#isKnown(digest)) continue;
      const remove = (): Promise<boolean> =>
        kind === "blob" ? repositories.deleteBlobRecord(digest, o) : repositories.deleteManifestRecord(digest, o);
      yield* this.#object(await records.record(record, o), { digest }, remove, o);
    }
  }

  async *leftOvers(o: CollectCall): AsyncGenerator<RoomCandidate, void, undefined> {
    const { store, clock } = this.#deps;
    for await (const found of store.leftOvers(o)) {
      const { key, occupied: bytes } = found;
      const ageMs = clock.now() - found.changedAtMs;
      if (ageMs < GRACE_MS) continue;
      if (o.dryRun || (await found.remove(o))) yield { key, reason: "left-over", ageMs, bytes };
    }
  }

  /** A link or record: gone unless it is young, or what it is about has come meanwhile. */
  async *#object(
    object: StoredObject | undefined,
    about: { readonly digest: Digest; readonly repository?: string },
    remove: () => Promise<unknown>,
    o: CollectCall,
  ): AsyncGenerator<RoomCandidate, void, undefined> {
    const { locks, clock } = this.#deps;
    if (object === undefined) return;
    const { key, occupied: bytes } = object;
    const ageMs = clock.now() - object.changedAtMs;
    if (ageMs < GRACE_MS) return;
    const gone =
      o.dryRun ||
      (await locks.tryRun(about.digest, async () => {
        if (this.#isHeld(about.digest)) return false;
        await remove();
        return true;
      }));
    if (gone === true) yield { ...about, key, reason: "dangling-link", ageMs, bytes };
  }

  #isHeld(digest: Digest): boolean {
    const { index } = this.#deps.account;
    const entry = index.find(digest);
    return entry !== undefined && index.has(entry, HELD);
  }

  #isKnown(digest: Digest): boolean {
    return this.#deps.account.index.find(digest) !== undefined;
  }
}
