import type { CallOptions } from "../base/call.ts";
import { type Digest, isDigest } from "../oci/digest.ts";
import type { RepoRef } from "../oci/reference.ts";
import type { BlobStore } from "./blob-store.ts";
import {
  BLOB_RECORDS_PREFIX,
  blobRecordKey,
  layerLinkKey,
  MANIFEST_RECORDS_PREFIX,
  manifestRecordKey,
  recencyKey,
  revisionLinkKey,
} from "./layout.ts";
import { readWhole } from "./read-whole.ts";
import type { LinkName } from "./repositories.ts";
import type { ObjectStat, SmallObjects } from "./small-objects.ts";

/** What looking after the storage's room needs to know of what lies beside the blobs. */
export interface RoomRecords {
  /** Undefined where there is no such link. */
  link(repo: RepoRef, link: LinkName, o: CallOptions): Promise<StoredObject | undefined>;
  record(record: RecordName, o: CallOptions): Promise<StoredObject | undefined>;
  /** Every record of a blob or manifest. */
  records(o: CallOptions): AsyncIterable<RecordName>;
  /** When the blobs of a part were used. */
  recency(part: number, o: CallOptions): Promise<Uint8Array | undefined>;
  putRecency(part: number, bytes: Uint8Array, o: CallOptions): Promise<void>;
  /** A held manifest's bytes, unverified; undefined where it is not held, or too large for one. */
  manifest(digest: Digest, o: CallOptions): Promise<Uint8Array | undefined>;
}

export interface StoredObject extends ObjectStat {
  readonly key: string;
}

export interface RecordName {
  readonly kind: "blob" | "manifest";
  readonly digest: Digest;
}

/** Larger ones are no manifests. */
const MAX_MANIFEST_BYTES = 64 << 20;

export function createRoomRecords(objects: SmallObjects, blobs: BlobStore): RoomRecords {
  const stored = async (key: string, o: CallOptions): Promise<StoredObject | undefined> => {
    const stat = await objects.stat(key, o);
    return stat && { ...stat, key };
  };
  async function* below(kind: RecordName["kind"], prefix: string, o: CallOptions): AsyncIterable<RecordName> {
    for await (const algorithm of objects.list(prefix, o)) {
      for await (const shard of objects.list(`${prefix}${algorithm}`, o)) {
        for await (const name of objects.list(`${prefix}${algorithm}${shard}`, o)) {
          const digest = `${algorithm.slice(0, -1)}:${name.replace(/\.json$/, "")}`;
          if (isDigest(digest)) yield { kind, digest };
        }
      }
    }
  }
  return {
    link: (repo, { kind, digest }, o) =>
      stored(kind === "layer" ? layerLinkKey(repo, digest) : revisionLinkKey(repo, digest), o),
    record: ({ kind, digest }, o) => stored(kind === "blob" ? blobRecordKey(digest) : manifestRecordKey(digest), o),
    async *records(o) {
      yield* below("blob", BLOB_RECORDS_PREFIX, o);
      yield* below("manifest", MANIFEST_RECORDS_PREFIX, o);
    },
    recency: (part, o) => objects.get(recencyKey(part), o),
    putRecency: (part, bytes, o) => objects.put(recencyKey(part), bytes, o),
    manifest: (digest, o) => readWhole(blobs, digest, MAX_MANIFEST_BYTES, o),
  };
}
