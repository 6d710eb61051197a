import { afterAll } from "vitest";
import { createS3SmallObjects } from "../../src/storage/s3/s3-small-objects.ts";
import { describeS3, openTestBucket, s3BlobStore, s3Config } from "../support/s3-store.ts";
import { blobStoreContract } from "./blob-store.contract.ts";
import { repositoriesContract } from "./repositories.contract.ts";
import { smallObjectsContract } from "./small-objects.contract.ts";

describeS3("S3", (server) => {
  async function emptyBucket() {
    const stack = new AsyncDisposableStack();
    const bucket = await openTestBucket(stack, s3Config(server()));
    return {
      bucket,
      async leftovers() {
        const keys: string[] = [];
        for await (const { key } of bucket.uploads("", { signal: new AbortController().signal })) keys.push(key);
        return keys;
      },
      dispose: () => stack.disposeAsync(),
    };
  }

  blobStoreContract({
    name: "s3",
    losesDeleted: true,
    async create() {
      const { bucket, ...rest } = await emptyBucket();
      return { store: s3BlobStore(bucket), ...rest };
    },
  });

  smallObjectsContract({
    name: "s3",
    async create() {
      const { bucket, ...rest } = await emptyBucket();
      return { objects: createS3SmallObjects(bucket), ...rest };
    },
  });

  const places: AsyncDisposableStack[] = [];
  afterAll(() => Promise.all(places.map((stack) => stack.disposeAsync())));

  repositoriesContract({
    name: "s3",
    async create() {
      const { bucket, dispose } = await emptyBucket();
      const stack = new AsyncDisposableStack();
      stack.defer(dispose);
      places.push(stack);
      return createS3SmallObjects(bucket);
    },
  });
});
