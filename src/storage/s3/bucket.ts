/** The part of a bucket that is Weir's, in the terms of the store. The only file that knows the AWS SDK. */
import { createReadStream } from "node:fs";
import type { Readable } from "node:stream";
import type { S3Client, S3ClientConfig } from "@aws-sdk/client-s3";
import type { CallOptions } from "../../base/call.ts";
import { DeadlineError } from "../../base/deadline.ts";
import { silentLog } from "../../base/log.ts";
import type { S3Config } from "../../config/types.ts";
import { StorageError } from "../blob-store.ts";
import { TEMPORARY_FOLDER } from "../layout.ts";
import { addressOf, asStorageError, failureOf } from "./errors.ts";
import { Outage } from "./outage.ts";
import { NOBODY_WAITS, type Patience, type RetryDeps, retrying, SOMEBODY_WAITS } from "./retrying.ts";

/** What the bucket says of an object. */
export interface ObjectInfo {
  /** Bytes. */
  readonly size: number;
  /** The server's name for this content. */
  readonly etag: string;
  /** Milliseconds since the epoch, in whole seconds. */
  readonly changedAtMs: number;
}

export interface ListedObject extends ObjectInfo {
  readonly key: string;
}

/** A multipart upload that is not completed. */
export interface UnfinishedUpload {
  readonly key: string;
  readonly id: string;
  /** Milliseconds since the epoch, by the server's clock. */
  readonly startedAtMs: number;
}

/** Bytes `start` to `end` (exclusive) of a local file. */
export interface FilePart {
  readonly path: string;
  readonly start: number;
  readonly end: number;
}

/**
 * Keys are without the configured prefix. What passes (a reset connection, a 5xx, SlowDown) is tried again; then every call
 * rejects with a {@link StorageError}, or with the signal's reason.
 */
export interface Bucket {
  /** For messages: the server. */
  readonly address: string;
  /** Rejects with a sentence for the operator where the bucket cannot be listed, written to or deleted from. */
  check(o: CallOptions): Promise<void>;
  head(key: string, o: CallOptions): Promise<ObjectInfo | undefined>;
  /** The whole object, which has no more than `most` bytes: else it rejects as `corrupt`. */
  read(key: string, most: number, o: CallOptions): Promise<Uint8Array | undefined>;
  /**
   * Bytes `start` to `end` (exclusive, at least one) of the object while its content is that of `etag`; undefined when there
   * is none. The caller destroys the body, which may break off anywhere.
   */
  body(key: string, o: CallOptions & { start: number; end: number; etag: string }): Promise<Readable | undefined>;
  put(key: string, bytes: Uint8Array, o: CallOptions): Promise<void>;
  putFile(key: string, file: FilePart, o: CallOptions): Promise<void>;
  delete(key: string, o: CallOptions): Promise<void>;
  /** Every object whose key begins with `prefix`. */
  list(prefix: string, o: CallOptions): AsyncIterable<ListedObject>;
  /** The names directly under `prefix`, which ends in `/`; those of folders end in `/`. */
  names(prefix: string, o: CallOptions): AsyncIterable<string>;
  /** Resolves with the upload's id. */
  startUpload(key: string, o: CallOptions): Promise<string>;
  /** Parts are numbered from 1. Resolves with what {@link completeUpload} wants of it. */
  uploadPart(key: string, id: string, number: number, file: FilePart, o: CallOptions): Promise<string>;
  /** Makes the object visible. `etags` are those of the parts, in order. */
  completeUpload(key: string, id: string, etags: readonly string[], o: CallOptions): Promise<void>;
  /** Nothing is left of it. Also when there is no such upload. */
  abortUpload(key: string, id: string, o: CallOptions): Promise<void>;
  /** The unfinished uploads to keys that begin with `prefix`. */
  uploads(prefix: string, o: CallOptions): AsyncIterable<UnfinishedUpload>;
  /** An address at which anybody can GET the object for so many seconds. It holds a signature: for the client only. */
  presign(key: string, seconds: number): Promise<string>;
  close(): void;
}

