import { closeSync, openSync, readSync } from "node:fs";
import { createHasher, type Digest, type DigestAlgorithm, type Hasher } from "../oci/digest.ts";

/** What all files of a thread are read into, one after the other. */
export interface FileReading {
  readonly buffer: Uint8Array;
  /** Some bytes have been read and hashed. */
  readonly onRead?: () => void;
}

/**
 * The hash of a file that somebody is still writing to. Reads and hashes at once, for as long as that takes: for threads that do
 * nothing else.
 */
export class GrowingFile {
  readonly #path: string;
  readonly #reading: FileReading;
  readonly #hash: Hasher;
  readonly #fd: number;
  #at = 0;

  /** Throws when the file cannot be opened. */
  constructor(path: string, algorithm: DigestAlgorithm, reading: FileReading) {
    this.#path = path;
    this.#reading = reading;
    this.#hash = createHasher(algorithm);
    this.#fd = openSync(path, "r");
  }

  /** The first `to` bytes are there. Throws when they are not. */
  advance(to: number): void {
    const { buffer, onRead } = this.#reading;
    while (this.#at < to) {
      const got = readSync(this.#fd, buffer, 0, Math.min(buffer.length, to - this.#at), this.#at);
      if (got === 0) throw new Error(`${this.#path} ends before byte ${to}`);
      this.#hash.update(buffer.subarray(0, got));
      this.#at += got;
      onRead?.();
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
