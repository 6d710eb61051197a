import { join, resolve } from "node:path";
import type { z } from "zod";
import type { StorageConfig } from "./types.ts";
import { choice, filePath, later, mapping } from "./values.ts";

export const storageSchema = mapping({
  driver: choice(["filesystem"], ["s3", "tiered"]).prefault("filesystem").describe("Where blobs are kept."),
  filesystem: mapping({
    root: filePath
      .prefault("./data")
      .describe("Folder of everything that is kept, in the layout of the CNCF distribution registry."),
  })
    .prefault({})
    .describe("For the driver filesystem."),
  spool: mapping({
    dir: filePath.optional().describe("Folder of downloads under way, on a local disk: <root>/spool."),
  })
    .prefault({})
    .describe("Downloads under way."),
  s3: later("storage in S3"),
  tiered: later("a local disk in front of S3"),
  maxSize: later("bounding the storage (eviction)"),
  highWater: later("bounding the storage (eviction)"),
  lowWater: later("bounding the storage (eviction)"),
  maxAge: later("bounding the storage (eviction)"),
  pins: later("bounding the storage (eviction)"),
})
  .prefault({})
  .describe("What is kept, and where.");

export function storageConfig(parsed: z.output<typeof storageSchema>, cwd: string): StorageConfig {
  const root = resolve(cwd, parsed.filesystem.root);
  return {
    driver: parsed.driver,
    filesystem: { root },
    spool: { dir: parsed.spool.dir === undefined ? join(root, "spool") : resolve(cwd, parsed.spool.dir) },
  };
}