/** Connections for what is small: never behind the bodies of blobs. */
const CONTROL_CONNECTIONS = 64;

export interface BucketDeps extends RetryDeps {
  /** Instead of the usual patience with calls for which somebody waits: where there is another way to serve them. */
  readonly patience?: Patience;
}

/** Loads the SDK. Asks the server nothing yet. */
export async function openBucket(config: S3Config, deps: BucketDeps): Promise<Bucket> {
  const sdk = await import("@aws-sdk/client-s3");
  const { getSignedUrl } = await import("@aws-sdk/s3-request-presigner");
  return new SdkBucket(config, deps, sdk, getSignedUrl);
}

type Sdk = typeof import("@aws-sdk/client-s3");
type GetSignedUrl = typeof import("@aws-sdk/s3-request-presigner").getSignedUrl;

class SdkBucket implements Bucket {
  readonly address: string;
  readonly #config: S3Config;
  readonly #deps: BucketDeps;
  readonly #outage: Outage;
  readonly #sdk: Sdk;
  readonly #getSignedUrl: GetSignedUrl;
  readonly #control: S3Client;
  readonly #bodies: S3Client;
  /** Signs addresses and connects to nothing. */
  readonly #public: S3Client;

  constructor(config: S3Config, deps: BucketDeps, sdk: Sdk, getSignedUrl: GetSignedUrl) {
    this.address = addressOf(config);
    this.#config = config;
    this.#deps = deps;
    this.#outage = new Outage(deps.clock, this.address);
    this.#sdk = sdk;
    this.#getSignedUrl = getSignedUrl;
    this.#control = new sdk.S3Client(clientConfig(config, config.endpoint, CONTROL_CONNECTIONS));
    this.#bodies = new sdk.S3Client(clientConfig(config, config.endpoint, config.maxConnections));
    this.#public = new sdk.S3Client(clientConfig(config, config.publicEndpoint ?? config.endpoint, 1));
  }

