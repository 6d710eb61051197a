import { type FileHandle, open, opendir, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import type { CallOptions } from "../../base/call.ts";
import { StorageError } from "../blob-store.ts";
import { MAX_OBJECT_BYTES, type ObjectStat, type SmallObjects } from "../small-objects.ts";
import {
  discard,
  makeTemporaryFolder,
  occupiedBy,
  pathInRoot,
  publish,
  removeFile,
  writeTemporary,
} from "./durable.ts";
import { asStorageError, isMissing } from "./errno.ts";

/** Small objects in files below `root`. Whoever runs a server on them holds the root (`openRoot`). */
export async function createFsSmallObjects(o: { root: string }): Promise<SmallObjects> {
  const root = resolve(o.root);
  await makeTemporaryFolder(root);
  return new FsSmallObjects(root);
}

/** The same for a folder that is only read, and nothing is made in: what lies there now, past any cache. */
export function readFsSmallObjects(o: { root: string }): SmallObjects {
  return new FsSmallObjects(resolve(o.root));
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
        await publish(temporary, path, { own: hasOwnFolder(key) });
      } catch (error) {
        await discard(temporary);
        throw error;
      }
    } catch (error) {
      throw asStorageError(error, `writing ${key}`);
    }
  }

  async stat(key: string, o: CallOptions): Promise<ObjectStat | undefined> {
    o.signal.throwIfAborted();
    const path = pathInRoot(this.#root, key);
    try {
      const [file, folder] = await Promise.all([stat(path), stat(dirname(path))]);
      const own = hasOwnFolder(key) ? occupiedBy(folder) : 0;
      return { occupied: occupiedBy(file) + own, changedAtMs: Math.floor(file.ctimeMs) };
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw asStorageError(error, `looking for ${key}`);
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

/** Links have a folder to themselves, records share theirs. */
function hasOwnFolder(key: string): boolean {
  return key.endsWith("/link");
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
