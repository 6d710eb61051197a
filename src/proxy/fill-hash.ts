import type { Hasher } from "../oci/digest.ts";
import type { SpoolFile } from "../storage/spool.ts";

/** Bytes read at a time. */
const READ_BYTES = 1024 * 1024;

/** Shows a hasher the first `to` bytes of a spool file. Rejects when they cannot be read, or with the signal's reason. */
export async function hashFile(file: SpoolFile, hash: Hasher, to: number, signal: AbortSignal): Promise<void> {
  const buffer = Buffer.allocUnsafeSlow(Math.min(READ_BYTES, Math.max(1, to)));
  for (let at = 0; at < to; ) {
    signal.throwIfAborted();
    const part = buffer.subarray(0, to - at);
    const got = await file.read(part, at);
    if (got < part.length) throw new Error(`${file.path} ends before byte ${at + part.length}`);
    hash.update(part);
    at += part.length;
  }
}
