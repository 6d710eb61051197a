import { type FileHandle, open, opendir } from "node:fs/promises";
import { resolve } from "node:path";
import type { CallOptions } from "../../base/call.ts";
import { StorageError } from "../blob-store.ts";
import type { SmallObjects } from "../small-objects.ts";
import { discard, makeTemporaryFolder, pathInRoot, publish, removeFile, writeTemporary } from "./durable.ts";
import { asStorageError, isMissing } from "./errno.ts";

/** Bytes of one object. Links have under 200 and records a few hundred: what is larger is not one of ours. */
const MAX_OBJECT_BYTES = 1 << 20;

/** Small objects in files below `root`. Whoever runs a server on them holds the root (`openRoot`). */
export async function createFsSmallObjects(o: { root: string }): Promise<SmallObjects> {
  const root = resolve(o.root);
  await makeTemporaryFolder(root);
  return new FsSmallObjects(root);
}

class FsSmallObjects implements SmallObjects {
  readonly #root: string;

  constructor(root: string) {
    this.#root = root;
  }

  async get(key: string, o: CallOptions): Promise<Uint8Array | undefined> {
    o.signal.throwIfAborted();
    const path = pathInRoot(this.#root, key);
    try {
      return await readSmall(path, key);
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw asStorageError(error, `reading ${key}`);
    }
  }

  async put(key: string, bytes: Uint8Array, o: CallOptions): Promise<void> {
    o.signal.throwIfAborted();
    const path = pathInRoot(this.#root, key);
    if (bytes.length > MAX_OBJECT_BYTES) throw new RangeError(`${key} has more than ${MAX_OBJECT_BYTES} bytes`);
    try {
      const temporary = await writeTemporary(this.#root, bytes);
      try {
        await publish(temporary, path);
      } catch (error) {
        await discard(temporary);
        throw error;
      }
    } catch (error) {
      throw asStorageError(error, `writing ${key}`);
    }
  }

  async delete(key: string, o: CallOptions): Promise<boolean> {
    o.signal.throwIfAborted();
    const path = pathInRoot(this.#root, key);
    try {
      return await removeFile(this.#root, path, { durable: true });
    } catch (error) {
      throw asStorageError(error, `deleting ${key}`);
    }
  }

  async *list(prefix: string, o: CallOptions): AsyncIterable<string> {
    if (!prefix.endsWith("/")) throw new RangeError(`a prefix ends in "/": ${JSON.stringify(prefix)}`);
    const path = pathInRoot(this.#root, prefix.slice(0, -1));
    try {
      for await (const entry of await opendir(path)) {
        o.signal.throwIfAborted();
        yield entry.isDirectory() ? `${entry.name}/` : entry.name;
      }
    } catch (error) {
      if (!isMissing(error)) throw asStorageError(error, `listing ${prefix}`);
    }
  }
}

async function readSmall(path: string, key: string): Promise<Uint8Array> {
  const file: FileHandle = await open(path, "r");
  try {
    const { size } = await file.stat();
    if (size > MAX_OBJECT_BYTES) throw new StorageError("corrupt", `${key} has more than ${MAX_OBJECT_BYTES} bytes`);
    return await file.readFile();
  } finally {
    await file.close();
  }
}
