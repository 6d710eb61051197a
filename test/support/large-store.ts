/** A store with any number of repositories and tags, each made up when it is looked at, and a count of all that is read. */
import { type Digest, digestOf } from "../../src/oci/digest.ts";
import type { RepoRef } from "../../src/oci/reference.ts";
import type { BlobStore, OpenBlob } from "../../src/storage/blob-store.ts";
import { formatLink, parseKey, repoOfPlace } from "../../src/storage/layout.ts";
import type { SmallObjects } from "../../src/storage/small-objects.ts";

export interface LargeStoreOptions {
  readonly repositories: number;
  readonly tags: number;
}

/** What was read, by operation. */
export interface Reads {
  get: number;
  list: number;
  open: number;
}

export interface LargeStore {
  readonly objects: SmallObjects;
  readonly blobs: Pick<BlobStore, "open">;
  readonly reads: Reads;
  /** Begins to count anew, and gives what was counted. */
  taken(): Reads;
}

const UPSTREAM = "registry.example";
const GROUPS = 100;
const MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json";

export function largeRepo(number: number): RepoRef {
  return { upstream: UPSTREAM, repository: `group-${pad(number % GROUPS, 2)}/app-${pad(number, 5)}` };
}

export function largeTag(number: number): string {
  return `v${pad(number, 3)}`;
}

/** The manifest of a tag: of one platform, with a layer of its own. */
export function largeManifest(repo: RepoRef, tag: string): Buffer {
  const layer = digestOf(Buffer.from(`${repo.repository} ${tag}`));
  return Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA_TYPE,
      layers: [{ mediaType: "application/vnd.oci.image.layer.v1.tar+gzip", digest: layer, size: 1000 }],
    }),
  );
}

export function createLargeStore({ repositories, tags }: LargeStoreOptions): LargeStore {
  const reads: Reads = { get: 0, list: 0, open: 0 };
  const bytesOf = new Map<Digest, Buffer>();
  const tagNames = Array.from({ length: tags }, (_, number) => largeTag(number));
  const digestFor = (repo: RepoRef, tag: string): Digest => {
    const bytes = largeManifest(repo, tag);
    const digest = digestOf(bytes);
    bytesOf.set(digest, bytes);
    return digest;
  };
  function* revisionsOf(repo: RepoRef): Generator<string> {
    for (const tag of tagNames) yield `${digestFor(repo, tag).slice("sha256:".length)}/`;
  }
  const groups = new Map<string, Set<string>>();
  for (let number = 0; number < repositories; number += 1) {
    const [group = "", app = ""] = largeRepo(number).repository.split("/");
    const apps = groups.get(group) ?? new Set();
    groups.set(group, apps.add(app));
  }
  const names = (prefix: string): Iterable<string> => {
    const [, below = ""] = /^docker\/registry\/v2\/repositories\/(.*)$/.exec(prefix) ?? [];
    const [upstream, group, app, ...inside] = below.split("/");
    if (below === "") return [`${UPSTREAM}/`];
    if (upstream !== UPSTREAM) return [];
    if (group === "" || group === undefined) return [...groups.keys()].map((name) => `${name}/`);
    const apps = groups.get(group) ?? new Set();
    if (app === "" || app === undefined) return [...apps].map((name) => `${name}/`);
    if (!apps.has(app)) return [];
    const repo: RepoRef = { upstream, repository: `${group}/${app}` };
    switch (inside.join("/")) {
      case "":
        return ["_manifests/"];
      case "_manifests/tags/":
        return tagNames.map((tag) => `${tag}/`);
      case "_manifests/revisions/":
        return ["sha256/"];
      case "_manifests/revisions/sha256/":
        return revisionsOf(repo);
      default:
        return [];
    }
  };
  const objects: SmallObjects = {
    async get(key) {
      reads.get += 1;
      const parsed = parseKey(key);
      const repo = parsed !== undefined && "place" in parsed ? repoOfPlace(parsed.place) : undefined;
      if (repo === undefined) return undefined;
      if (parsed?.kind === "tag") return formatLink(digestFor(repo, parsed.tag));
      if (parsed?.kind === "revision") return formatLink(parsed.digest);
      if (parsed?.kind === "tag-record") {
        return Buffer.from(JSON.stringify({ digest: digestFor(repo, parsed.tag), checkedAtMs: 1 }));
      }
      return undefined;
    },
    async *list(prefix) {
      reads.list += 1;
      yield* names(prefix);
    },
    put: unwritable,
    stat: async () => undefined,
    delete: unwritable,
  };
  return {
    objects,
    blobs: {
      async open(digest) {
        reads.open += 1;
        const bytes = bytesOf.get(digest);
        return bytes && opened(bytes);
      },
    },
    reads,
    taken() {
      const taken = { ...reads };
      Object.assign(reads, { get: 0, list: 0, open: 0 });
      return taken;
    },
  };
}

function opened(bytes: Buffer): OpenBlob {
  return {
    size: bytes.length,
    version: "1",
    async *read(start, end) {
      yield bytes.subarray(start, end);
    },
    close: async () => {},
  };
}

async function unwritable(): Promise<never> {
  throw new Error("this store is only read");
}

function pad(number: number, length: number): string {
  return String(number).padStart(length, "0");
}
