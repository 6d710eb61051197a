import { createMemoryBlobStore, createMemorySmallObjects } from "../support/memory-store.ts";
import { blobStoreContract } from "./blob-store.contract.ts";
import { smallObjectsContract } from "./small-objects.contract.ts";

const nothingLeft = { leftovers: async () => [], dispose: async () => {} };

blobStoreContract({ name: "memory", create: async () => ({ store: createMemoryBlobStore(), ...nothingLeft }) });

smallObjectsContract({ name: "memory", create: async () => ({ objects: createMemorySmallObjects(), ...nothingLeft }) });