  async check(o: CallOptions): Promise<void> {
    const { ListObjectsV2Command } = this.#sdk;
    const { bucket, prefix } = this.#config;
    await this.#call(`opening the bucket "${bucket}"`, SOMEBODY_WAITS, o, (abortSignal) =>
      this.#control.send(new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix, MaxKeys: 1 }), { abortSignal }),
    );
    const probe = `${TEMPORARY_FOLDER}/probe`;
    await this.put(probe, new Uint8Array(), o);
    await this.delete(probe, o);
  }

  async head(key: string, o: CallOptions): Promise<ObjectInfo | undefined> {
    const { HeadObjectCommand } = this.#sdk;
    const found = await this.#unlessAbsent(`looking for ${key}`, o, (abortSignal) =>
      this.#control.send(new HeadObjectCommand(this.#at(key)), { abortSignal }),
    );
    return found === undefined ? undefined : infoOf(found.ContentLength, found.ETag, found.LastModified);
  }

  async read(key: string, most: number, o: CallOptions): Promise<Uint8Array | undefined> {
    const { GetObjectCommand } = this.#sdk;
    return await this.#unlessAbsent(`reading ${key}`, o, async (abortSignal) => {
      const found = await this.#control.send(new GetObjectCommand(this.#at(key)), { abortSignal });
      const body = found.Body as Readable;
      const size = found.ContentLength ?? 0;
      body.on("error", () => {});
      try {
        if (size > most) throw new StorageError("corrupt", `${key} has ${size} bytes, more than ${most}`);
        const bytes = Buffer.alloc(size);
        let position = 0;
        for await (const chunk of body as AsyncIterable<Uint8Array>) {
          bytes.set(chunk, position);
          position += chunk.length;
        }
        // As if the connection had broken: there is no code for a body that ends early.
        if (position < size) throw new Error("the body ended early");
        return bytes;
      } finally {
        body.destroy();
      }
    });
  }

  async body(
    key: string,
    o: CallOptions & { start: number; end: number; etag: string },
  ): Promise<Readable | undefined> {
    const { GetObjectCommand } = this.#sdk;
    const range = { Range: `bytes=${o.start}-${o.end - 1}`, IfMatch: o.etag };
    const found = await this.#unlessAbsent(`reading ${key}`, o, (abortSignal) =>
      this.#bodies.send(new GetObjectCommand({ ...this.#at(key), ...range }), { abortSignal }),
    );
    if (found === undefined) return undefined;
    const body = found.Body as Readable;
    // Its error may come while nobody iterates it.
    body.on("error", () => {});
    if (found.ContentRange === undefined && found.ContentLength !== o.end - o.start) {
      body.destroy();
      throw new StorageError("unavailable", `reading ${key}: ${this.address} does not answer ranges`);
    }
    return body;
  }

  async put(key: string, bytes: Uint8Array, o: CallOptions): Promise<void> {
    const { PutObjectCommand } = this.#sdk;
    const input = { ...this.#at(key), ...this.#kept(), Body: bytes, ContentLength: bytes.length };
    await this.#call(`writing ${key}`, SOMEBODY_WAITS, o, (abortSignal) =>
      this.#control.send(new PutObjectCommand(input), { abortSignal }),
    );
  }

  async putFile(key: string, file: FilePart, o: CallOptions): Promise<void> {
    const { PutObjectCommand } = this.#sdk;
    const input = { ...this.#at(key), ...this.#kept(), ContentLength: file.end - file.start };
    await this.#send(`writing ${key}`, file, o, (Body, abortSignal) =>
      this.#bodies.send(new PutObjectCommand({ ...input, Body }), { abortSignal }),
    );
  }

  async delete(key: string, o: CallOptions): Promise<void> {
    const { DeleteObjectCommand } = this.#sdk;
    await this.#unlessAbsent(`deleting ${key}`, o, (abortSignal) =>
      this.#control.send(new DeleteObjectCommand(this.#at(key)), { abortSignal }),
    );
  }

  async *list(prefix: string, o: CallOptions): AsyncIterable<ListedObject> {
    const { length } = this.#config.prefix;
    for await (const { Contents = [] } of this.#pages(prefix, undefined, o)) {
      for (const { Key = "", Size, ETag, LastModified } of Contents) {
        o.signal.throwIfAborted();
        yield { key: Key.slice(length), ...infoOf(Size, ETag, LastModified) };
      }
    }
  }

  async *names(prefix: string, o: CallOptions): AsyncIterable<string> {
    const from = this.#config.prefix.length + prefix.length;
    for await (const { Contents = [], CommonPrefixes = [] } of this.#pages(prefix, "/", o)) {
      for (const key of [
        ...CommonPrefixes.map((folder) => folder.Prefix ?? ""),
        ...Contents.map(({ Key = "" }) => Key),
      ]) {
        o.signal.throwIfAborted();
        // Some tools make an empty object to stand for the folder itself.
        if (key.length > from) yield key.slice(from);
      }
    }
  }

  async startUpload(key: string, o: CallOptions): Promise<string> {
    const { CreateMultipartUploadCommand } = this.#sdk;
    const input = { ...this.#at(key), ...this.#kept() };
    const { UploadId } = await this.#call(`beginning to upload ${key}`, NOBODY_WAITS, o, (abortSignal) =>
      this.#control.send(new CreateMultipartUploadCommand(input), { abortSignal }),
    );
    if (UploadId === undefined) throw new StorageError("unavailable", `${this.address} began an upload without an id`);
    return UploadId;
  }

  async uploadPart(key: string, id: string, number: number, file: FilePart, o: CallOptions): Promise<string> {
    const { UploadPartCommand } = this.#sdk;
    const input = { ...this.#at(key), UploadId: id, PartNumber: number, ContentLength: file.end - file.start };
    const { ETag } = await this.#send(`uploading part ${number} of ${key}`, file, o, (Body, abortSignal) =>
      this.#bodies.send(new UploadPartCommand({ ...input, Body }), { abortSignal }),
    );
    if (ETag === undefined) throw new StorageError("unavailable", `${this.address} took a part without naming it`);
    return ETag;
  }

  async completeUpload(key: string, id: string, etags: readonly string[], o: CallOptions): Promise<void> {
    const { CompleteMultipartUploadCommand } = this.#sdk;
    const Parts = etags.map((ETag, index) => ({ ETag, PartNumber: index + 1 }));
    const input = { ...this.#at(key), UploadId: id, MultipartUpload: { Parts } };
    await this.#call(`completing the upload of ${key}`, NOBODY_WAITS, o, (abortSignal) =>
      this.#control.send(new CompleteMultipartUploadCommand(input), { abortSignal }),
    );
  }

  async abortUpload(key: string, id: string, o: CallOptions): Promise<void> {
    const { AbortMultipartUploadCommand } = this.#sdk;
    const input = { ...this.#at(key), UploadId: id };
    await this.#call(`giving up the upload of ${key}`, SOMEBODY_WAITS, o, async (abortSignal) => {
      try {
        await this.#control.send(new AbortMultipartUploadCommand(input), { abortSignal });
      } catch (error) {
        if (failureOf(error).code !== "NoSuchUpload") throw error;
      }
    });
  }

  async *uploads(prefix: string, o: CallOptions): AsyncIterable<UnfinishedUpload> {
    const { ListMultipartUploadsCommand } = this.#sdk;
    const { bucket, prefix: own } = this.#config;
    let after: { readonly KeyMarker?: string | undefined; readonly UploadIdMarker?: string | undefined } = {};
    for (;;) {
      const input = { Bucket: bucket, Prefix: own + prefix, ...after };
      const page = await this.#call("listing unfinished uploads", SOMEBODY_WAITS, o, (abortSignal) =>
        this.#control.send(new ListMultipartUploadsCommand(input), { abortSignal }),
      );
      for (const { Key = "", UploadId = "", Initiated } of page.Uploads ?? []) {
        o.signal.throwIfAborted();
        yield { key: Key.slice(own.length), id: UploadId, startedAtMs: Initiated?.getTime() ?? 0 };
      }
      if (page.IsTruncated !== true || page.NextKeyMarker === undefined) return;
      after = { KeyMarker: page.NextKeyMarker, UploadIdMarker: page.NextUploadIdMarker };
    }
  }

  async presign(key: string, seconds: number): Promise<string> {
    const { GetObjectCommand } = this.#sdk;
    const ResponseContentType = "application/octet-stream";
    try {
      const command = new GetObjectCommand({ ...this.#at(key), ResponseContentType });
      return await this.#getSignedUrl(this.#public, command, { expiresIn: seconds });
    } catch (error) {
      throw asStorageError(error, `signing the address of ${key}`, this.#config);
    }
  }

  close(): void {
    for (const client of [this.#control, this.#bodies, this.#public]) client.destroy();
  }

  #at(key: string): { Bucket: string; Key: string } {
    return { Bucket: this.#config.bucket, Key: this.#config.prefix + key };
  }

  /** How new objects are kept. */
  #kept() {
    const { serverSideEncryption, kmsKeyId, storageClass } = this.#config;
    return {
      ...(serverSideEncryption === undefined ? {} : { ServerSideEncryption: serverSideEncryption }),
      ...(kmsKeyId === undefined ? {} : { SSEKMSKeyId: kmsKeyId }),
      // The SDK's own list is never complete: other servers have classes of their own.
      ...(storageClass === undefined ? {} : { StorageClass: storageClass as "STANDARD" }),
    };
  }

  async *#pages(prefix: string, delimiter: "/" | undefined, o: CallOptions) {
    const { ListObjectsV2Command } = this.#sdk;
    const { bucket, prefix: own } = this.#config;
    for (let token: string | undefined; ; ) {
      const input = { Bucket: bucket, Prefix: own + prefix, Delimiter: delimiter, ContinuationToken: token };
      const page = await this.#call(`listing ${prefix}`, SOMEBODY_WAITS, o, (abortSignal) =>
        this.#control.send(new ListObjectsV2Command(input), { abortSignal }),
      );
      yield page;
      token = page.NextContinuationToken;
      if (page.IsTruncated !== true || token === undefined) return;
    }
  }

  #patienceOf(patience: Patience): Patience {
    return patience === SOMEBODY_WAITS ? (this.#deps.patience ?? patience) : patience;
  }

  /** A call whose body is part of a file, read anew for each attempt: memory is the same whatever the part's size. */
  async #send<T>(
    doing: string,
    { path, start, end }: FilePart,
    o: CallOptions,
    send: (body: Readable | Uint8Array, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    return await this.#call(doing, NOBODY_WAITS, o, async (signal) => {
      if (start === end) return await send(new Uint8Array(), signal);
      const broken = new AbortController();
      const file = createReadStream(path, { start, end: end - 1 });
      // The SDK would wait for the rest of it.
      file.on("error", (cause) => {
        broken.abort(new StorageError("unavailable", `${doing}: reading ${path}: ${cause.message}`));
      });
      try {
        return await send(file, AbortSignal.any([signal, broken.signal]));
      } catch (error) {
        broken.signal.throwIfAborted();
        throw error;
      } finally {
        file.destroy();
      }
    });
  }

  async #unlessAbsent<T>(
    doing: string,
    o: CallOptions,
    attempt: (signal: AbortSignal) => Promise<T>,
  ): Promise<T | undefined> {
    return await this.#call(doing, SOMEBODY_WAITS, o, async (signal) => {
      try {
        return await attempt(signal);
      } catch (error) {
        if (failureOf(error).kind === "absent") return undefined;
        throw error;
      }
    });
  }

  async #call<T>(
    doing: string,
    patience: Patience,
    o: CallOptions,
    attempt: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    // An upload has more time than an outage takes, and nobody waits for it.
    const ended = patience === SOMEBODY_WAITS ? this.#outage.begin(doing) : () => {};
    try {
      const result = await retrying(this.#deps, this.#patienceOf(patience), o, attempt);
      ended(true);
      return result;
    } catch (error) {
      ended(o.signal.aborted ? undefined : !isSilence(error));
      o.signal.throwIfAborted();
      throw asStorageError(error, doing, this.#config);
    }
  }
}

