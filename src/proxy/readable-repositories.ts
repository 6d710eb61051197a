import type { Log } from "../base/log.ts";
import { StorageError } from "../storage/blob-store.ts";
import type { Repositories } from "../storage/repositories.ts";

/**
 * `repositories` for those who serve: what storage cannot tell now counts as not held, so that it comes from its upstream
 * once more (design, section 2). Not so what says whether a repository is private: that fails as before.
 */
export function readableRepositories(repositories: Repositories, log: Log): Repositories {
  const absent = (error: unknown): undefined => {
    if (!(error instanceof StorageError) || error.fault !== "unavailable") {
      throw error;
    }
    log.debug({ err: error }, "storage cannot tell what is held: it counts as not held");
  };
  const orAbsent = async <T>(read: Promise<T | undefined>): Promise<T | undefined> => await read.catch(absent);
  const orNot = async (read: Promise<boolean>): Promise<boolean> => (await read.catch(absent)) ?? false;
  async function* orFewer<T>(list: AsyncIterable<T>): AsyncGenerator<T, void, undefined> {
    try {
      yield* list;
    } catch (error) {
      absent(error);
    }
  }
  return {
    hasLayer: (repo, digest, o) => orNot(repositories.hasLayer(repo, digest, o)),
    hasRevision: (repo, digest, o) => orNot(repositories.hasRevision(repo, digest, o)),
    layers: (repo, o) => orFewer(repositories.layers(repo, o)),
    revisions: (repo, o) => orFewer(repositories.revisions(repo, o)),
    linkNames: (repo, o) => orFewer(repositories.linkNames(repo, o)),
    referrersSubjects: (repo, o) => orFewer(repositories.referrersSubjects(repo, o)),
    tagNames: (repo, o) => orFewer(repositories.tagNames(repo, o)),
    tags: async (repo, o) => (await orAbsent(repositories.tags(repo, o))) ?? [],
    getTag: (repo, tag, o) => orAbsent(repositories.getTag(repo, tag, o)),
    getReferrers: (repo, subject, o) => orAbsent(repositories.getReferrers(repo, subject, o)),
    getManifestRecord: (digest, o) => orAbsent(repositories.getManifestRecord(digest, o)),
    getBlobRecord: (digest, o) => orAbsent(repositories.getBlobRecord(digest, o)),
    getRepoRecord: (repo, o) => repositories.getRepoRecord(repo, o),
    all: (o) => repositories.all(o),
    linked: (o) => repositories.linked(o),
    isLinked: (repo, o) => repositories.isLinked(repo, o),
    linkLayer: (repo, digest, o) => repositories.linkLayer(repo, digest, o),
    unlinkLayer: (repo, digest, o) => repositories.unlinkLayer(repo, digest, o),
    linkRevision: (repo, digest, o) => repositories.linkRevision(repo, digest, o),
    unlinkRevision: (repo, digest, o) => repositories.unlinkRevision(repo, digest, o),
    putTag: (repo, tag, entry, o) => repositories.putTag(repo, tag, entry, o),
    deleteTag: (repo, tag, o) => repositories.deleteTag(repo, tag, o),
    putReferrers: (repo, subject, record, o) => repositories.putReferrers(repo, subject, record, o),
    deleteReferrers: (repo, subject, o) => repositories.deleteReferrers(repo, subject, o),
    putManifestRecord: (digest, record, o) => repositories.putManifestRecord(digest, record, o),
    deleteManifestRecord: (digest, o) => repositories.deleteManifestRecord(digest, o),
    putBlobRecord: (digest, record, o) => repositories.putBlobRecord(digest, record, o),
    deleteBlobRecord: (digest, o) => repositories.deleteBlobRecord(digest, o),
    putRepoRecord: (repo, record, o) => repositories.putRepoRecord(repo, record, o),
    deleteRepoRecord: (repo, o) => repositories.deleteRepoRecord(repo, o),
  };
}
