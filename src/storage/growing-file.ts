import { closeSync, openSync, readSync } from "node:fs";
import { createHasher, type Digest, type DigestAlgorithm, type Hasher } from "../oci/digest.ts";

/** Enough that system calls cost nothing beside hashing, and small enough to stay in a processor's cache. */
const READ_BYTES = 256 * 1024;

/**
 * The hash of a file that somebody is still writing to. Reads and hashes at once, for as long as that takes: for threads that do
 * nothing else.
 */
export class GrowingFile {
  readonly #path: string;
  readonly #hash: Hasher;
  readonly #fd: number;
  readonly #buffer = Buffer.allocUnsafeSlow(READ_BYTES);
  #at = 0;

  /** Throws when the file cannot be opened. */
  constructor(path: string, algorithm: DigestAlgorithm) {
    this.#path = path;
    this.#hash = createHasher(algorithm);
    this.#fd = openSync(path, "r");
  }

  /** The first `to` bytes are there. Throws when they are not. */
  advance(to: number): void {
    while (this.#at < to) {
      const got = readSync(this.#fd, this.#buffer, 0, Math.min(this.#buffer.length, to - this.#at), this.#at);
      if (got === 0) throw new Error(`${this.#path} ends before byte ${to}`);
      this.#hash.update(this.#buffer.subarray(0, got));
      this.#at += got;
    }
  }

  /** Of the first `to` bytes, no fewer than were read before. May be asked again. */
  digest(to: number): Digest {
    this.advance(to);
    if (to < this.#at) throw new Error(`${this.#path} is hashed beyond byte ${to}`);
    return this.#hash.copy().digest();
  }

  close(): void {
    closeSync(this.#fd);
  }
}
