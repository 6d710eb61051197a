import { Readable } from "node:stream";
import type { CallOptions } from "../../src/base/call.ts";
import { type Digest, digestOf } from "../../src/oci/digest.ts";
import { formatReference, type Reference } from "../../src/oci/reference.ts";
import type { Referrer } from "../../src/oci/referrers.ts";
import type { CredentialStatus } from "../../src/upstream/credentials/credential.ts";
import type { Outlook } from "../../src/upstream/outlook.ts";
import type { QuotaStatus } from "../../src/upstream/rate-limit.ts";
import {
  type BlobBody,
  type BlobGetOptions,
  type BlobHead,
  type ManifestBody,
  type ManifestGetOptions,
  type ManifestHead,
  type TagPage,
  type TagPageRequest,
  type Upstream,
  UpstreamError,
  type UpstreamFault,
} from "../../src/upstream/upstream.ts";

interface Manifest {
  readonly mediaType: string;
  readonly bytes: Uint8Array;
}

interface Repository {
  readonly tags: Map<string, Digest>;
  readonly manifests: Map<Digest, Manifest>;
  readonly blobs: Map<Digest, Uint8Array>;
  /** By subject. */
  readonly referrers: Map<Digest, Referrer[]>;
}

/** A registry in memory behind the interface that the proxy knows; every question is counted. */
export class FakeUpstream implements Upstream {
  readonly name: string;
  /** Every question in order, such as `HEAD library/nginx:1` or `GET library/nginx@sha256:...`; `ANON` for the question of nobody. */
  readonly calls: string[] = [];
  /** Repositories for which a credential is configured. */
  readonly credentialed = new Set<string>();
  /** Repositories that nobody may read without a credential. */
  readonly private = new Set<string>();
  /** Repositories that refuse everybody. */
  readonly denied = new Set<string>();
  /** Every question fails like this. */
  failing: UpstreamError | undefined;
  /** What is known to stand in the way of every question; it is put all the same. */
  refusing: UpstreamError | undefined;
  /** Every question waits for this first. */
  gate: Promise<void> = Promise.resolve();
  /** Called before each question is answered, with its line in {@link calls}. */
  onCall: (line: string) => void = () => {};
  /** Registries that send no `Docker-Content-Digest` on HEAD. */
  namesDigest = true;
  /** Registries that send an `ETag`. */
  sendsEtag = false;
  /** Upstreams whose word is worthless: they confirm every digest. */
  confirmsEverything = false;
  /** Registries with a referrers API, and how they take a subject that they do not know. */
  referrersApi: "none" | "empty-if-unknown" | "absent-if-unknown" = "empty-if-unknown";
  /** Methods by which manifests count under a quota of which little is left. */
  lowOnBudget: readonly ("GET" | "HEAD")[] = [];
  /** Whether {@link retire} was called. */
  retired = false;
  readonly #repositories = new Map<string, Repository>();

  constructor(name: string) {
    this.name = name;
  }

  /** Puts a manifest there, under a tag if one is given. */
  push(repository: string, mediaType: string, document: unknown, tag?: string): Digest {
    const bytes = document instanceof Uint8Array ? document : Buffer.from(JSON.stringify(document));
    const digest = digestOf(bytes);
    const there = this.repository(repository);
    there.manifests.set(digest, { mediaType, bytes });
    if (tag !== undefined) {
      there.tags.set(tag, digest);
    }
    return digest;
  }

  /** Puts a manifest there that refers to another. */
  attach(repository: string, subject: Digest, artifactType: string, annotations: Record<string, string> = {}): Digest {
    const document = { schemaVersion: 2, artifactType, subject: { digest: subject }, annotations };
    const mediaType = "application/vnd.oci.image.manifest.v1+json";
    const digest = this.push(repository, mediaType, document);
    const there = this.repository(repository).referrers;
    const size = Buffer.byteLength(JSON.stringify(document));
    there.set(subject, [...(there.get(subject) ?? []), { mediaType, digest, size, artifactType, annotations }]);
    return digest;
  }

  pushBlob(repository: string, bytes: Uint8Array): Digest {
    const digest = digestOf(bytes);
    this.repository(repository).blobs.set(digest, bytes);
    return digest;
  }

  repository(name: string): Repository {
    const known = this.#repositories.get(name);
    const repository = known ?? { tags: new Map(), manifests: new Map(), blobs: new Map(), referrers: new Map() };
    this.#repositories.set(name, repository);
    return repository;
  }

  forget(name: string): void {
    this.#repositories.delete(name);
  }

  /** The questions since the last time this was asked. */
  taken(): string[] {
    return this.calls.splice(0);
  }

  fail(fault: UpstreamFault, status?: number): void {
    this.failing = new UpstreamError(
      this.name,
      fault,
      `${this.name}: ${fault}`,
      status === undefined ? {} : { status },
    );
  }

  hasCredential(repository: string): boolean {
    return this.credentialed.has(repository);
  }

  async headManifest(repository: string, reference: Reference, o: CallOptions): Promise<ManifestHead> {
    await this.#ask("HEAD", repository, written(reference), o);
    if (this.confirmsEverything && reference.kind === "digest") {
      return { mediaType: undefined, digest: reference.digest, size: undefined, etag: undefined };
    }
    const [digest, { mediaType, bytes }] = this.#manifest(repository, reference);
    return {
      mediaType,
      digest: this.namesDigest ? digest : undefined,
      size: bytes.length,
      etag: this.sendsEtag ? `"${digest}"` : undefined,
    };
  }

