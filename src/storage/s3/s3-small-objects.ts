import type { CallOptions } from "../../base/call.ts";
import { checkKey } from "../layout.ts";
import { MAX_OBJECT_BYTES, type ObjectStat, type SmallObjects } from "../small-objects.ts";
import type { Bucket } from "./bucket.ts";

/** Small objects in a bucket, under the keys that they have as files below a root. */
export function createS3SmallObjects(bucket: Bucket): SmallObjects {
  return new S3SmallObjects(bucket);
}

class S3SmallObjects implements SmallObjects {
  readonly #bucket: Bucket;

  constructor(bucket: Bucket) {
    this.#bucket = bucket;
  }

  async get(key: string, o: CallOptions): Promise<Uint8Array | undefined> {
    checkKey(key);
    return await this.#bucket.read(key, MAX_OBJECT_BYTES, o);
  }

  async put(key: string, bytes: Uint8Array, o: CallOptions): Promise<void> {
    checkKey(key);
    if (bytes.length > MAX_OBJECT_BYTES) throw new RangeError(`${key} has more than ${MAX_OBJECT_BYTES} bytes`);
    await this.#bucket.put(key, bytes, o);
  }

  async stat(key: string, o: CallOptions): Promise<ObjectStat | undefined> {
    checkKey(key);
    const found = await this.#bucket.head(key, o);
    return found === undefined ? undefined : { occupied: found.size, changedAtMs: found.changedAtMs };
  }

  async delete(key: string, o: CallOptions): Promise<boolean> {
    checkKey(key);
    // The answer to a DELETE does not tell whether there was something.
    const found = await this.#bucket.head(key, o);
    if (found !== undefined) await this.#bucket.delete(key, o);
    return found !== undefined;
  }

  async *list(prefix: string, o: CallOptions): AsyncIterable<string> {
    if (!prefix.endsWith("/")) throw new RangeError(`a prefix ends in "/": ${JSON.stringify(prefix)}`);
    checkKey(prefix.slice(0, -1));
    yield* this.#bucket.names(prefix, o);
  }
}