/** The server is down, or so slow that it comes to the same. */
function isSilence(error: unknown): boolean {
  return error instanceof DeadlineError || failureOf(error).kind === "passing";
}

function clientConfig(config: S3Config, endpoint: URL | undefined, connections: number): S3ClientConfig {
  const { region, forcePathStyle, credentials, timeouts } = config;
  const { connectMs, idleMs } = timeouts;
  return {
    region,
    forcePathStyle,
    ...(endpoint === undefined ? {} : { endpoint: endpoint.href }),
    ...(credentials === undefined
      ? {}
      : {
          credentials: {
            accessKeyId: credentials.accessKeyId,
            secretAccessKey: credentials.secretAccessKey.reveal(),
            ...(credentials.sessionToken === undefined ? {} : { sessionToken: credentials.sessionToken.reveal() }),
          },
        }),
    // By default the SDK sends checksums in a trailer, which radosgw and Swift refuse.
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
    // With it the SDK opens a connection of its own for each upload.
    expectContinueHeader: false,
    // Tried again here, by a clock that tests can turn.
    maxAttempts: 1,
    // It would write to the console.
    logger: silentLog,
    requestHandler: {
      connectionTimeout: connectMs,
      // Of silence, in a body too: also of one whose reader is slow, which then goes on with a new request.
      socketTimeout: idleMs,
      httpAgent: { keepAlive: true, maxSockets: connections },
      httpsAgent: { keepAlive: true, maxSockets: connections },
    },
  };
}

function infoOf(size: number | undefined, etag: string | undefined, changed: Date | undefined): ObjectInfo {
  // Lists tell milliseconds, headers seconds.
  const changedAtMs = Math.floor((changed?.getTime() ?? 0) / 1000) * 1000;
  return { size: size ?? 0, etag: etag ?? "", changedAtMs };
}
