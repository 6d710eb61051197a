import { afterAll } from "vitest";
import type { BlobStore } from "../../src/storage/blob-store.ts";
import type { SmallObjects } from "../../src/storage/small-objects.ts";
import { describeS3, s3Config } from "../support/s3-store.ts";
import { openTieredStore, type TieredStore } from "../support/tiered-store.ts";
import { blobStoreContract } from "./blob-store.contract.ts";
import { repositoriesContract } from "./repositories.contract.ts";
import { smallObjectsContract } from "./small-objects.contract.ts";

describeS3("a disk in front of S3", (server) => {
  async function emptyStore() {
    const stack = new AsyncDisposableStack();
    const tiered = await openTieredStore(stack, s3Config(server()));
    return {
      tiered,
      async leftovers() {
        await tiered.sent();
        return await tiered.leftovers();
      },
      dispose: () => stack.disposeAsync(),
    };
  }

  blobStoreContract({
    name: "tiered",
    async create() {
      const { tiered, ...rest } = await emptyStore();
      return { store: tiered.blobs, ...rest };
    },
  });

  blobStoreContract({
    name: "tiered, everything evicted from the disk",
    losesDeleted: true,
    async create() {
      const { tiered, ...rest } = await emptyStore();
      return { store: withEmptyDisk(tiered), ...rest };
    },
  });

  smallObjectsContract({
    name: "tiered",
    async create() {
      const { tiered, ...rest } = await emptyStore();
      return { objects: tiered.storage.objects, ...rest };
    },
  });

  const places: AsyncDisposableStack[] = [];
  afterAll(() => Promise.all(places.map((stack) => stack.disposeAsync())));

  repositoriesContract({
    name: "tiered",
    async create(): Promise<SmallObjects> {
      const { tiered, dispose } = await emptyStore();
      const stack = new AsyncDisposableStack();
      stack.defer(dispose);
      places.push(stack);
      return tiered.storage.objects;
    },
  });
});

/** What is written is in the bucket only, when the call is over. */
function withEmptyDisk({ blobs, storage, sent }: TieredStore): BlobStore {
  return {
    ...bound(blobs),
    async put(digest, bytes, o) {
      await blobs.put(digest, bytes, o);
      await sent();
      await storage.blobs.delete(digest, o);
    },
    async ingest(digest, path, o) {
      await blobs.ingest(digest, path, o);
      await sent();
      await storage.blobs.delete(digest, o);
    },
  };
}

function bound(store: BlobStore): BlobStore {
  return {
    name: store.name,
    stat: (digest, o) => store.stat(digest, o),
    open: (digest, o) => store.open(digest, o),
    put: (digest, bytes, o) => store.put(digest, bytes, o),
    ingest: (digest, path, o) => store.ingest(digest, path, o),
    delete: (digest, o) => store.delete(digest, o),
    list: (o) => store.list(o),
    overhead: (o) => store.overhead(o),
    leftOvers: (o) => store.leftOvers(o),
    close: () => store.close(),
  };
}