  async getManifest(
    repository: string,
    reference: Reference,
    o: ManifestGetOptions,
  ): Promise<ManifestBody | "not-modified"> {
    await this.#ask("GET", repository, written(reference), o);
    const [, manifest] = this.#manifest(repository, reference);
    const digest = digestOf(manifest.bytes);
    if (reference.kind === "digest" && reference.digest !== digest) {
      throw new UpstreamError(this.name, "bad-answer", `${this.name} delivers other bytes than it names`);
    }
    const etag = this.sendsEtag ? `"${digest}"` : undefined;
    return etag !== undefined && o.etag === etag ? "not-modified" : { ...manifest, digest, etag };
  }

  async headBlob(repository: string, digest: Digest, o: CallOptions): Promise<BlobHead> {
    await this.#ask("HEAD blob", repository, `@${digest}`, o);
    return this.confirmsEverything ? { size: undefined } : { size: this.#blob(repository, digest).length };
  }

  async blobSize(repository: string, digest: Digest, o: CallOptions): Promise<number | undefined> {
    await this.#ask("SIZE blob", repository, `@${digest}`, o);
    return this.#blob(repository, digest).length;
  }

  async getBlob(repository: string, digest: Digest, o: BlobGetOptions): Promise<BlobBody> {
    const range = o.end === undefined ? "" : ` ${o.start}-${o.end}`;
    await this.#ask("GET blob", repository, `@${digest}${range}`, o);
    const bytes = this.#blob(repository, digest);
    const part = bytes.subarray(o.start, o.end === undefined ? undefined : o.end + 1);
    return { start: o.start, total: bytes.length, body: Readable.from([part], { objectMode: false }) };
  }

  async listTags(repository: string, page: TagPageRequest, o: CallOptions): Promise<TagPage> {
    const query = new URLSearchParams({
      ...(page.n === undefined ? {} : { n: String(page.n) }),
      ...(page.last === undefined ? {} : { last: page.last }),
      ...page.cursor,
    });
    await this.#ask("TAGS", repository, `?${query}`, o);
    const tags = [...(this.#repositories.get(repository)?.tags.keys() ?? [])].sort();
    if (tags.length === 0) {
      throw this.#absent("repository");
    }
    const rest = tags.filter((tag) => tag > (page.last ?? ""));
    const some = rest.slice(0, page.n);
    const more = some.length < rest.length;
    return { tags: some, next: more ? { n: String(page.n), last: some.at(-1) ?? "", token: "opaque" } : undefined };
  }

  async listReferrers(repository: string, digest: Digest, o: CallOptions): Promise<readonly Referrer[] | undefined> {
    await this.#ask("REFERRERS", repository, `@${digest}`, o);
    if (this.referrersApi === "none") {
      return undefined;
    }
    const there = this.#repositories.get(repository);
    if (there === undefined) {
      throw this.#absent("repository");
    }
    if (this.referrersApi === "absent-if-unknown" && !there.manifests.has(digest)) {
      throw this.#absent("manifest");
    }
    return there.referrers.get(digest) ?? [];
  }

  async isPublic(repository: string, reference: Reference, o: CallOptions): Promise<boolean> {
    await this.#ask("ANON", repository, written(reference), o);
    if (this.private.has(repository)) {
      return false;
    }
    this.#manifest(repository, reference);
    return true;
  }

  budgetLow(_repository: string, method: "GET" | "HEAD" = "GET"): boolean {
    return this.lowOnBudget.includes(method);
  }

  quotaStatus(): readonly QuotaStatus[] {
    return [];
  }

  credentialStatus(): readonly CredentialStatus[] {
    return [];
  }

  outlook(_repository: string): Outlook {
    const refusal = this.refusing;
    return {
      endpoints: [],
      refusals: { head: refusal, get: refusal, blob: refusal },
      low: { head: this.budgetLow("", "HEAD"), get: this.budgetLow("") },
    };
  }

  retire(): void {
    this.retired = true;
  }

  async close(): Promise<void> {}

  async #ask(method: string, repository: string, what: string, o: CallOptions): Promise<void> {
    const line = `${method} ${repository}${what}`;
    this.calls.push(line);
    this.onCall(line);
    const { gate, failing } = this;
    await Promise.race([gate, aborted(o.signal)]);
    if (failing !== undefined) {
      throw failing;
    }
    const open = method === "ANON" || this.credentialed.has(repository) || !this.private.has(repository);
    if (this.denied.has(repository) || !open) {
      throw new UpstreamError(this.name, "denied", `${this.name} denies ${repository}`, { status: 401 });
    }
  }

  #manifest(repository: string, reference: Reference): [Digest, Manifest] {
    const there = this.#repositories.get(repository);
    const digest = reference.kind === "digest" ? reference.digest : there?.tags.get(reference.tag);
    const manifest = digest && there?.manifests.get(digest);
    if (digest === undefined || manifest === undefined) {
      throw this.#absent("manifest");
    }
    return [digest, manifest];
  }

  #blob(repository: string, digest: Digest): Uint8Array {
    const bytes = this.#repositories.get(repository)?.blobs.get(digest);
    if (bytes === undefined) {
      throw this.#absent("blob");
    }
    return bytes;
  }

  #absent(absent: "repository" | "manifest" | "blob"): UpstreamError {
    return new UpstreamError(this.name, "absent", `${this.name} has no such ${absent}`, { status: 404, absent });
  }
}

function written(reference: Reference): string {
  return `${reference.kind === "tag" ? ":" : "@"}${formatReference(reference)}`;
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}
