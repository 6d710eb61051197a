import { open } from "node:fs/promises";
import type { CallOptions } from "../../src/base/call.ts";
import type { Digest } from "../../src/oci/digest.ts";
import type { BlobStore, PendingBlob } from "../../src/storage/blob-store.ts";

/** A store that takes blobs while they arrive, as S3 does, and keeps an eye on whoever uses that. */
export interface AheadStore {
  readonly store: BlobStore;
  /** Begun, and neither complete nor given up. */
  readonly pending: number;
  /** Bytes that were taken before their blob was complete. */
  readonly sentAhead: number;
  /** What a caller may not do: change bytes that it said were there. */
  readonly complaints: readonly string[];
}

/** Sends in parts of `partBytes`. What it has sent is thrown away: at the end `inner` ingests the file. */
export function withUploadAhead(inner: BlobStore, partBytes: number): AheadStore {
  const running = new Set<Pending>();
  const complaints: string[] = [];
  let sentAhead = 0;
  return {
    store: {
      ...inner,
      begin(digest, path) {
        const pending = new Pending({
          inner,
          digest,
          path,
          partBytes,
          sent: (bytes) => {
            sentAhead += bytes;
          },
          complain: (text) => complaints.push(text),
          over: () => running.delete(pending),
        });
        running.add(pending);
        return pending;
      },
    },
    get pending() {
      return running.size;
    },
    get sentAhead() {
      return sentAhead;
    },
    complaints,
  };
}

interface PendingOptions {
  readonly inner: BlobStore;
  readonly digest: Digest;
  readonly path: string;
  readonly partBytes: number;
  sent(bytes: number): void;
  complain(text: string): void;
  over(): void;
}

class Pending implements PendingBlob {
  readonly #o: PendingOptions;
  readonly #parts: Buffer[] = [];
  #there = 0;
  #sent = 0;
  #sending: Promise<void> = Promise.resolve();
  #over = false;

  constructor(o: PendingOptions) {
    this.#o = o;
  }

  advance(bytes: number): void {
    if (this.#over || bytes < this.#there) return;
    this.#there = bytes;
    this.#sending = this.#sending.then(() => this.#send());
  }

  async complete(o: CallOptions): Promise<void> {
    const { inner, digest, path, complain } = this.#o;
    if (this.#over) complain("complete after the end");
    await this.#sending;
    const sent = Buffer.concat(this.#parts);
    const held = await readPart(path, 0, sent.length);
    if (!held.equals(sent)) complain(`the first ${sent.length} bytes of the file were others when they were sent`);
    try {
      await inner.ingest(digest, path, o);
    } finally {
      this.#end();
    }
  }

  async abort(): Promise<void> {
    this.#end();
    await this.#sending;
  }

  #end(): void {
    this.#over = true;
    this.#o.over();
  }

  async #send(): Promise<void> {
    const { path, partBytes, sent } = this.#o;
    while (!this.#over && this.#there - this.#sent >= partBytes) {
      // As S3 does it: what cannot be read any more will never be complete.
      const part = await readPart(path, this.#sent, partBytes).catch(() => undefined);
      if (part === undefined || part.length < partBytes) return;
      this.#parts.push(part);
      this.#sent += part.length;
      sent(part.length);
    }
  }
}

async function readPart(path: string, position: number, bytes: number): Promise<Buffer> {
  const file = await open(path, "r");
  try {
    const part = Buffer.alloc(bytes);
    const { bytesRead } = await file.read(part, 0, bytes, position);
    return part.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}
