import { randomFillSync } from "node:crypto";

/** Bytes of an id: as random as a UUID, and a little more. */
const DEFAULT_BYTES = 16;

/** Ids whose random bytes are made in one go. */
const AT_ONCE = 256;

/**
 * Makes random ids of two hexadecimal digits for each byte. Each is one flat text; `randomUUID` gives a tree of two dozen, which
 * costs whoever keeps, writes or compares it more than its making.
 */
export function createRandomIds(idBytes = DEFAULT_BYTES): () => string {
  const bytes = Buffer.allocUnsafeSlow(idBytes * AT_ONCE);
  let next = bytes.length;
  return () => {
    if (next === bytes.length) {
      randomFillSync(bytes);
      next = 0;
    }
    next += idBytes;
    return bytes.toString("hex", next - idBytes, next);
  };
}
