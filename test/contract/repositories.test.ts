import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import { createFsSmallObjects } from "../../src/storage/fs/fs-small-objects.ts";
import { createMemorySmallObjects } from "../support/memory-store.ts";
import { repositoriesContract } from "./repositories.contract.ts";

const roots: string[] = [];
afterAll(() => Promise.all(roots.map((root) => rm(root, { recursive: true }))));

repositoriesContract({
  name: "filesystem",
  async create() {
    const root = await mkdtemp(join(tmpdir(), "weir-repositories-"));
    roots.push(root);
    return createFsSmallObjects({ root });
  },
});

repositoriesContract({ name: "memory", create: async () => createMemorySmallObjects() });
