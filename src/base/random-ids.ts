import { randomFillSync } from "node:crypto";

/** Bytes of an id: as random as a UUID, and a little more. */
const ID_BYTES = 16;

/** Ids whose random bytes are made in one go. */
const AT_ONCE = 256;

/**
 * Makes random ids of 32 hexadecimal digits. Each is one flat text; `randomUUID` gives a tree of two dozen, which costs whoever
 * keeps, writes or compares it more than its making.
 */
export function createRandomIds(): () => string {
  const bytes = Buffer.allocUnsafeSlow(ID_BYTES * AT_ONCE);
  let next = bytes.length;
  return () => {
    if (next === bytes.length) {
      randomFillSync(bytes);
      next = 0;
    }
    next += ID_BYTES;
    return bytes.toString("hex", next - ID_BYTES, next);
  };
}
